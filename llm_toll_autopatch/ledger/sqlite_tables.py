"""Making the tables of the SQLite ledger, and bringing those of an older one up to date."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING

from llm_toll_autopatch.ledger.schema import APPLICATION_ID, MIGRATIONS
from llm_toll_autopatch.ledger.sqlite_reading import version_of
from llm_toll_autopatch.ledger.sqlite_transactions import all_or_nothing, is_busy
from llm_toll_autopatch.sinks import SinkUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["prepare"]

_IS_STRICT = sqlite3.sqlite_version_info >= (3, 37)
_RETRY_S = 0.005
_LOG_PAGES = 4_000
"""How long the log gets before it is merged into the file: 16 MB, four times what SQLite would choose.

A page that many records went to is merged once then. A longer log gains nothing more, and needs a second table of what
is where in it, which readers search too.
"""


def prepare(connection: sqlite3.Connection, path: Path, deadline: float, *, may_take_long: bool) -> None:
    """Set up a new connection to write to the ledger at `path`, which has all its tables then.

    Args:
        connection: The connection.
        path: The file.
        deadline: Until when to wait for another process that is making the file, on the monotonic clock.
        may_take_long: Whether an older ledger may be brought up to date now, a second or two for a million calls.

    Raises:
        SinkUnavailableError: That is due, and it may not take long.
        LedgerError: The file is not a ledger, or one of a newer version.
        sqlite3.Error: Another process is making the tables, the disk is full ….
    """
    version = version_of(connection, path)
    if 0 < version < len(MIGRATIONS) and not may_take_long:
        raise SinkUnavailableError(f"the ledger at {path} is to be brought up to date first")
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            # Two making the file at once, each in the way of the other: SQLite does not wait here by itself.
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_S)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
    if version < len(MIGRATIONS):
        _migrate(connection, path)


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    with all_or_nothing(connection):
        version = version_of(connection, path)  # again: another process may have been quicker
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(_strict(statement))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _strict(statement: str) -> str:
    statement = statement.strip()
    if not _IS_STRICT or not statement.startswith("CREATE TABLE"):
        return statement
    return f"{statement}{' ' if statement.endswith(')') else ', '}STRICT"
