"""`autotoll tail`: the last calls, one line each."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from llm_toll_autopatch.cli import chosen
from llm_toll_autopatch.cli.exits import OK
from llm_toll_autopatch.cli.following import HEADER, RIGHT, cells_of, followed
from llm_toll_autopatch.cli.table import Columns
from llm_toll_autopatch.cli.terminal import Styles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llm_toll_autopatch.records import CallRecord

__all__ = ["add_interval", "configure", "count", "run"]

_LINES = 10


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tail`."""
    parser.add_argument("-n", "--lines", type=count, default=_LINES, metavar="N", help=f"how many (default: {_LINES})")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with those that come in, until Ctrl-C")
    add_interval(parser)
    parser.add_argument("--json", action="store_true", help="whole records as JSON Lines")
    chosen.add_ledger(parser)
    chosen.add_filters(parser)


def add_interval(parser: argparse.ArgumentParser) -> None:
    """Add `--interval`."""
    parser.add_argument(
        "--interval", type=_seconds, default=1.0, metavar="SECONDS", help="how often to look (default: 1)"
    )


def count(text: str) -> int:
    """Return a whole number that is not negative, for argparse."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _seconds(text: str) -> float:
    """Return a number of seconds that one can wait for, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.01 <= value <= 86_400:  # noqa: PLR2004 - a hundredth of a second, a day
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.01 to 86400")
    return value


def run(arguments: argparse.Namespace) -> int:
    """Print the calls and return the exit code."""
    ledger, where = chosen.ledger(arguments), chosen.calls(arguments).where
    show = _show_json if arguments.json else _Lines(sys.stdout.isatty() or not arguments.follow)
    if not arguments.follow:
        show(next(ledger.arrivals(arguments.lines, where=where)))
        return OK
    try:
        for records in followed(ledger, arguments.lines, where, arguments.interval):
            show(records)
            sys.stdout.flush()
    except KeyboardInterrupt:  # the way to end it
        return OK
    return OK


class _Lines:
    """Prints calls in columns, below a header."""

    def __init__(self, header: bool) -> None:
        self._header = header
        self._columns = Columns(RIGHT)
        self._styles = Styles(sys.stdout)

    def __call__(self, records: Iterable[CallRecord]) -> None:
        records = list(records)
        if not records:
            return
        lines = self._columns.lines([HEADER, *map(cells_of, records)])
        if self._header:
            print(self._styles.bold(lines[0]))
            self._header = False
        for record, line in zip(records, lines[1:], strict=True):
            print(self._style(record)(line))

    def _style(self, record: CallRecord) -> Callable[[str], str]:
        if record.outcome == "error":
            return self._styles.red
        return self._styles.yellow if record.cost_usd is None else str


def _show_json(records: Iterable[CallRecord]) -> None:
    from llm_toll_autopatch.sinks.rows import record_to_dict

    for record in records:
        print(json.dumps(record_to_dict(record)))
