"""Taking old calls out of a ledger."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from llm_toll_autopatch.ledger.instants import instant
from llm_toll_autopatch.ledger.sqlite_reading import version_of
from llm_toll_autopatch.sinks import SinkUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from llm_toll_autopatch.ledger.sqlite import SQLiteLedger

__all__ = ["prune", "vacuum"]

_AT_ONCE = 5_000
"""Calls in a transaction: other processes write between two of these."""
_PATIENCE_S = 5.0


def prune(
    ledger: SQLiteLedger,
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
        with ledger.transaction() as connection:
            deleted = _delete(connection, before, project)
        gone += deleted
        if not deleted:
            return gone
        progress(deleted)


def _delete(connection: sqlite3.Connection, before: datetime, project: str | None) -> int:
    ids = connection.execute(_OLD, {"before": instant(before), "project": project, "limit": _AT_ONCE}).fetchall()
    connection.executemany("DELETE FROM former_costs WHERE call_id = ?", ids)
    connection.executemany("DELETE FROM calls WHERE id = ?", ids)
    return len(ids)


_OLD = """
    SELECT id FROM calls WHERE started_at < :before AND (:project IS NULL OR project = :project)
    ORDER BY started_at LIMIT :limit
"""


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
