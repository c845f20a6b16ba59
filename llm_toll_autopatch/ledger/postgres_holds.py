"""Budgets and reservations in the PostgreSQL ledger: what `holds` is for the other one, as functions of the database.

Each step is one statement, the call of a function, and so one transaction. Writing a call's record settles it by a
trigger: money and ledger cannot disagree, and the same record twice is counted once.

Whatever changes what is spent or held of a budget has locked its row before, several in the order of their ids, so that
nobody waits in a circle; under READ COMMITTED what is read after that is what others have committed. A budget begins
with what its project's calls have cost, so while it is made none of them may be half written: making one takes an
advisory lock on the project, that every writer of a record shares.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.budgets.keeper import Refusal, Standing
from llm_toll_autopatch.budgets.limits import window_of
from llm_toll_autopatch.budgets.owner import current_owner, is_dead
from llm_toll_autopatch.budgets.rolling import room_after
from llm_toll_autopatch.ledger.instants import instant

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from llm_toll_autopatch.budgets.keeper import Reservation
    from llm_toll_autopatch.budgets.limits import Limit
    from llm_toll_autopatch.ledger.postgres_connections import BoundedConnection

__all__ = ["MIGRATION", "make_budgets", "release", "reserve", "settle", "standings", "sweep"]

_MOST = str(2**61)
"""Where sums stop, so that no row makes one overflow."""

_PROJECTS = "1953460332"
"""The class of the advisory locks on projects: "toll"."""

_LOCKED = """
    SELECT array_agg(id) INTO locked FROM (
        SELECT id FROM {schema}.budgets WHERE {which} ORDER BY id FOR UPDATE
    ) AS in_order;
"""

_SETTLED = """
    (period <> 'minute' AND account = the_project AND start_at <= start AND start < end_at)
    OR id IN (SELECT budget_id FROM {schema}.holds WHERE call_id = the_call)
    OR id IN (SELECT budget_id FROM {schema}.ticks WHERE call_id = the_call)
"""
_REPRICED = """
    unit = 'usd' AND period <> 'minute'
    AND account = NEW.project AND start_at <= NEW.started_at AND NEW.started_at < end_at
"""
_RELEASED = "id IN (SELECT budget_id FROM {schema}.holds WHERE call_id = the_call)"
_ORPHANED = """
    id IN (SELECT budget_id FROM {schema}.holds WHERE NOT charged AND (expires_at < now_at OR owner = ANY (dead)))
"""

_CLAIMS = """
    jsonb_to_recordset(claims) AS c (
        n INTEGER, account TEXT, unit TEXT, period TEXT, start_at TIMESTAMPTZ, end_at TIMESTAMPTZ, cap BIGINT,
        amount BIGINT)
