"""`PostgresLedger`: one ledger for the processes of many machines."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self, TypeVar

from llm_toll_autopatch.ledger import postgres_holds
from llm_toll_autopatch.ledger.durability import durability_of, without_durability
from llm_toll_autopatch.ledger.errors import LedgerError
from llm_toll_autopatch.ledger.instants import instant
from llm_toll_autopatch.ledger.postgres_address import Address
from llm_toll_autopatch.ledger.postgres_caps import PostgresCaps
from llm_toll_autopatch.ledger.postgres_schema import DELETE_OLD, INSERT, REPLACE_COST, fitted, migrate
from llm_toll_autopatch.ledger.rows import row_of, settlement_of
from llm_toll_autopatch.loops import in_event_loop
from llm_toll_autopatch.sinks import SinkUnavailableError
from llm_toll_autopatch.sinks.forking import keep_for_ever, watch_forks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from llm_toll_autopatch.budgets.keeper import Refusal, Reservation, Standing
    from llm_toll_autopatch.budgets.limits import Limit
    from llm_toll_autopatch.ledger.durability import Durability
    from llm_toll_autopatch.ledger.postgres_connections import BoundedConnection
    from llm_toll_autopatch.records import CallRecord

__all__ = ["PostgresLedger"]

_T = TypeVar("_T")

_REST_S = 1.0
"""How long nobody is made to wait for a server that could not be reached."""

_MISFITS = ("22", "23", "42804", "42P18")  # of the record: bad data, broken constraints, wrong types
_CROSSED = ("40001", "40P01")  # serialization failure, deadlock: of two that were in each other's way one starts again
_MISSING = ("3F000", "42P01")  # the schema, the table: dropped since we looked


class PostgresLedger(PostgresCaps):
    """Keeps every record in a PostgreSQL database, shared by any number of machines, and answers what was spent.

    A record is committed when `emit` returns, as durable as the server makes it. The tables are in a schema of their
    own, `llm_toll_autopatch`, which is made at the first `emit`. Connections are made when they are needed. No message,
    `repr` or status shows the password.

    Args:
        url: `postgresql://user:password@host:5432/database`, as libpq takes it. What is missing comes from libpq's
            environment variables, password file and defaults.
        timeout_s: Seconds that the server may take, and again for making a connection (there at least 2), before the
            record is given to the outbox to be tried again.
        connections: How many connections this process makes at most, not counting one for each question that is being
            answered.
        durability: `"commit"`: as the server is set; `"full"`: with `synchronous_commit` on, whatever the server or the
            URL says; `"queue"`: a thread of the ledger's own writes, many at once, and a call does not wait for it:
            what it has not written when the process is killed is lost. None: what `?durability=` of the URL says, or
            else `"commit"`.

    Attributes:
        location: The URL without password and parameters.
        durability: As given, here or in the URL.
        deferred: Whether a thread of its own is to call `emit`.

    Raises:
        ImportError: There is no psycopg here.
        ValueError: `url` is no such URL, `durability` none of these, or `"full"` cannot be had with this URL.
    """

    def __init__(
        self, url: str, *, timeout_s: float = 2.0, connections: int = 4, durability: Durability | None = None
    ) -> None:
        if connections < 1:
            raise ValueError(f"connections= takes a positive number, not {connections!r}")
        if timeout_s <= 0:
            raise ValueError(f"timeout_s= takes a positive number of seconds, not {timeout_s!r}")
        url, in_url = without_durability(url)
        self.durability = durability_of(durability, in_url)
        self.deferred = self.durability == "queue"
        self._address = Address(url, timeout_s, full=self.durability == "full")
        self.location = self._address.location
        self._timeout_s = timeout_s
        self._most = connections
        self._start()
        watch_forks(self)

    def _start(self) -> None:
        from llm_toll_autopatch.ledger.postgres_connections import Connections

        self._connections = Connections(self._address, self._most)
        self._migrated = False
        self._rests_until = 0.0
        self._here = threading.local()

    def __repr__(self) -> str:
        return f"PostgresLedger({self.location!r})"

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    # Writing

    def open(self) -> Self:
        """Connect, and make or migrate the tables if that is needed.

        Raises:
            SinkUnavailableError: The server cannot be reached, or does not let us.
            LedgerError: The ledger is one of a newer version, or the database cannot hold one.
        """
        self._do(lambda _: None)
        return self

    def emit(self, record: CallRecord) -> None:
        """Commit `record`. The same `id` twice is one row.

        Raises:
            SinkUnavailableError: The server cannot be reached, does not answer in time, or refuses for now; or this
                thread is within `emit` already, because the garbage collector ran a generator's `finally` there.
            LedgerError: The ledger is one of a newer version, or the record cannot be stored.
        """
        self.add([record])

    def emit_now(self, record: CallRecord) -> None:
        """Commit `record` as `emit` does, where that may wait for the network and is likely to work.

        On a thread with a running event loop, and shortly after the server could not be reached, it raises
        `SinkUnavailableError` at once: the outbox is the one to write the record.
        """
        self._check_waiting()
        self.emit(record)

    def _check_waiting(self) -> None:
        if in_event_loop():
            raise SinkUnavailableError(f"{self} is not waited for on an event loop")
        if time.monotonic() < self._rests_until:
            raise SinkUnavailableError(f"{self} could not be reached a moment ago")

    def add(self, records: Iterable[CallRecord]) -> int:
        """Commit `records` together and return how many were new: those whose `id` is here already stay as they are.

        Raises:
            SinkUnavailableError: As from `emit`.
            LedgerError: As from `emit`.
        """
        rows = [row_of(record) for record in records]
        try:
            return self._do(lambda connection: _insert(connection, rows))
        except _MisfitError:
            return self._do(lambda connection: _insert(connection, [fitted(row) for row in rows]))

    def replace_costs(self, changes: Sequence[tuple[str, int | None, int]]) -> None:
        """Give calls other costs, all together, and keep the former ones; as `SQLiteLedger.replace_costs` does.

        Raises:
            SinkUnavailableError: As from `emit`.
            LedgerError: As from `emit`.
        """
        now = instant(datetime.now(UTC))
        rows = [(after, call_id, before, now, before) for call_id, before, after in changes]
        self._do(lambda connection: connection.run_for_all(REPLACE_COST, rows))

    def delete_before(self, moment: datetime, project: str | None = None, at_most: int = 1_000) -> int:
        """Delete calls that started before `moment`, with their former costs; as `SQLiteLedger.delete_before` does.

        Raises:
            SinkUnavailableError: As from `emit`.
            LedgerError: As from `emit`.
        """
        values = [instant(moment), project, project, at_most]
        row = self._do(lambda connection: connection.run(DELETE_OLD, values).fetchone())
        return row[0] if row else 0

    # Keeping limits, as `budgets.keeper.Keeper` has it. What is emitted is settled by itself

    def reserve(self, reservation: Reservation) -> Refusal | None:
        """Hold what a call asks of its budgets, in one transaction; or nothing, and return which has no room."""
        return self._do(lambda connection: postgres_holds.reserve(connection, reservation))

    def reserve_now(self, reservation: Reservation) -> Refusal | None:
        """Do as `reserve` does, where that may wait for the network and is likely to work, as `emit_now` has it."""
        self._check_waiting()
        return self.reserve(reservation)

    def settle(self, record: CallRecord) -> None:
        """Settle a call whose record goes elsewhere. The same call twice is charged twice to its project."""
        settlement = settlement_of(fitted(row_of(record)))
        self._do(lambda connection: postgres_holds.settle(connection, settlement))

    def release(self, call_id: str) -> None:
        """Let go of what is held for a call that was not sent."""
        self._do(lambda connection: postgres_holds.release(connection, call_id))

    def sweep(self) -> int:
        """Charge or release what processes that have died were holding; return how many calls that were.

        Refused reservations do so by themselves. Only processes of this machine are known to have died: what those of
        others hold expires.
        """
        return self._do(lambda connection: postgres_holds.sweep(connection, datetime.now(UTC)))

    def standings(self, limits: Sequence[Limit], at: datetime) -> list[Standing]:
        """Return how limits stand."""
        return self._do(lambda connection: postgres_holds.standings(connection, limits, at))

    def flush(self) -> None:
        """Do nothing: what was emitted is committed."""

    def close(self) -> None:
        """Close the connections. A later `emit` makes new ones."""
        self._connections.close_idle()

    def after_fork_in_child(self) -> None:
        """Forget the parent's connections, without closing them."""
        self._connections.leave()
        keep_for_ever(self._connections)
        self._start()

    def _do(self, work: Callable[[BoundedConnection], _T]) -> _T:
        """Do `work`, which can be done twice, on a connection; turn what psycopg raises into what a sink raises."""
        import psycopg

        from llm_toll_autopatch.ledger.postgres_connections import is_lost

        deadline = time.monotonic() + self._timeout_s
        made_anew = False
        with self._once():
            while True:
                used = False
                try:
                    with self._connected(deadline) as (connection, used):
                        done = work(connection)
                except psycopg.Error as error:
                    if used and is_lost(error) and time.monotonic() < deadline:
                        # The server was started anew since: of its connections none is any good, a new one may be.
                        self._connections.close_idle()
                        continue
                    if error.sqlstate in _CROSSED and time.monotonic() < deadline:
                        continue
                    if error.sqlstate in _MISSING and not made_anew:
                        made_anew, self._migrated = True, False
                        continue
                    failure = self._failure(error)
                except (UnicodeError, OverflowError, TypeError, ValueError) as error:
                    failure = _MisfitError(f"a record cannot be stored in {self}: {error}")
                else:
                    self._rests_until = 0.0
                    return done
                break
        raise failure  # here, where psycopg's own error, which may quote the URL, is not its context

    @contextmanager
    def _once(self) -> Iterator[None]:
        """Refuse what comes in the middle of this very thread's work, from a finalizer, which must not wait for it."""
        here = self._here
        if getattr(here, "busy", False):
            raise SinkUnavailableError(f"{self} is in use further up on this thread")
        here.busy = True
        try:
            yield
        finally:
            here.busy = False

    @contextmanager
    def _connected(self, deadline: float) -> Iterator[tuple[BoundedConnection, bool]]:
        connections = self._connections  # a child that is forked in the middle has others
        connection, used = connections.take(deadline)
        sound = False
        try:
            if not self._migrated:
                migrate(connection, self._address)
                self._migrated = True
            yield connection, used
            sound = True
        finally:
            connections.give_back(connection, sound=sound)

    def _failure(self, error: Any) -> Exception:
        """Return what to raise for psycopg's `error`: it says what happened, and no secret."""
        message = self._address.redacted(error.diag.message_primary or str(error))
        state = error.sqlstate or ""
        if state.startswith(_MISFITS) or (not state and not _is_operational(error)):
            return _MisfitError(f"a record cannot be stored in {self}: {message}")
        self._rests_until = time.monotonic() + _REST_S
        return SinkUnavailableError(f"{self}: {message}")


class _MisfitError(LedgerError):
    """The record, as it is, does not fit into its row."""


def _is_operational(error: Any) -> bool:
    import psycopg

    return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError))


def _insert(connection: BoundedConnection, rows: list[tuple[Any, ...]]) -> int:
    """Insert `rows`, all or none, and return how many were new."""
    if len(rows) == 1:
        return connection.run(INSERT, rows[0]).rowcount
    return connection.run_for_all(INSERT, rows) if rows else 0
