"""The SQLite ledger's table, and a record's way into a row of it and back."""

from __future__ import annotations

import json
from datetime import datetime
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.ledger.cap_tables import SQLITE as CAPS
from llm_toll_autopatch.ledger.holds import MIGRATION as HOLDS
from llm_toll_autopatch.ledger.instants import instant
from llm_toll_autopatch.ledger.money import from_nano_usd, to_nano_usd
from llm_toll_autopatch.records import CallRecord, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

__all__ = ["APPLICATION_ID", "COLUMNS", "INSERT", "MIGRATIONS", "coerced", "record_of", "row_of", "settlement_of"]

APPLICATION_ID = int.from_bytes(b"toll", "big")
"""Marks the file as ours, in SQLite's header."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE calls (
            id TEXT NOT NULL PRIMARY KEY,
            provider TEXT NOT NULL,
            operation TEXT NOT NULL,
            method TEXT NOT NULL,
            model TEXT NOT NULL,
            response_model TEXT,
            service_tier TEXT,
            outcome TEXT NOT NULL,
            usage_source TEXT NOT NULL,
            project TEXT NOT NULL,
            response_id TEXT,
            error_type TEXT,
            endpoint TEXT,
            chunks INTEGER NOT NULL,
            duration_s REAL,
            time_to_first_chunk_s REAL,
            input_tokens INTEGER NOT NULL,
            output_tokens INTEGER NOT NULL,
            cache_read_tokens INTEGER NOT NULL,
            cache_write_tokens INTEGER NOT NULL,
            cache_write_5m_tokens INTEGER NOT NULL,
            cache_write_1h_tokens INTEGER NOT NULL,
            reasoning_tokens INTEGER NOT NULL,
            input_audio_tokens INTEGER NOT NULL,
            output_audio_tokens INTEGER NOT NULL,
            input_image_tokens INTEGER NOT NULL,
            output_image_tokens INTEGER NOT NULL,
            tool_use_input_tokens INTEGER NOT NULL,
            web_searches INTEGER NOT NULL,
            details TEXT NOT NULL,        -- JSON object: name -> count
            tags TEXT NOT NULL,           -- JSON object: name -> value
            stream INTEGER NOT NULL,      -- 0 or 1
            cost_nano_usd INTEGER,        -- NULL: not known, which is never the same as 0
            started_at TEXT NOT NULL      -- ISO 8601, UTC, microseconds; sorts by time
        )
        """,
        "CREATE INDEX calls_by_start ON calls (started_at)",
    ),
    (
        """
        CREATE TABLE former_costs (       -- what `calls.cost_nano_usd` was before it was computed again
            call_id TEXT NOT NULL,
            replaced_at TEXT NOT NULL,    -- as started_at
            cost_nano_usd INTEGER         -- NULL: was not known
        )
        """,
        "CREATE INDEX former_costs_by_call ON former_costs (call_id)",
    ),
    HOLDS,
    CAPS,
)
"""What brings a ledger from schema version N (`PRAGMA user_version`) to N + 1. Released entries never change."""

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

INSERT = (
    f"INSERT INTO calls ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "  # noqa: S608 - our own names
    "ON CONFLICT (id) DO NOTHING"
)
"""Takes a row; the same record twice is one row."""

REPLACE_COST = "UPDATE calls SET cost_nano_usd = ? WHERE id = ? AND cost_nano_usd IS ?"
"""Takes the new cost, the id, and the former cost."""
KEEP_COST = "INSERT INTO former_costs (call_id, replaced_at, cost_nano_usd) VALUES (?, ?, ?)"
OLD = """
    SELECT id FROM calls WHERE started_at < :before AND (:project IS NULL OR project = :project)
    ORDER BY started_at LIMIT :limit
"""

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
        failures.note("SQLiteLedger: cost", error)
        return None


def coerced(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return `row` with every value made to fit its column: for the rare record that SQLite refuses as it is.

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
