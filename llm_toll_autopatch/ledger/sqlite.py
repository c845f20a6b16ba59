"""`SQLiteLedger`: the default sink, one file, shared by any number of threads and processes of one machine."""

from __future__ import annotations

import math
import sqlite3
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from llm_toll_autopatch.ledger import holds
from llm_toll_autopatch.ledger.durability import durability_of
from llm_toll_autopatch.ledger.errors import LedgerError
from llm_toll_autopatch.ledger.files import identity, make_private
from llm_toll_autopatch.ledger.instants import instant
from llm_toll_autopatch.ledger.location import default_path
from llm_toll_autopatch.ledger.rows import coerced, row_of, settlement_of
from llm_toll_autopatch.ledger.schema import INSERT, KEEP_COST, OLD, REPLACE_COST
from llm_toll_autopatch.ledger.sqlite_caps import SQLiteCaps
from llm_toll_autopatch.ledger.sqlite_tables import prepare
from llm_toll_autopatch.ledger.sqlite_transactions import all_or_nothing, is_busy
from llm_toll_autopatch.ledger.starts import ids_told
from llm_toll_autopatch.loops import in_event_loop
from llm_toll_autopatch.sinks import SinkUnavailableError
from llm_toll_autopatch.sinks.forking import keep_for_ever, watch_forks

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

    from llm_toll_autopatch.budgets.keeper import Refusal, Reservation, Standing
    from llm_toll_autopatch.budgets.limits import Limit
    from llm_toll_autopatch.ledger.durability import Durability
    from llm_toll_autopatch.records import CallRecord

__all__ = ["SQLiteLedger"]

_STEP_S = 0.01  # how long SQLite itself waits for another process before it asks us again

# What is wrong with the record, not with the file.
_REFUSALS = (
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    TypeError,
    ValueError,
)


