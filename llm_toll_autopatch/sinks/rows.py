"""A record as plain JSON values, and back."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.records import USAGE_COUNTS, CallRecord, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["record_from_dict", "record_to_dict"]

_AS_IT_IS = tuple(
    field.name for field in fields(CallRecord) if field.name not in {"usage", "cost_usd", "tags", "started_at"}
)


def record_to_dict(record: CallRecord) -> dict[str, Any]:
    """Return `record` as values that `json.dumps` takes.

    `usage` is nested. `cost_usd` is a decimal string, or None when it is not known. `started_at` is ISO 8601, UTC, with
    microseconds.
    """
    row: dict[str, Any] = {name: getattr(record, name) for name in _AS_IT_IS}
    row["usage"] = {name: getattr(record.usage, name) for name in USAGE_COUNTS}
    row["usage"]["details"] = dict(record.usage.details)
    row["cost_usd"] = None if record.cost_usd is None else format(record.cost_usd, "f")
    row["tags"] = dict(record.tags)
    row["started_at"] = record.started_at.astimezone(UTC).isoformat(timespec="microseconds")
    return row


def record_from_dict(row: Mapping[str, Any]) -> CallRecord:
    """Return the record that `record_to_dict` made `row` from.

    What a newer version may have added is left out, what an older one did not have takes its default.

    Raises:
        KeyError: `started_at` is missing.
        TypeError: Another field without a default is missing.
        ValueError: `started_at` is not an ISO 8601 time.
        decimal.InvalidOperation: `cost_usd` is not a number.
    """
    values = {name: row[name] for name in _AS_IT_IS if name in row}
    usage = row.get("usage", {})
    counts = {name: usage[name] for name in USAGE_COUNTS if name in usage}
    cost = row.get("cost_usd")
    return CallRecord(
        **values,
        usage=Usage(**counts, details=MappingProxyType(dict(usage.get("details", {})))),
        cost_usd=None if cost is None else Decimal(cost),
        tags=MappingProxyType(dict(row.get("tags", {}))),
        started_at=datetime.fromisoformat(row["started_at"]),
    )
