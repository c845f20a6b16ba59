"""`autotoll import`: calls from JSON Lines, such as `autotoll export --jsonl` and `JSONLinesSink` write."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

from llm_toll_autopatch.cli import chosen
from llm_toll_autopatch.cli.exits import FAILED, OK
from llm_toll_autopatch.cli.progress import Progress

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from llm_toll_autopatch.ledger.location import Ledger
    from llm_toll_autopatch.records import CallRecord

__all__ = ["configure", "run"]

_AT_ONCE = 1_000
"""Records in a transaction: other processes write between two of these."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `import`."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="a file of JSON Lines; - is stdin")
    parser.add_argument("--keep-going", action="store_true", help="leave out lines that hold no record")
    parser.add_argument("--dry-run", action="store_true", help="check the lines, and write nothing")
    chosen.add_ledger(parser)


def run(arguments: argparse.Namespace) -> int:
    """Read the files in and return the exit code: 1 if a line held no record."""
    files = list(arguments.files)
    paths = [Path(name) for name in files if name != "-"]
    for path in paths:
        path.open("rb").close()  # a file that is not there is told before anything is written
    reading = Import(chosen.ledger(arguments), dry_run=arguments.dry_run, keep_going=arguments.keep_going)
    size = sum(path.stat().st_size for path in paths) if len(paths) == len(files) else None
    with Progress("importing", size) as progress:
        for name in files:
            if name == "-":
                reading.read("stdin", sys.stdin.buffer, progress)
            else:
                with Path(name).open("rb") as file:
                    reading.read(name, file, progress)
            if reading.stopped:
                break
    print(reading.summary())
    return FAILED if reading.bad else OK


class Import:
    """Reads lines into a ledger. The same record twice is one, so that doing it again after an error does no harm.

    Args:
        ledger: Where the records go.
        dry_run: Whether to write nothing.
        keep_going: Whether to go on after a line that holds no record.

    Attributes:
        bad: Lines that held no record.
        stopped: Whether such a line has stopped it.
    """

    def __init__(self, ledger: Ledger, *, dry_run: bool, keep_going: bool) -> None:
        self._ledger = ledger
        self._dry_run = dry_run
        self._keep_going = keep_going
        self._records = self._new = 0
        self.bad = 0
        self.stopped = False

    def read(self, name: str, lines: Iterable[bytes] | IO[bytes], progress: Progress) -> None:
        """Read the lines of one file; tell on stderr which of them hold no record."""
        from llm_toll_autopatch.sinks.lines import record_from_line

        waiting: list[CallRecord] = []
        read = 0
        for number, line in enumerate(lines, 1):
            read += len(line)
            try:
                if line.strip():
                    waiting.append(record_from_line(line))
            except ValueError as error:
                print(f"autotoll: {name}:{number}: {error}", file=sys.stderr)
                self.bad += 1
                self.stopped = not self._keep_going
                if self.stopped:
                    break
            if len(waiting) >= _AT_ONCE:
                self._write(waiting)
                progress.advance(read)
                waiting, read = [], 0
        self._write(waiting)
        progress.advance(read)

    def _write(self, records: list[CallRecord]) -> None:
        self._records += len(records)
        if records and not self._dry_run:
            self._new += self._ledger.add(records)

    def summary(self) -> str:
        """Return what was done, in a line."""
        if self._dry_run:
            text = f"{self._records:,} records would be imported, unless they are there already"
        else:
            text = f"{self._new:,} imported, {self._records - self._new:,} were there already"
        if self.stopped:
            return f"{text}; stopped at a line that holds no record (--keep-going leaves such lines out)."
        return f"{text}, {self.bad:,} lines hold no record." if self.bad else f"{text}."
