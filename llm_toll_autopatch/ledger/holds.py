"""Budgets and reservations in the SQLite ledger: the SQL of it.

What a call may still use is a row in `holds`, one for each budget that it was asked of. Writing the call's record
settles it, by a trigger, in the same transaction: money and ledger cannot disagree, and the same record twice is
counted once.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from llm_toll_autopatch.budgets.keeper import Refusal, Standing
from llm_toll_autopatch.budgets.limits import MINUTE_S, Limit, Period, window_of
from llm_toll_autopatch.budgets.owner import current_owner, is_dead
from llm_toll_autopatch.budgets.rolling import room_after
from llm_toll_autopatch.ledger import rollups
from llm_toll_autopatch.ledger.instants import instant
from llm_toll_autopatch.ledger.starts import STRAY, ids_told

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from llm_toll_autopatch.budgets.keeper import Claim, Reservation

__all__ = ["COMPACT", "MIGRATION", "SETTLE", "make_budget", "release", "reserve", "standings", "sweep"]

_MOST = 2**61
"""Where sums stop, so that no row makes one overflow."""

_FORGET_AFTER = timedelta(days=7)
"""How long a charged orphan is kept, for a record that comes late."""

MIGRATION: tuple[str, ...] = (
    """
    CREATE TABLE budgets (
        id INTEGER PRIMARY KEY,
        account TEXT NOT NULL,        -- the project
        unit TEXT NOT NULL,           -- usd (in nano-USD), calls, tokens
        period TEXT NOT NULL,         -- total, daily, weekly, monthly, minute (any 60 seconds: see ticks)
        start_at TEXT NOT NULL,       -- as calls.started_at: the window's first moment
        end_at TEXT NOT NULL,         -- the moment after it
        cap INTEGER NOT NULL,         -- as it was last configured
        spent INTEGER NOT NULL DEFAULT 0,
        held INTEGER NOT NULL DEFAULT 0,
        UNIQUE (account, unit, period, start_at)
    )
    """,
    """
    CREATE TABLE holds (              -- what calls that are under way may still use
        call_id TEXT NOT NULL,
        budget_id INTEGER NOT NULL,
        amount INTEGER NOT NULL,
        owner TEXT NOT NULL,          -- the process
        expires_at TEXT NOT NULL,     -- as calls.started_at
        on_orphan TEXT NOT NULL,      -- charge, release
        charged INTEGER NOT NULL DEFAULT 0,   -- 1: its owner died, and the amount is in `spent` now
        PRIMARY KEY (call_id, budget_id)
    )
    """,
    """
    CREATE TABLE ticks (              -- what was used of limits on any 60 seconds
        call_id TEXT NOT NULL,
        budget_id INTEGER NOT NULL,
        at REAL NOT NULL,             -- Unix time
        amount INTEGER NOT NULL,
        PRIMARY KEY (call_id, budget_id)
    )
    """,
    "CREATE INDEX ticks_by_time ON ticks (budget_id, at)",
    """
    CREATE VIEW settlements AS        -- inserting here settles a call
    SELECT id AS call_id, project, cost_nano_usd, input_tokens + output_tokens AS tokens, started_at
    FROM calls WHERE 0
    """,
    f"""
    CREATE TRIGGER settle INSTEAD OF INSERT ON settlements BEGIN
        UPDATE budgets SET
            spent = MAX(0, MIN({_MOST}, spent
                + CASE unit
                    WHEN 'usd' THEN MIN({_MOST}, COALESCE(NEW.cost_nano_usd, (
                        SELECT amount FROM holds WHERE call_id = NEW.call_id AND budget_id = budgets.id), 0))
                    WHEN 'tokens' THEN MIN({_MOST}, NEW.tokens)
                    ELSE 1
                END
                - COALESCE((SELECT amount FROM holds
                            WHERE call_id = NEW.call_id AND budget_id = budgets.id AND charged), 0))),
            held = held - COALESCE((SELECT amount FROM holds
                                    WHERE call_id = NEW.call_id AND budget_id = budgets.id AND NOT charged), 0)
        WHERE period <> 'minute' AND (
            (account = NEW.project AND start_at <= NEW.started_at AND NEW.started_at < end_at)
            OR id IN (SELECT budget_id FROM holds WHERE call_id = NEW.call_id));
        DELETE FROM holds WHERE call_id = NEW.call_id;
        UPDATE ticks SET amount = MIN({_MOST}, NEW.tokens), at = (julianday('now') - 2440587.5) * 86400.0
        WHERE call_id = NEW.call_id AND budget_id IN (SELECT id FROM budgets WHERE unit = 'tokens');
    END
    """,  # noqa: S608 - our own number
    """
    CREATE TRIGGER calls_settle AFTER INSERT ON calls WHEN EXISTS (SELECT 1 FROM budgets) BEGIN
        INSERT INTO settlements VALUES
            (NEW.id, NEW.project, NEW.cost_nano_usd, NEW.input_tokens + NEW.output_tokens, NEW.started_at);
    END
    """,
    f"""
    CREATE TRIGGER calls_repriced AFTER UPDATE OF cost_nano_usd ON calls BEGIN
        UPDATE budgets SET
            spent = MAX(0, MIN({_MOST}, spent + MIN({_MOST}, COALESCE(NEW.cost_nano_usd, 0))
                                              - MIN({_MOST}, COALESCE(OLD.cost_nano_usd, 0))))
        WHERE unit = 'usd' AND period <> 'minute'
            AND account = NEW.project AND start_at <= NEW.started_at AND NEW.started_at < end_at;
    END
    """,  # noqa: S608 - our own number
)
"""Makes the tables. A budget begins with what the project's calls of its window have cost already."""

