"""How budgets stand, as a table for people and for programs."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from llm_toll_autopatch.budgets.budget import Budget
from llm_toll_autopatch.budgets.limits import window_of
from llm_toll_autopatch.cli.table import aligned, bar, printable, rich_table
from llm_toll_autopatch.cli.terminal import Styles, rich_console, width
from llm_toll_autopatch.ledger.money import format_usd, from_nano_usd

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from rich.table import Table

    from llm_toll_autopatch.budgets.limits import Limit
    from llm_toll_autopatch.ledger.location import Ledger

__all__ = ["Row", "amount_text", "exact", "name_of", "rich_budgets", "rows_of", "show_table"]

_HEADER = ("project", "period", "spent", "held", "cap", "", "starts anew (UTC)", "set", "")
_RIGHT = (False, False, True, True, True, False, False, False, False)
_BAR = 5
_BAR_WIDTH = 12
_NEARLY = 0.8

Source = Literal["here", "code", "nowhere"]


class Row(NamedTuple):
    """A budget with the cap that holds, and where that was set; `nowhere` where nothing limits it any more."""

    budget: Budget
    source: Source

    @property
    def is_used_up(self) -> bool:
        """Whether the next call is refused."""
        return self.source != "nowhere" and self.budget.is_used_up


def rows_of(ledger: Ledger, at: datetime | None, now: datetime) -> list[Row]:
    """Return the budgets, and the caps that no call has met yet.

    Args:
        ledger: Where they are.
        at: Only those in whose window this is; None for all there ever were.
        now: For those that no call has met yet.
    """
    caps = {(cap.account, cap.unit, cap.period): cap for cap in ledger.caps()}
    rows, met = [], set()
    for budget in ledger.budgets(at):
        what = (budget.limit.account, budget.limit.unit, budget.limit.period)
        cap = caps.get(what)
        if budget.start <= now < budget.end:
            met.add(what)
            if cap is not None and cap.amount <= budget.limit.amount:
                rows.append(Row(replace(budget, limit=cap), "here"))
                continue
        rows.append(Row(budget, "code" if budget.is_capped else "nowhere"))
    unmet = [cap for what, cap in caps.items() if what not in met]
    for standing in ledger.standings(unmet, now) if unmet else ():
        start, end = window_of(standing.limit.period, now)
        rows.append(Row(Budget(standing.limit, standing.spent, standing.held, start=start, end=end), "here"))
    if at is not None:
        rows = [row for row in rows if row.source != "nowhere"]
    return sorted(rows, key=_in_order)


def _in_order(row: Row) -> tuple[str, bool, str, datetime]:
    limit = row.budget.limit
    return limit.account, limit.period == "minute", f"{limit.period} {limit.unit}", row.budget.start


def name_of(limit: Limit) -> str:
    """Return a limit's name: `acme, monthly`."""
    return f"{printable(limit.account)}, {_period(limit)}"


def _period(limit: Limit) -> str:
    return {"total": "in all", "minute": "any 60 s"}.get(limit.period, limit.period)


def amount_text(limit: Limit, amount: int | None = None) -> str:
    """Return an amount in the unit of a limit; its own for None."""
    amount = limit.amount if amount is None else amount
    return format_usd(from_nano_usd(amount)) if limit.unit == "usd" else f"{amount:,} {limit.unit}"


def exact(row: Row) -> dict[str, Any]:
    """Return a row for JSON. Amounts of USD are decimal strings; of a budget for ever, start and end are null."""
    budget = row.budget
    limit = budget.limit
    is_calendar = limit.period not in ("total", "minute")

    def amount(value: int) -> str | int:
        return format(from_nano_usd(value).normalize(), "f") if limit.unit == "usd" else value

    return {
        "project": limit.account,
        "unit": limit.unit,
        "period": limit.period,
        "start": budget.start.isoformat() if is_calendar else None,
        "end": budget.end.isoformat() if is_calendar else None,
        "spent": amount(budget.spent),
        "held": amount(budget.held),
        "cap": None if row.source == "nowhere" else amount(limit.amount),
        "set": row.source,
        "used_up": row.is_used_up,
        "calls_under_way": budget.holds,
        "oldest_since": None if budget.oldest is None else budget.oldest.isoformat(),
    }


def show_table(rows: Sequence[Row], now: datetime) -> None:
    """Print the table on stdout, and what its marks mean."""
    encoding = sys.stdout.encoding or "ascii"
    styles = Styles(sys.stdout)
    console = rich_console(sys.stdout) if styles.on else None
    if console is not None and _width(rows, now, encoding) <= width(sys.stdout):
        console.print(rich_budgets(rows, now, encoding))
    else:
        header, *lines = aligned([_HEADER, *(_cells(row, now, encoding) for row in rows)], _RIGHT)
        print(styles.bold(header))
        for row, line in zip(rows, lines, strict=True):
            print(styles.red(line) if row.is_used_up else line)
    print()
    print(styles.dim("set: here by `autotoll budget set`, or by the code that makes the calls; the smaller one holds"))


def rich_budgets(rows: Sequence[Row], now: datetime, encoding: str) -> Table:
    """Return the table of `rich`."""
    return rich_table(_HEADER, _RIGHT, [_cells(row, now, encoding) for row in rows], names=(0,), bars=_BAR)


def _width(rows: Sequence[Row], now: datetime, encoding: str) -> int:
    return max(map(len, aligned([_HEADER, *(_cells(row, now, encoding) for row in rows)], _RIGHT)))


def _cells(row: Row, now: datetime, encoding: str) -> list[str]:
    budget, limit = row.budget, row.budget.limit
    used = budget.spent + budget.held
    share = min(1.0, used / limit.amount) if limit.amount else 1.0
    if budget.end <= now:
        mark = "over"
    elif row.is_used_up:
        mark = "used up"
    else:
        mark = f"{share:.0%} used" if row.source != "nowhere" and share >= _NEARLY else ""
    ends = "" if limit.period in ("total", "minute") else budget.end.strftime("%Y-%m-%d %H:%M")
    return [
        printable(limit.account) or "-",
        _period(limit),
        amount_text(limit, budget.spent),
        f"{amount_text(limit, budget.held)} ({budget.holds:,})" if budget.holds else "",
        "none" if row.source == "nowhere" else amount_text(limit),
        "" if row.source == "nowhere" else bar(share, _BAR_WIDTH, encoding),
        ends,
        row.source,
        mark,
    ]
