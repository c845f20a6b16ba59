"""`autotoll export`: calls for other programs."""

from __future__ import annotations

import sys
from typing import IO, TYPE_CHECKING, Any

from llm_toll_autopatch.cli import chosen
from llm_toll_autopatch.cli.exits import OK, CommandError
from llm_toll_autopatch.cli.output import output
from llm_toll_autopatch.cli.progress import Progress

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from llm_toll_autopatch.cli.chosen import Calls
    from llm_toll_autopatch.ledger.location import Ledger

__all__ = ["configure", "run"]

_STEP = 1_000


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `export`."""
    formats = parser.add_mutually_exclusive_group(required=True)
    formats.add_argument("--jsonl", dest="write", action="store_const", const=_jsonl, help="one line of JSON a call")
    formats.add_argument("--csv", dest="write", action="store_const", const=_csv, help="one row a call")
    formats.add_argument(
        "--parquet", dest="write", action="store_const", const=_parquet, help="a table for data frames; needs pyarrow"
    )
    formats.add_argument(
        "--prometheus", dest="write", action="store_const", const=_prometheus, help="sums of all calls, to be scraped"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="where to; it is replaced when all is written (default: stdout)"
    )
    chosen.add_period(parser)
    chosen.add_ledger(parser)
    chosen.add_filters(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the calls and return the exit code."""
    if arguments.write is _parquet and not arguments.output and sys.stdout.isatty():
        raise CommandError("Parquet is not for a terminal; give it a file: --output calls.parquet")
    ledger, calls = chosen.ledger(arguments), chosen.calls(arguments)
    with output(arguments.output) as file:
        arguments.write(ledger, calls, file)
    return OK


def _records(ledger: Ledger, calls: Calls, progress: Progress) -> Iterator[Any]:
    for number, record in enumerate(ledger.records(calls.since, calls.until, where=calls.where), 1):
        yield record
        if not number % _STEP:
            progress.advance(_STEP)


def _each(ledger: Ledger, calls: Calls, file: IO[bytes], write: Any) -> None:
    total = sum(group.calls for group in ledger.totals((), calls.since, calls.until, where=calls.where))
    with Progress("exporting", total) as progress:
        write(_records(ledger, calls, progress), file)


def _jsonl(ledger: Ledger, calls: Calls, file: IO[bytes]) -> None:
    from llm_toll_autopatch.cli.formats import write_jsonl

    _each(ledger, calls, file, write_jsonl)


def _csv(ledger: Ledger, calls: Calls, file: IO[bytes]) -> None:
    from llm_toll_autopatch.cli.formats import write_csv

    _each(ledger, calls, file, write_csv)


def _parquet(ledger: Ledger, calls: Calls, file: IO[bytes]) -> None:
    from llm_toll_autopatch.cli.parquet import write_parquet

    _each(ledger, calls, file, write_parquet)


def _prometheus(ledger: Ledger, calls: Calls, file: IO[bytes]) -> None:
    from llm_toll_autopatch.cli.prometheus import BY, write_prometheus

    lines: Iterable[str] = write_prometheus(ledger.totals(BY, calls.since, calls.until, where=calls.where))
    file.write("".join(f"{line}\n" for line in lines).encode())
