"""`SQLiteLedger`: the default sink, one file, shared by any number of threads and processes of one machine."""

from __future__ import annotations

import atexit
import sqlite3
import threading
import time
import weakref
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from llm_toll_autopatch.ledger import holds
from llm_toll_autopatch.ledger.errors import LedgerError
from llm_toll_autopatch.ledger.files import identity, make_private
from llm_toll_autopatch.ledger.instants import instant
from llm_toll_autopatch.ledger.location import default_path
from llm_toll_autopatch.ledger.schema import (
    APPLICATION_ID,
    COLUMNS,
    INSERT,
    MIGRATIONS,
    coerced,
    record_of,
    row_of,
    settlement_of,
)
from llm_toll_autopatch.ledger.totals import GROUPINGS, SUMS, Totals, totals_of
from llm_toll_autopatch.sinks import SinkUnavailableError
from llm_toll_autopatch.sinks.forking import watch_forks

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from llm_toll_autopatch.budgets.keeper import Refusal, Reservation, Standing
    from llm_toll_autopatch.budgets.limits import Limit
    from llm_toll_autopatch.records import CallRecord

__all__ = ["SQLiteLedger"]

_STRICT = " STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""
_RETRY_S = 0.005
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

# SQLite forbids even closing a connection that came over a fork; these are kept, never used and never freed.
_inherited: list[sqlite3.Connection] = []


