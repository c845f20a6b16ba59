"""`autotoll report`: what was spent, grouped, as a table, Markdown, JSON, CSV or a page."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from llm_toll_autopatch.cli import chosen
from llm_toll_autopatch.cli.exits import OK
from llm_toll_autopatch.cli.figures import show_csv, show_json, show_markdown
from llm_toll_autopatch.cli.output import output
from llm_toll_autopatch.cli.spending import in_order, show_table
from llm_toll_autopatch.cli.terminal import is_terminal
from llm_toll_autopatch.ledger.groupings import GROUPINGS, check_groupings

if TYPE_CHECKING:
    from llm_toll_autopatch.cli.chosen import Calls

__all__ = ["configure", "run"]

_DEFAULT_BY = ("project", "model")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `report`."""
    parser.add_argument(
        "--by",
        action="extend",
        type=groupings,
        metavar="NAME[,NAME]",
        help=f"group by {', '.join(GROUPINGS)}, tag:NAME; repeatable (default: {','.join(_DEFAULT_BY)})",
    )
    chosen.add_period(parser)
    chosen.add_ledger(parser)
    chosen.add_filters(parser)
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", dest="show", action="store_const", const=show_json, help="exact figures as JSON")
    formats.add_argument("--csv", dest="show", action="store_const", const=show_csv, help="exact figures as CSV")
    formats.add_argument("--md", dest="show", action="store_const", const=show_markdown, help="a table in Markdown")
    formats.add_argument(
        "--html", metavar="FILE", help="a page to look at, in one file that needs no network; - is stdout"
    )
    parser.add_argument(
        "--bars", action=argparse.BooleanOptionalAction, help="bars of cost beside the table (default: in a terminal)"
    )


def groupings(text: str) -> list[str]:
    """Return the groupings that a text with commas names, for argparse."""
    names = [name.strip() for name in text.split(",")]
    try:
        check_groupings(names)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return names


def run(arguments: argparse.Namespace) -> int:
    """Print the report and return the exit code."""
    by = list(dict.fromkeys(arguments.by or _DEFAULT_BY))
    calls = chosen.calls(arguments)
    if arguments.html is not None:
        return _page(arguments, calls)
    groups = in_order(by, chosen.ledger(arguments).totals(by, calls.since, calls.until, where=calls.where))
    if arguments.show is not None:
        arguments.show(by, groups, calls)
    elif groups:
        show_table(by, groups, bars=is_terminal(sys.stdout) if arguments.bars is None else arguments.bars)
    else:
        print(_nothing(calls))
    return OK


def _page(arguments: argparse.Namespace, calls: Calls) -> int:
    from llm_toll_autopatch.page.document import document
    from llm_toll_autopatch.page.snapshot import encoded, look

    asked = chosen.asked(arguments, calls)
    html = document(encoded(asked, look(asked)))
    to = None if arguments.html == "-" else arguments.html
    with output(to) as file:
        file.write(html)
    if to is not None:
        print(f"written: {to} ({len(html) / 1_000_000:.1f} MB)")
    return OK


def _nothing(calls: Calls) -> str:
    if calls.where:
        return "No such calls in this period." if calls.since or calls.until else "No such calls."
    return "No calls in this period." if calls.since or calls.until else "No calls yet: the ledger is empty."
