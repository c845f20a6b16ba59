"""What keeps limits: it knows how much of each is used up, and holds what calls that are under way may still use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from llm_toll_autopatch.budgets.limits import Limit
    from llm_toll_autopatch.records import CallRecord

__all__ = ["Claim", "Keeper", "Kept", "OnOrphan", "Refusal", "Reservation", "Standing", "counted", "strictest"]

OnOrphan = Literal["charge", "release"]


@dataclass(frozen=True, slots=True)
class Claim:
    """What a call asks of one limit: `amount` in the limit's unit is held for it; 0 only asks whether any is left."""

    limit: Limit
    amount: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one call asks for before it is sent: all of it or nothing.

    Attributes:
        call_id: The id that the call's record will have.
        claims: What it asks of each limit.
        at: When; decides the calendar window.
        expires_at: When to take it for an orphan although its process may live, on a machine that cannot be looked at.
        on_orphan: What to do when its process died: `charge` what was held, or `release` it. A record that comes all
            the same puts it right.
        is_due: Whether there is nothing left to refuse: the work is under way, and only has to be charged.
    """

    call_id: str
    claims: tuple[Claim, ...]
    at: datetime
    expires_at: datetime
    on_orphan: OnOrphan = "charge"
    is_due: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """How a limit stands in the window of a moment, in its unit: what has been spent, and what is held."""

    limit: Limit
    spent: int
    held: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a reservation was refused: this limit has no room for it.

    Attributes:
        standing: How it stands.
        retry_after_s: Of a limit on 60 seconds: seconds until there is room; None when there never is.
    """

    standing: Standing
    retry_after_s: float | None = None


@runtime_checkable
class Keeper(Protocol):
    """Keeps limits. Everything may be called from several threads; a ledger's `emit` settles by itself.

    All raise `SinkUnavailableError` or `LedgerError` as `emit` does.
    """

    def reserve(self, reservation: Reservation) -> Refusal | None:
        """Hold what is asked for, in one transaction; or hold nothing and say which limit has no room.

        There is room where `spent + held + max(amount, 1)` is within the limit's amount.
        """
        ...

    def settle(self, record: CallRecord) -> None:
        """Turn what is held for `record.id` into what it cost, where its record goes elsewhere.

        Every account that was asked is charged, and that of the record's project. Unknown costs count as what was held.
        """
        ...

    def release(self, call_id: str) -> None:
        """Let go of what is held for a call that was not sent."""
        ...

    def standings(self, limits: Sequence[Limit], at: datetime) -> list[Standing]:
        """Return how limits stand."""
        ...


Kept = tuple["Limit", Keeper]
"""A limit, and who keeps it."""


def strictest(kept: Iterable[Kept]) -> tuple[Kept, ...]:
    """Return each limit once: of several on the same thing the smallest."""
    found: dict[tuple[str, str, str, int], Kept] = {}
    for limit, keeper in kept:
        key = (limit.account, limit.unit, limit.period, id(keeper))
        if key not in found or limit.amount < found[key][0].amount:
            found[key] = (limit, keeper)
    return tuple(found.values())


def counted(limit: Limit, record: CallRecord, nano_usd: int | None, held: int) -> int:
    """Return how much of `limit` a call has used: `nano_usd` is its cost, None when unknown, `held` what was held."""
    if limit.unit == "calls":
        return 1
    if limit.unit == "tokens":
        return record.usage.total_tokens
    return held if nano_usd is None else nano_usd
