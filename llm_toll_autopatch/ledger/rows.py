"""A record's way into a row of a ledger's table and back, whatever database has the table."""

from __future__ import annotations

import json
from datetime import datetime
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.ledger.instants import instant
from llm_toll_autopatch.ledger.money import from_nano_usd, to_nano_usd
from llm_toll_autopatch.records import CallRecord, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

__all__ = ["COLUMNS", "coerced", "record_of", "row_of", "settlement_of"]

_PLAIN = (
    "id", "provider", "operation", "method", "model", "response_model", "service_tier", "outcome", "usage_source",
    "project", "response_id", "error_type", "endpoint", "chunks", "duration_s", "time_to_first_chunk_s",
)  # fmt: skip
_COUNTS = (
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_5m_tokens",
    "cache_write_1h_tokens", "reasoning_tokens", "input_audio_tokens", "output_audio_tokens", "input_image_tokens",
    "output_image_tokens", "tool_use_input_tokens", "web_searches",
)  # fmt: skip
COLUMNS = (*_PLAIN, *_COUNTS, "details", "tags", "stream", "cost_nano_usd", "started_at")
"""The columns of a row, in order."""

_NULLABLE = frozenset(
    {
        "response_model",
        "service_tier",
        "response_id",
        "error_type",
        "endpoint",
        "time_to_first_chunk_s",
        "cost_nano_usd",
    }
)
_REAL = frozenset({"duration_s", "time_to_first_chunk_s"})
_INTEGER = frozenset({*_COUNTS, "chunks", "stream", "cost_nano_usd"})
_INT64_MAX = 2**63 - 1

_plain_of = attrgetter(*_PLAIN)
_counts_of = attrgetter(*_COUNTS)
_dump = json.JSONEncoder(separators=(",", ":"), default=str).encode


def row_of(record: CallRecord) -> tuple[Any, ...]:
    """Return `record` as a row of `COLUMNS`. Costs are rounded to nano-USD."""
    usage = record.usage
    return (
        *_plain_of(record),
        *_counts_of(usage),
        _dump(dict(usage.details)) if usage.details else "{}",
        _dump(dict(record.tags)) if record.tags else "{}",
        1 if record.stream else 0,
        None if record.cost_usd is None else _nano_usd(record.cost_usd),
        instant(record.started_at),
    )


def settlement_of(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what `holds.SETTLE` takes for the call of a row of `COLUMNS`."""
    values = dict(zip(COLUMNS, coerced(row), strict=True))
    tokens = values["input_tokens"] + values["output_tokens"]
    return values["id"], values["project"], values["cost_nano_usd"], min(tokens, _INT64_MAX), values["started_at"]


def _nano_usd(usd: Decimal) -> int | None:
    """Return `usd` in nano-USD; None, and a failure noted, for what no ledger can hold. The tokens are kept anyway."""
    try:
        return to_nano_usd(usd)
    except (ValueError, OverflowError) as error:
        failures.note("the ledger: cost", error)
        return None


def coerced(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return `row` with every value made to fit its column: for the rare record that a database refuses as it is.

    Servers that imitate a provider send a number where a name belongs, or a lone surrogate. That is no reason to lose
    a bill.
    """
    return tuple(_fitted(column, value) for column, value in zip(COLUMNS, row, strict=True))


def _fitted(column: str, value: Any) -> Any:
    if value is None and column in _NULLABLE:
        return None
    if column in _REAL:
        return float(value or 0)
    if column in _INTEGER:
        return max(-_INT64_MAX, min(int(value or 0), _INT64_MAX))
    text = "" if value is None else str(value)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def record_of(row: Sequence[Any]) -> CallRecord:
    """Return the record that a row of `COLUMNS` was made from."""
    values = dict(zip(COLUMNS, row, strict=True))
    counts = {name: values.pop(name) for name in _COUNTS}
    cost = values.pop("cost_nano_usd")
    values.update(
        usage=Usage(**counts, details=_loaded(values.pop("details"))),
        tags=_loaded(values["tags"]),
        stream=bool(values["stream"]),
        cost_usd=None if cost is None else from_nano_usd(cost),
        started_at=datetime.fromisoformat(values["started_at"]),
        duration_s=values["duration_s"] or 0.0,
    )
    return CallRecord(**values)


def _loaded(text: str) -> Mapping[str, Any]:
    return MappingProxyType(json.loads(text))
