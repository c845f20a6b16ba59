"""The way of a record to the sinks: at once, through the queue, at exit, after a fork; and sinks that fail."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import json
import logging
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sources import GPT, MESSAGES, PROMPT, async_clients_of, clients_of

from llm_toll_autopatch import (
    CallRecord,
    MemorySink,
    SQLiteLedger,
    TeeSink,
    flush,
    patch_all,
    patched,
    reporting,
    status,
)
from llm_toll_autopatch import lane as lane_module
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.simulator import Simulator
from llm_toll_autopatch.sinks import SinkUnavailableError

pytestmark = pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning")


def ask(sim: Simulator, times: int = 1) -> None:
    """Send plain requests."""
    with clients_of(sim) as clients:
        for _ in range(times):
            clients.openai.chat.completions.create(model=GPT, messages=MESSAGES)


class Failing:
    """A sink that always raises."""

    def emit(self, record: CallRecord) -> None:
        raise RuntimeError("out of paper")


class Busy(MemorySink):
    """A sink that cannot take the first few."""

    def __init__(self, refusals: int) -> None:
        super().__init__()
        self.refusals = refusals

    def emit(self, record: CallRecord) -> None:
        if self.refusals:
            self.refusals -= 1
            raise SinkUnavailableError("busy")
        super().emit(record)


def test_a_failing_sink_is_logged_once_and_counted(sim: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    """What a sink raises never reaches the user; it is logged once, and counted in status()."""
    other = MemorySink()
    with caplog.at_level(logging.WARNING, "llm_toll_autopatch"), patched(sink=TeeSink(Failing(), other)):
        ask(sim, times=3)
        assert status().failures == 3
        assert status().last_failure == "writing to Failing: RuntimeError"
    assert len([entry for entry in caplog.records if "out of paper" in (entry.exc_text or "")]) == 1
    assert len(other) == 3
    failures.reset()


def test_a_busy_sink_is_tried_again(sim: Simulator) -> None:
    """A record that a sink cannot take now waits in the queue and is delivered when it can, once."""
    busy, other = Busy(2), MemorySink()
    with patched(sink=TeeSink(busy, other)):
        ask(sim)
        flush(5)
        assert len(busy) == len(other) == 1
        assert busy.records == other.records
        assert status().queued == 0
    failures.reset()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Somebody else writes to the ledger and does not come to an end."""
    with SQLiteLedger(path):
        pass
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


def test_a_thread_waits_for_a_busy_ledger(sim: Simulator, tmp_path: Path) -> None:
    """While another process holds the ledger's lock a sync call waits, and its record is committed when it returns."""
    path = tmp_path / "ledger.db"
    with locked(path) as other, patched(sink=f"sqlite:///{path}"), SQLiteLedger(path) as reader:
        threading.Timer(0.3, other.rollback).start()
        ask(sim)
        assert len(list(reader.records())) == 1
    assert failures.total == 0


async def _create(clients: Any) -> None:
    await clients.openai.chat.completions.create(model=GPT, messages=MESSAGES)


async def _retrieve(clients: Any) -> None:
    batch = f"batch_{GPT}~busy"
    for _ in range(2):  # at the first look it is under way
        await clients.openai.batches.retrieve(batch)


async def _results(clients: Any) -> None:
    async for _ in await clients.anthropic.messages.batches.results("msgbatch_claude-sonnet-5-5~busy"):
        pass


@pytest.mark.parametrize(("use", "records"), [(_create, 1), (_retrieve, 1), (_results, 2)])
async def test_an_event_loop_does_not_wait_for_a_busy_ledger(
    use: Any, records: int, sim: Simulator, tmp_path: Path
) -> None:
    """While another process holds the ledger's lock the event loop goes on, and async code awaits its records."""
    path = tmp_path / "ledger.db"
    with locked(path) as other, patched(sink=f"sqlite:///{path}"), SQLiteLedger(path) as reader:

        async def release_after_many_turns() -> None:
            while not reporting.queued():  # noqa: ASYNC110 - the code under test knows nothing of this test
                await asyncio.sleep(0.001)
            for _ in range(30):  # never got to if the loop stood still
                await asyncio.sleep(0.001)
            other.rollback()

        async with async_clients_of(sim) as clients:
            turns = asyncio.create_task(release_after_many_turns())
            await use(clients)
            assert len(list(reader.records())) == records
            await turns
            other.execute("BEGIN IMMEDIATE")
            turns = asyncio.create_task(release_after_many_turns())
            async for _ in await clients.openai.responses.create(model=GPT, input=PROMPT, stream=True):
                pass
            assert len(list(reader.records())) == records + 1
            await turns
    assert failures.total == 0


