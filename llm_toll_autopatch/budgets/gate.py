"""The gate: every call passes it before it is sent, and is refused when a limit has no room for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch import reporting, user_warnings
from llm_toll_autopatch.budgets import elsewhere
from llm_toll_autopatch.budgets.errors import (
    BudgetExceededError,
    BudgetOverrunWarning,
    BudgetUnavailableError,
    LocalRateLimitError,
    UnboundedCostError,
)
from llm_toll_autopatch.budgets.keeper import Claim, Reservation
from llm_toll_autopatch.budgets.limits import window_of
from llm_toll_autopatch.budgets.memory import MemoryKeeper
from llm_toll_autopatch.budgets.stopping import Allowance
from llm_toll_autopatch.budgets.worst_case import WorstCase
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.ledger.money import format_usd, from_nano_usd
from llm_toll_autopatch.records import new_id
from llm_toll_autopatch.sinks import SinkUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from llm_toll_autopatch.budgets.keeper import Keeper, Refusal, Standing
    from llm_toll_autopatch.budgets.limits import Limit
    from llm_toll_autopatch.metering import Call
    from llm_toll_autopatch.records import CallRecord
    from llm_toll_autopatch.settings import Settings
    from llm_toll_autopatch.sinks import Sink

    Reserve = Callable[[Reservation], Refusal | None]

__all__ = ["Admission", "admit", "admit_async", "admit_due"]

_EXPIRY = timedelta(hours=1)
"""After which a reservation is an orphan's where the process cannot be looked at. A record that comes later puts it
right."""


class Admission:
    """What a call was admitted with: it is settled, or released, where it was reserved.

    Attributes:
        call_id: The call's id.
        limits: Its limits, by their keepers.
        due: What keepers have yet to be told of work that was under way already.
    """

    __slots__ = ("call_id", "due", "limits")

    def __init__(self, call_id: str) -> None:
        self.call_id = call_id
        self.limits: list[tuple[Keeper, Sequence[Limit]]] = []
        self.due: list[tuple[Keeper, Reservation]] = []

    def takers(self, leaves: Sequence[Sink]) -> list[tuple[Sink, Keeper | None]]:
        """Return who has to be given the record, and whose lane each takes if not its own.

        These are the sinks, and the keepers that do not get it as a sink. One that could not be told that the call
        is due is told before it gets the record.
        """
        due = {id(keeper): (keeper, reservation) for keeper, reservation in self.due}
        takers: list[tuple[Sink, Keeper | None]] = [
            (Debtor(leaf, *due[id(leaf)]), due[id(leaf)][0]) if id(leaf) in due else (leaf, None) for leaf in leaves
        ]
        known = {id(leaf) for leaf in leaves}
        for keeper, _ in self.limits:
            if id(keeper) not in known:
                settler: Sink = Settler(keeper)
                takers.append((Debtor(settler, *due[id(keeper)]) if id(keeper) in due else settler, keeper))
        return takers

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


class Debtor:
    """A sink whose keeper is told that a call is due before the sink gets its record."""

    def __init__(self, sink: Sink, keeper: Keeper, reservation: Reservation) -> None:
        self._sink = sink
        self._keeper = keeper
        self._reservation: Reservation | None = reservation

    def emit(self, record: CallRecord) -> None:
        self._tell(self._keeper.reserve)
        self._sink.emit(record)

    def emit_now(self, record: CallRecord) -> None:
        self._tell(getattr(self._keeper, "reserve_now", self._keeper.reserve))
        getattr(self._sink, "emit_now", self._sink.emit)(record)

    def _tell(self, reserve: Reserve) -> None:
        if self._reservation is not None:  # not yet: this may be the second attempt
            reserve(self._reservation)
            self._reservation = None


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
    asked = _reservations(call, request)
    try:
        for keeper, reservation in asked:
            _take(call, admission, keeper, reservation, keeper.reserve)
    except BaseException:
        reporting.released(admission)
        raise
    _admitted(call, admission, asked)


async def admit_async(call: Call, request: Mapping[str, Any]) -> None:
    """Do as `admit` does, without holding up the event loop while a keeper is waited for."""
    admission = Admission(call.id)
    asked = _reservations(call, request)
    try:
        for keeper, reservation in asked:
            await _take_async(call, admission, keeper, reservation)
    except BaseException:
        reporting.released(admission)
        raise
    _admitted(call, admission, asked)


def ask(settings: Settings, method: str) -> None:
    """Raise if a limit has no room for work of which nobody can say yet what it will be; hold nothing.

    Raises:
        BudgetExceededError: A budget has no room, or is a strict one.
        LocalRateLimitError: A limit on 60 seconds has none.
    """
    question = _Question(settings, method)
    admission = Admission(question.id)
    try:
        for keeper, claims in question.claims():
            _take(question, admission, keeper, _reservation(question, claims), keeper.reserve)
    finally:
        reporting.released(admission)


async def ask_async(settings: Settings, method: str) -> None:
    """Do as `ask` does, without holding up the event loop."""
    question = _Question(settings, method)
    admission = Admission(question.id)
    try:
        for keeper, claims in question.claims():
            await _take_async(question, admission, keeper, _reservation(question, claims))
    finally:
        reporting.released(admission)


class _Question:
    """What stands in a call's place where there is none yet."""

    def __init__(self, settings: Settings, method: str) -> None:
        self.id = new_id()
        self.settings = settings
        self.started_at = datetime.now(UTC)
        self._method = method

    def claims(self) -> list[tuple[Keeper, list[Claim]]]:
        """Return what to ask of each keeper."""
        for limit, _ in self.settings.limits:
            if self.settings.strict_budget and limit.unit != "calls":
                reason = (
                    f"nothing bounds what a session of {self._method} uses; scope(strict_budget=False) lets it pass"
                )
                raise UnboundedCostError(limit.project, None, limit.max_budget, reason)
        return _by_keeper(self, _at_least)


