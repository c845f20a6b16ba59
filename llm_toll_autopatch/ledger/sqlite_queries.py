"""The SQL with which the SQLite ledger is asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.ledger.groupings import TAG, Where, check_groupings, check_measure, values_of
from llm_toll_autopatch.ledger.instants import instant
from llm_toll_autopatch.ledger.rollups import SUMS_OF_SUMS
from llm_toll_autopatch.ledger.rows import COLUMNS
from llm_toll_autopatch.ledger.starts import BLOCK, STRAY, TOLD, ids_told

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from llm_toll_autopatch.ledger.rollups import Parts

__all__ = [
    "arrivals_query",
    "block_of",
    "greatest_query",
    "ordered_queries",
    "parts_queries",
    "period_queries",
    "start_of",
    "totals_query",
]

Query = tuple[str, list[Any]]
"""SQL, and the values for its placeholders."""

# A week belongs to the year of its Thursday, of which it is the n-th (ISO 8601). Few SQLites have %G and %V.
_THURSDAY = "substr(started_at, 1, 10), '-3 days', 'weekday 4'"

_EXPRESSIONS = {
    "project": "project",
    "model": "COALESCE(NULLIF(response_model, ''), model)",
    "provider": "provider",
    "day": "substr(started_at, 1, 10)",
    "week": f"strftime('%Y-W', {_THURSDAY}) || printf('%02d', (strftime('%j', {_THURSDAY}) + 6) / 7)",
    "month": "substr(started_at, 1, 7)",
    "hour": "substr(started_at, 1, 13) || ':00'",
    "method": "method",
    "operation": "operation",
    "outcome": "outcome",
    "endpoint": "COALESCE(endpoint, '')",
    "usage_source": "usage_source",
}
# Not json_extract: some versions of SQLite do not find names in which a character is escaped.
_TAG = "COALESCE((SELECT CAST(value AS TEXT) FROM json_each(tags) WHERE key = ?), '')"


def _expression(grouping: str) -> Query:
    return (_TAG, [grouping.removeprefix(TAG)]) if grouping.startswith(TAG) else (_EXPRESSIONS[grouping], [])


def _chosen(since: datetime | None, until: datetime | None, where: Where) -> Query:
    """Return the `WHERE` of these calls, empty for all."""
    check_groupings(list(where))
    conditions, values = [], []
    for condition, moment in (("started_at >= ?", since), ("started_at < ?", until)):
        if moment is not None:
            conditions.append(condition)
            values.append(instant(moment))
    for grouping, wanted in where.items():
        expression, own = _expression(grouping)
        accepted = values_of(wanted)
        conditions.append(f"{expression} IN ({', '.join('?' * len(accepted))})")
        values += [*own, *accepted]
    return (" WHERE " + " AND ".join(conditions) if conditions else ""), values


def _found(since: datetime | None, until: datetime | None, where: Where) -> list[Query]:
    """Return the `WHERE` of these calls in parts that have none in common, each of which is found quickly."""
    chosen, values = _chosen(since, until, where)
    # All calls until some moment are most of them: to look each up by its id takes far longer than to read them all.
    if since is None:
        return [(chosen, values)]
    told, ids = ids_told(since, until)
    both = [*values, *ids]
    return [(f"{chosen} AND {told}", both), (f"{chosen} AND NOT {told} AND {STRAY}", both)]


def ordered_queries(
    since: datetime | None, until: datetime | None, where: Where, *, newest_first: bool
) -> tuple[Query, Query]:
    """Return what selects `COLUMNS` of calls whose ids tell their block, in the order of these, and of all strays.

    Strays are in the order of their starts, `start_of`. Blocks, `block_of`, are in it too; the calls of one are not.
    """
    chosen, values = _chosen(since, until, where)
    and_ = f"{chosen} AND" if chosen else " WHERE"
    told, ids = ids_told(since, until)
    way = " DESC" if newest_first else ""
    columns = f"SELECT {', '.join(COLUMNS)} FROM calls"  # noqa: S608 - our own names
    return (
        (f"{columns}{and_} {TOLD} AND {told} ORDER BY id{way}", [*values, *ids]),
        (f"{columns}{and_} {STRAY} ORDER BY started_at{way}, id{way}", values),
    )


_ID, _STARTED_AT = COLUMNS.index("id"), COLUMNS.index("started_at")


def block_of(row: Sequence[Any]) -> str:
    """Return the block of the id in a row of `COLUMNS`."""
    return str(row[_ID][:BLOCK])


def start_of(row: Sequence[Any]) -> tuple[str, str]:
    """Return by what rows of `COLUMNS` are in the order of their start."""
    return row[_STARTED_AT], row[_ID]


_MEASURES = {"cost": "cost_nano_usd", "duration": "duration_s"}


def greatest_query(measure: str, limit: int, since: datetime | None, until: datetime | None, where: Where) -> Query:
    """Return what selects `COLUMNS` of the calls with the most of a measure, the greatest first."""
    check_measure(measure)
    column = _MEASURES[measure]
    found = _found(since, until, where)
    values = [value for _, own in found for value in own]
    # The few rows first, by what little of them is needed for it: whole rows in the sorter would be far slower.
    parts = " UNION ALL ".join(f"SELECT rowid AS row, {column}, started_at FROM calls{chosen}" for chosen, _ in found)  # noqa: S608 - our own names
    rows = f"SELECT row FROM ({parts}) ORDER BY {column} DESC, started_at DESC LIMIT ?"  # noqa: S608 - our own names
    query = (
        f"SELECT {', '.join(COLUMNS)} FROM calls WHERE rowid IN ({rows}) AND {column} IS NOT NULL"  # noqa: S608 - our own names
        f" ORDER BY {column} DESC, started_at DESC"
    )
    return query, [*values, limit]


def arrivals_query(after: int, upto: int, where: Where, *, latest: int | None = None) -> Query:
    """Return what selects `COLUMNS` of the calls that came in after row `after`, up to row `upto`.

    With `latest`: only so many, the last first.
    """
    chosen, values = _chosen(None, None, where)
    range_ = f"{chosen} {'AND' if chosen else 'WHERE'} rowid > ? AND rowid <= ?"
    order = "ORDER BY rowid" if latest is None else "ORDER BY rowid DESC LIMIT ?"
    return (
        f"SELECT {', '.join(COLUMNS)} FROM calls{range_} {order}",  # noqa: S608 - our own names
        [*values, after, upto, *([] if latest is None else [latest])],
    )


def totals_query(by: Sequence[str], since: datetime | None, until: datetime | None, where: Where) -> Query:
    """Return what selects the groups' keys and sums, for `totals_of`, in the order of the keys; it reads all rows."""
    chosen, values = _chosen(since, until, where)
    return _grouped(by, _SUMS, f"calls{chosen}", values)


