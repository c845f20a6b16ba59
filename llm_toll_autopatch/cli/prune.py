"""`autotoll prune`: old calls go."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llm_toll_autopatch.cli import chosen, periods
from llm_toll_autopatch.cli.exits import FAILED, OK, CommandError
from llm_toll_autopatch.cli.progress import Progress
from llm_toll_autopatch.cli.spending import calls_text, in_order, show_table
from llm_toll_autopatch.cli.terminal import confirmed
from llm_toll_autopatch.ledger.totals import sum_totals

if TYPE_CHECKING:
    import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `prune`."""
    parser.add_argument(
        "--older-than",
        required=True,
        metavar="WHEN",
        help=f"delete the calls that started before: 90d, or {periods.ACCEPTED}; a day that is named stays",
    )
    parser.add_argument("--project", metavar="NAME", help="only calls of this project")
    parser.add_argument("--dry-run", action="store_true", help="show what would go, and delete nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--vacuum", action="store_true", help="make the file smaller afterwards")
    chosen.add_ledger(parser)


def run(arguments: argparse.Namespace) -> int:
    """Delete the calls, if the user agrees, and return the exit code."""
    try:
        before = periods.since(arguments.older_than, datetime.now(UTC))
    except ValueError as error:
        arguments.error(f"--older-than: {error}")
    ledger = chosen.ledger(arguments)
    where = {"project": arguments.project} if arguments.project else {}
    groups = in_order(["project"], ledger.totals(["project"], until=before, where=where))
    calls = sum_totals(groups).calls
    if groups:
        show_table(["project"], groups, bars=False)
        print()
        if arguments.dry_run:
            print(f"{calls_text(calls)} from before {before:%Y-%m-%d %H:%M}Z would be deleted.")
            return OK
        sys.stdout.flush()
        question = f"Delete {calls_text(calls)} from before {before:%Y-%m-%d %H:%M}Z for good?"
        if not (arguments.yes or confirmed(question)):
            print("Nothing is deleted.")
            return FAILED
        from llm_toll_autopatch.ledger.pruning import prune

        with Progress("pruning", calls) as progress:
            gone = prune(ledger, before, project=arguments.project, progress=progress.advance)
        print(f"{calls_text(gone)} deleted.")
    else:
        print(f"No calls from before {before:%Y-%m-%d %H:%M}Z.")
    if arguments.vacuum and not arguments.dry_run:
        from llm_toll_autopatch.ledger.pruning import vacuum
        from llm_toll_autopatch.ledger.sqlite import SQLiteLedger

        if not isinstance(ledger, SQLiteLedger):
            raise CommandError("--vacuum is for SQLite; PostgreSQL uses the free place by itself")
        size = ledger.path.stat().st_size
        vacuum(ledger)
        print(f"The file had {size:,} bytes, and has {ledger.path.stat().st_size:,}.")
    return OK
