"""How the SQLite ledger is read: by a connection for each answer, which neither waits for writers nor holds them up."""

from __future__ import annotations

import heapq
import sqlite3
import time
from contextlib import closing, contextmanager, suppress
from itertools import chain, groupby, islice
from typing import TYPE_CHECKING, Any, ClassVar

from llm_toll_autopatch.ledger import rollups, sqlite_queries, starts
from llm_toll_autopatch.ledger.errors import LedgerError, UnusableLedgerError
from llm_toll_autopatch.ledger.groupings import TAG, check_groupings
from llm_toll_autopatch.ledger.instants import instant
from llm_toll_autopatch.ledger.reading import LedgerReader
from llm_toll_autopatch.ledger.rows import record_of
from llm_toll_autopatch.ledger.schema import APPLICATION_ID, MIGRATIONS
from llm_toll_autopatch.ledger.sqlite_queries import arrivals_query, block_of, ordered_queries, start_of
from llm_toll_autopatch.ledger.totals import totals_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from llm_toll_autopatch.ledger.groupings import Where
    from llm_toll_autopatch.ledger.reading import Queries
    from llm_toll_autopatch.ledger.totals import Totals
    from llm_toll_autopatch.records import CallRecord

__all__ = ["SQLiteReader", "version_of"]

_ROW = "SELECT rowid FROM calls WHERE id = ?"
_LONG_S = 0.1
"""An answer that takes longer is worth being prepared for the next time."""


