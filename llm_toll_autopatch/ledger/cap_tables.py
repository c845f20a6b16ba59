"""The table of caps, in either ledger."""

from __future__ import annotations

__all__ = ["POSTGRES", "SQLITE"]

SQLITE: tuple[str, ...] = (
    """
    CREATE TABLE caps (               -- what an operator allows, whatever the code that makes the calls says
        account TEXT NOT NULL,        -- as in budgets
        unit TEXT NOT NULL,
        period TEXT NOT NULL,
        amount INTEGER NOT NULL,
        PRIMARY KEY (account, unit, period)
    )
    """,
)

POSTGRES: tuple[str, ...] = (
    """
    CREATE TABLE {schema}.caps (              -- what an operator allows, whatever the code that makes the calls says
        account TEXT COLLATE "C" NOT NULL,    -- as in budgets
        unit TEXT NOT NULL,
        period TEXT NOT NULL,
        amount BIGINT NOT NULL,
        PRIMARY KEY (account, unit, period)
    )
    """,
)
