"""What groups of calls have cost, as a table for people."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from llm_toll_autopatch.cli.table import aligned, bar, printable, rich_table
from llm_toll_autopatch.cli.terminal import Styles, rich_console, width
from llm_toll_autopatch.ledger.groupings import PERIODS
from llm_toll_autopatch.ledger.money import decimals_for, format_usd
from llm_toll_autopatch.ledger.totals import Totals, sum_totals

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table

__all__ = [
    "Spending",
    "calls_text",
    "cost_text",
    "fitting",
    "in_order",
    "legend",
    "rich_spending",
    "show_table",
    "spending",
]

_BAR_WIDTH = 20


class Spending(NamedTuple):
    """The cells of a table.

    Attributes:
        header: The columns' names.
        right: For each column, whether its cells stand on the right.
        rows: One a group.
        total: The last row.
        keys: How many of the columns are names; the bars are the last one, if there are any.
    """

    header: list[str]
    right: list[bool]
    rows: list[list[str]]
    total: list[str]
    keys: int


def in_order(by: Sequence[str], groups: list[Totals]) -> list[Totals]:
    """Return the groups as people want them: periods in the order of time, anything else the most expensive first."""
    return groups if any(name in PERIODS for name in by) else sorted(groups, key=_most_expensive_first)


def _most_expensive_first(group: Totals) -> tuple[bool, Decimal, int, tuple[str, ...]]:
    cost = group.cost_usd or Decimal(0)
    return group.cost_usd is None, -cost, -(group.input_tokens + group.output_tokens), group.key


def spending(
    by: Sequence[str], groups: Sequence[Totals], *, bars: str | None = None, total: Totals | None = None
) -> Spending:
    """Return the cells for `groups`, which are grouped `by`, and their total.

    Args:
        by: The groupings.
        groups: In the order of the rows.
        bars: The encoding of the bars of cost; None for no bars.
        total: The sums for the last row; None for those of `groups`.
    """
    total = sum_totals(groups) if total is None else total
    everything = [*groups, total]
    places = decimals_for(group.cost_usd for group in everything if group.cost_usd is not None)
    keys = [*([printable(value) or "-" for value in group.key] for group in groups)]
    most = max((group.cost_usd for group in groups if group.cost_usd is not None), default=Decimal(0))
    rows = [
        [*key, *_cells(group, places), *([] if bars is None else [_bar(group, most, bars)])]
        for key, group in zip(keys, groups, strict=True)
    ]
    last = ["total", *[""] * (len(by) - 1), *_cells(total, places), *([] if bars is None else [""])]
    header = [*by, "calls", "input", "output", "cost", "", *([] if bars is None else [""])]
    right = [False] * len(by) + [True] * 4 + [False] * (1 if bars is None else 2)
    return Spending(header, right, rows, last, len(by))


def rich_spending(cells: Spending) -> Table:
    """Return the cells as a table of `rich`."""
    names = range(cells.keys)
    return rich_table(cells.header, cells.right, cells.rows, names=names, bars=cells.keys + 5, last=cells.total)


def _bar(group: Totals, most: Decimal, encoding: str) -> str:
    return bar(float(group.cost_usd / most), _BAR_WIDTH, encoding) if group.cost_usd and most > 0 else ""


def _cells(group: Totals, places: int) -> list[str]:
    mark = "~" if group.estimated_calls else ""
    rest = f"+ {group.unknown_cost_calls:,} unknown" if group.unknown_cost_calls and group.cost_usd is not None else ""
    return [
        f"{group.calls:,}",
        f"{mark}{group.input_tokens:,}",
        f"{mark}{group.output_tokens:,}",
        cost_text(group.cost_usd, places, estimated=bool(group.estimated_calls)),
        rest,
    ]


def cost_text(cost_usd: Decimal | None, places: int | None = None, *, estimated: bool = False) -> str:
    """Return a cost with its marks: `~$0.0123`, `unknown`."""
    return "unknown" if cost_usd is None else ("~" if estimated else "") + format_usd(cost_usd, places)


def legend(total: Totals) -> Iterator[str]:
    """Yield what explains the marks that are in a table with this total."""
    if total.estimated_calls:
        yield (
            f"~ {calls_text(total.estimated_calls)} with tokens, and so a cost, estimated wholly or in part:"
            " the provider did not report them"
        )
    if total.unknown_cost_calls:
        yield (
            f"unknown: {calls_text(total.unknown_cost_calls)} not in the sums: the model has no known price"
            " (`autotoll prices MODEL`), or the call was interrupted before any answer came"
        )


def calls_text(count: int) -> str:
    """Return `1 call`, `1,234 calls`."""
    return f"{count:,} call{'' if count == 1 else 's'}"


def fitting(by: Sequence[str], groups: Sequence[Totals], *, bars: str | None, total: Totals | None = None) -> Spending:
    """Return the cells as `spending` does, without the bars if the terminal is too narrow for them."""
    cells = spending(by, groups, bars=bars, total=total)
    if bars is None or max(map(len, aligned([cells.header, *cells.rows, cells.total], cells.right))) <= width(
        sys.stdout
    ):
        return cells
    return spending(by, groups, total=total)


def show_table(by: Sequence[str], groups: Sequence[Totals], *, bars: bool) -> None:
    """Print the table on stdout."""
    cells = fitting(by, groups, bars=(sys.stdout.encoding or "ascii") if bars else None)
    styles = Styles(sys.stdout)
    console = rich_console(sys.stdout) if styles.on else None
    if console is not None:
        console.print(rich_spending(cells))
    else:
        header, *lines, last = aligned([cells.header, *cells.rows, cells.total], cells.right)
        print("\n".join([styles.bold(header), *lines, styles.bold(last)]))
    lines = list(legend(sum_totals(groups)))
    if lines:
        print()
    for line in lines:
        print(styles.dim(line))