COMPACT: tuple[str, ...] = (
    "CREATE TEMP TABLE kept_holds AS SELECT * FROM holds",
    "DROP TABLE holds",
    """
    CREATE TABLE holds (              -- what calls that are under way may still use
        call_id TEXT NOT NULL,
        budget_id INTEGER NOT NULL,
        amount INTEGER NOT NULL,
        owner TEXT NOT NULL,          -- the process
        expires_at TEXT NOT NULL,     -- as calls.started_at
        on_orphan TEXT NOT NULL,      -- charge, release
        charged INTEGER NOT NULL DEFAULT 0,   -- 1: its owner died, and the amount is in `spent` now
        PRIMARY KEY (call_id, budget_id)
    ) WITHOUT ROWID
    """,
    "INSERT INTO holds SELECT * FROM kept_holds",
    "DROP TABLE temp.kept_holds",
)
"""Puts the holds into their key's tree: to hold and to settle writes a page less, a tenth of what both take."""

SETTLE = "INSERT INTO settlements VALUES (?, ?, ?, ?, ?)"
"""Takes a call's id, project, cost in nano-USD or NULL, tokens, and start."""

_FIND = "SELECT id, cap, spent, held FROM budgets WHERE account = ? AND unit = ? AND period = ? AND start_at = ?"


def _sum(column: str) -> str:
    # In two halves, because a sum beyond 64 bits is an error; a product beyond them is only a larger number.
    return f"COALESCE(SUM({column} >> 32), 0) * 4294967296 + COALESCE(SUM({column} & 4294967295), 0)"


_SPENT: dict[str, str] = {
    "usd": _sum("cost_nano_usd"),
    "tokens": f"{_sum('input_tokens')} + {_sum('output_tokens')}",
    "calls": "COUNT(*)",
}


def _sum_of_halves(name: str) -> str:
    return f"COALESCE(SUM({name}_high), 0) * 4294967296 + COALESCE(SUM({name}_low), 0)"


_SPENT_OF_SUMS: dict[str, str] = {
    "usd": _sum_of_halves("nano"),
    "tokens": f"{_sum_of_halves('input')} + {_sum_of_halves('output')}",
    "calls": "COALESCE(SUM(calls), 0)",
}
"""The same, of calls that are summed up already."""