class SQLiteLedger(SQLiteCaps):
    """Keeps every record in a SQLite file, and answers what was spent.

    A record is committed when `emit` returns: it survives `kill -9`. After a power cut the last moments may be missing
    (`synchronous=NORMAL`), the file stays sound. The file is opened at the first `emit`, made with mode 0600, and its
    directory with 0700. Not for network file systems, where SQLite's shared memory does not work.

    Args:
        path: The file; None for `ledger.db` in the user's data directory. A leading `~` is the home directory.
        busy_timeout_s: Seconds to wait for another thread, and again for another process, before giving up.
        durability: `"commit"`; `"full"`: each commit is forced to the disk, and survives a power cut too; `"queue"`: a
            thread of the ledger's own writes, many at once, and a call does not wait for it: what it has not written
            when the process is killed is lost.

    Attributes:
        path: The file, absolute.
        durability: As given.
        deferred: Whether a thread of its own is to call `emit`.

    Raises:
        ValueError: `durability` is none of these.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        busy_timeout_s: float = 2.0,
        durability: Durability = "commit",
    ) -> None:
        self.durability = durability_of(durability)
        self.deferred = self.durability == "queue"
        # Absolute now: the program may change its directory before the first call.
        self.path = (default_path() if path is None else Path(path).expanduser()).absolute()
        self._where = str(self.path)
        self._busy_timeout_s = busy_timeout_s
        self._lock = threading.RLock()
        self._busy = self._resting = False
        self._exiting = False
        self._cursor: sqlite3.Cursor | None = None
        self._file: tuple[int, int] | None = None
        self._closer: weakref.finalize[..., SQLiteLedger] | None = None
        watch_forks(self)

    def __repr__(self) -> str:
        return f"SQLiteLedger({str(self.path)!r})"

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    # Writing

    def open(self) -> Self:
        """Open the file, and make it if it is missing; nothing if it is open.

        Raises:
            SinkUnavailableError: It cannot be opened now.
            LedgerError: The file is not a ledger, or one of a newer version.
        """
        with self._held():
            self._opened_by(time.monotonic() + self._busy_timeout_s)
        return self

    def emit(self, record: CallRecord) -> None:
        """Commit `record`. The same `id` twice is one row.

        Raises:
            SinkUnavailableError: The file is busy for longer than the bound, the disk is full …; or this thread is
                within `emit` already, because the garbage collector ran a generator's `finally` there.
            LedgerError: The file is not a ledger, or one of a newer version.
        """
        self._emit(record, self._busy_timeout_s)

    def emit_now(self, record: CallRecord) -> None:
        """Commit `record` as `emit` does, but hardly wait (10 ms) for another thread or process that writes.

        On a thread with a running event loop and with `durability="full"` it raises `SinkUnavailableError` at once.
        """
        if self.durability == "full" and in_event_loop():
            raise SinkUnavailableError(f"{self} does not have an event loop wait for the disk")
        self._emit(record, _STEP_S)

    def _emit(self, record: CallRecord, patience_s: float) -> None:
        row = row_of(record)
        deadline = time.monotonic() + patience_s
        with self._held(patience_s):
            while True:
                try:
                    self._insert(self._opened(patience_s), row)
                    break
                except sqlite3.OperationalError as error:
                    # SQLite itself has waited for a step already.
                    if not is_busy(error) or time.monotonic() >= deadline:
                        raise
            if self._exiting:
                self._drop()

    @contextmanager
    def transaction(self, patience_s: float | None = None) -> Iterator[sqlite3.Connection]:
        """Hold the file for writing: all that is done on the connection is committed together, or nothing.

        Args:
            patience_s: Seconds to wait for it; None is the ledger's bound.

        Raises:
            SinkUnavailableError: The file is busy for longer than the bound.
            LedgerError: The file is not a ledger, or one of a newer version.
        """
        patience_s = self._busy_timeout_s if patience_s is None else patience_s
        deadline = time.monotonic() + patience_s
        with self._held(patience_s):
            connection = self._opened_by(deadline, patience_s)
            with all_or_nothing(connection, deadline):
                yield connection
            if self._exiting:
                self._drop()

    # Keeping limits, as `budgets.keeper.Keeper` has it. What is emitted is settled by itself

    def reserve(self, reservation: Reservation) -> Refusal | None:
        """Hold what a call asks of its budgets, in one transaction; or nothing, and return which has no room."""
        return self._reserve(reservation, self._busy_timeout_s)

    def reserve_now(self, reservation: Reservation) -> Refusal | None:
        """Do as `reserve` does, but hardly wait, as `emit_now` has it."""
        if self.durability == "full" and in_event_loop():
            raise SinkUnavailableError(f"{self} does not have an event loop wait for the disk")
        return self._reserve(reservation, _STEP_S)

    def _reserve(self, reservation: Reservation, patience_s: float) -> Refusal | None:
        with self.transaction(patience_s) as connection:
            return holds.reserve(connection, reservation)

    def settle(self, record: CallRecord) -> None:
        """Settle a call whose record goes elsewhere. The same call twice is charged twice to its project."""
        row = row_of(record)
        with self.transaction() as connection:
            connection.execute(holds.SETTLE, settlement_of(row))

    def release(self, call_id: str) -> None:
        """Let go of what is held for a call that was not sent."""
        with self.transaction() as connection:
            holds.release(connection, call_id)

    def sweep(self) -> int:
        """Charge or release what processes that have died were holding; return how many calls that were.

        Refused reservations do so by themselves.
        """
        with self.transaction() as connection:
            return holds.sweep(connection, datetime.now(UTC))

    def standings(self, limits: Sequence[Limit], at: datetime) -> list[Standing]:
        """Return how limits stand."""
        with self._held():
            return holds.standings(self._opened_by(time.monotonic() + self._busy_timeout_s), limits, at)

    def add(self, records: Iterable[CallRecord]) -> int:
        """Commit `records` together and return how many were new: those whose `id` is here already stay as they are.

        Raises:
            SinkUnavailableError: The file is busy for longer than the bound, the disk is full ….
            LedgerError: The file is not a ledger, or one of a newer version; or a record cannot be stored.
        """
        rows = [row_of(record) for record in records]
        with self.transaction() as connection:
            cursor = connection.cursor()
            return sum(self._insert(cursor, row) for row in rows)

    def replace_costs(self, changes: Sequence[tuple[str, int | None, int]]) -> None:
        """Give calls other costs, all together, and keep the former ones.

        Args:
            changes: Of each call the id, and in nano-USD the former cost (None: not known) and the new one. A call
                whose cost is another by now keeps it.

        Raises:
            SinkUnavailableError: The file is busy for longer than the bound.
            LedgerError: The file is not a ledger, or one of a newer version.
        """
        now = instant(datetime.now(UTC))
        with self.transaction() as connection:
            for call_id, before, after in changes:
                if connection.execute(REPLACE_COST, (after, call_id, before)).rowcount:
                    connection.execute(KEEP_COST, (call_id, now, before))

    def delete_before(self, moment: datetime, project: str | None = None, at_most: int = 5_000) -> int:
        """Delete calls that started before `moment`, with their former costs, and return how many they were.

        Args:
            moment: What started then or later stays.
            project: Only calls of this project.
            at_most: How many at most, the oldest first.

        Raises:
            SinkUnavailableError: The file is busy for longer than the bound.
            LedgerError: The file is not a ledger, or one of a newer version.
        """
        with self.transaction() as connection:
            told = ids_told(None, moment)[1][-1]
            values = {"before": instant(moment), "told": told, "project": project, "limit": at_most}
            old = connection.execute(OLD, values).fetchall()
            connection.executemany("DELETE FROM former_costs WHERE call_id = ?", old)
            connection.executemany("DELETE FROM calls WHERE id = ?", old)
        return len(old)

    @staticmethod
    def _insert(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> int:
        try:
            return cursor.execute(INSERT, row).rowcount
        except _REFUSALS:
            try:
                return cursor.execute(INSERT, coerced(row)).rowcount
            except _REFUSALS as error:
                raise LedgerError(f"record {row[0]!r} cannot be stored: {error}") from error

    def flush(self) -> None:
        """Do nothing: what was emitted is committed."""

    def close(self) -> None:
        """Close the file. A later `emit` opens it again."""
        with suppress(SinkUnavailableError), self._held():
            self._drop()

    def _held(self, patience_s: float | None = None) -> _Held:
        """Hold the connection; turn what SQLite and the system raise into `SinkUnavailableError`."""
        return _Held(self, self._busy_timeout_s if patience_s is None else patience_s)

    def _opened_by(self, deadline: float, patience_s: float = math.inf) -> sqlite3.Connection:
        """Return the connection; wait until the deadline for another process that is making the tables."""
        while True:
            try:
                return self._opened(patience_s).connection
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() >= deadline:
                    raise

    def _opened(self, patience_s: float = math.inf) -> sqlite3.Cursor:
        if self._cursor is not None:
            if self._closer is None or not self._closer.alive:
                self._exiting = True  # the interpreter has closed it; nobody will close the next one
            elif self._file == identity(self._where):
                return self._cursor
            self._drop()  # the file was removed or replaced: what goes there now would be lost
        make_private(self.path)
        connection = sqlite3.connect(self.path, timeout=_STEP_S, isolation_level=None, check_same_thread=False)
        try:
            prepare(
                connection,
                self.path,
                time.monotonic() + self._busy_timeout_s,
                may_take_long=patience_s >= self._busy_timeout_s,
            )
            if self.durability == "full":
                connection.execute("PRAGMA synchronous = FULL")
            file = identity(self._where)
        except BaseException:
            connection.close()
            raise
        self._cursor, self._file = connection.cursor(), file
        self._closer = weakref.finalize(self, _close, connection, self._lock, self._busy_timeout_s)
        return self._cursor

    def _drop(self) -> None:
        if self._closer is not None:
            self._closer.detach()  # not called instead: late at exit that does nothing
        if self._cursor is not None:
            with suppress(sqlite3.Error):
                self._cursor.connection.close()
        self._cursor = self._file = self._closer = None

    def before_fork(self, deadline: float) -> None:
        """Close the file, unless it is in use until the deadline, and have nobody open it before the fork.

        SQLite keeps one table for the process of which file it has locked. A child that finds a connection there
        takes the parent's locks for its own and sets none: others may then delete the log that it is writing to.
        """
        self._resting = self._lock.acquire(timeout=max(0.0, deadline - time.monotonic()))
        if self._resting and not self._busy:
            self._drop()

    def after_fork_in_parent(self) -> None:
        """Go on after `before_fork`."""
        if self._resting:
            self._resting = False
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Forget the parent's connection, if it could not be closed, and its locks."""
        self._lock = threading.RLock()
        self._resting = False
        self._busy = False
        if self._closer is not None:
            self._closer.detach()
        if self._cursor is not None:
            keep_for_ever(self._cursor)  # SQLite forbids even closing a connection that came over a fork
        self._cursor = self._file = self._closer = None


