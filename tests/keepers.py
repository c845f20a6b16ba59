"""Keepers of limits, as tests make them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from postgres import server

from llm_toll_autopatch.budgets import owner
from llm_toll_autopatch.budgets.keeper import Claim, Keeper, Reservation
from llm_toll_autopatch.budgets.limits import Limit
from llm_toll_autopatch.budgets.memory import MemoryKeeper
from llm_toll_autopatch.ledger.postgres import PostgresLedger
from llm_toll_autopatch.ledger.sqlite import SQLiteLedger
from llm_toll_autopatch.records import new_id

KEEPERS: dict[str, Callable[[Path], Keeper]] = {
    "memory": lambda _: MemoryKeeper(),
    "sqlite": lambda folder: SQLiteLedger(folder / f"{new_id()}.db"),
    "postgres": lambda _: PostgresLedger(server().new_database(), timeout_s=10),
}
LEDGERS = tuple(name for name in KEEPERS if name != "memory")


def reservation(*claims: tuple[Limit, int], at: datetime, call_id: str | None = None, **more: Any) -> Reservation:
    """What a call asks for."""
    asked = tuple(Claim(limit, amount) for limit, amount in claims)
    return Reservation(call_id or new_id(), asked, at, at + timedelta(hours=1), **more)


@cache
def dead_process() -> str:
    """The name of a process that has ended."""
    code = "from llm_toll_autopatch.budgets.owner import current_owner; print(current_owner())"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def as_dead_process() -> Iterator[None]:
    """What is reserved in this block is held by a process that has ended."""
    mine = owner.current_owner()
    known, owner._known = owner._known, (int(mine.split("|")[1]), dead_process())
    try:
        yield
    finally:
        owner._known = known
