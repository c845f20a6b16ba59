"""Each sink has a lane of its own: what one of them does is nothing to the others."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sources import GPT, MESSAGES, PROMPT, clients_of
from specimens import record
from versions import NO_THREADS_AT_EXIT

from llm_toll_autopatch import CallbackSink, CallRecord, MemorySink, TeeSink, flush, lanes, patched, reporting, status
from llm_toll_autopatch import lane as lane_module
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.health import SinkStatus
from llm_toll_autopatch.lanes import deliver, lane_of
from llm_toll_autopatch.ledger import SQLiteLedger
from llm_toll_autopatch.ledger.money import from_nano_usd
from llm_toll_autopatch.simulator import Simulator
from llm_toll_autopatch.sinks import SinkUnavailableError


@pytest.fixture(autouse=True)
def expected_failures() -> Iterator[None]:
    """These tests make sinks fail."""
    yield
    failures.reset()


class Hanging(MemorySink):
    """A sink that does not come back until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.threads: list[str] = []

    def emit(self, record: CallRecord) -> None:
        self.threads.append(threading.current_thread().name)
        self.entered.set()
        self.go_on.wait(60)
        super().emit(record)


class Deferred(Hanging):
    """The same, and never called on the program's threads."""

    deferred = True


class Moody(MemorySink):
    """A sink that raises as often as it is told to."""

    def __init__(self, times: int, error: type[Exception] = RuntimeError) -> None:
        super().__init__()
        self.times = times
        self.error = error

    def emit(self, record: CallRecord) -> None:
        if self.times:
            self.times -= 1
            raise self.error("no")
        super().emit(record)


def ask(sim: Simulator, times: int = 1) -> None:
    with clients_of(sim) as clients:
        for _ in range(times):
            clients.openai.chat.completions.create(model=GPT, messages=MESSAGES)


