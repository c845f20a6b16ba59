"""`autotoll reprice`: the costs of past calls, computed again with the prices that are known now."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING

from llm_toll_autopatch.cli import chosen
from llm_toll_autopatch.cli.progress import Progress
from llm_toll_autopatch.cli.table import aligned, printable
from llm_toll_autopatch.cli.terminal import Styles
from llm_toll_autopatch.ledger.money import decimals_for, format_usd, sum_usd

if TYPE_CHECKING:
    import argparse
    from decimal import Decimal

    from llm_toll_autopatch.ledger.repricing import Repriced, Repricing

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `reprice`."""
    chosen.add_period(parser)
    chosen.add_ledger(parser)
    chosen.add_prices(parser)
    parser.add_argument("--project", metavar="NAME", help="only calls of this project")
    parser.add_argument("--unknown", action="store_true", help="only calls whose cost is not known")
    parser.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")


def run(arguments: argparse.Namespace) -> int:
    """Compute the costs again, print what has changed and return the exit code."""
    from llm_toll_autopatch.ledger.repricing import reprice

    since, until, _ = chosen.calls(arguments)
    ledger = chosen.ledger(arguments)
    prices = chosen.prices(arguments)
    where = {"project": arguments.project} if arguments.project else {}
    total = sum(group.calls for group in ledger.totals((), since, until, where=where))
    with warnings.catch_warnings(), Progress("repricing", total) as progress:
        warnings.simplefilter("ignore")  # models without a price are listed below
        done = reprice(
            ledger,
            prices,
            since=since,
            until=until,
            project=arguments.project,
            only_unknown=arguments.unknown,
            dry_run=arguments.dry_run,
            progress=progress.advance,
        )
    _show(done, dry_run=arguments.dry_run)
    return 0


def _show(done: Repricing, *, dry_run: bool) -> None:
    if done.changed:
        print("\n".join(_table(done)))
        print()
    verb = "would change" if dry_run else "changed"
    print(f"{done.calls:,} looked at, {len(done.changed):,} {verb}.")
    if done.changed and not dry_run:
        print("The former costs are in the ledger's table former_costs.")
    if done.kept:
        print(f"{done.kept:,} kept their cost, which could not be computed now.")
    for model, calls in sorted(done.unknown.items()):
        print(f"Still unknown: {calls:,} of {printable(model)}.")


def _table(done: Repricing) -> list[str]:
    by_model: dict[str, list[Repriced]] = {}
    for call in done.changed:
        by_model.setdefault(call.record.response_model or call.record.model, []).append(call)
    groups = [*sorted(by_model.items()), ("total", list(done.changed))]
    sums = [_sums(group) for _, group in groups]
    places = decimals_for(amount for pair in sums for amount in pair[:2])
    rows = [
        ["model", "calls", "was", "is", ""],
        *(
            [
                printable(name),
                f"{len(group):,}",
                format_usd(before, places),
                format_usd(after, places),
                f"{unknown:,} was unknown" if unknown else "",
            ]
            for (name, group), (before, after, unknown) in zip(groups, sums, strict=True)
        ),
    ]
    header, *lines, last = aligned(rows, [False, True, True, True, False])
    styles = Styles(sys.stdout)
    return [styles.bold(header), *lines, styles.bold(last)]


def _sums(group: list[Repriced]) -> tuple[Decimal, Decimal, int]:
    known = [call.before for call in group if call.before is not None]
    return sum_usd(known), sum_usd(call.after for call in group), len(group) - len(known)
