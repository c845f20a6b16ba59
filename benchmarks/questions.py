"""What people and the page ask of a ledger, each in a process of its own.

python -m benchmarks.questions PLACE NUMBER [--full]    # of QUESTIONS; benchmarks.scale starts them
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.environments import ROOT
from benchmarks.population import PROJECTS
from benchmarks.rows import is_full
from llm_toll_autopatch.budgets.keeper import Claim, Reservation
from llm_toll_autopatch.budgets.limits import Limit
from llm_toll_autopatch.ledger.location import POSTGRES_SCHEMES, ledger_at
from llm_toll_autopatch.ledger.reading import LedgerReader
from llm_toll_autopatch.records import new_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from llm_toll_autopatch.budgets.limits import Period
    from llm_toll_autopatch.ledger.location import Ledger

__all__ = ["QUESTIONS", "Answered", "Question", "answered"]

_RECENT = timedelta(days=30 if is_full() else 7)


class Question(NamedTuple):
    """Something that is asked: its name, and what returns the work to be measured; whether only SQLite is asked.

    Attributes:
        again: What it is called when it is asked a second time, in the same process; none if it is not.
    """

    name: str
    asked: Callable[[str], Callable[[], object]]
    sqlite_only: bool = False
    again: str = ""


class Answered(NamedTuple):
    """How it went: seconds, CPU seconds and peak memory (MB) of the process that asks, and what it says."""

    wall_s: float
    cpu_s: float
    peak_mb: float | None
    said: str


def _command(*arguments: str, sqlite_only: bool = False) -> Question:
    from llm_toll_autopatch.cli import main

    def asked(place: str) -> Callable[[], object]:
        sys.argv[0] = "autotoll"
        return lambda: main([*arguments, "--ledger", place])

    return Question(f"`autotoll {' '.join(arguments)}`", asked, sqlite_only)


def _of_ledger(name: str, work: Callable[[Ledger], object]) -> Question:
    return Question(name, lambda place: lambda: work(ledger_at(place)))


def _since() -> datetime:
    return datetime.now(UTC) - _RECENT


def _look(place: str) -> Callable[[], object]:
    from llm_toll_autopatch.page.live import Live
    from llm_toll_autopatch.page.snapshot import Asked

    live = Live(Asked(ledger_at(place)))

    def look() -> object:
        live._good_until = 0.0  # it would rest
        return f"{len(live.answer().data):,} bytes"

    return look


def _of_rows(place: str) -> Callable[[], object]:
    return lambda: f"{len(LedgerReader.totals(ledger_at(place), ['project', 'model']))} groups"


def _cells_of_rows(place: str) -> Callable[[], object]:
    by = ["day", "project", "model", "provider", "outcome", "usage_source", "tag:env", "tag:team"]
    return lambda: f"{len(LedgerReader.totals(ledger_at(place), by)):,} groups"


def _summing_up(place: str) -> Callable[[], object]:
    from llm_toll_autopatch.ledger.sqlite import SQLiteLedger

    return lambda: SQLiteLedger(Path(place))._sum_up(float("inf"))


def _health(place: str) -> Callable[[], object]:
    from llm_toll_autopatch.ledger.sqlite import SQLiteLedger
    from llm_toll_autopatch.ledger.sqlite_health import examine

    return lambda: f"{examine(SQLiteLedger(Path(place))).records:,} records"


def _first_of(period: Period) -> Callable[[Ledger], object]:
    """Return the first call of a budget: it begins with what the project's calls have cost before."""

    def work(ledger: Ledger) -> object:
        now = datetime.now(UTC)
        limit = Limit(PROJECTS[0], "usd", 10**18, period)
        return ledger.reserve(Reservation(new_id(), (Claim(limit, 1),), now, now + timedelta(hours=1)))

    return work


def _with_caps(place: str) -> Callable[[], object]:
    from llm_toll_autopatch.cli import main

    for project in PROJECTS:
        ledger_at(place).set_cap(Limit(project, "usd", 10**12, "monthly"))
    sys.argv[0] = "autotoll"
    return lambda: main(["budget", "list", "--ledger", place])


QUESTIONS = (
    Question("`autotoll report`, of the rows alone", _of_rows, sqlite_only=True),
    Question("the page's sums, of the rows alone", _cells_of_rows, sqlite_only=True),
    Question("summing up the whole ledger, which reports do by and by", _summing_up, sqlite_only=True),
    _command("report"),
    _command("report", "--by", "model"),
    _command("report", "--by", "day"),
    _command("report", "--by", "project,day"),
    _command("report", "--by", "tag:user"),
    _command("report", "--since", "7d"),
    _command("report", "--since", "30d", "--project", PROJECTS[2]),
    _command("report", "--html", "-", sqlite_only=not is_full()),  # takes a server as long as the page's first look
    Question(
        "the page of `autotoll serve`: the first look",
        _look,
        again="the page of `autotoll serve`: each later look, within a minute",
    ),
    _command("tail"),
    _command("export", "--prometheus"),
    _command("export", "--jsonl", "--since", f"{_RECENT.days}d"),
    _of_ledger("`totals()`", lambda ledger: ledger.totals()),
    _of_ledger(
        f"`records()` of the last {_RECENT.days} days",
        lambda ledger: f"{sum(1 for _ in ledger.records(_since())):,} records",
    ),
    _of_ledger(
        "`records(limit=1, newest_first=True)`", lambda ledger: list(ledger.records(limit=1, newest_first=True))
    ),
    _of_ledger("the first call of a monthly budget, on the caller's thread", _first_of("monthly")),
    _of_ledger("the first call of a budget without reset, on the caller's thread", _first_of("total")),
    Question("`autotoll budget list` of 20 monthly caps that no call has met yet", _with_caps),
    Question("the check of the file that `autotoll doctor` makes", _health, sqlite_only=True),
    _command("prune", "--older-than", "150d", "--yes"),
)
"""The last one changes the ledger."""


def answered(place: str, question: Question) -> dict[str, Answered]:
    """Ask in a fresh process. Return how it went, by the name of the question and what it is called again.

    Raises:
        RuntimeError: It failed.
    """
    command = [sys.executable, "-m", "benchmarks.questions", place, str(QUESTIONS.index(question)), *sys.argv[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it said nothing"])[-1])
    return {name: Answered(*each) for name, each in json.loads(done.stdout).items()}


def is_asked(place: str, question: Question) -> bool:
    """Return whether the ledger at a place can be asked this."""
    return not (question.sqlite_only and place.startswith(POSTGRES_SCHEMES))


def _peak_mb() -> float | None:
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), None)


def _run(place: str, question: Question) -> dict[str, Answered]:
    """Ask, and have what is printed go nowhere."""
    answers = {}
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - it is no path
        printed = io.TextIOWrapper(nowhere, encoding="utf-8")
        with contextlib.redirect_stdout(printed):
            work = question.asked(place)
            for name in filter(None, (question.name, question.again)):
                wall, cpu = time.perf_counter(), time.process_time()
                said = work()
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                if isinstance(said, int) and said:
                    raise SystemExit(f"exit code {said}")
                answers[name] = Answered(wall, cpu, _peak_mb(), said if isinstance(said, str) else "")
    return answers


if __name__ == "__main__":
    print(json.dumps(_run(sys.argv[1], QUESTIONS[int(sys.argv[2])])))