def test_a_sink_that_hangs_holds_up_nobody_else(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a sink hangs in one thread, others' calls go on, other sinks get theirs, and it does when it comes back."""
    monkeypatch.setattr(lane_module, "STUCK_S", 0.0)
    hanging, other = Hanging(), MemorySink()
    with patched(sink=TeeSink(hanging, other)):
        held = threading.Thread(target=ask, args=(sim,))
        held.start()
        assert hanging.entered.wait(10)
        ask(sim, times=3)
        assert len(other) == 3
        first, second = status().sinks
        assert (first.name, first.queued, first.written, first.state) == ("Hanging", 3, 0, "stuck")
        assert second == SinkStatus(name="MemorySink", written=3)
        hanging.go_on.set()
        held.join()
        flush(10)
        assert len(other) == len(hanging) == 4
        assert {each.id for each in other} == {each.id for each in hanging}
        assert status().sinks[0].state == "ok"


def test_a_deferred_sink_never_has_the_callers_thread(sim: Simulator) -> None:
    """A sink that says `deferred = True` is called by its lane alone, so that one that hangs holds up no call at all."""
    hanging = Deferred()
    with patched(sink=hanging):
        ask(sim, times=3)
        assert hanging.entered.wait(10)
        assert status().sinks[0].queued == 3
        hanging.go_on.set()
        flush(10)
        assert len(hanging) == 3
        assert set(hanging.threads) == {"llm-toll-Deferred"}


def test_a_callback_can_be_deferred() -> None:
    """A function of the user's that may take long is called by a thread of ours, if he says so."""
    threads: list[str] = []
    sink = CallbackSink(lambda _: threads.append(threading.current_thread().name), deferred=True)
    delivery = deliver(sink, record())
    assert delivery is not None
    assert not delivery.wanted
    assert lane_of(sink).drain(None)
    assert threads == ["llm-toll-CallbackSink"]


def test_a_slow_sink_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A sink that was slow several times in a row is called by its lane from then on, until it is quick again."""
    monkeypatch.setattr(lane_module, "SLOW_S", -1.0)
    sink = MemorySink()
    for _ in range(3):
        assert deliver(sink, record()) is None
    lane = lane_of(sink)
    assert (len(sink), lane.state, lane.takes_over) == (3, "slow", True)
    assert "MemorySink is slow" in caplog.text
    monkeypatch.setattr(lane_module, "SLOW_S", 60.0)
    for _ in range(20):
        deliver(sink, record())
    assert lane.drain(None)
    assert (len(sink), lane.state, lane.takes_over) == (23, "ok", False)


def test_a_failing_sink_is_suspended(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """After five failures in a row the sink is left alone; its records are kept and written when it has recovered."""
    sink = Moody(times=5)
    for _ in range(5):
        assert deliver(sink, record()) is None
    lane = lane_of(sink)
    assert (lane.state, lane.failures) == ("suspended", 5)
    kept = [record() for _ in range(4)]
    for each in kept:
        delivery = deliver(sink, each)
        assert delivery is not None
        assert not delivery.wanted
    assert (lane.queued, len(sink)) == (4, 0)
    assert lane.drain(None)  # what `flush` does: one try now
    assert sink.records == tuple(kept)
    assert (lane.state, lane.written) == ("ok", 4)
    assert len([line for line in caplog.messages if "failed 5 times in a row" in line]) == 1


def test_a_suspended_sink_that_fails_again_stays_suspended(monkeypatch: pytest.MonkeyPatch) -> None:
    """One record is the price of each try; flush does not wait for the others."""
    sink = Moody(times=6)
    for _ in range(8):
        deliver(sink, record())
    lane = lane_of(sink)
    assert not lane.drain(None)
    assert (lane.state, lane.failures, lane.queued) == ("suspended", 6, 2)
    assert lane.drain(None)
    assert (len(sink), lane.state) == (2, "ok")


def test_the_suspension_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """When its time is over the sink is tried again without anybody's asking."""
    monkeypatch.setattr(lane_module, "SUSPENSION_S", 0.05)
    sink = Moody(times=5)
    for _ in range(6):
        deliver(sink, record())
    while lane_of(sink).queued:
        threading.Event().wait(0.005)
    assert len(sink) == 1


def test_a_full_lane_drops_counts_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What a sink's bounded queue cannot keep is counted for it and in all, and logged once, not for each record."""
    monkeypatch.setattr(lane_module, "QUEUE_BOUND", 2)
    sink, other = Deferred(), MemorySink()
    deliver(sink, record())
    assert sink.entered.wait(10)
    for _ in range(5):
        deliver(sink, record())
        deliver(other, record())
    lane = lane_of(sink)
    assert (lane.queued, lane.dropped, reporting.counts.dropped, len(other)) == (2, 4, 4, 5)
    assert len([line for line in caplog.messages if "dropped" in line]) == 1
    sink.go_on.set()
    assert lane.drain(None)
    assert lane.written == len(sink) == 2


def test_a_record_that_is_always_refused_does_not_block_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those behind a record that the sink cannot take get their turn."""
    monkeypatch.setattr(lane_module, "_RETRY_S", (0.001, 0.001))

    class Picky(MemorySink):
        refuse = True

        def emit(self, record: CallRecord) -> None:
            if self.refuse and record.model == "bad":
                raise SinkUnavailableError("not this one")
            super().emit(record)

    sink = Picky()
    waiting = deliver(sink, record(model="bad"))
    assert waiting is not None
    assert waiting.wanted
    behind = deliver(sink, record(model="good"))
    assert behind is not None
    assert behind.wanted
    behind.result(10)
    assert [each.model for each in sink] == ["good"]
    sink.refuse = False
    waiting.result(10)
    assert [each.model for each in sink] == ["good", "bad"]


def test_a_sink_that_exits_takes_no_thread_with_it() -> None:
    """A sink that raises SystemExit on its lane loses that record, and gets the next."""

    class Exiting(MemorySink):
        deferred = True

        def emit(self, record: CallRecord) -> None:
            if record.model == "bad":
                raise SystemExit
            super().emit(record)

    sink = Exiting()
    deliver(sink, record(model="bad"))
    deliver(sink, record())
    assert lane_of(sink).drain(None)
    assert len(sink) == 1


def test_a_sink_is_let_go(sim: Simulator) -> None:
    """Nothing keeps a sink alive that is used no more, and its figures go with it; one without weak references works."""

    class Slotted:
        __slots__ = ("kept",)

        def __init__(self) -> None:
            self.kept: list[CallRecord] = []

        def emit(self, record: CallRecord) -> None:
            self.kept.append(record)

    sink, slotted = MemorySink(), Slotted()
    key = (id(sink), False)
    deliver(sink, record())
    deliver(slotted, record())
    assert (len(sink), len(slotted.kept)) == (1, 1)
    gone = weakref.ref(sink)
    del sink
    gc.collect()
    assert gone() is None
    assert key not in lanes._lanes


def test_a_refusal_keeps_nothing_of_the_program_alive() -> None:
    """The error of a sink that could not take a record holds on to no variable of the program."""

    class Answer:
        """Something that the program works with."""

    sink = Moody(times=1, error=SinkUnavailableError)
    answers: list[weakref.ref[Answer]] = []

    def work() -> None:
        answer = Answer()
        answers.append(weakref.ref(answer))
        assert deliver(sink, record()) is not None

    work()
    gc.collect()
    assert answers[0]() is None
    assert lane_of(sink).drain(None)
    assert len(sink) == 1


def test_the_lane_thread_ends_and_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane without work has no thread; the next record starts one."""
    monkeypatch.setattr(lane_module, "_LINGER_S", 0.001)
    sink = Deferred()
    sink.go_on.set()
    for count in range(1, 30):
        deliver(sink, record())
        assert lane_of(sink).drain(None)
        assert len(sink) == count
    for _ in range(1000):
        if not [thread for thread in threading.enumerate() if thread.name == "llm-toll-Deferred"]:
            return
        threading.Event().wait(0.005)
    pytest.fail("the thread is still there")


def test_flush_leaves_a_hanging_sink_behind() -> None:
    """`flush` with a time limit keeps it, whatever a sink does in its own `flush`; the others are flushed."""
    flushed: list[str] = []

    class Hanging(MemorySink):
        go_on = threading.Event()

        def flush(self) -> None:
            self.go_on.wait(60)

    class Flushed(MemorySink):
        def flush(self) -> None:
            flushed.append("yes")

    hanging = Hanging()
    assert not reporting.flush(TeeSink(hanging, Flushed()), 0.1)
    assert flushed == ["yes"]
    hanging.go_on.set()
    assert reporting.flush(TeeSink(hanging, Flushed()), 10)


def test_a_sink_may_flush_everything(sim: Simulator) -> None:
    """A sink that calls `flush` while it is called does not wait for itself, neither at once nor on its lane."""

    class Flushing(MemorySink):
        def emit(self, record: CallRecord) -> None:
            flush()
            super().emit(record)

    class Later(Flushing):
        deferred = True

    at_once, later = Flushing(), Later()
    with patched(sink=TeeSink(at_once, later)):
        ask(sim)
        flush(10)
        assert len(at_once) == len(later) == 1


def test_status_prints_each_sink(sim: Simulator) -> None:
    """`print(status())` has a line for each sink."""
    with patched(sink=TeeSink(MemorySink(), Moody(times=1))):
        ask(sim)
        lines = str(status()).splitlines()
    assert "sink       MemorySink: 1 written, 0 waiting, 0 dropped, 0 failures" in lines
    assert "sink       Moody: 0 written, 0 waiting, 0 dropped, 1 failures" in lines


def test_finalizers_call_no_sink(sim: Simulator) -> None:
    """The record of a stream that the garbage collector found reaches each sink through its lane."""
    seen: list[str] = []

    class Witness(MemorySink):
        def emit(self, record: CallRecord) -> None:
            seen.append(threading.current_thread().name)
            super().emit(record)

    with patched(sink=Witness()), clients_of(sim) as clients:
        stream: Any = clients.openai.responses.create(model=GPT, input=PROMPT, stream=True)
        next(stream)
        del stream
        gc.collect()
        flush(5)
    assert seen == ["llm-toll-Witness"]


PRELUDE = """
    import os, sys, threading, time, openai, llm_toll_autopatch
    from llm_toll_autopatch import JSONLinesSink, MemorySink, TeeSink
    log = JSONLinesSink(sys.argv[1])
    def ask(model="gpt-5-mini"):
        openai.OpenAI().responses.create(model=model, input="hi")
"""


def run(program: str, sim: Simulator, tmp_path: Path) -> tuple[int, str]:
    """Run a program in a fresh interpreter; return how many records its file holds, and its stderr."""
    log = tmp_path / "calls.jsonl"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(PRELUDE) + textwrap.dedent(program), str(log)],
        env={**os.environ, **sim.environment()}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return len(log.read_text().splitlines()), done.stderr


