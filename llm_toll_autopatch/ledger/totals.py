"""Answers to "how much was spent": sums over calls, grouped."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.ledger.money import from_nano_usd, sum_usd

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Totals", "sum_totals", "totals_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over the calls of one group.

    Attributes:
        key: The group's values, in the order of the groupings that were asked for.
        calls: Number of calls.
        input_tokens: Everything billed as input.
        output_tokens: Everything billed as output.
        cost_usd: Sum of the costs that are known; None when there are calls and none of their costs is known.
        unknown_cost_calls: Calls whose cost is not known, and so not in `cost_usd`.
        estimated_calls: Calls whose tokens are estimated, wholly or in part.
        errors: Calls that ended in an error.
    """

    key: tuple[str, ...] = ()
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal | None = Decimal(0)
    unknown_cost_calls: int = 0
    estimated_calls: int = 0
    errors: int = 0


def sum_totals(groups: Iterable[Totals]) -> Totals:
    """Return the sums over all `groups`, with an empty key."""
    groups = list(groups)
    known = [group.cost_usd for group in groups if group.cost_usd is not None]
    return Totals(
        calls=sum(group.calls for group in groups),
        input_tokens=sum(group.input_tokens for group in groups),
        output_tokens=sum(group.output_tokens for group in groups),
        cost_usd=sum_usd(known) if known or not groups else None,
        unknown_cost_calls=sum(group.unknown_cost_calls for group in groups),
        estimated_calls=sum(group.estimated_calls for group in groups),
        errors=sum(group.errors for group in groups),
    )


def totals_of(row: tuple[Any, ...], keys: int) -> Totals:
    """Return the sums in a row of as many `keys`, then the sums that every ledger selects, large ones in two halves."""
    calls, input_high, input_low, output_high, output_low, nano_high, nano_low, unknown, estimated, errors = row[keys:]
    return Totals(
        key=tuple(row[:keys]),
        calls=calls,
        input_tokens=(input_high << 32) + input_low,
        output_tokens=(output_high << 32) + output_low,
        cost_usd=None if unknown == calls else from_nano_usd((nano_high << 32) + nano_low),
        unknown_cost_calls=unknown,
        estimated_calls=estimated,
        errors=errors,
    )
