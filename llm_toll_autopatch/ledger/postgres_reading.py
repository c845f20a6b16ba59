"""How the PostgreSQL ledger is read: each answer has a connection of its own."""

from __future__ import annotations

import time
from collections import deque
from contextlib import closing
from typing import TYPE_CHECKING, Any, ClassVar

from llm_toll_autopatch.ledger import postgres_queries
from llm_toll_autopatch.ledger.errors import LedgerError
from llm_toll_autopatch.ledger.postgres_queries import arrivals_query, records_query
from llm_toll_autopatch.ledger.postgres_schema import version_of
from llm_toll_autopatch.ledger.reading import LedgerReader
from llm_toll_autopatch.ledger.rows import record_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from llm_toll_autopatch.ledger.groupings import Where
    from llm_toll_autopatch.ledger.postgres_address import Address
    from llm_toll_autopatch.ledger.reading import Queries
    from llm_toll_autopatch.records import CallRecord

__all__ = ["PostgresReader"]

_AT_ONCE = 1000
_UNSETTLED = 500
_GRACE_S = 10.0
"""How long a record may take from the number that it gets to its commit, to be among the arrivals."""
_PATIENCE_S = 60.0
"""How long the server may take for each step of an answer."""


class PostgresReader(LedgerReader):
    """Answers what is in the ledger at an address."""

    _queries: ClassVar[Queries] = postgres_queries
    _address: Address

    def arrivals(self, latest: int = 0, *, where: Where | None = None) -> Iterator[list[CallRecord]]:
        """Iterate over what comes in, as `SQLiteLedger.arrivals` does: a list each time, empty when nothing is new.

        What others commit at the same moment may come in another order than they began to write it.

        Args:
            latest: How many of those that are there already the first list has.
            where: Only calls of these values, as for `totals`.

        Raises:
            ValueError: `where` has an unknown name.
            LedgerError: There is no ledger, or it cannot be read.
        """
        chosen = where or {}
        known = list(self._rows(*arrivals_query(0, chosen, max(latest, _UNSETTLED))))
        yield [record_of(row[1:]) for row in reversed(known[:latest])]
        # A number is given when the writing begins, and seen when it is committed: what has lower numbers may come yet.
        numbers = {row[0] for row in known}
        floor = min(numbers, default=0) - 1
        marks = deque([(time.monotonic(), max(numbers, default=0))])
        while True:
            rows = [row for row in self._rows(*arrivals_query(floor, chosen)) if row[0] not in numbers]
            yield [record_of(row[1:]) for row in rows]
            numbers.update(row[0] for row in rows)
            now = time.monotonic()
            marks.append((now, max(numbers, default=0)))
            while marks[0][0] < now - _GRACE_S:
                floor = max(floor, marks.popleft()[1])
            numbers = {number for number in numbers if number > floor}

    def _ordered(
        self, since: datetime | None, until: datetime | None, limit: int | None, where: Where, *, newest_first: bool
    ) -> Iterator[tuple[Any, ...]]:
        return self._rows(*records_query(since, until, limit, where, newest_first=newest_first))

    def _rows(
        self, query: str, values: Sequence[Any], since: int = 0, patience_s: float = _PATIENCE_S
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the answer's rows. What is there `since` a version is empty in older ledgers, and without one."""
        import psycopg

        from llm_toll_autopatch.ledger.postgres_connections import connect

        failure = None
        try:
            with closing(connect(self._address, time.monotonic() + patience_s)) as connection:
                version = version_of(connection, self._address)
                if version < since:
                    return
                if not version:
                    raise LedgerError(f"no ledger at {self._address}; has anything been metered yet?")
                connection.run("BEGIN READ ONLY")
                connection.run(f"SET LOCAL statement_timeout = {int(patience_s * 1000)}")
                connection.run(f"DECLARE answer NO SCROLL CURSOR FOR {query}", values)
                while True:
                    connection.deadline = time.monotonic() + patience_s
                    rows = connection.run(f"FETCH {_AT_ONCE} FROM answer").fetchall()
                    yield from rows
                    if len(rows) < _AT_ONCE:
                        return
        except psycopg.Error as error:
            failure = self._address.redacted(str(error))
        raise LedgerError(f"the ledger at {self._address} cannot be read: {failure}")