class _Held:
    """The connection of a ledger while a thread has it. A class, as a generator takes three times as long."""

    __slots__ = ("_ledger", "_patience_s")

    def __init__(self, ledger: SQLiteLedger, patience_s: float) -> None:
        self._ledger = ledger
        self._patience_s = patience_s

    def __enter__(self) -> None:
        # A re-entrant lock, not a plain one: this thread may come here again from a finalizer, at any bytecode, and
        # must then be told so rather than wait for itself. `_busy` belongs to whoever has the lock.
        ledger = self._ledger
        if not ledger._lock.acquire(timeout=self._patience_s):
            raise SinkUnavailableError(f"{ledger} is held by another thread")
        if ledger._busy:
            ledger._lock.release()
            raise SinkUnavailableError(f"{ledger} is in use further up on this thread")
        ledger._busy = True

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        ledger = self._ledger
        try:
            if isinstance(error, sqlite3.Error) and not is_busy(error):
                ledger._drop()  # whatever is wrong with it, a fresh one may do better
        finally:
            ledger._busy = False
            ledger._lock.release()
        if isinstance(error, (sqlite3.Error, OSError)):
            raise SinkUnavailableError(f"{ledger}: {error}") from error


def _close(connection: sqlite3.Connection, lock: threading.RLock, timeout_s: float) -> None:
    """Close `connection`, unless a thread that will not let go (at exit) is using it."""
    if lock.acquire(timeout=timeout_s):
        try:
            connection.close()
        finally:
            lock.release()
