"""`MemorySink`: keeps records in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_toll_autopatch.ledger.money import sum_usd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

    from llm_toll_autopatch.records import CallRecord

__all__ = ["MemorySink"]


class MemorySink:
    """Keeps every record in memory until `clear()`: for tests and notebooks. Safe to share between threads."""

    def __init__(self) -> None:
        # No lock: appending to a list and copying one are atomic, and a finalizer may append at any time.
        self._records: list[CallRecord] = []

    def __repr__(self) -> str:
        return f"<MemorySink: {len(self)} records>"

    def _repr_html_(self) -> str:
        from llm_toll_autopatch.notebook.tables import of_records

        return of_records(self.records)

    def __len__(self) -> int:
        return len(self._records)

    def __bool__(self) -> bool:
        return True  # an empty sink is still a sink: `sink or default` must not replace it

    def __iter__(self) -> Iterator[CallRecord]:
        return iter(self.records)

    def emit(self, record: CallRecord) -> None:
        """Keep `record`."""
        self._records.append(record)

    @property
    def records(self) -> tuple[CallRecord, ...]:
        """The records until now, in the order of their ends: a copy, which later calls do not change."""
        return tuple(self._records)

    @property
    def total_cost_usd(self) -> Decimal:
        """Sum in USD of the costs that are known; `unknown_costs` says how many are not in it."""
        return sum_usd(record.cost_usd for record in self.records if record.cost_usd is not None)

    @property
    def unknown_costs(self) -> int:
        """Number of records whose cost is not known."""
        return sum(record.cost_usd is None for record in self.records)

    def clear(self) -> None:
        """Forget all records."""
        self._records.clear()
