"""A large ledger like that of a large company: half a year, 20 projects, 15 models, teams and thousands of users.

Rows are made from some thousands of records, each as `emit` would write it, with another id and another start.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from llm_toll_autopatch.ledger.rows import COLUMNS, record_of, row_of
from llm_toll_autopatch.ledger.sqlite import SQLiteLedger
from llm_toll_autopatch.records import CallRecord, Outcome, Usage, UsageSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llm_toll_autopatch.ledger.postgres import PostgresLedger

__all__ = ["PROJECTS", "fill_postgres", "fill_sqlite", "odd_ones"]

END = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
DAYS = 180
PROJECTS = tuple(f"project-{number:02}" for number in range(20))
_KINDS = 20_000
_USERS = 5_000
_AT_ONCE = 10_000
_HOUR = timedelta(hours=1)
_WORK = range(7, 20)
_WORK_DAYS = 5
_STREAMED, _DEV = 0.5, 0.1
"""Shares of the calls."""


class _Model(NamedTuple):
    provider: str
    operation: str
    method: str
    name: str
    endpoint: str
    input_usd: str | None  # for a million tokens: of the right size, no more
    output_usd: str | None


def _family(provider: str, operation: str, method: str, endpoint: str, prices: dict[str, str]) -> Iterator[_Model]:
    for name, price in prices.items():
        yield _Model(provider, operation, method, name, endpoint, *(price.split() or (None, None)))


_MODELS = (
    *_family(
        "openai", "responses", "responses.create", "api.openai.com",
        {"gpt-5": "1.25 10", "gpt-5-pro": "15 120", "gpt-5-codex": "1.25 10"},
    ),
    *_family(
        "openai", "chat", "chat.completions.create", "api.openai.com",
        {"gpt-5-mini": "0.25 2", "gpt-5-nano": "0.05 0.4", "gpt-4.1": "2 8"},
    ),
    *_family("openai", "embeddings", "embeddings.create", "api.openai.com", {"text-embedding-3-small": "0.02 0"}),
    *_family(
        "anthropic", "messages", "messages.create", "api.anthropic.com",
        {"claude-sonnet-5-5": "3 15", "claude-haiku-5": "1 5", "claude-opus-5": "5 25"},
    ),
    *_family(
        "google", "generate_content", "models.generate_content", "generativelanguage.googleapis.com",
        {"gemini-3.8-flash": "0.3 2.5", "gemini-3.8-pro": "1.25 10", "gemini-3.8-flash-lite": "0.1 0.4"},
    ),
    *_family("openai", "chat", "chat.completions.create", "llm.internal", {"house-llama-70b": "", "house-qwen": ""}),
)  # fmt: skip
_OUTCOMES: dict[Outcome, float] = {"completed": 93, "closed": 4, "error": 1.6, "cancelled": 0.8, "abandoned": 0.6}


def _kind(rng: random.Random) -> CallRecord:
    """Return a call without an id and a start of its own."""
    number = min(int(rng.expovariate(0.25)), len(PROJECTS) - 1)  # a few projects make most of the calls
    model = _MODELS[(number + min(int(rng.expovariate(0.7)), 5)) % len(_MODELS)]
    outcome = rng.choices(list(_OUTCOMES), list(_OUTCOMES.values()))[0]
    failed = outcome == "error"
    stream = model.operation != "embeddings" and rng.random() < _STREAMED
    source: UsageSource = "reported"
    usage = Usage()
    if failed:
        source = "missing"
    elif model.operation == "embeddings":
        usage = Usage(input_tokens=int(rng.lognormvariate(6.5, 0.7)))
    else:
        usage = Usage(input_tokens=int(rng.lognormvariate(7.2, 0.8)), output_tokens=int(rng.lognormvariate(5.6, 0.9)))
        if stream and outcome in {"closed", "abandoned"}:
            source = "partial" if model.provider == "anthropic" else "estimated"
    cost = None if model.input_usd is None or model.output_usd is None else Decimal(0)
    if cost is not None:
        cost += usage.input_tokens * Decimal(model.input_usd or 0) + usage.output_tokens * Decimal(
            model.output_usd or 0
        )
    duration = 0.2 + rng.lognormvariate(0, 0.5) + usage.output_tokens * rng.uniform(0.008, 0.016)
    return CallRecord(
        id="",
        provider=model.provider,
        operation=model.operation,
        method=model.method,
        model=model.name,
        response_model=None if failed else f"{model.name}-2026-05-01",
        service_tier="default" if model.provider == "openai" and not failed else None,
        stream=stream,
        outcome=outcome,
        usage=usage,
        usage_source=source,
        cost_usd=Decimal(0) if failed else cost and cost / 1_000_000,
        project=PROJECTS[number],
        tags={
            "team": f"team-{number % 6}",
            "env": "dev" if rng.random() < _DEV else "prod",
            "user": f"u{rng.randrange(_USERS)}",
        },
        started_at=END,
        duration_s=round(duration, 3),
        time_to_first_chunk_s=round(min(duration, 0.2 + rng.expovariate(3)), 3) if stream and not failed else None,
        chunks=usage.output_tokens // 3 if stream else 0,
        response_id=None if failed else f"resp_{rng.getrandbits(128):032x}",
        error_type=rng.choice(["RateLimitError", "APITimeoutError"]) if failed else None,
        endpoint=model.endpoint,
    )


def _kinds(count: int, seed: int = 11) -> list[tuple[Any, ...]]:
    """Return some thousands of rows without an id and a start of their own, of which a ledger of `count` is made."""
    rng = random.Random(seed)  # noqa: S311 - nothing to guess
    return [row_of(_kind(rng))[1:-1] for _ in range(min(_KINDS, count))]


def _calls(kinds: list[tuple[Any, ...]], count: int, seed: int = 12) -> Iterator[tuple[str, int, str]]:
    """Yield the id, the number of the kind and the start of calls, about in the order in which they ended."""
    rng = random.Random(seed)  # noqa: S311 - nothing to guess
    column = COLUMNS.index("duration_s") - 1
    took_us = [int(kind[column] * 1e6) for kind in kinds]
    for start, number in _hours(count):
        first, prefix = int(start.timestamp()) * 1000, start.isoformat()[:-11]
        calls = []
        for _ in range(number):
            us, kind = int(rng.random() * 3.6e9), int(rng.random() * len(kinds))
            calls.append((us + took_us[kind], us, kind))
        for _, us, kind in sorted(calls):
            ms, bits, second = first + us // 1000, rng.getrandbits(74), us // 1_000_000
            variant = 0x8000 | bits >> 12 & 0x3FFF
            id_ = f"{ms >> 16:08x}-{ms & 0xFFFF:04x}-7{bits & 0xFFF:03x}-{variant:04x}-{bits >> 26:012x}"
            yield id_, kind, f"{prefix}{second // 60:02}:{second % 60:02}.{us % 1_000_000:06}+00:00"


def _hours(count: int) -> Iterator[tuple[datetime, int]]:
    """Yield hours, and how many of `count` calls each has: more and more, fewer at night and at weekends."""
    starts = [END - _HOUR * number for number in range(DAYS * 24, 0, -1)]
    weights = [
        (0.4 + 0.6 * number / len(starts))
        * (1 if hour.weekday() < _WORK_DAYS else 0.25)
        * (1 if hour.hour in _WORK else 0.2)
        for number, hour in enumerate(starts)
    ]
    whole, sum_, given = sum(weights), 0.0, 0
    for hour, weight in zip(starts, weights, strict=True):
        sum_ += weight
        number = round(count * sum_ / whole) - given
        given += number
        yield hour, number


# What a kind is, either database knows: a million rows of 36 values each take longer to hand over than to write.


def fill_sqlite(path: Path, count: int) -> None:
    """Make a ledger of `count` calls."""
    kinds, columns = _kinds(count), ", ".join(COLUMNS[1:-1])
    with SQLiteLedger(path) as ledger, ledger.transaction():
        pass
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"""
            PRAGMA journal_mode = OFF;
            PRAGMA synchronous = OFF;
            CREATE TEMP TABLE kinds (number INTEGER PRIMARY KEY, {columns});
            CREATE TEMP TABLE made (id, kind, started_at);
        """)
        marks = ", ".join("?" * len(COLUMNS[:-1]))
        numbered = ((number, *kind) for number, kind in enumerate(kinds))
        connection.executemany(f"INSERT INTO kinds VALUES ({marks})", numbered)  # noqa: S608 - our own names
        connection.executemany("INSERT INTO made VALUES (?, ?, ?)", _calls(kinds, count))
        connection.execute(
            f"INSERT INTO calls SELECT id, {columns}, started_at FROM made CROSS JOIN kinds ON number = kind"  # noqa: S608 - our own names
        )
        connection.commit()
        connection.execute("PRAGMA journal_mode = WAL")


def fill_postgres(ledger: PostgresLedger, url: str, count: int) -> None:
    """Put `count` calls into an empty ledger, by the way that PostgreSQL has for many."""
    import psycopg

    ledger.open()
    kinds = _kinds(count)
    lines = ["\t".join("\\N" if value is None else str(value) for value in kind) for kind in kinds]
    table = "llm_toll_autopatch.calls"
    with psycopg.connect(url) as connection:
        connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")  # there are no budgets yet
        with connection.cursor().copy(f"COPY {table} ({', '.join(COLUMNS)}) FROM STDIN") as copy:
            calls = _calls(kinds, count)
            while some := list(islice(calls, _AT_ONCE)):
                copy.write("".join(f"{id_}\t{lines[kind]}\t{at}\n" for id_, kind, at in some))
        connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"VACUUM ANALYZE {table}")


def odd_ones(path: Path, beside: Path, count: int = 200) -> int:
    """Return how many of `count` rows of the ledger at `path` are not what `emit` writes of their records."""
    query = f"SELECT {', '.join(COLUMNS)} FROM calls ORDER BY id LIMIT ?"  # noqa: S608 - our own names
    source, copy = SQLiteLedger(path), SQLiteLedger(beside)
    with source, copy:
        with source.transaction() as connection:
            before = connection.execute(query, [count]).fetchall()
        for row in before:
            copy.emit(record_of(row))
        with copy.transaction() as connection:
            after = connection.execute(query, [count]).fetchall()
    return sum(was != is_ for was, is_ in zip(before, after, strict=True))
