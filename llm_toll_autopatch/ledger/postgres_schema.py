"""The PostgreSQL ledger's tables, and how they come into being. A row is the SQLite ledger's, in PostgreSQL's types."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.ledger.cap_tables import POSTGRES as CAPS
from llm_toll_autopatch.ledger.errors import UnusableLedgerError
from llm_toll_autopatch.ledger.postgres_holds import MIGRATION as HOLDS
from llm_toll_autopatch.ledger.rows import COLUMNS, coerced

if TYPE_CHECKING:
    from llm_toll_autopatch.ledger.postgres_connections import BoundedConnection

__all__ = [
    "DELETE_OLD",
    "INSERT",
    "MIGRATIONS",
    "REPLACE_COST",
    "SCHEMA",
    "SELECTED",
    "fitted",
    "migrate",
    "version_of",
    "without_nul",
]

SCHEMA = "llm_toll_autopatch"
"""The schema of all tables, which nobody else uses. An administrator may have made it already, with its own rights."""

_LOCK = int.from_bytes(b"autotoll", "big") >> 1
"""The advisory lock that whoever makes or changes the tables holds: a number of 63 bits."""

_MIGRATION_S = 600


MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE {schema}.calls (
            arrival BIGINT GENERATED ALWAYS AS IDENTITY,
            id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
            provider TEXT COLLATE "C" NOT NULL,
            operation TEXT COLLATE "C" NOT NULL,
            method TEXT COLLATE "C" NOT NULL,
            model TEXT COLLATE "C" NOT NULL,
            response_model TEXT COLLATE "C",
            service_tier TEXT COLLATE "C",
            outcome TEXT COLLATE "C" NOT NULL,
            usage_source TEXT COLLATE "C" NOT NULL,
            project TEXT COLLATE "C" NOT NULL,
            response_id TEXT COLLATE "C",
            error_type TEXT COLLATE "C",
            endpoint TEXT COLLATE "C",
            chunks BIGINT NOT NULL,
            duration_s DOUBLE PRECISION,
            time_to_first_chunk_s DOUBLE PRECISION,
            input_tokens BIGINT NOT NULL,
            output_tokens BIGINT NOT NULL,
            cache_read_tokens BIGINT NOT NULL,
            cache_write_tokens BIGINT NOT NULL,
            cache_write_5m_tokens BIGINT NOT NULL,
            cache_write_1h_tokens BIGINT NOT NULL,
            reasoning_tokens BIGINT NOT NULL,
            input_audio_tokens BIGINT NOT NULL,
            output_audio_tokens BIGINT NOT NULL,
            input_image_tokens BIGINT NOT NULL,
            output_image_tokens BIGINT NOT NULL,
            tool_use_input_tokens BIGINT NOT NULL,
            web_searches BIGINT NOT NULL,
            details JSONB NOT NULL,       -- object: name -> count
            tags JSONB NOT NULL,          -- object: name -> value
            stream BOOLEAN NOT NULL,
            cost_nano_usd BIGINT,         -- NULL: not known, which is never the same as 0
            started_at TIMESTAMPTZ NOT NULL
        )
        """,
        "CREATE INDEX calls_by_start ON {schema}.calls (started_at, id)",
        "CREATE INDEX calls_by_arrival ON {schema}.calls (arrival)",
        """
        CREATE TABLE {schema}.former_costs (  -- what calls.cost_nano_usd was before it was computed again
            call_id TEXT COLLATE "C" NOT NULL,
            replaced_at TIMESTAMPTZ NOT NULL,
            cost_nano_usd BIGINT              -- NULL: was not known
        )
        """,
        "CREATE INDEX former_costs_by_call ON {schema}.former_costs (call_id)",
    ),
    HOLDS,
    CAPS,
    (
        # A budget begins with what its project has cost: on the caller's time, so not by reading through the table.
        """
        CREATE INDEX calls_by_project ON {schema}.calls (project, started_at)
            INCLUDE (cost_nano_usd, input_tokens, output_tokens)
        """,
    ),
)
"""What brings a ledger from version N (in the table `schema_version`) to N + 1. Released entries never change."""

_TAKEN = {
    "details": "%s::jsonb",
    "tags": "%s::jsonb",
    "stream": "(%s::int <> 0)",
    "started_at": "%s::timestamptz",
    "duration_s": "NULLIF(%s::float8, 'NaN')",  # SQLite keeps no NaN either
    "time_to_first_chunk_s": "NULLIF(%s::float8, 'NaN')",
}
_GIVEN = {
    "details": "details::text",
    "tags": "tags::text",
    "stream": "stream::int",
    "started_at": """to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')""",
}

_HAS_SCHEMA = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s)"
_HAS_VERSION = "SELECT EXISTS (SELECT FROM pg_catalog.pg_tables WHERE schemaname = %s AND tablename = 'schema_version')"

INSERT = (
    f"INSERT INTO {SCHEMA}.calls ({', '.join(COLUMNS)})"  # noqa: S608 - our own names
    f" VALUES ({', '.join(_TAKEN.get(column, '%s') for column in COLUMNS)}) ON CONFLICT (id) DO NOTHING"
)
"""Takes a row of `COLUMNS`; the same record twice is one row."""

