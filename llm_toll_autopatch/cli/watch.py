"""`autotoll watch`: what is being spent, live."""

from __future__ import annotations

import signal
import sys
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from llm_toll_autopatch.cli import chosen, periods
from llm_toll_autopatch.cli.budgets import Row, rich_budgets, rows_of
from llm_toll_autopatch.cli.exits import OK
from llm_toll_autopatch.cli.following import HEADER, RIGHT, cells_of, followed, is_there
from llm_toll_autopatch.cli.report import groupings
from llm_toll_autopatch.cli.spending import (
    calls_text,
    cost_text,
    fitting,
    in_order,
    legend,
    rich_spending,
)
from llm_toll_autopatch.cli.table import rich_table
from llm_toll_autopatch.cli.tail import add_interval, count
from llm_toll_autopatch.cli.terminal import rich_console
from llm_toll_autopatch.ledger.groupings import PERIODS
from llm_toll_autopatch.ledger.totals import Totals, sum_totals

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from rich.console import Console, Group

    from llm_toll_autopatch.ledger.groupings import Where
    from llm_toll_autopatch.ledger.location import Ledger
    from llm_toll_autopatch.records import CallRecord

__all__ = ["configure", "run"]

_DEFAULT_BY = ("project", "model")
_LINES = 8
_OTHER_LINES = 9
"""Of the view, beside groups and calls."""
_BUDGETS = 5
_CLOCK = len("12:00:00")
_TERMINATED = 128 + signal.SIGTERM


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `watch`."""
    parser.add_argument("--by", action="extend", type=groupings, metavar="NAME[,NAME]", help="group by, as for report")
    parser.add_argument(
        "-n", "--lines", type=count, default=_LINES, metavar="N", help=f"how many of the last calls (default: {_LINES})"
    )
    add_interval(parser)
    parser.add_argument("--since", metavar="WHEN", help="only calls that started then or later (default: today, UTC)")
    chosen.add_ledger(parser)
    chosen.add_filters(parser)


class Seen(NamedTuple):
    """What there is to see at a moment: sums since `since`, those of the last hour, the last calls, and budgets."""

    now: datetime
    since: datetime
    groups: list[Totals]
    hour: Totals
    last: Sequence[CallRecord]
    budgets: Sequence[Row] = ()

    def headline(self) -> str:
        """Return the sums in a line."""
        total = sum_totals(self.groups)
        cost = cost_text(total.cost_usd, estimated=bool(total.estimated_calls))
        unknown = (
            f" + {total.unknown_cost_calls:,} unknown"
            if total.unknown_cost_calls and total.cost_usd is not None
            else ""
        )
        return (
            f"{self.now:%H:%M:%S}Z  since {self.since:%Y-%m-%d %H:%M}Z: {cost}{unknown}, {calls_text(total.calls)},"
            f" {total.input_tokens:,} in, {total.output_tokens:,} out; last hour: {cost_text(self.hour.cost_usd)}"
        )


def run(arguments: argparse.Namespace) -> int:
    """Show it until Ctrl-C, and return the exit code."""
    by = list(dict.fromkeys(arguments.by or _DEFAULT_BY))
    calls = chosen.calls(arguments)
    sights = _sights(chosen.ledger(arguments), by, calls.since, calls.where, arguments)
    console = rich_console(sys.stdout)
    # A terminal must get its cursor back, however this ends.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    try:
        if console is None:
            for seen in sights:
                print(seen.headline(), flush=True)
        else:
            _live(console, by, sights)
    except KeyboardInterrupt:  # the way to end it
        return OK
    finally:
        signal.signal(signal.SIGTERM, before)
    return OK


def _sights(
    ledger: Ledger, by: Sequence[str], since: datetime | None, where: Where, arguments: argparse.Namespace
) -> Iterator[Seen]:
    last: deque[CallRecord] = deque(maxlen=arguments.lines)
    for records in followed(ledger, arguments.lines, where, arguments.interval):
        last.extend(records)
        now = datetime.now(UTC)
        start = periods.since("today", now) if since is None else since  # a watch may go on past midnight
        there = is_there(ledger)
        groups = ledger.totals(by, start, where=where) if there else []
        hour = ledger.totals((), now - timedelta(hours=1), where=where) if there else []
        budgets = rows_of(ledger, now, now) if there and not where else []
        yield Seen(now, start, in_order(by, groups), sum_totals(hour), last, _closest(budgets))


def _closest(budgets: Sequence[Row]) -> list[Row]:
    """Return the few budgets of which the least is left, in their order."""

    def share(row: Row) -> float:
        budget = row.budget
        return (budget.spent + budget.held) / max(1, budget.limit.amount)

    nearest = sorted(budgets, key=share, reverse=True)[:_BUDGETS]
    return [row for row in budgets if row in nearest]


def _live(console: Console, by: Sequence[str], sights: Iterator[Seen]) -> None:
    from rich.live import Live

    with Live(console=console, auto_refresh=False, screen=False) as live:
        for seen in sights:
            room = max(
                1, console.size.height - _OTHER_LINES - len(seen.last) - (len(seen.budgets) + 2 if seen.budgets else 0)
            )
            live.update(_view(by, seen, room, console.encoding), refresh=True)


def _view(by: Sequence[str], seen: Seen, room: int, encoding: str) -> Group:
    """Return what is shown, with as many groups as there is room for."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = [Text(seen.headline(), style="bold"), Text()]
    if seen.groups:
        shown = seen.groups[-room:] if any(name in PERIODS for name in by) else seen.groups[:room]
        parts.append(rich_spending(fitting(by, shown, bars=encoding, total=sum_totals(seen.groups))))
        if len(seen.groups) > len(shown):
            parts.append(Text(f"and {len(seen.groups) - len(shown):,} more groups", style="dim"))
    else:
        parts.append(Text("No calls yet.", style="dim"))
    if seen.budgets:
        parts += [Text(), rich_budgets(seen.budgets, seen.now, encoding)]
    if seen.last:
        rows = ([cells[0][-_CLOCK:], *cells[1:]] for cells in map(cells_of, seen.last))
        parts += [Text(), rich_table(HEADER, RIGHT, rows)]
    parts += [Text(line, style="dim") for line in legend(sum_totals(seen.groups))]
    parts.append(Text("Ctrl-C ends it", style="dim"))
    return Group(*parts)