def reserve(connection: sqlite3.Connection, reservation: Reservation) -> Refusal | None:
    """Hold what is asked for, or nothing; within a transaction of the caller's, to be committed either way."""
    refusal, budgets = _check(connection, reservation)
    if refusal is not None and sweep(connection, reservation.at):
        refusal, budgets = _check(connection, reservation)
    if refusal is not None:
        return refusal
    now, owner = reservation.at.timestamp(), current_owner()
    expires_at = instant(reservation.expires_at)
    for claim, budget in zip(reservation.claims, budgets, strict=True):
        if claim.limit.period == "minute":
            connection.execute(
                "INSERT INTO ticks VALUES (?, ?, ?, ?)", (reservation.call_id, budget, now, claim.amount)
            )
            continue
        connection.execute(
            "INSERT INTO holds VALUES (?, ?, ?, ?, ?, ?, 0)",
            (reservation.call_id, budget, claim.amount, owner, expires_at, reservation.on_orphan),
        )
        if claim.amount:
            connection.execute("UPDATE budgets SET held = held + ? WHERE id = ?", (claim.amount, budget))
    return None


def _check(connection: sqlite3.Connection, reservation: Reservation) -> tuple[Refusal | None, list[int]]:
    budgets = []
    for claim in reservation.claims:
        budget, refusal = _ask(connection, claim, reservation.at)
        if refusal is not None and not reservation.is_due:
            return refusal, []
        budgets.append(budget)
    return None, budgets


def _ask(connection: sqlite3.Connection, claim: Claim, at: datetime) -> tuple[int, Refusal | None]:
    limit = claim.limit
    budget, cap, spent, held = _budget(connection, limit, at)
    if cap != limit.amount:
        connection.execute("UPDATE budgets SET cap = ? WHERE id = ?", (limit.amount, budget))
    if limit.period == "minute":
        now = at.timestamp()
        connection.execute("DELETE FROM ticks WHERE budget_id = ? AND at <= ?", (budget, now - MINUTE_S))
        spent = _used(connection, budget, now)
    if spent + held + max(claim.amount, 1) <= limit.amount:
        return budget, None
    after = None
    if limit.period == "minute":
        ticks = connection.execute("SELECT at, amount FROM ticks WHERE budget_id = ? ORDER BY at", (budget,))
        after = room_after(ticks, claim.amount, limit.amount, at.timestamp())
    return budget, Refusal(Standing(limit, spent, held), after)


def _budget(connection: sqlite3.Connection, limit: Limit, at: datetime) -> tuple[int, int, int, int]:
    """Return the id, cap, spent and held of the budget of a limit; it begins with what its project has cost before."""
    start, end = _window(limit.period, at.astimezone(UTC).date())
    row = connection.execute(_FIND, (limit.account, limit.unit, limit.period, start)).fetchone()
    if row is None:
        row = connection.execute(
            "INSERT INTO budgets (account, unit, period, start_at, end_at, cap, spent) VALUES (?, ?, ?, ?, ?, ?, ?)"
            " RETURNING id, cap, spent, held",
            (
                limit.account, limit.unit, limit.period, start, end, limit.amount,
                _spent_before(connection, limit, at),
            ),
        ).fetchone()  # fmt: skip
    budget, cap, spent, held = row
    return budget, cap, spent, held


@lru_cache(maxsize=64)
def _window(period: Period, day: date) -> tuple[str, str]:
    """Return the ends of the window in which `day` lies: a tenth of what a reservation takes, so once a day."""
    start, end = window_of(period, datetime.combine(day, time.min, UTC))
    return instant(start), instant(end)


def make_budget(connection: sqlite3.Connection, limit: Limit, at: datetime) -> None:
    """Make the budget of a limit if there is none yet; within a transaction of the caller's."""
    _budget(connection, limit, at)