class SQLiteReader(LedgerReader):
    """Answers what is in the ledger at `path`."""

    _queries: ClassVar[Queries] = sqlite_queries
    path: Path
    _busy_timeout_s: float

    def arrivals(self, latest: int = 0, *, where: Where | None = None) -> Iterator[list[CallRecord]]:
        """Iterate over what comes in, in the order in which it does: a list each time, empty when there is nothing new.

        Calls are recorded when they end, so the order is not that of their start.

        Args:
            latest: How many of those that are there already the first list has.
            where: Only calls of these values, as for `totals`.

        Raises:
            ValueError: `where` has an unknown name.
            LedgerError: There is no ledger at `path`, or it cannot be read.
        """
        position, last = self._newest()
        known = list(self._rows(*arrivals_query(0, position, where or {}, latest=latest)))
        yield [record_of(row) for row in reversed(known)]
        while True:
            if last is not None and next(self._rows(_ROW, [last]), (None,))[0] != position:
                # VACUUM has numbered the rows anew, or a prune has taken the last one.
                position = next(self._rows(_ROW, [last]), self._newest())[0]
            before = position
            position, last = self._newest()
            yield [record_of(row) for row in self._rows(*arrivals_query(before, position, where or {}))]

    def _newest(self) -> tuple[int, str | None]:
        return next(self._rows("SELECT rowid, id FROM calls ORDER BY rowid DESC LIMIT 1", []), (0, None))

    def _totals(self, by: Sequence[str], since: datetime | None, until: datetime | None, where: Where) -> list[Totals]:
        # A ledger of very many calls keeps sums, so that the next answer takes less time: who asks writes them into the
        # file, if that is possible without waiting.
        start = time.monotonic()
        names = {*by, *where}
        check_groupings(list(names))
        tags = {name.removeprefix(TAG) for name in names if name.startswith(TAG)}
        first, last = (None if moment is None else instant(moment) for moment in (since, until))
        with self._connected() as connection:
            connection.execute("BEGIN")
            version = version_of(connection, self.path)
            has_sums = version >= rollups.SINCE and "hour" not in names  # sums are by the day
            parts = rollups.parts_of(connection, first, last, tags) if has_sums else None
            if parts is not None:
                queries = list(sqlite_queries.parts_queries(by, since, until, where, parts))
            elif version >= starts.SINCE and since is not None:
                queries = list(sqlite_queries.period_queries(by, since, until, where))
            else:
                queries = [sqlite_queries.totals_query(by, since, until, where)] if version else []
            answers = [found for query in queries if (found := connection.execute(*query).fetchall())]
            rows = chain.from_iterable(answers)
            answer = _added(rows, len(by)) if len(answers) > 1 else [totals_of(row, len(by)) for row in rows]
            connection.execute("COMMIT")
        took_s = time.monotonic() - start
        if has_sums and took_s > _LONG_S:
            self._sum_up(took_s / 2)
        return answer

    def _ordered(
        self, since: datetime | None, until: datetime | None, limit: int | None, where: Where, *, newest_first: bool
    ) -> Iterator[tuple[Any, ...]]:
        told, strays = ordered_queries(since, until, where, newest_first=newest_first)
        with self._connected() as connection:
            connection.execute("BEGIN")  # both answers are of one moment
            if not version_of(connection, self.path):
                return
            blocks = groupby(connection.execute(*told), block_of)
            in_order = chain.from_iterable(sorted(rows, key=start_of, reverse=newest_first) for _, rows in blocks)
            others = connection.execute(*strays)
            with closing(heapq.merge(in_order, others, key=start_of, reverse=newest_first)) as merged:
                yield from islice(merged, limit)

    def _rows(self, query: str, values: Sequence[Any], since: int = 0) -> Iterator[tuple[Any, ...]]:
        """Yield the answer's rows. What is there `since` a version is empty in older ledgers, and without one."""
        if since and not self.path.exists():
            return
        with self._connected() as connection:
            if version_of(connection, self.path) >= max(since, 1):
                yield from connection.execute(query, values)

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        if not self.path.exists():
            raise LedgerError(f"no ledger at {self.path}; has anything been metered yet?")
        try:
            with closing(self._connect(self._busy_timeout_s)) as connection:
                connection.execute("PRAGMA query_only = 1")
                yield connection
        except sqlite3.Error as error:
            raise LedgerError(f"the ledger at {self.path} cannot be read: {error}") from error

    def _connect(self, timeout_s: float) -> sqlite3.Connection:
        # Not mode=ro: reading a WAL file may need to make its shared memory.
        return sqlite3.connect(
            f"{self.path.as_uri()}?mode=rw", uri=True, timeout=timeout_s, isolation_level=None, check_same_thread=False
        )

    def _sum_up(self, seconds: float) -> None:
        """Have the next answer take less time, by about so many seconds of work."""
        with suppress(sqlite3.Error), closing(self._connect(0)) as connection:
            connection.execute("PRAGMA synchronous = NORMAL")
            rollups.build(connection, time.monotonic() + seconds)


def _added(rows: Iterable[tuple[Any, ...]], keys: int) -> list[Totals]:
    sums: dict[tuple[Any, ...], list[int]] = {}
    for row in rows:
        key, more = row[:keys], row[keys:]
        before = sums.get(key)
        sums[key] = list(more) if before is None else [a + b for a, b in zip(before, more, strict=True)]
    return [totals_of((*key, *sums[key]), keys) for key in sorted(sums)]


def version_of(connection: sqlite3.Connection, path: Path) -> int:
    """Return the schema version of the ledger, 0 for an empty file.

    Raises:
        UnusableLedgerError: It is newer than this code, or the file is not a ledger.
    """
    application_id, version, objects = connection.execute(
        "SELECT application_id, user_version, (SELECT COUNT(*) FROM sqlite_master)"
        " FROM pragma_application_id, pragma_user_version"
    ).fetchone()
    if application_id != APPLICATION_ID and (application_id or version or objects):
        raise UnusableLedgerError(f"{path} is a SQLite database, but not a ledger; give the ledger a file of its own")
    if version > len(MIGRATIONS):
        raise UnusableLedgerError(
            f"the ledger at {path} has schema version {version}, and this llm-toll-autopatch knows up to"
            f" {len(MIGRATIONS)}; upgrade it: pip install -U llm-toll-autopatch"
        )
    return int(version)
