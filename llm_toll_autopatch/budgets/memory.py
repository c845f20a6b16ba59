"""`MemoryKeeper`: limits that hold within the process, where no ledger keeps them; and those of blocks of code."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llm_toll_autopatch.budgets.keeper import Refusal, Standing, counted
from llm_toll_autopatch.budgets.limits import MINUTE_S, Period, Unit, window_of
from llm_toll_autopatch.budgets.rolling import room_after
from llm_toll_autopatch.ledger.money import to_nano_usd
from llm_toll_autopatch.sinks import SinkUnavailableError
from llm_toll_autopatch.sinks.forking import watch_forks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from llm_toll_autopatch.budgets.keeper import Claim, Reservation
    from llm_toll_autopatch.budgets.limits import Limit
    from llm_toll_autopatch.records import CallRecord

__all__ = ["MemoryKeeper"]

_Key = tuple[str, Unit, Period, float]


@dataclass(slots=True)
class _Account:
    """What is used of one limit in one window; of one on 60 seconds, when each call used how much."""

    spent: int = 0
    held: dict[str, int] = field(default_factory=dict)
    ticks: OrderedDict[str, tuple[float, int]] = field(default_factory=OrderedDict)

    def forget_before(self, at: float) -> None:
        while self.ticks and next(iter(self.ticks.values()))[0] <= at:
            self.ticks.popitem(last=False)


class MemoryKeeper:
    """Keeps limits for this process alone. A forked child goes on with a copy."""

    def __init__(self) -> None:
        self._accounts: dict[_Key, _Account] = {}
        self._calls: dict[str, list[tuple[Limit, _Account]]] = {}
        self._lock = threading.RLock()
        self._busy = False
        watch_forks(self)

    @contextmanager
    def _held(self) -> Iterator[None]:
        # Re-entrant for the reason that the ledger's is: a finalizer may come here in the middle of this very code.
        with self._lock:
            if self._busy:
                raise SinkUnavailableError("the limits are in use further up on this thread")
            self._busy = True
            try:
                yield
            finally:
                self._busy = False

    def _account(self, limit: Limit, at: datetime) -> _Account:
        start, _ = window_of(limit.period, at)
        key = (limit.account, limit.unit, limit.period, start.timestamp() if limit.period != "total" else 0.0)
        return self._accounts.setdefault(key, _Account())

    def reserve(self, reservation: Reservation) -> Refusal | None:
        """Hold what is asked for, or nothing."""
        now = reservation.at.timestamp()
        with self._held():
            asked = [(claim, self._account(claim.limit, reservation.at)) for claim in reservation.claims]
            for claim, account in asked:
                refusal = _refusal(claim, account, now)
                if refusal is not None and not reservation.is_due:
                    return refusal
            for claim, account in asked:
                if claim.limit.period == "minute":
                    account.ticks[reservation.call_id] = (now, claim.amount)
                else:
                    account.held[reservation.call_id] = claim.amount
            self._calls[reservation.call_id] = [(claim.limit, account) for claim, account in asked]
        return None

    def settle(self, record: CallRecord) -> None:
        """Turn what is held for the call into what it cost."""
        nano_usd = None if record.cost_usd is None else to_nano_usd(record.cost_usd)
        with self._held():
            for limit, account in self._calls.pop(record.id, ()):
                if limit.period != "minute":
                    held = account.held.pop(record.id, 0)
                    account.spent += counted(limit, record, nano_usd, held)
                elif limit.unit == "tokens":
                    account.ticks[record.id] = (time.time(), record.usage.total_tokens)
                    account.ticks.move_to_end(record.id)

    def release(self, call_id: str) -> None:
        """Let go of what is held for a call that was not sent."""
        with self._held():
            for _, account in self._calls.pop(call_id, ()):
                account.held.pop(call_id, None)
                account.ticks.pop(call_id, None)

    def standings(self, limits: Sequence[Limit], at: datetime) -> list[Standing]:
        """Return how limits stand."""
        with self._held():
            return [_standing(limit, self._account(limit, at), at.timestamp()) for limit in limits]

    def after_fork_in_child(self) -> None:
        """Forget what the parent's calls hold: the parent settles them."""
        self._lock = threading.RLock()
        self._busy = False
        for call_id in list(self._calls):
            self.release(call_id)


def _standing(limit: Limit, account: _Account, now: float) -> Standing:
    if limit.period != "minute":
        return Standing(limit, account.spent, sum(account.held.values()))
    account.forget_before(now - MINUTE_S)
    return Standing(limit, sum(amount for _, amount in account.ticks.values()))


def _refusal(claim: Claim, account: _Account, now: float) -> Refusal | None:
    limit = claim.limit
    standing = _standing(limit, account, now)
    if standing.spent + standing.held + max(claim.amount, 1) <= limit.amount:
        return None
    if limit.period != "minute":
        return Refusal(standing)
    return Refusal(standing, room_after(account.ticks.values(), claim.amount, limit.amount, now))
