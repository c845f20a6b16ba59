"""How many calls a second one hot budget can take: a reservation and the record that settles it, each committed.

    .venv/bin/python benchmarks/reservations.py [postgresql://user@host/database]

Processes all reserve of and settle to the same project, which is the worst case: its budget is one row, and a step at
a time. Without a URL only the SQLite ledger is measured. Machines are noisy, and disks differ: repeat.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from llm_toll_autopatch import CallRecord, Usage
from llm_toll_autopatch.budgets.keeper import Claim, Reservation
from llm_toll_autopatch.budgets.limits import Limit
from llm_toll_autopatch.ledger import PostgresLedger, SQLiteLedger
from llm_toll_autopatch.records import new_id

SECONDS = 3.0
PROCESSES = (1, 8)
LIMIT = Limit("hot", "usd", 10**18, "monthly")


def pairs(place: str, seconds: float) -> tuple[int, float]:
    """Make reservations and settle them for so long; return how many they were, and the longest one in seconds."""
    is_url = place.startswith("postgres")
    ledger = PostgresLedger(place, timeout_s=30) if is_url else SQLiteLedger(Path(place), busy_timeout_s=30)
    done, longest, end = 0, 0.0, time.monotonic() + seconds
    with ledger:
        while (began := time.monotonic()) < end:
            at = datetime.now(UTC)
            call = new_id()
            asked = Reservation(call, (Claim(LIMIT, 1_000),), at, at + timedelta(hours=1))
            if ledger.reserve(asked) is not None:
                raise SystemExit("the budget is used up")
            ledger.emit(_record(call, at))
            done += 1
            longest = max(longest, time.monotonic() - began)
    return done, longest


def _record(call_id: str, at: datetime) -> CallRecord:
    return CallRecord(
        id=call_id, provider="openai", operation="chat", method="chat.completions.create", model="gpt-5-mini",
        outcome="completed", usage=Usage(input_tokens=25, output_tokens=8), usage_source="reported",
        cost_usd=Decimal("0.00002225"), project=LIMIT.account, started_at=at, duration_s=0.5,
    )  # fmt: skip


def measure(place: str, processes: int) -> None:
    """Print what so many processes come to together."""
    code = [sys.executable, __file__, "--worker", place]
    started = [
        subprocess.Popen(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 - this file
        for _ in range(processes)
    ]
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    figures = [process.communicate()[0].split() for process in started]
    done, longest = sum(int(each[0]) for each in figures), max(float(each[1]) for each in figures)
    kind = "postgresql" if place.startswith("postgres") else "sqlite"
    print(f"{kind:12}{processes} processes {done / SECONDS:10,.0f} pairs/s, the longest took {longest * 1e3:8,.1f} ms")


def main() -> None:
    """Measure the ledgers."""
    if sys.argv[1:2] == ["--worker"]:
        print("ready", flush=True)
        sys.stdin.readline()
        print(*pairs(sys.argv[2], SECONDS), flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        for place in [str(Path(folder) / "ledger.db"), *sys.argv[1:]]:
            for processes in PROCESSES:
                measure(place, processes)


if __name__ == "__main__":
    main()
