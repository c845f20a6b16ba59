"""Where a ledger is: the default path, and `sqlite:///` URLs."""

from __future__ import annotations

from pathlib import Path

__all__ = ["SQLITE_SCHEME", "default_path", "path_from_url"]

SQLITE_SCHEME = "sqlite:"


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