def test_exit_does_not_wait_for_a_sink_that_hangs(sim: Simulator, tmp_path: Path) -> None:
    """The program ends though a sink hangs and one fails; the others have all their records, are flushed and closed."""
    count, printed = run(
        """
        class Hanging:
            deferred = True
            def emit(self, record):
                threading.Event().wait()
        class Failing:
            def emit(self, record):
                raise RuntimeError
        class Endless(MemorySink):
            def close(self):
                threading.Event().wait()
        class Batching:
            waiting = []
            def emit(self, record):
                self.waiting.append(record)
            def flush(self):
                print("flushed", len(self.waiting), file=sys.stderr)
            def close(self):
                print("closed", file=sys.stderr)
        sinks = [Hanging(), Failing(), Endless(), log, Batching()]
        if NO_THREADS_AT_EXIT:
            del sinks[2]
        llm_toll_autopatch.patch_all(sink=sinks)
        for _ in range(7):
            ask()
        kept = openai.OpenAI().responses.create(model="gpt-5-mini", input="hi", stream=True)
        next(kept)
        """.replace("NO_THREADS_AT_EXIT", str(NO_THREADS_AT_EXIT)),
        sim,
        tmp_path,
    )
    assert (count, printed.splitlines()[-2:]) == (8, ["flushed 8", "closed"])


