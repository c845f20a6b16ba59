"""Sums of the calls of a SQLite ledger that are kept beside them, so that a report does not read millions of rows.

Rows are only ever added at the end, whenever the calls were made. So the rows are cut into segments by their number,
and a segment that the table has grown beyond is summed up once: by day and all that calls are grouped by. Whoever asks
the ledger does that, afterwards; who writes to it has nothing to do. When a row is deleted or changed, by whatever
program, a trigger takes the sums of its segment away, and the next ones who ask read the rows.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from llm_toll_autopatch.ledger.sqlite_transactions import all_or_nothing

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Container, Iterable, Sequence

__all__ = ["MIGRATION", "SINCE", "SUMS_OF_SUMS", "Parts", "build", "parts_of"]

SINCE = 5
"""The schema version."""

_BITS = 16
_TAG_VALUES_MAX = 50
"""A tag of more values in a segment, such as one for each user, is not in its sums."""
_WORTH_IT = 8
"""So many rows must become one, on average."""
_SEGMENTS_MAX = 1_000_000
_DAY = len("2026-11-23")

_KEYS = (
    "provider", "operation", "method", "model", "response_model", "outcome", "usage_source", "project", "endpoint",
)  # fmt: skip
_SUMS = ("calls", "input_high", "input_low", "output_high", "output_low", "nano_high", "nano_low", "unknown")
"""Sums of 64 bits in two halves."""
SUMS_OF_SUMS = (
    *(f"SUM({name})" for name in _SUMS),
    "SUM(CASE WHEN usage_source IN ('estimated', 'partial') THEN calls ELSE 0 END)",
    "SUM(CASE WHEN outcome = 'error' THEN calls ELSE 0 END)",
)
"""What selects the sums that `totals_of` takes."""

_FORGET = f"""
        UPDATE rolled_changes SET number = number + 1;
        DELETE FROM rolled_calls WHERE segment = OLD.rowid >> {_BITS};
        DELETE FROM rolled_segments WHERE segment = OLD.rowid >> {_BITS};
"""  # noqa: S608 - our own number

MIGRATION: tuple[str, ...] = (
    """
    CREATE TABLE rolled_segments (    -- of which parts of calls there are sums
        segment INTEGER PRIMARY KEY,  -- calls.rowid without its last 16 bits
        first_row INTEGER NOT NULL,   -- the first and the last row: VACUUM may number them anew
        first_id TEXT NOT NULL,
        last_row INTEGER NOT NULL,
        last_id TEXT NOT NULL,
        first_start TEXT NOT NULL,    -- the least and the greatest started_at
        last_start TEXT NOT NULL,
        without_tags TEXT,            -- JSON array: tags that are not in the sums; NULL: there are no sums, too many
        CHECK (first_row <= last_row)
    )
    """,
    f"""
    CREATE TABLE rolled_calls (       -- sums over calls that are alike
        segment INTEGER NOT NULL,
        {" ".join(f"{name} TEXT{'' if name in {'response_model', 'endpoint'} else ' NOT NULL'}," for name in _KEYS)}
        tags TEXT NOT NULL,
        started_at TEXT NOT NULL,     -- the day
        {", ".join(f"{name} INTEGER NOT NULL" for name in _SUMS)}
    )
    """,
    "CREATE INDEX rolled_calls_by_segment ON rolled_calls (segment)",
    "CREATE TABLE rolled_changes (number INTEGER NOT NULL)",
    "INSERT INTO rolled_changes VALUES (0)",
    f"CREATE TRIGGER calls_deleted AFTER DELETE ON calls BEGIN {_FORGET} END",
    f"CREATE TRIGGER calls_changed AFTER UPDATE ON calls BEGIN {_FORGET} {_FORGET.replace('OLD', 'NEW')} END",
)
"""Makes the tables."""

_ENDS = "SELECT (SELECT MIN(rowid) FROM calls), (SELECT MAX(rowid) FROM calls)"
# A segment is as it was if its first and last rows are: VACUUM keeps the order, and closes every gap before a row.
_SOUND = f"""
    SELECT segment, first_start, last_start, without_tags FROM rolled_segments
    WHERE first_row = (SELECT rowid FROM calls WHERE rowid >= segment << {_BITS} ORDER BY rowid LIMIT 1)
        AND first_id = (SELECT id FROM calls WHERE rowid = first_row)
        AND last_row = (SELECT rowid FROM calls WHERE rowid < (segment + 1) << {_BITS} ORDER BY rowid DESC LIMIT 1)
        AND last_id = (SELECT id FROM calls WHERE rowid = last_row)
    ORDER BY segment
