"""`Budget`: how a limit stands in one window, as a ledger has it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.budgets.keeper import Standing
from llm_toll_autopatch.budgets.limits import AMOUNT_MAX, Limit

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Budget", "budget_of"]

_TIMED = 7
"""The version of UUIDs that begin with the time (RFC 9562)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget(Standing):
    """What was spent and is held of a limit in one window, in the limit's unit.

    Attributes:
        limit: With the amount as it was last configured, by code or with a cap.
        start: The window's first moment.
        end: The moment after it.
        spent: Spent; of a limit on 60 seconds, used in the last 60.
        held: Held for calls that are under way.
        holds: How many calls those are.
        oldest: When the first of them began; None when there is none, or it cannot be told.
    """

    start: datetime
    end: datetime
    holds: int = 0
    oldest: datetime | None = None

    @property
    def is_capped(self) -> bool:
        """Whether anything limits it: its cap may have been taken away."""
        return self.limit.amount < AMOUNT_MAX

    @property
    def is_used_up(self) -> bool:
        """Whether the next call is refused."""
        return self.spent + self.held >= self.limit.amount


def budget_of(row: Sequence[Any]) -> Budget:
    """Return the budget of a row: account, unit, period, cap, start, end, spent, held, holds, id of the oldest."""
    account, unit, period, cap, start, end, spent, held, holds, oldest = row
    return Budget(
        Limit(account, unit, cap, period),
        int(spent),
        held,
        start=datetime.fromisoformat(start),
        end=datetime.fromisoformat(end),
        holds=holds,
        oldest=None if oldest is None else _began(oldest),
    )


def _began(call_id: str) -> datetime | None:
    try:
        call = uuid.UUID(call_id)
    except ValueError:
        return None
    return datetime.fromtimestamp((call.int >> 80) / 1000, UTC) if call.version == _TIMED else None
