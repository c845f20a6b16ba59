"""Where records are kept, and what was spent can be asked. A name loads when it is used: importing this is cheap."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_toll_autopatch.ledger.errors import LedgerError
    from llm_toll_autopatch.ledger.groupings import GROUPINGS
    from llm_toll_autopatch.ledger.postgres import PostgresLedger
    from llm_toll_autopatch.ledger.sqlite import SQLiteLedger
    from llm_toll_autopatch.ledger.totals import Totals

__all__ = ["GROUPINGS", "LedgerError", "PostgresLedger", "SQLiteLedger", "Totals"]

_HOMES = {
    "GROUPINGS": "groupings",
    "LedgerError": "errors",
    "PostgresLedger": "postgres",
    "SQLiteLedger": "sqlite",
    "Totals": "totals",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
