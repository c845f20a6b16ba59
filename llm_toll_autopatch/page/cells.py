"""Sums of calls in a table that is small enough for a page: rare values are folded together, periods made longer."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Literal

from llm_toll_autopatch.ledger.money import to_nano_usd

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from llm_toll_autopatch.ledger.totals import Totals

__all__ = ["OTHER", "Cells", "Unit", "add", "cells_of", "shown", "table"]

Unit = Literal["hour", "day", "week", "month", "year"]

Cells = dict[tuple[str, ...], list[int]]
"""By the period's beginning, then a value for each dimension: calls, input tokens, output tokens, nano-USD, calls of
unknown cost."""

OTHER = -1
"""Stands for a value of which there is no room."""

_KEPT = (40, 24, 16, 10, 6, 3, 1, 0)
"""How many values of each dimension are kept, until the table is small enough."""
_COARSER: dict[Unit, Unit] = {"day": "week", "week": "month", "month": "year"}
_WIDE_ENOUGH = 10
"""Values of each dimension that are worth longer periods."""
_NAME_MAX = 80
_SAFE_INTEGER = 2**53 - 1  # larger ones are not exact in JavaScript


def cells_of(groups: Iterable[Totals]) -> Cells:
    """Return the cells of groups by a period and dimensions."""
    return {
        group.key: [
            group.calls,
            group.input_tokens,
            group.output_tokens,
            to_nano_usd(group.cost_usd) if group.cost_usd is not None else 0,
            group.unknown_cost_calls,
        ]
        for group in groups
    }


def add(cells: Cells, more: Cells) -> None:
    """Add `more` to `cells`."""
    for key, sums in more.items():
        before = cells.get(key)
        cells[key] = sums if before is None else [a + b for a, b in zip(before, sums, strict=True)]


def table(cells: Cells, unit: Unit, dimensions: Sequence[str], limit: int) -> dict[str, Any]:
    """Return the cells as the page has them, at most about `limit`: every sum over all of them is as it was."""
    ranked = [_ranked(cells, place) for place in range(1, len(dimensions) + 1)]
    kept, folded = _KEPT[0], _folded(cells, [values[: _KEPT[0]] for values in ranked])
    while len(folded) > limit:
        smaller = _KEPT[min(_KEPT.index(kept) + 1, len(_KEPT) - 1)]
        if unit in _COARSER and (smaller < _WIDE_ENOUGH or kept == 0):
            cells, unit = _longer(cells, _COARSER[unit]), _COARSER[unit]
        elif kept:
            kept = smaller
        else:
            break
        folded = _folded(cells, [values[:kept] for values in ranked])
    periods = sorted({key[0] for key in folded})
    numbers = {period: number for number, period in enumerate(periods)}
    return {
        "unit": unit,
        "periods": periods,
        "values": {
            name: [shown(value) for value in values[:kept]] for name, values in zip(dimensions, ranked, strict=True)
        },
        "folded": {name: max(0, len(values) - kept) for name, values in zip(dimensions, ranked, strict=True)},
        "cells": [[numbers[key[0]], *key[1:], *map(_exact, sums)] for key, sums in folded.items()],
    }


def shown(name: str) -> str:
    """Return `name`, or what is shown of one that is too long, which is still another one than all others."""
    if len(name) <= _NAME_MAX:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name[:_NAME_MAX]}… {digest}"


def _exact(number: int) -> int | str:
    return number if abs(number) <= _SAFE_INTEGER else str(number)


def _ranked(cells: Cells, place: int) -> list[str]:
    """Return the values at a place of the keys, those that cost the most first, and then those of the most calls."""
    weights: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for key, sums in cells.items():
        weight = weights[key[place]]
        weight[0] += sums[3]
        weight[1] += sums[0]
    return sorted(weights, key=lambda value: ([-number for number in weights[value]], value))


def _folded(cells: Cells, kept: Sequence[Sequence[str]]) -> dict[tuple[Any, ...], list[int]]:
    numbers = [{value: number for number, value in enumerate(values)} for values in kept]
    folded: dict[tuple[Any, ...], list[int]] = {}
    for (period, *values), sums in cells.items():
        key = (period, *(known.get(value, OTHER) for known, value in zip(numbers, values, strict=True)))
        before = folded.get(key)
        folded[key] = sums if before is None else [a + b for a, b in zip(before, sums, strict=True)]
    return folded


def _longer(cells: Cells, unit: Unit) -> Cells:
    longer: Cells = {}
    for (period, *values), sums in cells.items():
        add(longer, {(_beginning(period, unit), *values): sums})
    return longer


def _beginning(day: str, unit: Unit) -> str:
    """Return the first day of the week, month or year of `day`."""
    if unit != "week":
        return day[:7] + "-01" if unit == "month" else day[:4] + "-01-01"
    then = date.fromisoformat(day)
    return str(then - timedelta(days=min(then.weekday(), then.toordinal() - 1)))