def test_nobody_waits_twice_for_a_hopeless_sink(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """After one call has waited in vain for a sink, others do not, until the sink takes a record again."""
    waits: list[Any] = []
    wait = concurrent.futures.wait

    def counted(futures: Any, timeout: float) -> None:
        waits.append(futures)
        wait(futures, timeout)

    monkeypatch.setattr(reporting, "PATIENCE_S", 0.05)
    monkeypatch.setattr(concurrent.futures, "wait", counted)
    busy = Busy(10**6)
    with patched(sink=busy):
        ask(sim, times=3)
        assert len(waits) == 1
        assert status().queued >= 1
        busy.refusals = 0
        flush(10)
        assert len(busy) == 3
        busy.refusals = 1
        ask(sim)
        assert len(waits) == 2
    failures.reset()


def test_a_full_queue_drops_and_says_so(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The queue is bounded: what does not fit is counted as dropped and logged."""
    monkeypatch.setattr(lane_module, "QUEUE_BOUND", 0)
    with patched(sink=Busy(1)):
        ask(sim)
        assert status().dropped == 1
    assert "a record was dropped" in caplog.text
    failures.reset()


def test_a_stream_closed_within_emit_does_not_wait_for_itself(sim: Simulator) -> None:
    """A sink that is called while it is being called, by a finalizer on its own thread, gets the record afterwards."""
    with clients_of(sim) as clients:
        streams: list[Any] = []

        class Locking(MemorySink):
            lock = threading.Lock()

            def emit(self, record: CallRecord) -> None:
                with self.lock:
                    if streams:
                        loop = streams.pop()
                        del loop  # what the garbage collector does at any moment: the end of a `for` loop
                    super().emit(record)

        sink = Locking()
        with patched(sink=sink):
            stream = clients.openai.responses.create(model=GPT, input=PROMPT, stream=True)
            loop = iter(stream)
            next(loop)
            streams.append(loop)
            del loop
            clients.openai.chat.completions.create(model=GPT, messages=MESSAGES)
            flush(5)
        assert sorted(record.outcome for record in sink) == ["closed", "completed"]


def test_the_record_is_committed_when_the_answer_is_there(sim: Simulator, tmp_path: Path) -> None:
    """With the ledger, the record of a plain call and of a stream's loop can be read when the user's code goes on."""
    path = tmp_path / "ledger.db"
    patch_all(sink=f"sqlite:///{path}")
    with clients_of(sim) as clients, SQLiteLedger(path) as reader:
        clients.openai.chat.completions.create(model=GPT, messages=MESSAGES)
        assert len(list(reader.records())) == 1
        for _ in clients.openai.responses.create(model=GPT, input=PROMPT, stream=True):
            pass
        assert len(list(reader.records())) == 2
        for _ in clients.openai.responses.create(model=GPT, input=PROMPT, stream=True):
            break
        assert [record.outcome for record in reader.records()] == ["completed", "completed", "closed"]
    assert status().ledger == str(path)


def test_threads_share_a_sink(sim: Simulator) -> None:
    """Calls of many threads give one record each."""
    with patched() as sink:
        threads = [threading.Thread(target=ask, args=(sim, 3)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert isinstance(sink, MemorySink)
    assert len({record.id for record in sink}) == len(sink) == 18


async def test_tasks_share_a_sink(sim: Simulator) -> None:
    """Streams of many tasks at once give one record each."""
    with patched() as sink:
        async with async_clients_of(sim) as clients:

            async def one() -> int:
                stream = await clients.openai.responses.create(model=GPT + "+delay=1", input=PROMPT, stream=True)
                return len([event async for event in stream])

            lengths = await asyncio.gather(*(one() for _ in range(40)))
    assert isinstance(sink, MemorySink)
    assert [record.chunks for record in sink] == lengths
    assert {record.usage.output_tokens for record in sink} == {8}


def test_streams_in_reference_cycles_are_found(sim: Simulator) -> None:
    """A stream that only the garbage collector can find gives its record too."""
    with patched() as sink, clients_of(sim) as clients:
        cycle: dict[str, Any] = {}
        cycle["self"] = cycle
        cycle["stream"] = clients.openai.responses.create(model=GPT, input=PROMPT, stream=True)
        next(cycle["stream"])
        del cycle
        gc.collect()
        flush(5)
        assert isinstance(sink, MemorySink)
        assert [record.outcome for record in sink] == ["abandoned"]
        assert status().open_calls == 0


PRELUDE = """
    import os, sys, openai, llm_toll_autopatch
    llm_toll_autopatch.patch_all(sink="jsonl:" + sys.argv[1])
    client = openai.OpenAI()
    def stream(flags=""):
        return client.responses.create(model="gpt-5-mini" + flags, input="hi", stream=True)
"""


def outcomes_of(program: str, sim: Simulator, tmp_path: Path) -> list[str]:
    """Run a program that streams in a fresh interpreter; return the outcomes that it left behind."""
    log = tmp_path / "calls.jsonl"
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(PRELUDE) + textwrap.dedent(program), str(log)],
        env={**os.environ, **sim.environment()}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    # The HTTP library may complain of async generators that the event loop closes; bare it does so too.
    assert "llm_toll" not in result.stderr
    return [json.loads(line)["outcome"] for line in log.read_text().splitlines()]


@pytest.mark.skipif(
    sys.version_info[:3] == (3, 13, 0), reason="CPython 3.13.0 crashes at exit with an open stream of the bare SDK too"
)
def test_streams_open_at_exit_are_recorded(sim: Simulator, tmp_path: Path) -> None:
    """Streams that are still open when the interpreter exits give their records, wherever they are kept."""
    outcomes = outcomes_of(
        """
        kept = stream()
        next(kept)
        class Keeper: pass
        Keeper.stream = stream()
        loop = iter(stream())
        next(loop)
        """,
        sim,
        tmp_path,
    )
    assert outcomes == ["abandoned", "abandoned", "abandoned"]


def test_async_streams_open_at_exit_are_recorded(sim: Simulator, tmp_path: Path) -> None:
    """The same for async streams, and for one whose loop is broken off as the last thing that the program does."""
    outcomes = outcomes_of(
        """
        import asyncio
        async def main():
            global kept
            async with openai.AsyncOpenAI() as client:
                kept = await client.responses.create(model="gpt-5-mini", input="hi", stream=True)
                await anext(kept)
                async for _ in await client.responses.create(model="gpt-5-mini", input="hi", stream=True):
                    break
        asyncio.run(main())
        """,
        sim,
        tmp_path,
    )
    assert sorted(outcomes) == ["abandoned", "closed"]


def test_a_fork_leaves_open_streams_to_the_parent(sim: Simulator, tmp_path: Path) -> None:
    """A stream that is open while the process forks is recorded once, by the parent; the child's own calls are too."""
    outcomes = outcomes_of(
        """
        open_stream = stream()
        next(open_stream)
        pid = os.fork()
        if pid == 0:
            for _ in openai.OpenAI().responses.create(model="gpt-5-mini", input="hi", stream=True): pass
            llm_toll_autopatch.flush()
            sys.exit(0)
        os.waitpid(pid, 0)
        for _ in open_stream: pass
        """,
        sim,
        tmp_path,
    )
    assert outcomes == ["completed", "completed"]


def test_a_fork_right_after_the_first_call(sim: Simulator, tmp_path: Path) -> None:
    """A child that is forked while the first price is still being looked up can look up prices itself."""
    outcomes = outcomes_of(
        """
        import signal, threading, time
        client.responses  # imports of the SDK's own, which no fork may interrupt
        first = []
        thread = threading.Thread(target=lambda: first.append(stream("+first=300")))
        thread.start()
        while "genai_prices" not in sys.modules:
            time.sleep(0.001)
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)
            openai.OpenAI().responses.create(model="gpt-5-mini", input="hi")
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        thread.join()
        first.pop().close()
        """,
        sim,
        tmp_path,
    )
    assert outcomes == ["completed", "closed"]


def test_nothing_private_is_stored(sim: Simulator, tmp_path: Path) -> None:
    """No prompt, completion, key or header gets into a record, a file or a log line."""
    canary = "canary-7f3a"
    log, ledger = tmp_path / "calls.jsonl", tmp_path / "ledger.db"
    with patched(sink=[f"jsonl:{log}", f"sqlite:///{ledger}"]), clients_of(sim) as clients:
        client = clients.openai.with_options(api_key=canary, default_headers={"x-secret": canary})
        client.chat.completions.create(model=GPT, messages=[{"role": "user", "content": canary}])
        for _ in client.chat.completions.create(
            model=GPT + "+no-usage", messages=[{"role": "user", "content": canary}], stream=True, user=canary
        ):
            pass
    assert len(log.read_text().splitlines()) == 2
    for file in tmp_path.iterdir():
        assert canary.encode() not in file.read_bytes()


def test_flush_waits_for_a_piece_that_was_just_handed_over() -> None:
    """What the outbox has taken but not begun is waited for: a finalizer's record is there when flush() returns."""
    outbox = reporting.Outbox()
    done: list[int] = []
    for number in range(200):
        outbox.put(lambda number=number: done.append(number))  # type: ignore[misc]
        assert outbox.drain(5)
        assert len(done) == number + 1
