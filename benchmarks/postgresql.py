"""A PostgreSQL server for as long as a benchmark takes: the tests' own, on loopback, which waits for the disk."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.environments import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MissingServerError", "server"]


class MissingServerError(Exception):
    """There is no PostgreSQL on this machine, or it does not start; it says why."""


@contextmanager
def server() -> Iterator[Any]:
    """Run a server whose commits wait for the disk; yield it, a `Server` of `tests/postgres.py`.

    Raises:
        MissingServerError: There is none on this machine, or it does not start.
    """
    sys.path.append(str(ROOT / "tests"))
    try:
        from postgres import Server

        running = Server(durable=True)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # pytest's way to say what is missing, which is no Exception
        raise MissingServerError(str(error) or type(error).__name__) from error
    try:
        yield running
    finally:
        running.remove()
