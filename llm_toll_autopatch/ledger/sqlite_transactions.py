"""Transactions of SQLite's, and whether the file is free for one."""

from __future__ import annotations

import sqlite3
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["all_or_nothing", "is_busy"]


@contextmanager
def all_or_nothing(connection: sqlite3.Connection, deadline: float = 0.0) -> Iterator[None]:
    """Begin a transaction, until the deadline on the monotonic clock, and commit what is done in it, or nothing."""
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            break
        except sqlite3.OperationalError as error:
            # SQLite itself has waited for a step already.
            if not is_busy(error) or time.monotonic() >= deadline:
                raise
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether `error` says that somebody else has locked the file."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the extended part
    return code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
