"""A strict cap holds, whoever races for it: processes, threads, tasks, and those that are killed on the way."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openai
import pytest
from keepers import LEDGERS
from postgres import server
from racing import BOUND, PRICES, PROJECT, ledger_at

import llm_toll_autopatch
from llm_toll_autopatch import BudgetExceededError, patched
from llm_toll_autopatch.simulator import Simulator

ROOT = Path(__file__).parent.parent
MODEL = "gpt-5-mini"
PATIENCE_S = 60


@pytest.fixture(params=LEDGERS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where each of the ledgers is to be."""
    return server().new_database() if request.param == "postgres" else str(tmp_path / "ledger.db")


@contextmanager
def racer(place: str, sim: Simulator, cap: str, threads: int, model: str) -> Iterator[subprocess.Popen[str]]:
    """A process that is ready to race."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "racing.py"), place, sim.url, cap, str(threads), model],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE_S)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def started(processes: list[subprocess.Popen[str]]) -> None:
    """Have them begin at the same moment."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


def ended(process: subprocess.Popen[str]) -> int:
    """How many calls a process has sent, when it is through."""
    assert process.stdout is not None
    sent = int(process.stdout.readline())
    assert process.wait(PATIENCE_S) == 0
    return sent


def spent_and_held(ledger: Any) -> tuple[int, int]:
    """Of the budget, in nano-USD."""
    (budget,) = ledger.budgets(datetime.now(UTC))
    return budget.spent, budget.held


def billed(sim: Simulator, place: str) -> int:
    """What the requests that the simulator has seen cost together, in nano-USD: all of them cost the same."""
    records = list(ledger_at(place).records())
    (usage,) = {(each.usage.input_tokens, each.usage.output_tokens) for each in records}
    assert {each.usage_source for each in records} == {"reported"}
    return len(sim.requests) * (usage[0] * 250 + usage[1] * 2_000)


def test_processes_cannot_overspend(place: str, sim: Simulator) -> None:
    """Eight processes of eight threads are billed no more than the cap, and nearly all of it."""
    cap = 3_000_000
    with ExitStack() as stack:
        processes = [stack.enter_context(racer(place, sim, "0.003", 8, f"{MODEL}+first=20")) for _ in range(8)]
        started(processes)
        sent = sum(map(ended, processes))
    assert sent == len(sim.requests)  # nothing that was refused had left
    bill = billed(sim, place)
    assert 0.8 * cap <= bill <= cap
    assert spent_and_held(ledger_at(place)) == (bill, 0)


def test_killed_while_they_hold(place: str, sim: Simulator) -> None:
    """What killed processes had reserved is found by a sweep and charged, once; nothing stays held."""
    calls = 3 * 4
    with ExitStack() as stack:
        processes = [stack.enter_context(racer(place, sim, "1", 4, f"{MODEL}+first=60000")) for _ in range(3)]
        started(processes)
        deadline = time.monotonic() + PATIENCE_S
        while len(sim.requests) < calls and time.monotonic() < deadline:
            time.sleep(0.01)
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait(PATIENCE_S)
        assert len(sim.requests) == calls
        ledger = ledger_at(place)
        spent, held = spent_and_held(ledger)
        assert spent == 0
        assert held >= calls * (8 * 2_000)  # each holds all the output that it may ask for, and its input
        assert ledger.sweep() == calls
        assert ledger.sweep() == 0
        assert spent_and_held(ledger) == (held, 0)
        assert [budget.holds for budget in ledger.budgets()] == [0]
        ledger.close()


async def test_tasks_cannot_overspend(place: str, sim: Simulator) -> None:
    """200 tasks are billed no more than the cap, and nearly all of it; the refused ones had sent nothing."""
    cap, ledger = 2_000_000, ledger_at(place)
    with patched(sink=ledger, project=PROJECT, max_budget="0.002", strict_budget=True, prices=PRICES):
        async with openai.AsyncOpenAI(base_url=f"{sim.url}/v1", api_key="none", max_retries=0) as client:

            async def work() -> int:
                for _ in range(40):
                    try:
                        await client.chat.completions.create(model=f"{MODEL}+first=20", **BOUND)
                    except BudgetExceededError:
                        await asyncio.sleep(0.05)
                    else:
                        return 1
                return 0

            sent = sum(await asyncio.gather(*(work() for _ in range(200))))
        await asyncio.to_thread(llm_toll_autopatch.flush, 10)
    assert sent == len(sim.requests)
    bill = await asyncio.to_thread(billed, sim, place)
    assert 0.8 * cap <= bill <= cap
    assert await asyncio.to_thread(spent_and_held, ledger) == (bill, 0)
    await asyncio.to_thread(ledger.close)
