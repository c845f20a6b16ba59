"""Caps in the PostgreSQL ledger, which an operator sets, and how budgets stand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from llm_toll_autopatch.budgets.budget import Budget, budget_of
from llm_toll_autopatch.budgets.limits import AMOUNT_MAX, Limit, Period, Unit
from llm_toll_autopatch.ledger import postgres_holds
from llm_toll_autopatch.ledger.instants import instant
from llm_toll_autopatch.ledger.postgres_reading import PostgresReader
from llm_toll_autopatch.ledger.postgres_schema import SCHEMA, without_nul

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llm_toll_autopatch.ledger.postgres_connections import BoundedConnection

__all__ = ["PostgresCaps"]

_T = TypeVar("_T")

_BUDGETS_SINCE, _CAPS_SINCE = 2, 3
"""The versions of the tables."""


def _text(moment: str) -> str:
    return f"""to_char({moment} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')"""


_CAPS = f"SELECT account, unit, amount, period FROM {SCHEMA}.caps"  # noqa: S608 - our own name
_BUDGETS = f"""
    SELECT b.account, b.unit, b.period, b.cap, {_text("b.start_at")}, {_text("b.end_at")},
        CASE b.period WHEN 'minute' THEN (
            SELECT COALESCE(SUM(t.amount), 0) FROM {SCHEMA}.ticks AS t
            WHERE t.budget_id = b.id AND t.at > extract(epoch FROM %s::timestamptz) - 60
        ) ELSE b.spent END,
        b.held, h.holds, h.oldest
    FROM {SCHEMA}.budgets AS b CROSS JOIN LATERAL (
        SELECT COUNT(*) AS holds, MIN(call_id) AS oldest FROM {SCHEMA}.holds WHERE budget_id = b.id AND NOT charged
    ) AS h
    {{which}} ORDER BY b.account, b.unit, b.period, b.start_at
"""  # noqa: S608 - our own name
_CURRENT = "b.start_at <= %s::timestamptz AND %s::timestamptz < b.end_at"
_MEANT = (
    f"b.account = %s AND b.period <> 'minute' AND {_CURRENT}"
    " AND b.unit = COALESCE(%s::text, b.unit) AND b.period = COALESCE(%s::text, b.period)"
)
_SET = f"""
    INSERT INTO {SCHEMA}.caps VALUES (%s, %s, %s, %s)
    ON CONFLICT (account, unit, period) DO UPDATE SET amount = EXCLUDED.amount
"""  # noqa: S608 - our own name
_RECAP = f"""
    UPDATE {SCHEMA}.budgets AS b SET cap = %s::bigint FROM {SCHEMA}.caps AS c
    WHERE b.account = %s AND b.unit = %s AND b.period = %s AND b.end_at > %s::timestamptz
        AND c.account = b.account AND c.unit = b.unit AND c.period = b.period AND c.amount = b.cap
"""  # noqa: S608 - our own name


class PostgresCaps(PostgresReader):
    """Answers which caps there are and how budgets stand, and changes both."""

    _timeout_s: float
    _migrated: bool

    def _do(self, work: Callable[[BoundedConnection], _T]) -> _T:
        raise NotImplementedError

    def caps(self) -> list[Limit]:
        """Return the caps that were set with `set_cap`; none where there is no ledger yet.

        Raises:
            LedgerError: It cannot be read.
            SinkUnavailableError: Likewise.
        """
        if self._migrated:  # a connection that there is already is much the quicker
            rows = self._do(lambda connection: connection.run(_CAPS).fetchall())
        else:
            rows = list(self._rows(_CAPS, [], since=_CAPS_SINCE, patience_s=self._timeout_s))
        return sorted((Limit(*row) for row in rows), key=lambda limit: (limit.account, limit.unit, limit.period))

    def budgets(self, at: datetime | None = None) -> list[Budget]:
        """Return how every budget stands that a call was asked for, as `SQLiteLedger.budgets` does.

        Args:
            at: Only those in whose window this is; None for all there ever were.

        Raises:
            LedgerError: It cannot be read.
        """
        now = instant(datetime.now(UTC) if at is None else at)
        which = "" if at is None else f"WHERE {_CURRENT}"
        values = [now] if at is None else [now] * 3
        return [budget_of(row) for row in self._rows(_BUDGETS.format(which=which), values, since=_BUDGETS_SINCE)]

    def set_cap(self, limit: Limit) -> None:
        """Have every process whose ledger this is obey `limit`, beside those that its code asks for.

        Raises:
            ValueError: It is the limit of a block of code.
            SinkUnavailableError: As from `emit`.
            LedgerError: As from `emit`.
        """
        if limit.is_block:
            raise ValueError("a block of code is known to its own process only; a cap is a project's")
        what = [without_nul(limit.account), limit.unit, limit.period]

        def work(connection: BoundedConnection) -> None:
            connection.run("BEGIN")
            connection.run(_RECAP, [limit.amount, *what, instant(datetime.now(UTC))])
            connection.run(_SET, [*what, limit.amount])
            connection.run("COMMIT")

        self._do(work)

    def remove_cap(self, account: str, unit: Unit, period: Period) -> bool:
        """Take a cap away, and return whether there was one. What code asks for stays.

        Raises:
            SinkUnavailableError: As from `emit`.
            LedgerError: As from `emit`.
        """
        what = [without_nul(account), unit, period]

        def work(connection: BoundedConnection) -> bool:
            connection.run("BEGIN")
            connection.run(_RECAP, [AMOUNT_MAX, *what, instant(datetime.now(UTC))])
            gone = connection.run(
                f"DELETE FROM {SCHEMA}.caps WHERE account = %s AND unit = %s AND period = %s",  # noqa: S608 - our own name
                what,
            ).rowcount
            connection.run("COMMIT")
            return gone > 0

        return self._do(work)

    def reset_budget(
        self, account: str, unit: Unit | None = None, period: Period | None = None, *, at: datetime | None = None
    ) -> list[Budget]:
        """Have nothing be spent of a project's budgets in the windows of a moment, and return how they stood.

        As `SQLiteLedger.reset_budget` does.

        Raises:
            SinkUnavailableError: As from `emit`.
            LedgerError: As from `emit`.
        """
        moment = datetime.now(UTC) if at is None else at
        now, account = instant(moment), without_nul(account)
        values = [account, now, now, unit, period]

        def work(connection: BoundedConnection) -> list[Sequence[Any]]:
            connection.run("BEGIN")
            rows = connection.run(f"{_CAPS} WHERE account = %s AND period <> 'minute'", [account]).fetchall()
            postgres_holds.make_budgets(connection, account, [Limit(*row) for row in rows], moment)
            ids = connection.run(
                f"SELECT b.id FROM {SCHEMA}.budgets AS b WHERE {_MEANT} ORDER BY b.id FOR UPDATE",  # noqa: S608 - our own names
                values,
            ).fetchall()
            found = [row[0] for row in ids]
            before = connection.run(_BUDGETS.format(which="WHERE b.id = ANY (%s)"), [now, found]).fetchall()
            connection.run(f"DELETE FROM {SCHEMA}.holds WHERE charged AND budget_id = ANY (%s)", [found])  # noqa: S608 - our own name
            connection.run(f"UPDATE {SCHEMA}.budgets SET spent = 0 WHERE id = ANY (%s)", [found])  # noqa: S608 - our own name
            connection.run("COMMIT")
            return list(before)

        return [budget_of(row) for row in self._do(work)]
