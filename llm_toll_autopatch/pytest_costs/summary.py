"""What the tests of a run cost: a line each, the dearest first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from llm_toll_autopatch.ledger.money import decimals_for, format_usd, sum_usd

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from llm_toll_autopatch.pytest_costs.calls import LLMCalls

__all__ = ["Costs", "lines"]

_HEADINGS = ("cost", "calls", "input", "output")


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """The figures of one test, as they travel between processes and stand in JUnit files.

    Attributes:
        llm_calls: Number of calls.
        llm_input_tokens: Their input tokens.
        llm_output_tokens: Their output tokens.
        llm_known_cost_usd: The sum in USD of the costs that are known.
        llm_unknown_costs: Number of calls whose cost is not known.
        llm_estimated_calls: Number of calls whose tokens are estimated wholly or in part.
    """

    llm_calls: int = 0
    llm_input_tokens: int = 0
    llm_output_tokens: int = 0
    llm_known_cost_usd: str = "0"
    llm_unknown_costs: int = 0
    llm_estimated_calls: int = 0

    @classmethod
    def of(cls, calls: LLMCalls) -> Costs:
        """Return the figures of the calls of a test."""
        spend = calls.spend
        return cls(
            llm_calls=spend.calls,
            llm_input_tokens=spend.usage.input_tokens,
            llm_output_tokens=spend.usage.output_tokens,
            llm_known_cost_usd=f"{spend.cost_usd or Decimal(0):f}",
            llm_unknown_costs=spend.unknown_costs,
            llm_estimated_calls=spend.estimated_calls,
        )

    @classmethod
    def among(cls, properties: Mapping[str, object]) -> Costs | None:
        """Return the figures that are among the properties of a report; None if there are none."""
        found = {name: properties[name] for name in cls.__slots__ if name in properties}
        return cls(**found) if len(found) == len(cls.__slots__) else None  # type: ignore[arg-type]

    @property
    def properties(self) -> list[tuple[str, object]]:
        """The figures by name."""
        return [(name, getattr(self, name)) for name in self.__slots__]

    @property
    def usd(self) -> Decimal:
        """`llm_known_cost_usd` as a number."""
        return Decimal(self.llm_known_cost_usd)

    def __add__(self, other: Costs) -> Costs:
        sums = {
            name: getattr(self, name) + getattr(other, name) for name in self.__slots__ if name != "llm_known_cost_usd"
        }
        return replace(self, llm_known_cost_usd=f"{sum_usd([self.usd, other.usd]):f}", **sums)


def lines(tests: Mapping[str, Costs], most: int) -> Iterator[str]:
    """Yield the summary.

    Args:
        tests: The figures by the name of the test.
        most: How many tests to show.
    """
    found = sorted(((costs, name) for name, costs in tests.items() if costs.llm_calls), key=_dearness)
    shown, total = found[:most], sum((costs for costs, _ in found), Costs())
    decimals = decimals_for(costs.usd for costs, _ in [*shown, (total, "")])
    rows: list[tuple[str, ...]] = [(*_HEADINGS, "test")]
    rows += [(*_cells(costs, decimals), name) for costs, name in shown]
    if len(found) > most:
        left = sum((costs for costs, _ in found[most:]), Costs())
        rows.append((*_cells(left, decimals), f"… {len(found) - most:,} more"))
    rows.append((*_cells(total, decimals), "total"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    for *figures, name in rows:
        yield "  ".join([*(text.rjust(width) for text, width in zip(figures, widths, strict=True)), name])
    yield from _notes(total)


def _dearness(each: tuple[Costs, str]) -> tuple[Decimal, int, str]:
    costs, name = each
    return -costs.usd, -costs.llm_unknown_costs, name


def _cells(costs: Costs, decimals: int) -> Iterable[str]:
    mark = "~" if costs.llm_estimated_calls else ""
    cost = "unknown"
    if costs.llm_unknown_costs < costs.llm_calls:
        cost = mark + format_usd(costs.usd, decimals) + ("+?" if costs.llm_unknown_costs else "")
    return (
        cost,
        f"{costs.llm_calls:,}",
        f"{mark}{costs.llm_input_tokens:,}",
        f"{mark}{costs.llm_output_tokens:,}",
    )


def _notes(total: Costs) -> Iterator[str]:
    if total.llm_estimated_calls:
        yield f"~ with {_calls(total.llm_estimated_calls)} whose tokens are estimated: the provider did not report them"
    if total.llm_unknown_costs:
        yield f"? with {_calls(total.llm_unknown_costs)} whose price is not known, and which is not in the costs"


def _calls(count: int) -> str:
    return f"{count:,} call{'' if count == 1 else 's'}"
