"""Where a ledger is: the default path, and `sqlite:///` URLs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TypeAlias

    from llm_toll_autopatch.ledger.postgres import PostgresLedger
    from llm_toll_autopatch.ledger.sqlite import SQLiteLedger

    Ledger: TypeAlias = SQLiteLedger | PostgresLedger

__all__ = ["POSTGRES_SCHEMES", "SCHEMES", "SQLITE_SCHEME", "default_path", "ledger_at", "path_from_url"]

SQLITE_SCHEME = "sqlite:"
POSTGRES_SCHEMES = ("postgresql:", "postgres:")
SCHEMES = (SQLITE_SCHEME, *POSTGRES_SCHEMES)
"""What a URL of a ledger begins with."""


def ledger_at(place: str | None) -> Ledger:
    """Return the ledger at a path or URL; the one that needs no set-up for None.

    Raises:
        ValueError: The URL cannot be understood.
        ImportError: What the ledger needs is not installed.
    """
    if place is not None and place.startswith(POSTGRES_SCHEMES):
        from llm_toll_autopatch.ledger.postgres import PostgresLedger

        return PostgresLedger(place)
    from llm_toll_autopatch.ledger.sqlite import SQLiteLedger

    if place is None:
        return SQLiteLedger()
    return SQLiteLedger(path_from_url(place) if place.startswith(SQLITE_SCHEME) else Path(place))


def default_path() -> Path:
    """Return the path of the ledger that needs no set-up: `ledger.db` in the user's data directory."""
    from platformdirs import user_data_path

    return user_data_path("llm_toll_autopatch") / "ledger.db"


def path_from_url(url: str) -> Path:
    """Return the path that a `sqlite:///relative.db` or `sqlite:////absolute/path.db` URL names.

    Raises:
        ValueError: It is no such URL, or names no file.
    """
    prefix = SQLITE_SCHEME + "///"
    path = url.removeprefix(prefix)
    if not url.startswith(prefix) or not path:
        raise ValueError("a SQLite URL is sqlite:///relative.db or sqlite:////absolute/path.db")
    if path == ":memory:":
        raise ValueError('a SQLite ledger is a file; the sink "memory" keeps records in memory')
    return Path(path)