def _spent_before(connection: sqlite3.Connection, limit: Limit, at: datetime) -> int:
    if limit.period == "minute":
        return 0
    window = window_of(limit.period, at)
    start, end = (instant(moment) for moment in window)
    account, sum_ = limit.account, _SPENT[limit.unit]
    calls = "calls WHERE project = ? AND started_at >= ? AND started_at < ?"
    parts = rollups.parts_of(connection, start, end)
    asked: list[tuple[str, str, tuple[str | int, ...]]]
    if parts is not None:
        in_rows = f"{calls} AND rowid >= ? AND rowid < ?"
        asked = [(sum_, in_rows, (account, start, end, *range_)) for range_ in parts.rows]
        sums = "rolled_calls WHERE project = ? AND segment = ?"
        asked += [(_SPENT_OF_SUMS[limit.unit], sums, (account, segment)) for segment in parts.segments]
    elif limit.period == "total":
        asked = [(sum_, calls, (account, start, end))]
    else:
        told, ids = ids_told(*window)
        values = (account, start, end, *ids)
        asked = [(sum_, f"{calls} AND {told}", values), (sum_, f"{calls} AND NOT {told} AND {STRAY}", values)]
    spent = sum(
        connection.execute(f"SELECT MIN({_MOST}, {what}) FROM {source}", values).fetchone()[0]  # noqa: S608 - our own names
        for what, source, values in asked
    )
    return min(_MOST, int(spent))


def _used(connection: sqlite3.Connection, budget: int, now: float) -> int:
    (used,) = connection.execute(
        "SELECT COALESCE(SUM(amount), 0) FROM ticks WHERE budget_id = ? AND at > ?", (budget, now - MINUTE_S)
    ).fetchone()
    return int(used)


def release(connection: sqlite3.Connection, call_id: str) -> None:
    """Let go of what is held for a call that was not sent; within a transaction of the caller's."""
    connection.execute(
        "UPDATE budgets SET held = held - (SELECT amount FROM holds WHERE call_id = ? AND budget_id = budgets.id)"
        " WHERE id IN (SELECT budget_id FROM holds WHERE call_id = ? AND NOT charged)",
        (call_id, call_id),
    )
    connection.execute("DELETE FROM holds WHERE call_id = ?", (call_id,))
    connection.execute("DELETE FROM ticks WHERE call_id = ?", (call_id,))


def standings(connection: sqlite3.Connection, limits: Sequence[Limit], at: datetime) -> list[Standing]:
    """Return how limits stand."""
    found = []
    for limit in limits:
        start, _ = _window(limit.period, at.astimezone(UTC).date())
        row = connection.execute(_FIND, (limit.account, limit.unit, limit.period, start)).fetchone()
        if row is None:
            found.append(Standing(limit, _spent_before(connection, limit, at)))
        elif limit.period == "minute":
            found.append(Standing(limit, _used(connection, row[0], at.timestamp())))
        else:
            found.append(Standing(limit, *row[2:]))
    return found


def sweep(connection: sqlite3.Connection, at: datetime) -> int:
    """Charge or release what processes that have died were holding; return how many calls that were.

    Within a transaction of the caller's. A record that comes late all the same puts it right.
    """
    owners = [owner for (owner,) in connection.execute("SELECT DISTINCT owner FROM holds WHERE NOT charged")]
    dead = [owner for owner in owners if is_dead(owner)]
    orphans = {
        *_held(connection, "expires_at < ?", instant(at)),
        *(row for owner in dead for row in _held(connection, "owner = ?", owner)),
    }
    for call_id, budget, amount, on_orphan in orphans:
        charged = amount if on_orphan == "charge" else 0
        connection.execute(
            "UPDATE holds SET charged = 1, amount = ? WHERE call_id = ? AND budget_id = ?", (charged, call_id, budget)
        )
        connection.execute(
            f"UPDATE budgets SET held = held - ?, spent = MIN({_MOST}, spent + ?) WHERE id = ?",  # noqa: S608 - our own number
            (amount, charged, budget),
        )
    connection.execute("DELETE FROM holds WHERE charged AND expires_at < ?", (instant(at - _FORGET_AFTER),))
    return len({call_id for call_id, *_ in orphans})


def _held(connection: sqlite3.Connection, where: str, value: str) -> list[tuple[str, int, int, str]]:
    query = f"SELECT call_id, budget_id, amount, on_orphan FROM holds WHERE NOT charged AND {where}"  # noqa: S608 - our own conditions
    return connection.execute(query, (value,)).fetchall()
