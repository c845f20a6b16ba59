"""`LLMCalls`: the calls of one test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_toll_autopatch import reporting
from llm_toll_autopatch.spend import Spend

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

    from llm_toll_autopatch.records import CallRecord, Usage

__all__ = ["LLMCalls"]

_PATIENCE_S = 2.0


class LLMCalls:
    """The calls that were begun in a test, on whatever thread and in whatever task: what the fixture `llm_calls` is.

    Every question waits, briefly, for records that are on their way. A stream that is still open is not in it.

    Args:
        elsewhere: Where records go that arrive after the test.
    """

    def __init__(self, elsewhere: LLMCalls | None = None) -> None:
        # No lock: appending to a list and copying one are atomic, and a finalizer may append at any time.
        self._records: list[CallRecord] = []
        self._elsewhere = elsewhere
        self._closed = False

    def add(self, record: CallRecord) -> None:
        """Count a call."""
        if self._closed and self._elsewhere is not None:
            self._elsewhere.add(record)
        else:
            self._records.append(record)

    def close(self) -> None:
        """Take no more: the test is over."""
        self.wait()
        self._closed = True

    def wait(self) -> None:
        """Wait for records that are on their way, two seconds at most."""
        reporting.flush(None, _PATIENCE_S)

    @property
    def records(self) -> tuple[CallRecord, ...]:
        """The records until now, in the order of their ends: a copy."""
        self.wait()
        return tuple(self._records)

    @property
    def spend(self) -> Spend:
        """Their sums."""
        return _sum_of(self.records)

    @property
    def by_model(self) -> dict[str, Spend]:
        """Their sums by the model that answered."""
        found: dict[str, Spend] = {}
        for record in self.records:
            found.setdefault(record.response_model or record.model, Spend()).add(record)
        return found

    @property
    def total_cost_usd(self) -> Decimal | None:
        """Their cost in USD; None as soon as one of them is not known: the sum of the others would be less."""
        spend = self.spend
        return None if spend.unknown_costs else spend.cost_usd

    @property
    def unknown_costs(self) -> int:
        """Number of calls whose cost is not known."""
        return self.spend.unknown_costs

    @property
    def estimated_calls(self) -> int:
        """Number of calls whose tokens are estimated wholly or in part."""
        return self.spend.estimated_calls

    @property
    def usage(self) -> Usage:
        """Their tokens and units."""
        return self.spend.usage

    @property
    def input_tokens(self) -> int:
        """Their input tokens."""
        return self.usage.input_tokens

    @property
    def output_tokens(self) -> int:
        """Their output tokens."""
        return self.usage.output_tokens

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[CallRecord]:
        return iter(self.records)

    def __str__(self) -> str:
        return str(self.spend)

    def __repr__(self) -> str:
        return f"<LLMCalls: {self}>"


def _sum_of(records: tuple[CallRecord, ...]) -> Spend:
    spend = Spend()
    for record in records:
        spend.add(record)
    return spend
