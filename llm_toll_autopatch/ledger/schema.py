"""The SQLite ledger's tables, and what is done to them."""

from __future__ import annotations

from llm_toll_autopatch.ledger.cap_tables import SQLITE as CAPS
from llm_toll_autopatch.ledger.holds import COMPACT as COMPACT_HOLDS
from llm_toll_autopatch.ledger.holds import MIGRATION as HOLDS
from llm_toll_autopatch.ledger.rollups import MIGRATION as ROLLUPS
from llm_toll_autopatch.ledger.rows import COLUMNS
from llm_toll_autopatch.ledger.starts import MIGRATION as STARTS
from llm_toll_autopatch.ledger.starts import STRAY

__all__ = ["APPLICATION_ID", "INSERT", "KEEP_COST", "MIGRATIONS", "OLD", "REPLACE_COST"]

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
    ROLLUPS,
    (*STARTS, *COMPACT_HOLDS),
)
"""What brings a ledger from schema version N (`PRAGMA user_version`) to N + 1. Released entries never change."""

INSERT = (
    f"INSERT INTO calls ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "  # noqa: S608 - our own names
    "ON CONFLICT (id) DO NOTHING"
)
"""Takes a row; the same record twice is one row."""

REPLACE_COST = "UPDATE calls SET cost_nano_usd = ? WHERE id = ? AND cost_nano_usd IS ?"
"""Takes the new cost, the id, and the former cost."""
KEEP_COST = "INSERT INTO former_costs (call_id, replaced_at, cost_nano_usd) VALUES (?, ?, ?)"
OLD = f"""
    SELECT id FROM (
        SELECT * FROM (
            SELECT id, started_at FROM calls
            WHERE id < :told AND started_at < :before AND (:project IS NULL OR project = :project)
            ORDER BY id LIMIT :limit
        )
        UNION ALL
        SELECT * FROM (
            SELECT id, started_at FROM calls
            WHERE {STRAY} AND id >= :told AND started_at < :before AND (:project IS NULL OR project = :project)
            ORDER BY started_at LIMIT :limit
        )
    ) ORDER BY started_at LIMIT :limit
"""  # noqa: S608 - our own names
"""Takes the moment, what `ids_told` has for it, the project or NULL, and how many at most."""
