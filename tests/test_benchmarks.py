"""The benchmarks run here, quickly, and say what they found. No figure is looked at."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import PROGRAMS, told
from benchmarks.children import Child, forked
from benchmarks.environments import OURS
from benchmarks.population import fill_sqlite, odd_ones
from benchmarks.replays import Replays
from benchmarks.rows import Found, Row, added, more, of_found
from benchmarks.wires import APIS, Clients

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("program", [name for name, environments in PROGRAMS.items() if OURS in environments])
def test_each_program_runs_and_tells_rows(program: str) -> None:
    """A rough look gives rows with figures, and whatever has none says why."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{program}", OURS.name, "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    rows = [Row(*json.loads(line)) for line in done.stdout.splitlines()]
    assert any(row.figure is not None for row in rows)
    assert [row for row in rows if row.figure is None and not row.note] == []
    assert [row for row in rows if "does not run" in row.note] == []


def test_what_is_added_is_the_median_of_pairs() -> None:
    """A machine that is half as fast for one pair changes no ratio, and one difference."""
    base, taken = [100.0, 200.0, 100.0, 100.0], [110.0, 220.0, 110.0, 110.0]

    assert added(taken, base) == pytest.approx(Found(10.0, 0.0, 4))
    assert more(taken, base) == pytest.approx(Found(10.0, 3.75, 4))


@pytest.mark.parametrize(
    ("it", "base", "is_sure"),
    [
        (Found(10.0, 1.0, 16), 0.0, True),
        (Found(10.0, 2.0, 16), 0.0, False),
        (Found(10.0, 2.0, 64), 0.0, True),
        (Found(0.1, 2.0, 16), 100.0, True),
        (Found(0.1, 4.0, 16), 100.0, False),
    ],
)
def test_a_case_is_sure_when_its_error_is_small_beside_it_or_its_base(it: Found, base: float, is_sure: bool) -> None:
    """More rounds make it sure; so does a base that makes it small."""
    assert it.is_sure(base) is is_sure


def test_a_row_says_its_error_and_its_spread() -> None:
    """The error is of the median, the spread of the rounds."""
    row = of_found("subject", "case", Found(3.0, 4.0, 16), "µs", limit=5.0, note="bare 7 µs")

    assert told(row) == "| case | 3.00 µs | ± 1.86 | 4.00 | 5 µs, met | bare 7 µs |"


def test_a_child_answers_until_it_is_left() -> None:
    """It keeps what it has changed, and this process does not see it."""
    kept: list[int] = []

    def answer(number: int) -> int:
        kept.append(number)
        return sum(kept)

    with Child(lambda: answer) as child:
        assert [child.ask(number) for number in (1, 2, 3)] == [1, 3, 6]
    assert kept == []


def test_what_fails_in_a_child_is_said_here() -> None:
    """Neither an exception nor its death is an answer."""
    with pytest.raises(RuntimeError, match="ZeroDivisionError: division by zero"):
        forked(lambda: 1 / 0)
    with pytest.raises(RuntimeError, match="it died"):
        forked(lambda: os._exit(1))


@pytest.mark.filterwarnings("ignore:The model:DeprecationWarning")
@pytest.mark.parametrize("number", [number for number, api in enumerate(APIS) if api.plain], ids=str)
def test_a_replayed_stream_is_the_stream_with_one_chunk_repeated(number: int) -> None:
    """What comes before and after that chunk is what the SDK parsed, each time it is asked."""

    def streams() -> list[Any]:
        api, clients, replays = APIS[number], Clients(4), Replays(10)

        async def read() -> list[str]:
            return [str(chunk) async for chunk in api.stream_async(clients)]

        plain = [str(chunk) for chunk in api.stream(clients)]
        replays.on = True
        found = [[str(chunk) for chunk in api.stream(clients)] for _ in range(2)]
        found += [asyncio.run(read()) for _ in range(2)]
        middle = len(plain) // 2
        longer = plain[:middle] + plain[middle : middle + 1] * 10 + plain[middle + 1 :]
        return [each == longer for each in found]

    assert forked(streams) == [True] * 4


def test_made_up_rows_are_as_emit_writes_them(tmp_path: Path) -> None:
    """A ledger that is filled for the questions is one that calls could have filled."""
    fill_sqlite(tmp_path / "made.db", 300)

    assert odd_ones(tmp_path / "made.db", tmp_path / "beside.db", 300) == 0
