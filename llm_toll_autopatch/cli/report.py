"""`autotoll report`: what was spent, grouped, as a table, JSON or CSV."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any

from llm_toll_autopatch.cli import chosen
from llm_toll_autopatch.cli.table import Styles, aligned, printable
from llm_toll_autopatch.ledger.money import decimals_for, format_usd
from llm_toll_autopatch.ledger.totals import GROUPINGS, Totals, sum_totals

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

__all__ = ["configure", "run"]

_DEFAULT_BY = ("project", "model")
_FIGURES = ("calls", "input_tokens", "output_tokens", "cost_usd", "unknown_cost_calls", "estimated_calls", "errors")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `report`."""
    parser.add_argument(
        "--by",
        action="extend",
        type=_groupings,
        metavar="NAME[,NAME]",
        help=f"group by {', '.join(GROUPINGS)}; repeatable (default: {','.join(_DEFAULT_BY)})",
    )
    chosen.add_calls(parser)
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", dest="show", action="store_const", const=_show_json, help="exact figures as JSON")
    formats.add_argument("--csv", dest="show", action="store_const", const=_show_csv, help="exact figures as CSV")
    parser.set_defaults(show=_show_table)


def _groupings(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in GROUPINGS:
            raise argparse.ArgumentTypeError(f"cannot group by {name!r}; by any of: {', '.join(GROUPINGS)}")
    return names


def run(arguments: argparse.Namespace) -> int:
    """Print the report and return the exit code."""
    from llm_toll_autopatch.ledger.errors import LedgerError
    from llm_toll_autopatch.ledger.sqlite import SQLiteLedger

    by = list(dict.fromkeys(arguments.by or _DEFAULT_BY))
    since, until, path = chosen.calls(arguments)
    try:
        groups = SQLiteLedger(path).totals(by, since, until)
    except LedgerError as error:
        print(f"autotoll: {error}", file=sys.stderr)
        return 1
    if "day" not in by:
        groups.sort(key=_most_expensive_first)
    arguments.show(by, groups, since, until)
    return 0


def _most_expensive_first(group: Totals) -> tuple[bool, Decimal, int, tuple[str, ...]]:
    cost = group.cost_usd or Decimal(0)
    return group.cost_usd is None, -cost, -(group.input_tokens + group.output_tokens), group.key


def _show_table(by: Sequence[str], groups: list[Totals], since: datetime | None, until: datetime | None) -> None:
    if not groups:
        print("No calls in this period." if since or until else "No calls yet: the ledger is empty.")
        return
    styles = Styles(sys.stdout)
    total = sum_totals(groups)
    everything = [*groups, total]
    places = decimals_for(group.cost_usd for group in everything if group.cost_usd is not None)
    keys = [*([printable(value) or "-" for value in group.key] for group in groups), ["total", *[""] * (len(by) - 1)]]
    rows = [
        [*by, "calls", "input", "output", "cost", ""],
        *([*key, *_cells(group, places)] for key, group in zip(keys, everything, strict=True)),
    ]
    header, *lines, last = aligned(rows, [False] * len(by) + [True] * 4 + [False])
    print("\n".join([styles.bold(header), *lines, styles.bold(last)]))
    for line in _legend(total):
        print(styles.dim(line))


def _cells(group: Totals, places: int) -> list[str]:
    mark = "~" if group.estimated_calls else ""
    if group.cost_usd is None:
        cost, rest = "unknown", ""
    else:
        cost = mark + format_usd(group.cost_usd, places)
        rest = f"+ {group.unknown_cost_calls:,} unknown" if group.unknown_cost_calls else ""
    return [f"{group.calls:,}", f"{mark}{group.input_tokens:,}", f"{mark}{group.output_tokens:,}", cost, rest]


def _legend(total: Totals) -> Iterable[str]:
    if total.estimated_calls or total.unknown_cost_calls:
        yield ""
    if total.estimated_calls:
        yield (
            f"~ {_calls(total.estimated_calls)} with tokens, and so a cost, estimated wholly or in part:"
            " the provider did not report them"
        )
    if total.unknown_cost_calls:
        yield (
            f"unknown: {_calls(total.unknown_cost_calls)} not in the sums: the model has no known price"
            " (`autotoll prices MODEL`), or the call was interrupted before any answer came"
        )


def _calls(count: int) -> str:
    return f"{count:,} call{'' if count == 1 else 's'}"


def _show_json(by: Sequence[str], groups: list[Totals], since: datetime | None, until: datetime | None) -> None:
    report = {
        "by": list(by),
        "since": since and since.isoformat(),
        "until": until and until.isoformat(),
        "groups": [{**dict(zip(by, group.key, strict=True)), **_figures(group)} for group in groups],
        "total": _figures(sum_totals(groups)),
    }
    json.dump(report, sys.stdout, indent=2)
    print()


def _show_csv(by: Sequence[str], groups: list[Totals], since: datetime | None, until: datetime | None) -> None:  # noqa: ARG001 - as the others
    stream: IO[str] = sys.stdout
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*by, *_FIGURES])
    writer.writerows([*group.key, *_figures(group).values()] for group in groups)


def _figures(group: Totals) -> dict[str, Any]:
    """Return the sums, exact. The cost is a decimal string, None when none is known."""
    figures = {name: getattr(group, name) for name in _FIGURES}
    figures["cost_usd"] = None if group.cost_usd is None else format(group.cost_usd.normalize(), "f")
    return figures
