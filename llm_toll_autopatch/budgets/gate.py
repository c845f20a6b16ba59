"""The gate: every call passes it before it is sent, and is refused when a limit has no room for it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NoReturn

from llm_toll_autopatch import user_warnings
from llm_toll_autopatch.budgets.errors import (
    BudgetExceededError,
    BudgetOverrunWarning,
    BudgetUnavailableError,
    LocalRateLimitError,
    UnboundedCostError,
)
from llm_toll_autopatch.budgets.keeper import Claim, Reservation
from llm_toll_autopatch.budgets.limits import AMOUNT_MAX, window_of
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.ledger.money import format_usd, from_nano_usd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llm_toll_autopatch.budgets.keeper import Keeper, Refusal, Standing
    from llm_toll_autopatch.budgets.limits import Limit
    from llm_toll_autopatch.metering import Call
    from llm_toll_autopatch.records import CallRecord
    from llm_toll_autopatch.sinks import Sink

__all__ = ["Admission", "Settler", "admit", "admit_async"]

_EXPIRY = timedelta(hours=1)
"""After which a reservation is an orphan's where the process cannot be looked at. A record that comes later puts it
right."""


class Admission:
    """What a call was admitted with: it is settled, or released, where it was reserved.

    Attributes:
        limits: The limits, by their keepers.
    """

    __slots__ = ("_call_id", "limits")

    def __init__(self, call_id: str) -> None:
        self._call_id = call_id
        self.limits: list[tuple[Keeper, Sequence[Limit]]] = []

    def settlers(self, leaves: Sequence[Sink]) -> list[Settler]:
        """Return what else, beside `leaves`, has to be given the record: keepers that do not get it as a sink."""
        return [Settler(keeper) for keeper, _ in self.limits if not any(keeper is leaf for leaf in leaves)]

    def releasers(self) -> list[Releaser]:
        """Return what has to be given the id of a call that was not sent."""
        return [Releaser(keeper) for keeper, _ in self.limits]

    def warn_of_overruns(self, record: CallRecord) -> None:
        """Warn of budgets that are exceeded now that the call is settled. Never raises."""
        try:
            for keeper, limits in self.limits:
                budgets = [limit for limit in limits if limit.unit == "usd"]
                for standing in keeper.standings(budgets, record.started_at) if budgets else ():
                    if standing.spent > standing.limit.amount:
                        _warn(standing, record)
        except Exception as error:
            failures.note("looking for overruns", error)


@dataclass(frozen=True, slots=True)
class Settler:
    """A keeper as a sink that settles the calls whose records it is given."""

    keeper: Keeper

    def emit(self, record: CallRecord) -> None:
        self.keeper.settle(record)


@dataclass(frozen=True, slots=True)
class Releaser:
    """A keeper as what takes the ids of calls that were not sent."""

    keeper: Keeper

    def emit(self, call_id: str) -> None:
        self.keeper.release(call_id)


def admit(call: Call, request: Mapping[str, Any]) -> None:
    """Admit `call` under the limits of its settings, or raise; what is held for it is in `call.admission`.

    Raises:
        BudgetExceededError: A budget has no room for it.
        LocalRateLimitError: Nor has a limit on 60 seconds.
    """
    admission = Admission(call.id)
    try:
        for keeper, reservation in _reservations(call, request):
            _take(call, admission, keeper, reservation, keeper.reserve)
    except BaseException:
        _give_back(admission)
        raise
    call.admission = admission


async def admit_async(call: Call, request: Mapping[str, Any]) -> None:
    """Do as `admit` does, without holding up the event loop while a keeper is waited for."""
    admission = Admission(call.id)
    try:
        for keeper, reservation in _reservations(call, request):
            await _take_async(call, admission, keeper, reservation)
    except BaseException:
        _give_back(admission)
        raise
    call.admission = admission


def _reservations(call: Call, request: Mapping[str, Any]) -> list[tuple[Keeper, Reservation]]:
    """Return what to ask of which keeper, the ledger last: it is the one whose answer other processes wait for."""
    settings = call.settings
    by_keeper: dict[int, tuple[Keeper, list[Claim]]] = {}
    worst = WorstCase(call, request) if settings.strict_budget else None
    for limit, keeper in settings.limits:
        amount = 1 if limit.unit == "calls" else 0 if worst is None else worst.amount(limit)
        by_keeper.setdefault(id(keeper), (keeper, []))[1].append(Claim(limit, amount))
    at = call.started_at
    return [
        (keeper, Reservation(call.id, tuple(claims), at, at + _EXPIRY, settings.on_orphan))
        for keeper, claims in reversed(by_keeper.values())
    ]


def _take(call: Call, admission: Admission, keeper: Keeper, reservation: Reservation, reserve: Reserve) -> None:
    """Reserve, and raise if that is refused; or, as the settings decide, if the keeper cannot be asked."""
    try:
        refusal = reserve(reservation)
    except Exception as error:
        _unavailable(call, reservation, error)
        return
    _taken(admission, keeper, reservation, refusal)


async def _take_async(call: Call, admission: Admission, keeper: Keeper, reservation: Reservation) -> None:
    try:
        refusal = getattr(keeper, "reserve_now", keeper.reserve)(reservation)
    except SinkUnavailableError:
        try:
            refusal = await elsewhere.call(keeper.reserve, reservation, undo=lambda: keeper.release(call.id))
        except Exception as error:
            _unavailable(call, reservation, error)
            return
    except Exception as error:
        _unavailable(call, reservation, error)
        return
    _taken(admission, keeper, reservation, refusal)


def _taken(admission: Admission, keeper: Keeper, reservation: Reservation, refusal: Refusal | None) -> None:
    if refusal is not None:
        _refuse(refusal, reservation)
    admission.limits.append((keeper, [claim.limit for claim in reservation.claims]))
