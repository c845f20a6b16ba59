"""Processes that all write to one ledger: records one by one, records in batches, reservations of one hot budget.

Each is a fork of the process that has imported everything, and opens the ledger anew.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.children import Child
from llm_toll_autopatch import CallRecord, Usage
from llm_toll_autopatch.budgets.keeper import Claim, Reservation
from llm_toll_autopatch.budgets.limits import Limit
from llm_toll_autopatch.ledger import PostgresLedger, SQLiteLedger
from llm_toll_autopatch.ledger.location import POSTGRES_SCHEMES
from llm_toll_autopatch.records import new_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from llm_toll_autopatch.ledger.location import Ledger

__all__ = ["BATCH", "KINDS", "Result", "race"]

BATCH = 200
"""How many records `durability="queue"` writes in one transaction at most."""
_LIMIT = Limit("hot", "usd", 10**18, "monthly")
_PATIENCE_S = 30
_TAGS = {"team": "search", "env": "prod", "user": "u1234"}


class Result(NamedTuple):
    """What processes came to together.

    Attributes:
        per_s: Records, or pairs, a second.
        cpu_us: CPU of the caller's thread for each, in microseconds.
        longest_s: The longest step, in seconds.
    """

    per_s: float
    cpu_us: float
    longest_s: float


def record(**changes: Any) -> CallRecord:
    """Return the record of an ordinary call."""
    usual = {
        "id": new_id(), "provider": "openai", "operation": "chat", "method": "chat.completions.create",
        "model": "gpt-5-mini", "response_model": "gpt-5-mini-2026-05",
        "usage": Usage(input_tokens=25, output_tokens=8),
        "usage_source": "reported", "cost_usd": Decimal("0.00002225"), "project": _LIMIT.account, "tags": _TAGS,
        "started_at": datetime.now(UTC), "duration_s": 0.5, "response_id": f"resp_{time.time_ns():032x}",
        "endpoint": "api.openai.com",
    }  # fmt: skip
    return CallRecord(**{**usual, **changes})


def _emitting(ledger: Ledger) -> Callable[[], tuple[int, float]]:
    def step() -> tuple[int, float]:
        made = record()
        start = time.thread_time()
        ledger.emit(made)
        return 1, time.thread_time() - start

    return step


def _adding(ledger: Ledger) -> Callable[[], tuple[int, float]]:
    def step() -> tuple[int, float]:
        made = [record() for _ in range(BATCH)]
        start = time.thread_time()
        ledger.add(made)
        return BATCH, time.thread_time() - start

    return step


def _reserving(ledger: Ledger, limit: Limit = _LIMIT) -> Callable[[], tuple[int, float]]:
    def step() -> tuple[int, float]:
        made = record(project=limit.account)
        at = made.started_at
        asked = Reservation(made.id, (Claim(limit, 1_000),), at, at + timedelta(hours=1))
        start = time.thread_time()
        if ledger.reserve(asked) is not None:
            raise SystemExit("the budget is used up")
        ledger.emit(made)
        return 1, time.thread_time() - start

    return step


def _sharing(ledger: Ledger) -> Callable[[], tuple[int, float]]:
    return _reserving(ledger, replace(_LIMIT, account=f"share-{os.getpid()}"))


KINDS = {"emit": _emitting, "add": _adding, "pairs": _reserving, "shares": _sharing}
"""What a process can do, again and again."""


def race(place: str, kind: str, durability: str, processes: int, seconds: float) -> Result:
    """Return what so many processes come to, which begin at the same time.

    Raises:
        RuntimeError: One of them failed.
    """
    with contextlib.ExitStack() as stack:
        racers = [stack.enter_context(Child(partial(_ready, place, kind, durability))) for _ in range(processes)]
        for question in (0.0, seconds):  # first only to be there
            for racer in racers:
                racer.tell(question)
            figures = [racer.answer() for racer in racers]
    done = sum(each[0] for each in figures)
    return Result(
        per_s=sum(each[0] / each[1] for each in figures),
        cpu_us=sum(each[2] for each in figures) / done * 1e6,
        longest_s=max(each[3] for each in figures),
    )


def _opened(place: str, durability: Any) -> Ledger:
    if place.startswith(POSTGRES_SCHEMES):
        return PostgresLedger(place, timeout_s=_PATIENCE_S, durability=durability)
    return SQLiteLedger(Path(place), busy_timeout_s=_PATIENCE_S, durability=durability)


def _ready(place: str, kind: str, durability: str) -> Callable[[float], tuple[int, float, float, float]]:
    """Return what tells, of so many seconds, how much was done, the seconds and CPU seconds, and the longest step."""
    step = KINDS[kind](_opened(place, durability))

    def run(seconds: float) -> tuple[int, float, float, float]:
        done, cpu, longest = 0, 0.0, 0.0
        first = began = time.monotonic()
        while True:
            number, taken = step()
            ended = time.monotonic()
            done, cpu, longest = done + number, cpu + taken, max(longest, ended - began)
            began = ended
            if ended - first >= seconds:
                return done, ended - first, cpu, longest

    return run