def test_calls_made_by_exit_hooks(sim: Simulator, tmp_path: Path) -> None:
    """Calls of exit hooks that run before ours and after ours give their records too, also where one is the first."""
    count, _ = run(
        """
        import atexit, concurrent.futures.thread  # OpenAI's older SDKs import it with their first client: too late at exit
        class Late:
            deferred = True
            def emit(self, record):
                time.sleep(0.05)
                log.emit(record)
        llm_toll_autopatch.patch_all(sink=Late())
        atexit.register(ask)
        ask()
        """,
        sim,
        tmp_path,
    )
    assert count == 2
    (tmp_path / "calls.jsonl").unlink()
    count, _ = run(
        """
        import atexit, concurrent.futures.thread  # OpenAI's older SDKs import it with their first client: too late at exit
        class Late:
            deferred = True
            def emit(self, record):
                time.sleep(0.05)
                log.emit(record)
        llm_toll_autopatch.patch_all(sink=Late())
        atexit.register(ask)
        """,
        sim,
        tmp_path,
    )
    assert count == 1


def test_a_fork_while_a_sink_hangs(sim: Simulator, tmp_path: Path) -> None:
    """A child has lanes of its own: what waits for a sink of the parent's stays with the parent, its own calls work."""
    count, _ = run(
        """
        import signal
        class Hanging:
            deferred = True
            go_on = threading.Event()
            def emit(self, record):
                if os.getpid() == parent:
                    self.go_on.wait()
                log.emit(record)
        parent = os.getpid()
        sink = Hanging()
        llm_toll_autopatch.patch_all(sink=sink)
        ask(); ask()
        time.sleep(1.1)
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)
            ask()
            llm_toll_autopatch.flush()
            assert llm_toll_autopatch.status().sinks[0].written == 1
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        sink.go_on.set()
        """,
        sim,
        tmp_path,
    )
    assert count == 3


