"""How far a ledger goes: records and budget checks a second, and questions over a million records.

    python -m benchmarks.scale [--quick | --full]    # --full: over ten million, too

SQLite, and PostgreSQL on a server of its own where its programs are installed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.children import forked
from benchmarks.population import fill_postgres, fill_sqlite, odd_ones
from benchmarks.postgresql import MissingServerError, server
from benchmarks.questions import QUESTIONS, answered, is_asked
from benchmarks.races import BATCH, race
from benchmarks.rows import Row, is_full, is_quick, show

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 0.3 if is_quick() else 2.0 if is_full() else 1.0
PROCESSES = (1, 2) if is_quick() else (1, 8)
_EVERY = 3 if is_quick() else 1
"""Only each third race and question for a rough look."""
COUNTS = (5_000,) if is_quick() else (1_000_000, 10_000_000) if is_full() else (1_000_000,)
WRITING, BUDGET = "Records into one ledger", "Budget checks on one hot project"
_NO_WAIT = "options=-c%20synchronous_commit%3Doff"


class Race(NamedTuple):
    """What is raced: the heading, what it is called, what each process does, its durability, and the URL's options."""

    subject: str
    name: str
    kind: str
    durability: str = "commit"
    options: str = ""


_ONE_BY_ONE, _BATCHES = "one by one", f"{BATCH} at once"
_PAIRS = "reserve, then settle with the record"
_SHARES = "the same, each process on a budget of its own"
_SQLITE = (
    Race(WRITING, f"{_ONE_BY_ONE}, synchronous=NORMAL (the default)", "emit"),
    Race(WRITING, f"{_ONE_BY_ONE}, synchronous=FULL (durability=full)", "emit", "full"),
    Race(WRITING, f"{_BATCHES}, synchronous=NORMAL (as durability=queue and import write)", "add"),
    Race(BUDGET, f"{_PAIRS}, synchronous=NORMAL", "pairs"),
    Race(BUDGET, f"{_SHARES}, synchronous=NORMAL", "shares"),
)
_POSTGRES = (
    Race(WRITING, f"{_ONE_BY_ONE}, synchronous_commit=on", "emit"),
    Race(WRITING, f"{_ONE_BY_ONE}, synchronous_commit=off", "emit", options=_NO_WAIT),
    Race(WRITING, f"{_BATCHES}, synchronous_commit=on", "add"),
    Race(BUDGET, f"{_PAIRS}, synchronous_commit=on", "pairs"),
    Race(BUDGET, f"{_PAIRS}, synchronous_commit=off", "pairs", options=_NO_WAIT),
    Race(BUDGET, f"{_SHARES}, synchronous_commit=on", "shares"),
    Race(BUDGET, f"{_SHARES}, synchronous_commit=off", "shares", options=_NO_WAIT),
)


def raced(engine: str, place: Callable[[], str], races: tuple[Race, ...]) -> None:
    """Show the races on ledgers that are made for each."""
    for each in races[::_EVERY]:
        for processes in PROCESSES[each.kind == "shares" :]:
            case = f"{engine}, {processes} process{'es' if processes > 1 else ''}: {each.name}"
            unit = "pairs/s" if each.subject == BUDGET else "records/s"
            where = place() + (f"?{each.options}" if each.options else "")
            try:
                got = race(where, each.kind, each.durability, processes, SECONDS)
            except RuntimeError as error:
                show(Row(each.subject, case, None, unit, note=f"does not run: {error}"))
                continue
            note = f"CPU of the caller {got.cpu_us:.0f} µs each; the longest step took {got.longest_s * 1e3:.0f} ms"
            show(Row(each.subject, case, got.per_s, unit, note=note))


def questioned(engine: str, place: str, count: int) -> None:
    """Show how long answers take."""
    subject = f"Questions to a ledger of {count:,} records, {engine}"
    for question in QUESTIONS[::_EVERY]:
        if not is_asked(place, question):
            continue
        try:
            answers = answered(place, question)
        except RuntimeError as error:
            show(Row(subject, question.name, None, "s", note=f"does not run: {error}"))
            continue
        for name, got in answers.items():
            remarks = [f"CPU of the process {got.cpu_s:.2f} s"]
            remarks += [f"peak {got.peak_mb:.0f} MB"] if got.peak_mb is not None else []
            remarks += [got.said] if got.said else []
            show(Row(subject, name, got.wall_s, "s", note="; ".join(remarks)))


def sqlite(folder: Path) -> None:
    """Measure the SQLite ledger."""
    numbers = iter(range(1_000))
    raced("SQLite", lambda: str(folder / f"race-{next(numbers)}.db"), _SQLITE)
    for count in COUNTS:
        path = folder / f"{count}.db"
        forked(lambda path=path, count=count: fill_sqlite(path, count))  # type: ignore[misc]
        odd = odd_ones(path, folder / f"beside-{count}.db")
        subject = f"Questions to a ledger of {count:,} records, SQLite"
        note = f"{odd} of 200 rows are not as `emit` writes them" if odd else ""
        show(Row(subject, "size of the file, for each record", path.stat().st_size / count, "bytes", note=note))
        questioned("SQLite", str(path), count)
        path.unlink()


def postgres() -> None:
    """Measure the PostgreSQL ledger.

    Raises:
        MissingServerError: There is no server for it.
    """
    from llm_toll_autopatch.ledger.postgres import PostgresLedger

    with server() as running:
        for setting in ("shared_buffers = '512MB'", "max_wal_size = '4GB'", "work_mem = '64MB'"):
            running.execute(f"ALTER SYSTEM SET {setting}")
        running.stop()
        running.start()
        raced("PostgreSQL", running.new_database, _POSTGRES)
        count = COUNTS[0]
        url = running.new_database()
        forked(lambda: fill_postgres(PostgresLedger(url, timeout_s=30), url, count))
        ((size,),) = running.execute("SELECT pg_database_size(current_database())", url)
        subject = f"Questions to a ledger of {count:,} records, PostgreSQL"
        show(Row(subject, "size of the database, for each record", size / count, "bytes"))
        questioned("PostgreSQL", url, count)


def main() -> None:
    """Measure both."""
    with tempfile.TemporaryDirectory() as folder:
        sqlite(Path(folder))
    try:
        postgres()
    except MissingServerError as error:
        show(Row(WRITING, "PostgreSQL", None, "", note=f"not measured: {error}"))


if __name__ == "__main__":
    main()
