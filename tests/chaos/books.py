"""Whether the ledger holds what it has to hold."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from chaos.worker import BEYOND, PROMISED, QUEUED
from llm_toll_autopatch import SQLiteLedger

__all__ = ["Audit", "audit"]


@dataclass(kw_only=True)
class Audit:
    """What was found.

    Attributes:
        records: In the ledger.
        acknowledged: Responses that workers were given, by what is promised of their records.
        missing: Of these, those whose record is not there.
        wrong: What must not be.
    """

    records: int = 0
    acknowledged: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def audit(path: Path, acknowledgements: Iterable[Path], killed: set[int]) -> Audit:
    """Compare the ledger with what workers have acknowledged, and with its own books.

    Args:
        path: The ledger.
        acknowledgements: The workers' files, named by their numbers.
        killed: The workers that were killed: only of these may records be missing that were in memory.
    """
    found = Audit()
    with closing(sqlite3.connect(path)) as ledger:
        found.wrong += [row[0] for row in ledger.execute("PRAGMA integrity_check") if row[0] != "ok"]
        kept = Counter(row[0] for row in ledger.execute("SELECT response_id FROM calls WHERE response_id IS NOT NULL"))
        found.records = ledger.execute("SELECT COUNT(*) FROM calls").fetchone()[0]
    twice = [response_id for response_id, count in kept.items() if count > 1]
    if twice:
        found.wrong.append(f"{len(twice)} responses have several records: {twice[:3]}")
    for file in acknowledgements:
        lost = Counter[str]()
        for line in file.read_text().splitlines():
            kind, response_id, *_ = line.split(" ")
            if kind not in {PROMISED, BEYOND, QUEUED}:
                found.wrong.append(f"a child of worker {file.stem} was {kind}")
                continue
            found.acknowledged[kind] += 1
            if not kept[response_id]:
                lost[kind] += 1
                if kind == PROMISED:
                    found.wrong.append(f"missing: {line}")
        found.missing += lost
        if lost[PROMISED] or (lost and int(file.stem) not in killed):
            found.wrong.append(f"worker {file.stem}: {dict(lost)} are missing")
    _check_budgets(path, found)
    return found


def _check_budgets(path: Path, found: Audit) -> None:
    """Nothing may be held any more, and what is spent must be the sum of the records."""
    with SQLiteLedger(path, busy_timeout_s=30) as ledger:
        ledger.sweep()
    with closing(sqlite3.connect(path)) as books:
        sums = dict(books.execute("SELECT project, SUM(cost_nano_usd) FROM calls GROUP BY project"))
        for account, spent, held in books.execute("SELECT account, spent, held FROM budgets WHERE unit = 'usd'"):
            if held:
                found.wrong.append(f"{held} nano-USD of {account} are held, and nobody is there")
            if spent != sums.get(account, 0):
                found.wrong.append(f"{account} has spent {spent} nano-USD, and its records say {sums.get(account, 0)}")
