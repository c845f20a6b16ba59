"""`autotoll budget`: how budgets stand, and caps that hold for every process whose ledger it is."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llm_toll_autopatch.budgets.limits import RESETS, Asked, checked_amount, checked_count
from llm_toll_autopatch.cli import chosen
from llm_toll_autopatch.cli.budgets import Row, amount_text, exact, name_of, rows_of, show_table
from llm_toll_autopatch.cli.exits import BUDGET_EXCEEDED, FAILED, OK, CommandError
from llm_toll_autopatch.cli.following import is_there
from llm_toll_autopatch.cli.table import printable
from llm_toll_autopatch.cli.tail import count
from llm_toll_autopatch.cli.terminal import confirmed
from llm_toll_autopatch.ledger.errors import LedgerError
from llm_toll_autopatch.options import checked_project
from llm_toll_autopatch.sinks import SinkUnavailableError

if TYPE_CHECKING:
    import argparse

    from llm_toll_autopatch.budgets.budget import Budget
    from llm_toll_autopatch.ledger.location import Ledger

__all__ = ["configure", "run"]

_USAGE = (
    "autotoll budget [list] [--all] [--json] [--check] [--ledger PATH]\n"
    "       autotoll budget set PROJECT [USD] [--reset daily|weekly|monthly] [--rpm N] [--tpm N] [--ledger PATH]\n"
    "       autotoll budget unset PROJECT [--reset …] [--ledger PATH]\n"
    "       autotoll budget reset PROJECT [--reset …] [--yes] [--ledger PATH]"
)
_FITS = {
    "list": {"all", "json", "check"},
    "set": {"usd", "reset", "rpm", "tpm"},
    "unset": {"reset"},
    "reset": {"reset", "yes"},
}
"""Which options go with which action."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `budget`."""
    parser.usage = _USAGE
    parser.add_argument("action", nargs="?", default="list", choices=list(_FITS), help="what to do (default: list)")
    parser.add_argument("project", nargs="?", metavar="PROJECT", help="whose budget")
    parser.add_argument("usd", nargs="?", metavar="USD", help="set: what it may cost")
    parser.add_argument(
        "--reset", choices=RESETS, help="the budget that starts anew so often, in UTC (default for set: never)"
    )
    parser.add_argument("--rpm", type=count, metavar="N", help="set: calls in any 60 seconds")
    parser.add_argument("--tpm", type=count, metavar="N", help="set: tokens in any 60 seconds")
    parser.add_argument("--yes", action="store_true", help="reset: do not ask")
    parser.add_argument("--all", action="store_true", help="list: windows that are over, too")
    parser.add_argument("--json", action="store_true", help="list: exact figures as JSON")
    parser.add_argument(
        "--check", action="store_true", help=f"list: the exit code is {BUDGET_EXCEEDED} if a budget is used up"
    )
    chosen.add_ledger(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do it and return the exit code."""
    action = arguments.action
    for name in sorted(set().union(*_FITS.values()) - _FITS[action]):
        if getattr(arguments, name) not in (None, False):
            arguments.error(f"{action} takes no {'amount' if name == 'usd' else f'--{name}'}")
    if action == "list":
        if arguments.project is not None:
            arguments.error("list shows all projects, and takes no name")
        return _list(chosen.ledger(arguments), arguments)
    if arguments.project is None:
        arguments.error(f"{action} whose budget? autotoll budget {action} PROJECT")
    try:
        arguments.project = checked_project(arguments.project)
    except TypeError:
        arguments.error("PROJECT is empty")
    except ValueError:
        arguments.error(f"PROJECT is not in the encoding of this shell: {arguments.project!a}")
    return {"set": _set, "unset": _unset, "reset": _reset}[action](chosen.ledger(arguments), arguments)


def _list(ledger: Ledger, arguments: argparse.Namespace) -> int:
    now = datetime.now(UTC)
    if is_there(ledger):
        try:
            ledger.sweep()
        except (LedgerError, SinkUnavailableError) as error:  # one that may only be read can still be shown
            print(f"autotoll: what processes that have died were holding stays held: {error}", file=sys.stderr)
    rows = rows_of(ledger, None if arguments.all else now, now)
    if arguments.json:
        json.dump([exact(row) for row in rows], sys.stdout, indent=2)
        print()
    elif rows:
        show_table(rows, now)
    else:
        print("No budgets yet. Set one: autotoll budget set PROJECT 20 --reset monthly")
    over = any(row.is_used_up and row.budget.limit.period != "minute" and row.budget.end > now for row in rows)
    return BUDGET_EXCEEDED if arguments.check and over else OK


def _set(ledger: Ledger, arguments: argparse.Namespace) -> int:
    if arguments.usd is None and arguments.rpm is None and arguments.tpm is None:
        arguments.error(f"how much? autotoll budget set {arguments.project} 20 (USD), --rpm 60 or --tpm 100000")
    try:
        asked = Asked(
            max_budget=checked_amount("USD", None if arguments.usd is None else arguments.usd.removeprefix("$")),
            reset=arguments.reset,
            rate_limit=checked_count("--rpm", arguments.rpm, "calls"),
            tpm_limit=checked_count("--tpm", arguments.tpm, "tokens"),
        )
    except ValueError as error:
        arguments.error(str(error).replace("reset=", "--reset").replace("max_budget=", "an amount of USD"))
    for limit in asked.of(arguments.project):
        ledger.set_cap(limit)
        print(f"{name_of(limit)}: at most {amount_text(limit)}")
    others = [limit for limit in ledger.caps() if limit.account == arguments.project]
    others = [limit for limit in others if limit not in asked.of(arguments.project)]
    for limit in others:
        print(f"{name_of(limit)}: still at most {amount_text(limit)}")
    print("Every process whose ledger this is obeys within 5 seconds. What code asks for holds as well.")
    return OK


def _unset(ledger: Ledger, arguments: argparse.Namespace) -> int:
    mine = [] if not is_there(ledger) else [cap for cap in ledger.caps() if cap.account == arguments.project]
    meant = [cap for cap in mine if arguments.reset in (None, cap.period)]
    if not meant:
        known = ", ".join(map(name_of, mine)) or "none"
        raise CommandError(
            f"nothing is set here for {printable(arguments.project)!r} (set: {known}); what code asks for can only be"
            " changed there"
        )
    for cap in meant:
        ledger.remove_cap(cap.account, cap.unit, cap.period)
        print(f"{name_of(cap)}: no longer limited to {amount_text(cap)}")
    return OK


def _reset(ledger: Ledger, arguments: argparse.Namespace) -> int:
    now = datetime.now(UTC)
    rows = rows_of(ledger, now, now) if is_there(ledger) else []
    budgets = [row for row in rows if row.budget.limit.period != "minute"]
    meant = [row for row in budgets if row.budget.limit.account == arguments.project and _is_meant(row, arguments)]
    if not meant:
        known = ", ".join(sorted({printable(row.budget.limit.account) for row in budgets})) or "none"
        raise CommandError(f"{printable(arguments.project)!r} has no such budget; there are budgets of: {known}")
    for row in meant:
        print(_told(row.budget))
    sys.stdout.flush()
    if not (arguments.yes or confirmed("Have nothing be spent of it, from now on?", "--yes says yes beforehand")):
        print("Nothing is changed.")
        return FAILED
    for budget in ledger.reset_budget(arguments.project, period=arguments.reset):
        what = amount_text(budget.limit, 0)
        held = f"; {amount_text(budget.limit, budget.held)} stays held for calls that are under way"
        print(f"{name_of(budget.limit)}: {what} spent{held if budget.held else ''}")
    return OK


def _is_meant(row: Row, arguments: argparse.Namespace) -> bool:
    return arguments.reset in (None, row.budget.limit.period)


def _told(budget: Budget) -> str:
    most = f" of {amount_text(budget.limit)}" if budget.is_capped else ""
    return f"{name_of(budget.limit)}: {amount_text(budget.limit, budget.spent)}{most} is spent"
