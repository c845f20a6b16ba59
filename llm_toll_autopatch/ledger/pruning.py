"""Taking old calls out of a ledger."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from llm_toll_autopatch.ledger.sqlite_reading import version_of
from llm_toll_autopatch.sinks import SinkUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from llm_toll_autopatch.ledger.location import Ledger
    from llm_toll_autopatch.ledger.sqlite import SQLiteLedger

__all__ = ["prune", "vacuum"]

_PATIENCE_S = 5.0


def prune(
    ledger: Ledger,
    before: datetime,
    *,
    project: str | None = None,
    progress: Callable[[int], None] = lambda _calls: None,
) -> int:
    """Delete the calls that started before a moment, with their former costs, and return how many they were.

    The file keeps its size, and what is written next takes the free place; `vacuum` makes it smaller.

    Args:
        ledger: Where the calls are.
        before: The moment; what started then or later stays.
        project: Only calls of this project.
        progress: Told, now and then, how many more are gone.

    Raises:
        LedgerError: There is no ledger, or it cannot be read.
        SinkUnavailableError: It is busy. What is gone stays gone; doing it again does the rest.
    """
    ledger.totals()  # no ledger: an error, not a new file
    gone = 0
    while True:
        deleted = ledger.delete_before(before, project)
        gone += deleted
        if not deleted:
            return gone
        progress(deleted)


def vacuum(ledger: SQLiteLedger) -> None:
    """Give the file's free place back to the file system. Needs as much free place as the file has, for a while.

    Raises:
        LedgerError: The file is not a ledger, or one of a newer version.
        SinkUnavailableError: It is busy, or the disk is full.
    """
    try:
        with closing(sqlite3.connect(ledger.path, timeout=_PATIENCE_S, isolation_level=None)) as connection:
            version_of(connection, ledger.path)
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise SinkUnavailableError(f"{ledger}: {error}") from error