def admit_due(call: Call) -> None:
    """Have `call`, whose work is under way already, charged to the limits of its settings. Never raises.

    A keeper that would have to be waited for is told when the call ends.
    """
    admission = Admission(call.id)
    for keeper, claims in _by_keeper(call, _at_least):
        reservation = _reservation(call, claims, is_due=True)
        try:
            getattr(keeper, "reserve_now", keeper.reserve)(reservation)
        except SinkUnavailableError:
            admission.due.append((keeper, reservation))
        except Exception as error:
            failures.note("charging a call to its limits", error)
            continue
        admission.limits.append((keeper, [claim.limit for claim in claims]))
    call.admission = admission


def _reservations(call: Call, request: Mapping[str, Any]) -> list[tuple[Keeper, Reservation]]:
    """Return what to ask of which keeper."""
    amount = WorstCase(call, request).amount if call.settings.strict_budget else _at_least
    return [(keeper, _reservation(call, claims)) for keeper, claims in _by_keeper(call, amount)]


def _at_least(limit: Limit) -> int:
    return 1 if limit.unit == "calls" else 0


def _by_keeper(call: Call | _Question, amount: Callable[[Limit], int]) -> list[tuple[Keeper, list[Claim]]]:
    """Return the claims on each keeper; those of the process's own memory first, for they are quickly given back."""
    found: dict[int, tuple[Keeper, list[Claim]]] = {}
    for limit, keeper in call.settings.limits:
        found.setdefault(id(keeper), (keeper, []))[1].append(Claim(limit, amount(limit)))
    return sorted(found.values(), key=lambda each: not isinstance(each[0], MemoryKeeper))


def _reservation(call: Call | _Question, claims: Sequence[Claim], *, is_due: bool = False) -> Reservation:
    at = call.started_at
    return Reservation(call.id, tuple(claims), at, at + _EXPIRY, call.settings.on_orphan, is_due)


