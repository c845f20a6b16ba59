"""Caps in the SQLite ledger, which an operator sets, and how budgets stand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.budgets.budget import Budget, budget_of
from llm_toll_autopatch.budgets.limits import AMOUNT_MAX, MINUTE_S, Limit, Period, Unit
from llm_toll_autopatch.ledger import holds
from llm_toll_autopatch.ledger.instants import instant
from llm_toll_autopatch.ledger.sqlite_reading import SQLiteReader

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

__all__ = ["SQLiteCaps"]

_BUDGETS_SINCE, _CAPS_SINCE = 3, 4
"""The schema versions."""

_CAPS = "SELECT account, unit, amount, period FROM caps"
_BUDGETS = """
    SELECT account, unit, period, cap, start_at, end_at,
        CASE period WHEN 'minute' THEN (
            SELECT COALESCE(SUM(amount), 0) FROM ticks WHERE budget_id = budgets.id AND at > ?
        ) ELSE spent END,
        held, COUNT(call_id), MIN(call_id)
    FROM budgets LEFT JOIN holds ON budget_id = budgets.id AND NOT charged
    {which} GROUP BY budgets.id ORDER BY account, unit, period, start_at
"""
_CURRENT = "start_at <= ? AND ? < end_at"
_MEANT = (
    f"account = ? AND period <> 'minute' AND {_CURRENT} AND unit = COALESCE(?, unit) AND period = COALESCE(?, period)"
)


class SQLiteCaps(SQLiteReader):
    """Answers which caps there are and how budgets stand, and changes both."""

    def transaction(self, patience_s: float | None = None) -> AbstractContextManager[sqlite3.Connection]:
        """Hold the file for writing."""
        raise NotImplementedError

    def caps(self) -> list[Limit]:
        """Return the caps that were set with `set_cap`; none where there is no ledger yet.

        Raises:
            LedgerError: It cannot be read.
        """
        return [Limit(*row) for row in self._rows(f"{_CAPS} ORDER BY 1, 2, 4", [], since=_CAPS_SINCE)]

    def budgets(self, at: datetime | None = None) -> list[Budget]:
        """Return how every budget stands that a call was asked for; none where there is no ledger yet.

        Args:
            at: Only those in whose window this is; None for all there ever were.

        Raises:
            LedgerError: It cannot be read.
        """
        now = (datetime.now(UTC) if at is None else at).timestamp()
        which = "" if at is None else f"WHERE {_CURRENT}"
        values = [now - MINUTE_S, *([] if at is None else [instant(at)] * 2)]
        return [budget_of(row) for row in self._rows(_BUDGETS.format(which=which), values, since=_BUDGETS_SINCE)]

    def set_cap(self, limit: Limit) -> None:
        """Have every process whose ledger this is obey `limit`, beside those that its code asks for.

        Raises:
            ValueError: It is the limit of a block of code.
            SinkUnavailableError: The ledger is busy for longer than the bound.
            LedgerError: The file is not a ledger, or one of a newer version.
        """
        if limit.is_block:
            raise ValueError("a block of code is known to its own process only; a cap is a project's")
        what = (limit.account, limit.unit, limit.period)
        with self.transaction() as connection:
            _recapped(connection, what, limit.amount)
            connection.execute(
                "INSERT INTO caps VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET amount = excluded.amount",
                (*what, limit.amount),
            )

    def remove_cap(self, account: str, unit: Unit, period: Period) -> bool:
        """Take a cap away, and return whether there was one. What code asks for stays.

        Raises:
            SinkUnavailableError: The ledger is busy for longer than the bound.
            LedgerError: The file is not a ledger, or one of a newer version.
        """
        what = (account, unit, period)
        with self.transaction() as connection:
            _recapped(connection, what, AMOUNT_MAX)
            gone = connection.execute("DELETE FROM caps WHERE account = ? AND unit = ? AND period = ?", what)
            return gone.rowcount > 0

    def reset_budget(
        self, account: str, unit: Unit | None = None, period: Period | None = None, *, at: datetime | None = None
    ) -> list[Budget]:
        """Have nothing be spent of a project's budgets in the windows of a moment, and return how they stood.

        What is held for calls that are under way stays held. What was charged for processes that have died is settled:
        a record that comes for it all the same counts anew. Limits on 60 seconds are no budgets.

        Args:
            account: The project.
            unit: Only budgets in this unit.
            period: Only budgets of this period.
            at: The moment; None is now.

        Raises:
            SinkUnavailableError: The ledger is busy for longer than the bound.
            LedgerError: The file is not a ledger, or one of a newer version.
        """
        at = datetime.now(UTC) if at is None else at
        now = instant(at)
        values = [account, now, now, unit, period]
        with self.transaction() as connection:
            for limit in [Limit(*row) for row in connection.execute(f"{_CAPS} WHERE account = ?", [account])]:
                if limit.period != "minute":
                    holds.make_budget(connection, limit, at)
            rows = connection.execute(_BUDGETS.format(which=f"WHERE {_MEANT}"), [0.0, *values]).fetchall()
            connection.execute(
                f"DELETE FROM holds WHERE charged AND budget_id IN (SELECT id FROM budgets WHERE {_MEANT})",  # noqa: S608 - our own names
                values,
            )
            connection.execute(f"UPDATE budgets SET spent = 0 WHERE {_MEANT}", values)  # noqa: S608 - our own names
        return [budget_of(row) for row in rows]


def _recapped(connection: sqlite3.Connection, what: Sequence[Any], amount: int) -> None:
    """Have the windows that the former cap, if there was one, has limited last be limited by `amount`."""
    connection.execute(
        "UPDATE budgets SET cap = ? WHERE account = ? AND unit = ? AND period = ? AND end_at > ?"
        " AND cap = (SELECT amount FROM caps WHERE account = ? AND unit = ? AND period = ?)",
        (amount, *what, instant(datetime.now(UTC)), *what),
    )