def test_records_of_a_busy_sink_are_tried_a_last_time_at_exit(sim: Simulator, tmp_path: Path) -> None:
    """A sink that is busy until the program ends gets its records then."""
    count, _ = run(
        """
        from llm_toll_autopatch.sinks import SinkUnavailableError
        class Busy:
            ready = False
            def emit(self, record):
                if not self.ready:
                    raise SinkUnavailableError("busy")
                log.emit(record)
        busy = Busy()
        llm_toll_autopatch.patch_all(sink=busy)
        ask(); ask()
        busy.ready = True
        """,
        sim,
        tmp_path,
    )
    assert count == 2


def test_a_broken_logging_handler_is_nothing_to_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logging that raises breaks neither a drop nor a suspension."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("disk full")

    logger = logging.getLogger("llm_toll_autopatch")
    handler = Broken()
    logger.addHandler(handler)
    try:
        monkeypatch.setattr(lane_module, "QUEUE_BOUND", 0)
        sink = Moody(times=5)
        for _ in range(6):
            deliver(sink, record())
        assert (lane_of(sink).failures, lane_of(sink).dropped) == (5, 1)
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("streamed", [False, True])
def test_an_interruption_within_a_sink(
    sim: Simulator, tmp_path: Path, interruption: type[BaseException], streamed: bool
) -> None:
    """Ctrl-C while a sink has the record reaches the program when the other sinks have it, and what was held is settled."""

    def interrupted(_record: CallRecord) -> None:
        raise interruption

    ledger, memory = SQLiteLedger(tmp_path / "ledger.db"), MemorySink()
    sinks = [interrupted, memory, ledger]
    with patched(sink=sinks, max_budget=1, strict_budget=True), clients_of(sim) as clients:
        with pytest.raises(interruption):
            list(
                clients.openai.chat.completions.create(
                    model=GPT, messages=MESSAGES, max_completion_tokens=50, stream=streamed
                )
            )
        flush(5)
        assert [each.id for each in ledger.records()] == [each.id for each in memory.records]
        (budget,) = ledger.budgets(datetime.now(UTC))
    assert len(memory.records) == 1
    assert memory.records[0].cost_usd is not None
    assert (from_nano_usd(budget.spent), budget.held) == (memory.records[0].cost_usd, 0)


def test_a_ledger_that_is_interrupted_gets_the_record_again(tmp_path: Path) -> None:
    """A ledger, which keeps a record once, is given the one that it was interrupted with again, by its lane."""

    class Interrupted(SQLiteLedger):
        times = 0

        def emit_now(self, record: CallRecord) -> None:
            self.times += 1
            if self.times == 1:
                raise KeyboardInterrupt
            super().emit_now(record)

    with Interrupted(tmp_path / "ledger.db") as ledger:
        with pytest.raises(KeyboardInterrupt):
            deliver(ledger, given := record())
        assert lanes.drain(None)
        assert [each.id for each in ledger.records()] == [given.id]


def test_a_sink_that_goes_last() -> None:
    """A sink that outlives our modules, which the interpreter takes apart at exit, says nothing on stderr."""
    program = """
        from llm_toll_autopatch import MemorySink, lanes
        sink = MemorySink()
        lane = lanes.lane_of(sink)
        lanes._lanes = None  # what the interpreter does to a module that it takes apart
        del sink
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""