"""  # noqa: S608 - our own number
_SEGMENT = "FROM calls WHERE rowid >= ? AND rowid < ?"
_ROWS = (
    f"SELECT rowid, id, started_at, tags, {', '.join(_KEYS)}, input_tokens, output_tokens, cost_nano_usd {_SEGMENT}"
    " ORDER BY rowid"
)
_KEEP = f"INSERT INTO rolled_calls VALUES ({', '.join('?' * (1 + len(_KEYS) + 2 + len(_SUMS)))})"  # noqa: S608 - question marks
_KEEP_SEGMENT = "INSERT OR REPLACE INTO rolled_segments VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


class Parts(NamedTuple):
    """How the answer to a question is put together.

    Attributes:
        segments: Those whose sums are used.
        rows: The ranges of other row numbers: from, and up to but not with.
    """

    segments: list[int]
    rows: list[tuple[int, int]]


def parts_of(
    connection: sqlite3.Connection, first: str | None, last: str | None, tags: Iterable[str] = ()
) -> Parts | None:
    """Return how sums are best found, None by reading rows alone; within the transaction in which they are.

    Args:
        connection: To a ledger that has the tables.
        first: The least `started_at`.
        last: Only a `started_at` before it.
        tags: Those that are needed.
    """
    segments: list[int] = []
    everything = _segments(connection)
    others = set(everything)
    for segment, first_start, last_start, without in connection.execute(_SOUND):
        if (first is not None and last_start < first) or (last is not None and first_start >= last):
            others.discard(segment)
        elif (
            without is not None
            and (first is None or first_start >= first)
            and (last is None or last_start < last)
            and set(json.loads(without)).isdisjoint(tags)
        ):
            others.discard(segment)
            segments.append(segment)
    return Parts(segments, _ranges(others)) if segments and everything else None


def _ranges(segments: Iterable[int]) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    for segment in sorted(segments):
        start, end = segment << _BITS, (segment + 1) << _BITS
        if ranges and ranges[-1][1] == start:
            ranges[-1] = ranges[-1][0], end
        else:
            ranges.append((start, end))
    return ranges


def _segments(connection: sqlite3.Connection) -> range:
    """Return all segments, the last one may grow; none where rows have numbers that SQLite did not give them."""
    start, end = connection.execute(_ENDS).fetchone()
    if start is None or (end - start) >> _BITS >= _SEGMENTS_MAX:
        return range(0)
    return range(start >> _BITS, (end >> _BITS) + 1)


def _missing(connection: sqlite3.Connection) -> list[int]:
    """Return the segments that the table has grown beyond and that have not been looked at, the last first."""
    sound = {row[0] for row in connection.execute(_SOUND)}
    return [segment for segment in reversed(_segments(connection)[:-1]) if segment not in sound]


def build(connection: sqlite3.Connection, deadline: float) -> None:
    """Sum up what has not been, one segment at least, until the deadline on the monotonic clock.

    Raises:
        sqlite3.Error: Somebody else is writing, or the file cannot be written to.
    """
    for segment in _missing(connection):
        _roll(connection, segment)
        if time.monotonic() >= deadline:
            return


def _roll(connection: sqlite3.Connection, segment: int) -> None:
    range_ = [segment << _BITS, (segment + 1) << _BITS]
    connection.execute("BEGIN")  # what is read is of one moment
    try:
        (number,) = connection.execute("SELECT number FROM rolled_changes").fetchone()
        ends, without, sums = _rolled(connection, range_)
    finally:
        connection.execute("COMMIT")
    if not sums:
        return
    worth_it = len(sums) * _WORTH_IT <= sum(each[0] for each in sums.values())
    with all_or_nothing(connection):
        # Rows that were deleted or changed meanwhile are not what was summed up; new ones are in other segments.
        if connection.execute("SELECT number FROM rolled_changes").fetchone() != (number,):
            return
        connection.execute("DELETE FROM rolled_calls WHERE segment = ?", [segment])
        connection.execute(_KEEP_SEGMENT, [segment, *ends, json.dumps(without) if worth_it else None])
        if worth_it:
            connection.executemany(_KEEP, ([segment, *key, *_halved(of_key)] for key, of_key in sums.items()))


_Sums = dict[tuple[str | None, ...], list[int]]
"""By the keys, the tags and the day: calls, input tokens, output tokens, nano-USD, calls of unknown cost."""


def _rolled(connection: sqlite3.Connection, range_: list[int]) -> tuple[tuple[Any, ...], list[str], _Sums]:
    """Return the ends of a segment, the tags that are not in its sums, and these."""
    values: defaultdict[str, set[str]] = defaultdict(set)
    loaded = {text: _plain(text) for (text,) in connection.execute(f"SELECT DISTINCT tags {_SEGMENT}", range_)}
    for pairs in loaded.values():
        for name, value in pairs.items():
            values[name].add(value)
    without = {name for name, seen in values.items() if len(seen) > _TAG_VALUES_MAX}
    tags = {text: _without(text, pairs, without) for text, pairs in loaded.items()}
    sums: _Sums = {}
    first: tuple[Any, ...] = ()
    last: tuple[Any, ...] = ()
    least, greatest = "", ""
    for row in connection.execute(_ROWS, range_):
        started_at, text, *key, tokens_in, tokens_out, nano = row[2:]
        last = row[:2]
        if not first:
            first, least = last, started_at
        least, greatest = min(least, started_at), max(greatest, started_at)
        group = (*key, tags[text], started_at[:_DAY])
        of_group = sums.get(group)
        if of_group is None:
            of_group = sums[group] = [0] * 5
        of_group[0] += 1
        of_group[1] += tokens_in
        of_group[2] += tokens_out
        of_group[3] += nano or 0
        of_group[4] += nano is None
    return (*first, *last, least, greatest), sorted(without), sums


def _plain(text: str) -> dict[str, str]:
    """Return the tags if they are texts, each of a name of its own; none otherwise, which is rare: they stay in."""
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except ValueError:
        return {}
    if not isinstance(pairs, list):
        return {}
    found = dict(pairs)
    is_plain = len(found) == len(pairs) and all(isinstance(value, str) for value in found.values())
    return found if is_plain else {}


def _without(text: str, pairs: dict[str, str], names: Container[str]) -> str:
    kept = {name: value for name, value in pairs.items() if name not in names}
    return text if len(kept) == len(pairs) else json.dumps(kept, separators=(",", ":"))


def _halved(sums: Sequence[int]) -> list[int]:
    calls, *amounts, unknown = sums
    return [calls, *(half for amount in amounts for half in (amount >> 32, amount & 0xFFFFFFFF)), unknown]
