"""The SQL with which the PostgreSQL ledger is asked: the same questions as those of `sqlite_queries`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.ledger.groupings import TAG, Where, check_groupings, check_measure, values_of
from llm_toll_autopatch.ledger.instants import instant
from llm_toll_autopatch.ledger.postgres_schema import SCHEMA, SELECTED, without_nul

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

__all__ = ["arrivals_query", "greatest_query", "records_query", "totals_query"]

Query = tuple[str, list[Any]]
"""SQL, and the values for its placeholders."""


def _period(picture: str) -> str:
    return f"to_char(started_at AT TIME ZONE 'UTC', '{picture}')"


_EXPRESSIONS = {
    "project": "project",
    "model": "COALESCE(NULLIF(response_model, ''), model)",
    "provider": "provider",
    "day": _period("YYYY-MM-DD"),
    "week": _period('IYYY-"W"IW'),
    "month": _period("YYYY-MM"),
    "hour": _period('YYYY-MM-DD"T"HH24:00'),
    "method": "method",
    "operation": "operation",
    "outcome": "outcome",
    "endpoint": "COALESCE(endpoint, '')",
    "usage_source": "usage_source",
}
_TAG = "COALESCE(tags ->> %s::text, '')"


def _texts(wanted: str | Sequence[str]) -> list[str]:
    return [without_nul(value) for value in values_of(wanted)]


def _expression(grouping: str) -> Query:
    if not grouping.startswith(TAG):
        return _EXPRESSIONS[grouping], []
    return _TAG, _texts(grouping.removeprefix(TAG))


def _chosen(since: datetime | None, until: datetime | None, where: Where) -> Query:
    """Return the `WHERE` of these calls."""
    check_groupings(list(where))
    conditions = ["TRUE"]
    values: list[Any] = []
    for condition, moment in (("started_at >= %s::timestamptz", since), ("started_at < %s::timestamptz", until)):
        if moment is not None:
            conditions.append(condition)
            values.append(instant(moment))
    for grouping, wanted in where.items():
        expression, own = _expression(grouping)
        conditions.append(f"{expression} = ANY (%s)")
        values += [*own, _texts(wanted)]
    return " AND ".join(conditions), values


def records_query(
    since: datetime | None, until: datetime | None, limit: int | None, where: Where, *, newest_first: bool
) -> Query:
    """Return what selects `COLUMNS` of calls in the order of their start."""
    chosen, values = _chosen(since, until, where)
    way = " DESC" if newest_first else ""
    query = (
        f"SELECT {SELECTED} FROM {SCHEMA}.calls WHERE {chosen} ORDER BY calls.started_at{way}, calls.id{way} LIMIT %s"  # noqa: S608 - our own names
    )
    return query, [*values, limit]


def greatest_query(measure: str, limit: int, since: datetime | None, until: datetime | None, where: Where) -> Query:
    """Return what selects `COLUMNS` of the calls with the most of a measure, the greatest first."""
    check_measure(measure)
    chosen, values = _chosen(since, until, where)
    column = {"cost": "calls.cost_nano_usd", "duration": "calls.duration_s"}[measure]
    query = (
        f"SELECT {SELECTED} FROM {SCHEMA}.calls WHERE {chosen} AND {column} IS NOT NULL"  # noqa: S608 - our own names
        f" ORDER BY {column} DESC, calls.started_at DESC LIMIT %s"
    )
    return query, [*values, limit]


def totals_query(by: Sequence[str], since: datetime | None, until: datetime | None, where: Where) -> Query:
    """Return what selects the groups' keys and sums, for `totals_of`, in the order of the keys."""
    check_groupings(by)
    keys = [_expression(grouping) for grouping in by]
    chosen, values = _chosen(since, until, where)
    # The bytes' order, as that of the other ledger, whatever the database's language is.
    columns = [f'({expression}) COLLATE "C"' for expression, _ in keys]
    numbers = ", ".join(str(number + 1) for number in range(len(keys)))
    order = f" GROUP BY {numbers} ORDER BY {numbers}" if keys else " HAVING COUNT(*) > 0"
    selected = ", ".join([*columns, *_SUMS])
    return (
        f"SELECT {selected} FROM {SCHEMA}.calls WHERE {chosen}{order}",  # noqa: S608 - our own names
        [*(value for _, own in keys for value in own), *values],
    )


def arrivals_query(after: int, where: Where, latest: int | None = None) -> Query:
    """Return what selects `arrival` and `COLUMNS` of the calls that came in after number `after`.

    With `latest`: only so many, the last first.
    """
    chosen, values = _chosen(None, None, where)
    order = "ORDER BY arrival" if latest is None else "ORDER BY arrival DESC LIMIT %s"
    return (
        f"SELECT arrival, {SELECTED} FROM {SCHEMA}.calls WHERE {chosen} AND arrival > %s {order}",  # noqa: S608 - our own names
        [*values, after, *([] if latest is None else [latest])],
    )


def _sum(column: str) -> str:
    # In two halves, as the other ledger has it. A sum is `numeric`, of any length.
    return f"COALESCE(SUM({column} >> 32), 0)::bigint, COALESCE(SUM({column} & 4294967295), 0)::bigint"


_SUMS = (
    "COUNT(*)",
    _sum("input_tokens"),
    _sum("output_tokens"),
    _sum("cost_nano_usd"),
    "COUNT(*) FILTER (WHERE cost_nano_usd IS NULL)",
    "COUNT(*) FILTER (WHERE usage_source IN ('estimated', 'partial'))",
    "COUNT(*) FILTER (WHERE outcome = 'error')",
)