def _take(
    call: Call | _Question, admission: Admission, keeper: Keeper, reservation: Reservation, reserve: Reserve
) -> None:
    """Reserve, and raise if that is refused; or, as the settings decide, if the keeper cannot be asked."""
    try:
        refusal = reserve(reservation)
    except Exception as error:
        _unavailable(call, reservation, error)
        return
    _taken(admission, keeper, reservation, refusal)


async def _take_async(call: Call | _Question, admission: Admission, keeper: Keeper, reservation: Reservation) -> None:
    try:
        refusal = getattr(keeper, "reserve_now", keeper.reserve)(reservation)
    except SinkUnavailableError:
        try:
            refusal = await elsewhere.ask(lambda: keeper.reserve(reservation), lambda: keeper.release(call.id))
        except Exception as error:
            _unavailable(call, reservation, error)
            return
    except Exception as error:
        _unavailable(call, reservation, error)
        return
    _taken(admission, keeper, reservation, refusal)


def _taken(admission: Admission, keeper: Keeper, reservation: Reservation, refusal: Refusal | None) -> None:
    if refusal is not None:
        raise _refused(refusal, reservation)
    admission.limits.append((keeper, [claim.limit for claim in reservation.claims]))


def _admitted(call: Call, admission: Admission, asked: Sequence[tuple[Keeper, Reservation]]) -> None:
    call.admission = admission
    if call.settings.stop_streams:
        budgets = [
            (keeper, claim.limit, claim.amount)
            for keeper, reservation in asked
            for claim in reservation.claims
            if claim.limit.unit == "usd"
        ]
        call.allowance = Allowance(budgets) if budgets else None


def _unavailable(call: Call | _Question, reservation: Reservation, error: Exception) -> None:
    """Raise for a keeper that cannot be asked, or let the call pass, as `on_ledger_error` has it."""
    settings = call.settings
    failures.note("asking what is left of the limits", error)
    if settings.on_ledger_error == "refuse" or (settings.on_ledger_error is None and settings.strict_budget):
        limit = reservation.claims[0].limit
        reason = f"{type(error).__name__}: {error}. Nothing was sent; on_ledger_error='allow' would have sent it"
        raise BudgetUnavailableError(limit.project, None, limit.max_budget, reason) from error


def _refused(refusal: Refusal, reservation: Reservation) -> Exception:
    """Return what to raise for a refusal."""
    standing = refusal.standing
    limit = standing.limit
    if limit.period == "minute":
        return LocalRateLimitError("rpm" if limit.unit == "calls" else "tpm", limit.amount, refusal.retry_after_s)
    wanted = next(claim.amount for claim in reservation.claims if claim.limit == limit)
    used = standing.spent + standing.held
    reasons = []
    if limit.unit != "usd":
        reasons.append(f"{used:,} of {limit.amount:,} {limit.unit} are used or under way")
    elif used < limit.amount:
        reasons.append(f"this call may cost up to {_usd(wanted)}")
    if standing.held and limit.unit == "usd":
        reasons.append(f"{_usd(standing.held)} of it is held for calls that are under way")
    if limit.period != "total":
        _, end = window_of(limit.period, reservation.at)
        reasons.append(f"it starts anew at {end:%Y-%m-%d %H:%M} UTC")
    reasons.append("nothing was sent")
    current = from_nano_usd(used) if limit.unit == "usd" else None
    return BudgetExceededError(limit.project, current, limit.max_budget, "; ".join(reasons))


def _usd(nano: int) -> str:
    return format_usd(from_nano_usd(nano))


def _warn(standing: Standing, record: CallRecord) -> None:
    limit = standing.limit
    whose = "of this block" if limit.project is None else f"of project {limit.project!r}"
    user_warnings.warn(
        f"the budget {whose} is overrun: {_usd(standing.spent)} of {_usd(limit.amount)} is spent, now that"
        f" {record.method} ({record.model}) has ended; the next call is refused",
        BudgetOverrunWarning,
    )
