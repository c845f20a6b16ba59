"""How the SQLite ledger finds the calls of a period without an index of them all, which every record would have to pay.

An id is a UUIDv7: its first eight hexadecimal digits say when it was minted, in units of 65.536 seconds, its block. Of
nearly all calls that is the block in which they started, so the primary key has them in the order of their starts. The
others are strays, and they have an index: ids that are no UUIDv7, clocks that were set, ids and starts on two sides of
the end of a block. Whether a row is a stray SQLite finds out by itself, whoever writes the row.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["BLOCK", "MIGRATION", "SINCE", "STRAY", "TOLD", "ids_told"]

SINCE = 6
"""The schema version."""

BLOCK = 8
"""So many digits of an id are its block."""

_BITS = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)

# By whole seconds, which is quicker; what starts in the last of a block may be a stray. The Z is there lest a text such
# as "now" be taken for a moment.
_OF_START = f"printf('%0{BLOCK}x', strftime('%s', substr(started_at, 1, 19) || 'Z') * 1000 >> {_BITS})"
TOLD = f"substr(id, 1, {BLOCK}) IS {_OF_START}"
"""Of a call whose id tells in which block it started."""
STRAY = f"substr(id, 1, {BLOCK}) IS NOT {_OF_START}"
"""Of any other. SQLite uses the index where this is a condition, as it stands here."""

MIGRATION: tuple[str, ...] = (
    "DROP INDEX IF EXISTS calls_by_start",
    f"CREATE INDEX strays_by_start ON calls (started_at) WHERE {STRAY}",
)
"""Makes the index."""


def ids_told(since: datetime | None, until: datetime | None) -> tuple[str, list[str]]:
    """Return a condition, and its values, that holds for the ids that tell a start from `since` on and before `until`.

    Some others have such an id too: it goes with a condition on `started_at`.
    """
    conditions, values = ["id >= ?"], ["" if since is None else _block(since)]
    if until is not None:
        conditions.append("id < ?")
        values.append(_block(until, 1))
    return f"({' AND '.join(conditions)})", values


def _block(moment: datetime, more: int = 0) -> str:
    seconds = (moment.astimezone(UTC) - _EPOCH) // _SECOND
    return f"{max(0, (seconds * 1000 >> _BITS) + more):0{BLOCK}x}"
