"""Whether a SQLite ledger is well."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llm_toll_autopatch.ledger.errors import LedgerError
from llm_toll_autopatch.ledger.schema import MIGRATIONS
from llm_toll_autopatch.ledger.sqlite_reading import version_of

if TYPE_CHECKING:
    from pathlib import Path

    from llm_toll_autopatch.ledger.sqlite import SQLiteLedger

__all__ = ["LedgerHealth", "examine"]

_WAL = "-wal"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerHealth:
    """What was found.

    Attributes:
        path: The file.
        size_bytes: Its size, with what has not been merged into it yet.
        schema_version: Of the file; an older one than `newest_schema_version` is brought up to it by the next write.
        newest_schema_version: What this version of the package writes.
        records: Calls in it.
        last_written_at: When the file was last written to; UTC.
        damage: What SQLite finds wrong with it; empty when it is sound.
        writable: Whether this user may write to it.
    """

    path: Path
    size_bytes: int
    schema_version: int
    newest_schema_version: int
    records: int
    last_written_at: datetime
    damage: tuple[str, ...]
    writable: bool


def examine(ledger: SQLiteLedger, *, thorough: bool = False) -> LedgerHealth:
    """Look at the file and read through it; nothing is changed.

    Args:
        ledger: The ledger.
        thorough: Whether its indexes are compared with its rows too, which takes several times as long.

    Raises:
        LedgerError: There is no ledger, or it is too damaged to be looked at, or one of a newer version.
    """
    path = ledger.path
    if not path.exists():
        raise LedgerError(f"no ledger at {path}; has anything been metered yet?")
    files = [file for file in (path, path.with_name(path.name + _WAL)) if file.exists()]
    try:
        url = f"{path.as_uri()}?mode=rw"
        with closing(sqlite3.connect(url, uri=True, timeout=5, isolation_level=None)) as connection:
            connection.execute("PRAGMA query_only = 1")
            version = version_of(connection, path)
            damage = connection.execute(f"PRAGMA {'integrity_check' if thorough else 'quick_check'}").fetchall()
            records = connection.execute("SELECT COUNT(*) FROM calls").fetchone()[0] if version else 0
    except sqlite3.Error as error:
        raise LedgerError(f"the ledger at {path} cannot be read: {error}") from error
    return LedgerHealth(
        path=path,
        size_bytes=sum(file.stat().st_size for file in files),
        schema_version=version,
        newest_schema_version=len(MIGRATIONS),
        records=records,
        last_written_at=datetime.fromtimestamp(max(file.stat().st_mtime for file in files), UTC),
        damage=tuple(str(row[0]) for row in damage if row[0] != "ok"),
        writable=os.access(path, os.W_OK) and os.access(path.parent, os.W_OK),
    )