"""
_SAME = "b.account = c.account AND b.unit = c.unit AND b.period = c.period AND b.start_at = c.start_at"

_FUNCTIONS = (
    """
    CREATE FUNCTION {schema}.spent_before(the_account TEXT, the_unit TEXT, the_period TEXT, start TIMESTAMPTZ,
        until TIMESTAMPTZ) RETURNS BIGINT LANGUAGE sql STABLE AS $$
        SELECT LEAST({most}, COALESCE(CASE the_unit
            WHEN 'usd' THEN SUM(cost_nano_usd)
            WHEN 'tokens' THEN SUM(input_tokens) + SUM(output_tokens)
            ELSE COUNT(*)
        END, 0))::bigint
        FROM {schema}.calls
        WHERE the_period <> 'minute' AND project = the_account AND started_at >= start AND started_at < until
    $$
    """,
    """
    CREATE FUNCTION {schema}.settle(the_call TEXT, the_project TEXT, cost BIGINT, tokens NUMERIC, start TIMESTAMPTZ)
        RETURNS VOID LANGUAGE plpgsql AS $$
    DECLARE
        locked BIGINT[];
    BEGIN
        PERFORM pg_advisory_xact_lock_shared({projects}, hashtext(the_project));
        {lock_settled}
        IF locked IS NULL THEN
            RETURN;
        END IF;
        UPDATE {schema}.budgets AS b SET
            spent = GREATEST(0, LEAST({most}, b.spent
                + CASE b.unit
                    WHEN 'usd' THEN LEAST({most}, COALESCE(cost, h.amount, 0))
                    WHEN 'tokens' THEN LEAST({most}, tokens)
                    ELSE 1
                END
                - CASE WHEN h.charged THEN h.amount ELSE 0 END)),
            held = b.held - CASE WHEN h.charged THEN 0 ELSE COALESCE(h.amount, 0) END
        FROM {schema}.budgets AS own LEFT JOIN {schema}.holds AS h ON h.budget_id = own.id AND h.call_id = the_call
        WHERE b.id = own.id AND b.id = ANY (locked) AND b.period <> 'minute';
        DELETE FROM {schema}.holds WHERE call_id = the_call;
        UPDATE {schema}.ticks SET amount = LEAST({most}, tokens), at = extract(epoch FROM clock_timestamp())
        WHERE call_id = the_call AND budget_id IN (SELECT id FROM {schema}.budgets WHERE unit = 'tokens');
    END $$
    """,
    """
    CREATE FUNCTION {schema}.settle_call() RETURNS TRIGGER LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM {schema}.settle(
            NEW.id, NEW.project, NEW.cost_nano_usd, NEW.input_tokens::numeric + NEW.output_tokens, NEW.started_at);
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER calls_settle AFTER INSERT ON {schema}.calls FOR EACH ROW EXECUTE FUNCTION {schema}.settle_call()
    """,
    """
    CREATE FUNCTION {schema}.reprice_call() RETURNS TRIGGER LANGUAGE plpgsql AS $$
    DECLARE
        locked BIGINT[];
    BEGIN
        PERFORM pg_advisory_xact_lock_shared({projects}, hashtext(NEW.project));
        {lock_repriced}
        UPDATE {schema}.budgets SET
            spent = GREATEST(0, LEAST({most}, spent + LEAST({most}, COALESCE(NEW.cost_nano_usd, 0))
                                                    - LEAST({most}, COALESCE(OLD.cost_nano_usd, 0))))
        WHERE id = ANY (locked);
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER calls_repriced AFTER UPDATE OF cost_nano_usd ON {schema}.calls
        FOR EACH ROW EXECUTE FUNCTION {schema}.reprice_call()
    """,
    """
    CREATE FUNCTION {schema}.reserve(the_call TEXT, now_at TIMESTAMPTZ, expiry TIMESTAMPTZ, the_owner TEXT, policy TEXT,
        is_due BOOLEAN, claims JSONB, OUT refused INTEGER, OUT used BIGINT, OUT in_hold BIGINT, OUT ticked JSONB)
        LANGUAGE plpgsql AS $$
    DECLARE
        claim RECORD;
        moment DOUBLE PRECISION := extract(epoch FROM now_at);
    BEGIN
        IF EXISTS (SELECT FROM {schema}.holds WHERE call_id = the_call)
            OR EXISTS (SELECT FROM {schema}.ticks WHERE call_id = the_call)
        THEN
            RETURN;  -- the answer to an earlier try was lost on its way
        END IF;
        FOR claim IN SELECT * FROM {claims} ORDER BY hashtext(c.account), c.account, c.unit, c.period LOOP
            IF NOT EXISTS (
                SELECT FROM {schema}.budgets AS b WHERE b.account = claim.account AND b.unit = claim.unit
                    AND b.period = claim.period AND b.start_at = claim.start_at)
            THEN
                PERFORM pg_advisory_xact_lock({projects}, hashtext(claim.account));
                INSERT INTO {schema}.budgets (account, unit, period, start_at, end_at, cap, spent)
                VALUES (claim.account, claim.unit, claim.period, claim.start_at, claim.end_at, claim.cap,
                    {schema}.spent_before(claim.account, claim.unit, claim.period, claim.start_at, claim.end_at))
                ON CONFLICT DO NOTHING;
            END IF;
        END LOOP;
        PERFORM FROM {schema}.budgets AS b JOIN {claims} ON {same} ORDER BY b.id FOR UPDATE OF b;
        FOR claim IN
            SELECT c.*, b.id, b.cap AS old_cap, b.spent, b.held
            FROM {claims} JOIN {schema}.budgets AS b ON {same} ORDER BY c.n
        LOOP
            IF claim.cap <> claim.old_cap THEN
                UPDATE {schema}.budgets SET cap = claim.cap WHERE id = claim.id;
            END IF;
            IF claim.period = 'minute' THEN
                DELETE FROM {schema}.ticks WHERE budget_id = claim.id AND at <= moment - 60;
                SELECT LEAST({most}, COALESCE(SUM(amount), 0)), COALESCE(jsonb_agg(jsonb_build_array(at, amount)
                    ORDER BY at), '[]') INTO claim.spent, ticked
                FROM {schema}.ticks WHERE budget_id = claim.id AND at > moment - 60;
            END IF;
            IF NOT is_due AND claim.spent + claim.held + GREATEST(claim.amount, 1) > claim.cap THEN
                refused := claim.n;
                used := claim.spent;
                in_hold := claim.held;
                RETURN;
            END IF;
        END LOOP;
        ticked := NULL;
        INSERT INTO {schema}.ticks (call_id, budget_id, at, amount)
            SELECT the_call, b.id, moment, c.amount FROM {claims} JOIN {schema}.budgets AS b ON {same}
            WHERE c.period = 'minute';
        INSERT INTO {schema}.holds (call_id, budget_id, amount, owner, expires_at, on_orphan)
            SELECT the_call, b.id, c.amount, the_owner, expiry, policy
            FROM {claims} JOIN {schema}.budgets AS b ON {same} WHERE c.period <> 'minute';
        UPDATE {schema}.budgets AS b SET held = b.held + c.amount FROM {claims}
            WHERE {same} AND c.period <> 'minute' AND c.amount <> 0;
    END $$
    """,
    """
    CREATE FUNCTION {schema}.release(the_call TEXT) RETURNS VOID LANGUAGE plpgsql AS $$
    DECLARE
        locked BIGINT[];
    BEGIN
        {lock_released}
        UPDATE {schema}.budgets AS b SET held = b.held - h.amount FROM {schema}.holds AS h
            WHERE b.id = h.budget_id AND h.call_id = the_call AND NOT h.charged;
        DELETE FROM {schema}.holds WHERE call_id = the_call;
        DELETE FROM {schema}.ticks WHERE call_id = the_call;
    END $$
    """,
    """
    CREATE FUNCTION {schema}.sweep(now_at TIMESTAMPTZ, dead TEXT[]) RETURNS BIGINT LANGUAGE plpgsql AS $$
    DECLARE
        locked BIGINT[];
        found BIGINT;
    BEGIN
        {lock_orphaned}
        WITH swept AS (
            UPDATE {schema}.holds AS h
            SET charged = TRUE, amount = CASE h.on_orphan WHEN 'charge' THEN h.amount ELSE 0 END
            FROM {schema}.holds AS old
            WHERE old.call_id = h.call_id AND old.budget_id = h.budget_id AND h.budget_id = ANY (locked)
                AND NOT h.charged AND (h.expires_at < now_at OR h.owner = ANY (dead))
            RETURNING h.call_id, h.budget_id, old.amount AS was, h.amount AS charge
        ), sums AS (
            SELECT budget_id, SUM(was) AS was, SUM(charge) AS charge FROM swept GROUP BY budget_id
        ), done AS (
            UPDATE {schema}.budgets AS b
            SET held = b.held - sums.was, spent = LEAST({most}, b.spent + sums.charge)
            FROM sums WHERE b.id = sums.budget_id
        )
        SELECT COUNT(DISTINCT call_id) INTO found FROM swept;
        DELETE FROM {schema}.holds WHERE charged AND expires_at < now_at - INTERVAL '7 days';
        RETURN found;
    END $$
    """,
)


def _filled(text: str) -> str:
    """Return `text` with its parts put in; the schema is filled in by whoever runs it."""
    for which in ("settled", "repriced", "released", "orphaned"):
        text = text.replace(f"{{lock_{which}}}", _LOCKED.replace("{which}", _WHICH[which]))
    for name, part in (("claims", _CLAIMS), ("same", _SAME), ("most", _MOST), ("projects", _PROJECTS)):
        text = text.replace(f"{{{name}}}", part.strip())
    return text


_WHICH = {"settled": _SETTLED, "repriced": _REPRICED, "released": _RELEASED, "orphaned": _ORPHANED}

MIGRATION: tuple[str, ...] = (
    """
    CREATE TABLE {schema}.budgets (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        account TEXT COLLATE "C" NOT NULL,    -- the project
        unit TEXT NOT NULL,                   -- usd (in nano-USD), calls, tokens
        period TEXT NOT NULL,                 -- total, daily, weekly, monthly, minute (any 60 seconds: see ticks)
        start_at TIMESTAMPTZ NOT NULL,        -- the window's first moment
        end_at TIMESTAMPTZ NOT NULL,          -- the moment after it
        cap BIGINT NOT NULL,                  -- as it was last configured
        spent BIGINT NOT NULL DEFAULT 0,
        held BIGINT NOT NULL DEFAULT 0,
        UNIQUE (account, unit, period, start_at)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE {schema}.holds (             -- what calls that are under way may still use
        call_id TEXT COLLATE "C" NOT NULL,
        budget_id BIGINT NOT NULL,
        amount BIGINT NOT NULL,
        owner TEXT NOT NULL,                  -- the process
        expires_at TIMESTAMPTZ NOT NULL,
        on_orphan TEXT NOT NULL,              -- charge, release
        charged BOOLEAN NOT NULL DEFAULT FALSE,   -- its owner died, and the amount is in `spent` now
        PRIMARY KEY (call_id, budget_id)
    )
    """,
    """
    CREATE TABLE {schema}.ticks (             -- what was used of limits on any 60 seconds
        call_id TEXT COLLATE "C" NOT NULL,
        budget_id BIGINT NOT NULL,
        at DOUBLE PRECISION NOT NULL,         -- Unix time
        amount BIGINT NOT NULL,
        PRIMARY KEY (call_id, budget_id)
    )
    """,
    "CREATE INDEX ticks_by_time ON {schema}.ticks (budget_id, at)",
    *map(_filled, _FUNCTIONS),
)
"""Makes the tables and functions."""

_SCHEMA = "llm_toll_autopatch"
_RESERVE = (
    f"SELECT refused, used, in_hold, ticked::text FROM {_SCHEMA}.reserve("  # noqa: S608 - our own name
    "%s, %s::timestamptz, %s::timestamptz, %s, %s, %s, %s::jsonb)"
)
_STANDINGS = _filled(
    f"""
    SELECT
        CASE WHEN c.period = 'minute' THEN (
                SELECT LEAST({{most}}, COALESCE(SUM(t.amount), 0)) FROM {_SCHEMA}.ticks AS t
                WHERE t.budget_id = b.id AND t.at > extract(epoch FROM %s::timestamptz) - 60)
            WHEN b.id IS NULL THEN {_SCHEMA}.spent_before(c.account, c.unit, c.period, c.start_at, c.end_at)
            ELSE b.spent
        END,
        COALESCE(b.held, 0)
    FROM {{claims}} LEFT JOIN {_SCHEMA}.budgets AS b ON {{same}} ORDER BY c.n
    """  # noqa: S608 - our own names
).replace("jsonb_to_recordset(claims)", "jsonb_to_recordset(%s::jsonb)")
_MAKE = _filled(
    f"""
    INSERT INTO {_SCHEMA}.budgets (account, unit, period, start_at, end_at, cap, spent)
    SELECT c.account, c.unit, c.period, c.start_at, c.end_at, c.cap,
        {_SCHEMA}.spent_before(c.account, c.unit, c.period, c.start_at, c.end_at)
    FROM {{claims}} ON CONFLICT DO NOTHING
    """  # noqa: S608 - our own names
).replace("jsonb_to_recordset(claims)", "jsonb_to_recordset(%s::jsonb)")
_OWNERS = f"SELECT DISTINCT owner FROM {_SCHEMA}.holds WHERE NOT charged"  # noqa: S608 - our own name


def reserve(connection: BoundedConnection, reservation: Reservation) -> Refusal | None:
    """Hold what is asked for, or nothing; sweep, and try once more, where there is no room."""
    refusal = _reserve(connection, reservation)
    if refusal is not None and sweep(connection, reservation.at):
        refusal = _reserve(connection, reservation)
    return refusal


def _reserve(connection: BoundedConnection, reservation: Reservation) -> Refusal | None:
    at = reservation.at
    claims = [
        {**_claim(number, claim.limit, at), "amount": claim.amount} for number, claim in enumerate(reservation.claims)
    ]
    row = connection.run(
        _RESERVE,
        [
            reservation.call_id, instant(at), instant(reservation.expires_at), current_owner(), reservation.on_orphan,
            reservation.is_due, json.dumps(claims),
        ],
    ).fetchone()  # fmt: skip
    assert row is not None
    refused, spent, held, ticks = row
    if refused is None:
        return None
    claim = reservation.claims[refused]
    after = None
    if claim.limit.period == "minute":
        after = room_after(map(tuple, json.loads(ticks)), claim.amount, claim.limit.amount, at.timestamp())
    return Refusal(Standing(claim.limit, spent, held), after)


def _claim(number: int, limit: Limit, at: datetime) -> dict[str, Any]:
    start, end = (instant(moment) for moment in window_of(limit.period, at))
    return {
        "n": number, "account": limit.account, "unit": limit.unit, "period": limit.period, "start_at": start,
        "end_at": end, "cap": limit.amount,
    }  # fmt: skip


def make_budgets(connection: BoundedConnection, account: str, limits: Sequence[Limit], at: datetime) -> None:
    """Make the budgets of an account's limits that are not there yet; within a transaction of the caller's."""
    if limits:
        connection.run(f"SELECT pg_advisory_xact_lock({_PROJECTS}, hashtext(%s))", [account])
        asked = json.dumps([_claim(number, limit, at) for number, limit in enumerate(limits)])
        connection.run(_MAKE, [asked])


def settle(connection: BoundedConnection, settlement: Sequence[Any]) -> None:
    """Settle a call whose record goes elsewhere: its id, project, cost in nano-USD or NULL, tokens, and start."""
    connection.run(f"SELECT {_SCHEMA}.settle(%s, %s, %s, %s, %s::timestamptz)", settlement)


def release(connection: BoundedConnection, call_id: str) -> None:
    """Let go of what is held for a call that was not sent."""
    connection.run(f"SELECT {_SCHEMA}.release(%s)", [call_id])


def standings(connection: BoundedConnection, limits: Sequence[Limit], at: datetime) -> list[Standing]:
    """Return how limits stand."""
    asked = json.dumps([_claim(number, limit, at) for number, limit in enumerate(limits)])
    rows = connection.run(_STANDINGS, [instant(at), asked]).fetchall()
    return [Standing(limit, int(spent), held) for limit, (spent, held) in zip(limits, rows, strict=True)]


def sweep(connection: BoundedConnection, at: datetime) -> int:
    """Charge or release what processes that have died were holding; return how many calls that were.

    Only those of this machine are known to be dead; what those of others hold expires.
    """
    owners = [owner for (owner,) in connection.run(_OWNERS).fetchall()]
    dead = [owner for owner in owners if is_dead(owner)]
    row = connection.run(f"SELECT {_SCHEMA}.sweep(%s::timestamptz, %s::text[])", [instant(at), dead]).fetchone()
    return row[0] if row else 0
