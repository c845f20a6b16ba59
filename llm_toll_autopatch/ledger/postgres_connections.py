"""A few connections to a PostgreSQL server, shared by the threads of this process. Imports psycopg."""

from __future__ import annotations

import queue
import select
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.waiting import Ready, Wait

from llm_toll_autopatch.sinks import SinkUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg.abc import PQGen

    from llm_toll_autopatch.ledger.postgres_address import Address

__all__ = ["Connections", "connect", "is_lost"]

_POLL = {Wait.R: select.POLLIN, Wait.W: select.POLLOUT, Wait.RW: select.POLLIN | select.POLLOUT}
_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR
_WRITABLE = select.POLLOUT | select.POLLHUP | select.POLLERR
_GOING_DOWN = ("57P01", "57P02", "57P03", "25006")  # 25006: read-only, as one that another server has replaced is


class BoundedConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits for the server until `deadline`, on the monotonic clock, and no longer.

    The server's own timeout is of no use when it is the server, or the network, that has gone.
    """

    deadline = float("inf")

    def wait(self, gen: PQGen[Any], *_: Any, **__: Any) -> Any:
        """Drive `gen`, which does one thing with the server, to its end."""
        try:
            wanted = next(gen)
            poll = select.poll()
            while True:
                poll.register(self.pgconn.socket, _POLL[wanted])
                left = self.deadline - time.monotonic()
                events = poll.poll(max(0, int(left * 1000) + 1) if left < _LONG_S else None)
                if not events:
                    raise psycopg.OperationalError("no answer from the server in time")
                mask = events[0][1]
                ready = (Ready.R if mask & _READABLE else 0) | (Ready.W if mask & _WRITABLE else 0)
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value

    def run(self, statement: str, values: Sequence[Any] | None = None) -> psycopg.Cursor[tuple[Any, ...]]:
        """Execute one statement, on the cursor that this connection keeps for that."""
        return self._one_cursor.execute(statement, values)

    def run_for_all(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        """Execute `statement` for each of `rows`, in one transaction; return how many rows it changed."""
        self.deadline += _ROW_S * len(rows)
        self._one_cursor.execute("BEGIN")
        self._one_cursor.executemany(statement, rows)
        changed = self._one_cursor.rowcount
        self._one_cursor.execute("COMMIT")
        return changed

    _one_cursor: psycopg.Cursor[tuple[Any, ...]]


_LONG_S = 1e6
_ROW_S = 0.01  # of many, each may take so long


def connect(address: Address, deadline: float = float("inf")) -> BoundedConnection:
    """Return a new connection, each statement on which is a transaction of its own."""
    # Nothing is prepared: it would save the server a tenth of a millisecond, and break behind a pooler.
    connection = BoundedConnection.connect(autocommit=True, prepare_threshold=None, **address.parameters())
    connection.deadline = deadline
    connection._one_cursor = connection.cursor()
    return connection


def is_lost(error: psycopg.Error) -> bool:
    """Return whether `error` says that the connection has ended, or that the server is about to end it."""
    if isinstance(error, psycopg.InterfaceError):
        return True
    return isinstance(error, (psycopg.OperationalError, psycopg.InternalError)) and (
        error.sqlstate is None or error.sqlstate in _GOING_DOWN
    )


class Connections:
    """At most so many connections, made when they are needed.

    There is no lock: a finalizer may come here in the middle of any line, on the same thread. Taking from and adding to
    a list or a `SimpleQueue` is atomic, and neither is ever seen half changed.
    """

    def __init__(self, address: Address, most: int) -> None:
        self._address = address
        self._idle: list[BoundedConnection] = []
        self._permits: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(most):
            self._permits.put(None)
        self._closer: weakref.finalize[..., Connections] | None = None

    def take(self, deadline: float) -> tuple[BoundedConnection, bool]:
        """Return a connection, to be given back, and whether it has been used before.

        Raises:
            SinkUnavailableError: None was given back in time.
            psycopg.Error: None could be made.
        """
        try:
            self._permits.get(timeout=max(0, deadline - time.monotonic()))
        except queue.Empty:
            raise SinkUnavailableError(f"{self._address}: all connections are in use") from None
        try:
            try:
                connection, used = self._idle.pop(), True
            except IndexError:
                connection, used = connect(self._address), False
        except BaseException:
            self._permits.put(None)
            raise
        connection.deadline = deadline
        if self._closer is None:
            self._closer = weakref.finalize(self, _close, self._idle)
        return connection, used

    def give_back(self, connection: BoundedConnection, *, sound: bool) -> None:
        """Take a connection back, and close it unless it is `sound`, or the interpreter has closed all others."""
        if sound and self._closer is not None and self._closer.alive:
            self._idle.append(connection)
        else:
            connection.close()
        self._permits.put(None)

    def close_idle(self) -> None:
        """Close the connections that nobody uses."""
        _close(self._idle)

    def leave(self) -> None:
        """Have them neither closed nor used by this process: they are another's."""
        if self._closer is not None:
            self._closer.detach()


def _close(connections: list[BoundedConnection]) -> None:
    with suppress(IndexError):
        while True:
            connections.pop().close()
