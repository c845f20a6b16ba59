"""How every ledger is read: the same questions, each asked in the ledger's own SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from llm_toll_autopatch.ledger.groupings import check_groupings
from llm_toll_autopatch.ledger.rows import record_of
from llm_toll_autopatch.ledger.totals import totals_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from llm_toll_autopatch.ledger.groupings import Where
    from llm_toll_autopatch.ledger.totals import Totals
    from llm_toll_autopatch.records import CallRecord

__all__ = ["LedgerReader", "Queries"]

Query = tuple[str, list[Any]]
"""SQL, and its values."""


class Queries(Protocol):
    """What a module of a ledger's SQL has. A `ValueError` is raised for a name that is not known."""

    def greatest_query(
        self, measure: str, limit: int, since: datetime | None, until: datetime | None, where: Where
    ) -> Query:
        """Return the query for the rows of the dearest or the slowest calls."""
        ...

    def totals_query(self, by: Sequence[str], since: datetime | None, until: datetime | None, where: Where) -> Query:
        """Return the query for rows of sums."""
        ...


class LedgerReader:
    """Answers what is in a ledger; a subclass has its SQL and asks it."""

    _queries: ClassVar[Queries]

    def _rows(self, query: str, values: Sequence[Any], since: int = 0) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of an answer; none where the ledger's version is before `since`."""
        raise NotImplementedError

    def _ordered(
        self, since: datetime | None, until: datetime | None, limit: int | None, where: Where, *, newest_first: bool
    ) -> Iterator[tuple[Any, ...]]:
        """Yield rows of records in the order of their start."""
        raise NotImplementedError

    def records(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
        project: str | None = None,
        limit: int | None = None,
        *,
        where: Where | None = None,
        newest_first: bool = False,
    ) -> Iterator[CallRecord]:
        """Iterate over the records, oldest first.

        Args:
            since: Only calls that started then or later.
            until: Only calls that started before.
            project: Only calls of this project; short for `where={"project": ...}`.
            limit: At most so many.
            where: Only calls of these values: `{"provider": "openai", "tag:team": ["search", "ads"]}`. Names as in
                `GROUPINGS`.
            newest_first: Whether they come in the opposite order.

        Raises:
            ValueError: `where` has an unknown name.
            LedgerError: There is no ledger, or it cannot be read.
        """
        chosen = {**(where or {}), **({} if project is None else {"project": project})}
        check_groupings(list(chosen))
        rows = self._ordered(since, until, limit, chosen, newest_first=newest_first)
        return (record_of(row) for row in rows)

    def greatest(
        self,
        measure: str,
        limit: int,
        since: datetime | None = None,
        until: datetime | None = None,
        *,
        where: Where | None = None,
    ) -> list[CallRecord]:
        """Return the calls that cost the most or took the longest, these first. Unknown costs are left out.

        Args:
            measure: One of `MEASURES`.
            limit: How many at most.
            since: Only calls that started then or later.
            until: Only calls that started before.
            where: Only calls of these values, as for `records`.

        Raises:
            ValueError: There is no such measure, or `where` has an unknown name.
            LedgerError: There is no ledger, or it cannot be read.
        """
        return [
            record_of(row)
            for row in self._rows(*self._queries.greatest_query(measure, limit, since, until, where or {}))
        ]

    def totals(
        self,
        by: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        *,
        where: Where | None = None,
    ) -> list[Totals]:
        """Return the sums of each group of calls, in the order of their keys.

        Args:
            by: What to group by: names of `GROUPINGS`, `tag:NAME`. None of them: one group of all calls, if there are
                any.
            since: Only calls that started then or later.
            until: Only calls that started before.
            where: Only calls of these values, as for `records`.

        Raises:
            ValueError: `by` or `where` has an unknown name.
            LedgerError: There is no ledger, or it cannot be read.
        """
        return self._totals(by, since, until, where or {})

    def _totals(self, by: Sequence[str], since: datetime | None, until: datetime | None, where: Where) -> list[Totals]:
        query = self._queries.totals_query(by, since, until, where)
        return [totals_of(row, len(by)) for row in self._rows(*query)]