class SQLiteLedger:
    """Keeps every record in a SQLite file, and answers what was spent.

    A record is committed when `emit` returns: it survives `kill -9`. After a power cut the last moments may be missing
    (`synchronous=NORMAL`), the file stays sound. The file is opened at the first `emit`, made with mode 0600, and its
    directory with 0700. Not for network file systems, where SQLite's shared memory does not work.

    Args:
        path: The file; None for `ledger.db` in the user's data directory. A leading `~` is the home directory.
        busy_timeout_s: Seconds to wait for another thread, and again for another process, before giving up.

    Attributes:
        path: The file, absolute.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, *, busy_timeout_s: float = 2.0) -> None:
        # Absolute now: the program may change its directory before the first call.
        self.path = (default_path() if path is None else Path(path).expanduser()).absolute()
        self._busy_timeout_s = busy_timeout_s
        self._lock = threading.RLock()
        self._busy = False
        self._exiting = False
        self._connection: sqlite3.Connection | None = None
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
            self._opened()
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
        """Commit `record` as `emit` does, but hardly wait (10 ms) for another thread or process that writes."""
        self._emit(record, _STEP_S)

    def _emit(self, record: CallRecord, patience_s: float) -> None:
        row = row_of(record)
        deadline = time.monotonic() + patience_s
        with self._held(patience_s):
            while True:
                try:
                    self._insert(self._opened(), row)
                    break
                except sqlite3.OperationalError as error:
                    # SQLite itself has waited for a step already.
                    if not _is_busy(error) or time.monotonic() >= deadline:
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
            connection = self._opened()
            with _all_or_nothing(connection, deadline):
                yield connection
            if self._exiting:
                self._drop()

    # Keeping limits, as `budgets.keeper.Keeper` has it. What is emitted is settled by itself

    def reserve(self, reservation: Reservation) -> Refusal | None:
        """Hold what a call asks of its budgets, in one transaction; or nothing, and return which has no room."""
        return self._reserve(reservation, self._busy_timeout_s)

    def reserve_now(self, reservation: Reservation) -> Refusal | None:
        """Do as `reserve` does, but hardly wait (10 ms) for another thread or process that writes."""
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
            return holds.standings(self._opened(), limits, at)

    @staticmethod
    def _insert(connection: sqlite3.Connection, row: tuple[Any, ...]) -> None:
        try:
            connection.execute(INSERT, row)
        except _REFUSALS:
            try:
                connection.execute(INSERT, coerced(row))
            except _REFUSALS as error:
                raise LedgerError(f"record {row[0]!r} cannot be stored: {error}") from error

    def flush(self) -> None:
        """Do nothing: what was emitted is committed."""

    def close(self) -> None:
        """Close the file. A later `emit` opens it again."""
        with suppress(SinkUnavailableError), self._held():
            self._drop()

    @contextmanager
    def _held(self, patience_s: float | None = None) -> Iterator[None]:
        """Hold the connection; turn what SQLite and the system raise into `SinkUnavailableError`."""
        # A re-entrant lock, not a plain one: this thread may come here again from a finalizer, at any bytecode, and
        # must then be told so rather than wait for itself. `_busy` belongs to whoever has the lock.
        if not self._lock.acquire(timeout=self._busy_timeout_s if patience_s is None else patience_s):
            raise SinkUnavailableError(f"{self} is held by another thread")
        try:
            if self._busy:
                raise SinkUnavailableError(f"{self} is in use further up on this thread")
            self._busy = True
            try:
                yield
            except sqlite3.Error as error:
                if not _is_busy(error):
                    self._drop()  # whatever is wrong with it, a fresh one may do better
                raise SinkUnavailableError(f"{self}: {error}") from error
            except OSError as error:
                raise SinkUnavailableError(f"{self}: {error}") from error
            finally:
                self._busy = False
        finally:
            self._lock.release()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is not None:
            if self._closer is None or not self._closer.alive:
                self._exiting = True  # the interpreter has closed it; nobody will close the next one
            elif self._file == identity(self.path):
                return self._connection
            self._drop()  # the file was removed or replaced: what goes there now would be lost
        make_private(self.path)
        connection = sqlite3.connect(self.path, timeout=_STEP_S, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(connection)
            file = identity(self.path)
        except BaseException:
            connection.close()
            raise
        self._connection, self._file = connection, file
        self._closer = weakref.finalize(self, _close, connection, self._lock, self._busy_timeout_s)
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        version = _version(connection, self.path)
        deadline = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                # Two making the file at once, each in the way of the other: SQLite does not wait here by itself.
                if not _is_busy(error) or time.monotonic() > deadline:
                    raise
                time.sleep(_RETRY_S)
        connection.execute("PRAGMA synchronous = NORMAL")
        if version < len(MIGRATIONS):
            self._migrate(connection)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        with _all_or_nothing(connection):
            version = _version(connection, self.path)  # again: another process may have been quicker
            for statements in MIGRATIONS[version:]:
                for statement in statements:
                    is_table = statement.lstrip().startswith("CREATE TABLE")
                    connection.execute(statement.rstrip() + _STRICT if is_table else statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def _drop(self) -> None:
        if self._closer is not None:
            self._closer.detach()  # not called instead: late at exit that does nothing
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
        self._connection = self._file = self._closer = None

    def after_fork_in_child(self) -> None:
        """Forget the parent's connection, without closing it, and its locks."""
        self._lock = threading.RLock()
        self._busy = False
        if self._closer is not None:
            self._closer.detach()
        if self._connection is not None:
            if not _inherited:
                atexit.register(_keep_inherited)
            _inherited.append(self._connection)
        self._connection = self._file = self._closer = None

    # Reading: each answer has a connection of its own, so that it neither waits for writers nor holds them up

    def records(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
        project: str | None = None,
        limit: int | None = None,
    ) -> Iterator[CallRecord]:
        """Iterate over the records, oldest first.

        Args:
            since: Only calls that started then or later.
            until: Only calls that started before.
            project: Only calls of this project.
            limit: At most so many.

        Raises:
            LedgerError: There is no ledger at `path`, or it cannot be read.
        """
        where, values = _where(since, until, project)
        query = f"SELECT {', '.join(COLUMNS)} FROM calls{where} ORDER BY started_at, id LIMIT ?"  # noqa: S608 - our own names
        for row in self._rows(query, [*values, -1 if limit is None else limit]):
            yield record_of(row)

    def totals(self, by: Sequence[str], since: datetime | None = None, until: datetime | None = None) -> list[Totals]:
        """Return the sums of each group of calls, in the order of their keys.

        Args:
            by: What to group by: names of `GROUPINGS`. None of them: one group of all calls, if there are any.
            since: Only calls that started then or later.
            until: Only calls that started before.

        Raises:
            ValueError: `by` has an unknown name.
            LedgerError: There is no ledger at `path`, or it cannot be read.
        """
        unknown = [name for name in by if name not in GROUPINGS]
        if unknown:
            raise ValueError(f"cannot group by {unknown[0]!r}; by any of: {', '.join(GROUPINGS)}")
        where, values = _where(since, until)
        keys = [GROUPINGS[name] for name in by]
        order = f" GROUP BY {', '.join(keys)} ORDER BY {', '.join(keys)}" if keys else " HAVING COUNT(*) > 0"
        query = f"SELECT {', '.join([*keys, *SUMS])} FROM calls{where}{order}"  # noqa: S608 - our own names
        return [totals_of(row, len(keys)) for row in self._rows(query, values)]

    def _rows(self, query: str, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        if not self.path.exists():
            raise LedgerError(f"no ledger at {self.path}; has anything been metered yet?")
        try:
            # Not mode=ro: reading a WAL file may need to make its shared memory.
            with closing(
                sqlite3.connect(
                    f"{self.path.as_uri()}?mode=rw",
                    uri=True,
                    timeout=self._busy_timeout_s,
                    isolation_level=None,
                    check_same_thread=False,
                )
            ) as connection:
                connection.execute("PRAGMA query_only = 1")
                if _version(connection, self.path):
                    yield from connection.execute(query, values)
        except sqlite3.Error as error:
            raise LedgerError(f"the ledger at {self.path} cannot be read: {error}") from error


@contextmanager
def _all_or_nothing(connection: sqlite3.Connection, deadline: float = 0.0) -> Iterator[None]:
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            break
        except sqlite3.OperationalError as error:
            # SQLite itself has waited for a step already.
            if not _is_busy(error) or time.monotonic() >= deadline:
                raise
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _where(since: datetime | None, until: datetime | None, project: str | None = None) -> tuple[str, list[str]]:
    conditions = {
        "started_at >= ?": None if since is None else instant(since),
        "started_at < ?": None if until is None else instant(until),
        "project = ?": project,
    }
    given = {condition: value for condition, value in conditions.items() if value is not None}
    return (" WHERE " + " AND ".join(given) if given else ""), list(given.values())


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """Return the schema version of the ledger, 0 for an empty file.

    Raises:
        LedgerError: It is newer than this code, or the file is not a ledger.
    """
    application_id, version, objects = connection.execute(
        "SELECT application_id, user_version, (SELECT COUNT(*) FROM sqlite_master)"
        " FROM pragma_application_id, pragma_user_version"
    ).fetchone()
    if application_id != APPLICATION_ID and (application_id or version or objects):
        raise LedgerError(f"{path} is a SQLite database, but not a ledger; give the ledger a file of its own")
    if version > len(MIGRATIONS):
        raise LedgerError(
            f"the ledger at {path} has schema version {version}, and this llm-toll-autopatch knows up to"
            f" {len(MIGRATIONS)}; upgrade it: pip install -U llm-toll-autopatch"
        )
    return int(version)


def _is_busy(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the extended part
    return code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _close(connection: sqlite3.Connection, lock: threading.RLock, timeout_s: float) -> None:
    """Close `connection`, unless a thread that will not let go (at exit) is using it."""
    if lock.acquire(timeout=timeout_s):
        try:
            connection.close()
        finally:
            lock.release()


def _keep_inherited() -> None:
    """Give each inherited connection a reference that the end of the interpreter does not take away."""
    with suppress(ImportError):
        import ctypes

        for connection in _inherited:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