def period_queries(by: Sequence[str], since: datetime, until: datetime | None, where: Where) -> Iterator[Query]:
    """Yield what selects the same of a period part by part: the groups of each are to be added up."""
    for chosen, values in _found(since, until, where):
        yield _grouped(by, _SUMS, f"calls{chosen}", values)


def parts_queries(
    by: Sequence[str], since: datetime | None, until: datetime | None, where: Where, parts: Parts
) -> Iterator[Query]:
    """Yield what selects the same part by part: the groups of each are to be added up."""
    chosen, values = _chosen(None, None, where)
    which = f"{chosen} {'AND' if chosen else 'WHERE'} segment IN (SELECT value FROM json_each(?))"  # noqa: S608 - our own names
    yield _grouped(by, SUMS_OF_SUMS, f"rolled_calls{which}", [*values, json.dumps(parts.segments)])
    chosen, values = _chosen(since, until, where)
    which = f"{chosen} {'AND' if chosen else 'WHERE'} rowid >= ? AND rowid < ?"
    for rows in parts.rows:
        yield _grouped(by, _SUMS, f"calls{which}", [*values, *rows])


def _grouped(by: Sequence[str], sums: Sequence[str], source: str, values: Sequence[Any]) -> Query:
    check_groupings(by)
    keys = [_expression(grouping) for grouping in by]
    numbers = ", ".join(str(number + 1) for number in range(len(keys)))
    order = f" GROUP BY {numbers} ORDER BY {numbers}" if keys else " HAVING COUNT(*) > 0"
    selected = ", ".join([*(expression for expression, _ in keys), *sums])
    return f"SELECT {selected} FROM {source}{order}", [*(value for _, own in keys for value in own), *values]  # noqa: S608 - our own names


def _sum(column: str) -> str:
    # In two halves, because a sum beyond 64 bits is an error in SQLite.
    return f"COALESCE(SUM({column} >> 32), 0), COALESCE(SUM({column} & 0xFFFFFFFF), 0)"


_SUMS = (
    "COUNT(*)",
    _sum("input_tokens"),
    _sum("output_tokens"),
    _sum("cost_nano_usd"),
    "SUM(cost_nano_usd IS NULL)",
    "SUM(usage_source IN ('estimated', 'partial'))",
    "SUM(outcome = 'error')",
)
