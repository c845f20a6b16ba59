"""What a whole run may cost: a limit in a file that all processes of the run share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_toll_autopatch.budgets.limits import Limit
from llm_toll_autopatch.ledger.sqlite import SQLiteLedger

if TYPE_CHECKING:
    from llm_toll_autopatch.budgets.keeper import Refusal, Reservation

__all__ = ["RunLedger"]


class RunLedger(SQLiteLedger):
    """Keeps the limit of a run, and counts what it refuses in this process."""

    refused = 0

    def reserve(self, reservation: Reservation) -> Refusal | None:
        """Hold what is asked for, or nothing."""
        return self._noted(super().reserve(reservation))

    def reserve_now(self, reservation: Reservation) -> Refusal | None:
        """The same, without waiting."""
        return self._noted(super().reserve_now(reservation))

    def limit(self, nano_usd: int) -> Limit:
        """Return the limit of the run."""
        return Limit("pytest", "usd", nano_usd, is_block=True)

    def _noted(self, refusal: Refusal | None) -> Refusal | None:
        self.refused += refusal is not None
        return refusal