REPLACE_COST = f"""
    WITH repriced AS (
        UPDATE {SCHEMA}.calls SET cost_nano_usd = %s::bigint
        WHERE id = %s::text AND cost_nano_usd IS NOT DISTINCT FROM %s::bigint RETURNING id
    )
    INSERT INTO {SCHEMA}.former_costs (call_id, replaced_at, cost_nano_usd)
    SELECT id, %s::timestamptz, %s::bigint FROM repriced
"""  # noqa: S608 - our own names
"""Takes the new cost, the id, the former cost, now, and the former cost: one that is another by now stays."""

DELETE_OLD = f"""
    WITH gone AS (
        DELETE FROM {SCHEMA}.calls WHERE id IN (
            SELECT id FROM {SCHEMA}.calls
            WHERE started_at < %s::timestamptz AND (%s::text IS NULL OR project = %s::text)
            ORDER BY started_at, id LIMIT %s
        ) RETURNING id
    ), with_them AS (
        DELETE FROM {SCHEMA}.former_costs USING gone WHERE call_id = gone.id
    )
    SELECT COUNT(*) FROM gone
"""  # noqa: S608 - our own names
"""Takes the moment, the project or NULL twice, and how many at most; gives how many they were."""

SELECTED = ", ".join(_GIVEN.get(column, column) for column in COLUMNS)
"""What to select for a row of `COLUMNS`."""


def fitted(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return `row` with every value made to fit its column, for the rare record that PostgreSQL refuses as it is.

    Beside what SQLite cannot hold, PostgreSQL has no NUL in texts.
    """
    return tuple(
        _fitted_json(value)
        if column in {"details", "tags"}
        else without_nul(value)
        if isinstance(value, str)
        else value
        for column, value in zip(COLUMNS, coerced(row), strict=True)
    )


def without_nul(text: str) -> str:
    """Return `text` as it is kept."""
    return text.replace("\0", "\\x00")


def _fitted_json(text: str) -> str:
    return json.dumps({_plain(name): _plain(value) for name, value in json.loads(text).items()})


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, (int, float)) or value is None:
        return value
    text = value if isinstance(value, str) else json.dumps(value)
    return without_nul(text.encode("utf-8", "backslashreplace").decode("utf-8"))


def version_of(connection: BoundedConnection, location: object) -> int:
    """Return the version of the tables, 0 when there are none.

    Raises:
        UnusableLedgerError: It is newer than this code.
    """
    # In two steps: a statement that names a table cannot be run without it. Not by to_regclass, which may still have in
    # its cache that there is none when another process has just made it.
    if connection.run(_HAS_VERSION, [SCHEMA]).fetchone() == (False,):
        return 0
    row = connection.run(f"SELECT version FROM {SCHEMA}.schema_version").fetchone()  # noqa: S608 - our own name
    version = int(row[0]) if row else 0
    if version > len(MIGRATIONS):
        raise UnusableLedgerError(
            f"the ledger at {location} has schema version {version}, and this llm-toll-autopatch knows up to"
            f" {len(MIGRATIONS)}; upgrade it: pip install -U llm-toll-autopatch"
        )
    return version


def migrate(connection: BoundedConnection, location: object, *, patience_s: float = _MIGRATION_S) -> None:
    """Make the tables, or bring them to this version: once, whoever else does the same at the same time.

    Raises:
        UnusableLedgerError: They are newer than this code, or the database cannot hold every text.
    """
    if version_of(connection, location) == len(MIGRATIONS):
        return
    deadline = connection.deadline
    connection.run("BEGIN ISOLATION LEVEL READ COMMITTED")
    connection.run("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
    connection.deadline += patience_s  # large tables take their time
    connection.run("SET LOCAL statement_timeout = 0")
    version = version_of(connection, location)  # again: another process may have been quicker
    if version < len(MIGRATIONS):
        _make(connection, version, location)
    connection.run("COMMIT")
    connection.deadline = deadline


def _make(connection: BoundedConnection, version: int, location: object) -> None:
    encoding = connection.run("SHOW server_encoding").fetchone()
    if encoding != ("UTF8",):
        raise UnusableLedgerError(f"the ledger at {location} needs a database with the encoding UTF8, not {encoding}")
    # Not IF NOT EXISTS: that wants the right to make one even where there is one.
    if connection.run(_HAS_SCHEMA, [SCHEMA]).fetchone() == (False,):
        connection.run(f"CREATE SCHEMA {SCHEMA}")
    if version == 0:
        connection.run(f"CREATE TABLE {SCHEMA}.schema_version (version INTEGER NOT NULL)")
        connection.run(f"INSERT INTO {SCHEMA}.schema_version VALUES (0)")  # noqa: S608 - our own name
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            connection.run(statement.replace("{schema}", SCHEMA))
    connection.run(f"UPDATE {SCHEMA}.schema_version SET version = {len(MIGRATIONS)}")  # noqa: S608 - our own name
