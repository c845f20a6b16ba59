"""The tests for authors of sinks: our own sinks pass them, and what is wrong with a sink is found."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

from llm_toll_autopatch import (
    CallbackSink,
    CallRecord,
    ConsoleSink,
    JSONLinesSink,
    LLMTollSink,
    LoggingSink,
    MemorySink,
    OTelSink,
    PrometheusSink,
    SQLiteLedger,
    TeeSink,
)
from llm_toll_autopatch.sinks import Sink
from llm_toll_autopatch.testing import SinkConformance, check_sink


def ids_in(sink: Any) -> list[str]:
    return [json.loads(line)["id"] for line in sink.path.read_text().splitlines()]


def otel() -> OTelSink:
    meters = MeterProvider([InMemoryMetricReader()])
    return OTelSink(semconv="both", spans=True, meter_provider=meters, tracer_provider=TracerProvider())


def logger() -> logging.Logger:
    """A logger whose lines pytest does not keep: xdist cannot pass on lone surrogates, which the records have."""
    made = logging.Logger("conformance", logging.INFO)  # noqa: LOG001 - it must have no parent
    made.addHandler(logging.StreamHandler(io.StringIO()))
    return made


OURS: dict[str, Callable[[Path], Sink]] = {
    "callback": lambda _: CallbackSink(lambda record: record.id),
    "console": lambda _: ConsoleSink(io.StringIO()),
    "jsonl": lambda path: JSONLinesSink(path / "calls.jsonl"),
    "llm-toll": lambda path: LLMTollSink(path / "toll.db"),
    "log": lambda _: LoggingSink(logger()),
    "memory": lambda _: MemorySink(),
    "otel": lambda _: otel(),
    "prometheus": lambda _: PrometheusSink(CollectorRegistry()),
    "sqlite": lambda path: SQLiteLedger(path / "ledger.db"),
    "tee": lambda path: TeeSink(MemorySink(), JSONLinesSink(path / "calls.jsonl")),
}


@pytest.mark.parametrize("test", [name for name in dir(SinkConformance) if name.startswith("test_")])
@pytest.mark.parametrize("name", OURS)
def test_our_own(name: str, test: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each sink of ours does what every sink must."""
    caplog.set_level(logging.INFO)
    made = 0

    def make() -> Sink:
        nonlocal made
        made += 1
        directory = tmp_path / str(made)
        directory.mkdir()
        return OURS[name](directory)

    conformance = SinkConformance()
    conformance.make_sink = make  # type: ignore[method-assign]
    if name == "jsonl":
        conformance.read_back = ids_in  # type: ignore[method-assign]
    getattr(conformance, test)()
    assert made


class Raising(MemorySink):
    """Takes nothing."""

    def emit(self, record: CallRecord) -> None:
        raise OSError("no")


class Losing(MemorySink):
    """Loses records of unknown cost."""

    def emit(self, record: CallRecord) -> None:
        if record.cost_usd is not None:
            super().emit(record)


class Twice(MemorySink):
    """Keeps every record twice."""

    def emit(self, record: CallRecord) -> None:
        super().emit(record)
        super().emit(record)


class Awaited(MemorySink):
    """Would have to be awaited."""

    async def emit(self, record: CallRecord) -> None:  # type: ignore[override]
        super().emit(record)


class Unsafe(MemorySink):
    """Fails when two threads are in `emit` at once."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = 0
        self.meet = threading.Barrier(2)

    def emit(self, record: CallRecord) -> None:
        if threading.current_thread() is not threading.main_thread():
            self.meet.wait(10)
            raise RuntimeError("two at once")
        super().emit(record)


class ClosesOnce(MemorySink):
    """Cannot be closed twice."""

    closed = False

    def close(self) -> None:
        if self.closed:
            raise ValueError("closed already")
        self.closed = True


class Careless(MemorySink):
    """A ledger that counts a record twice."""

    def totals(self, by: Any) -> list[Any]:
        from llm_toll_autopatch.ledger.totals import Totals

        return [Totals(calls=len(self), cost_usd=self.total_cost_usd)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Raising, r"emit raised OSError\('no'\) for CallRecord"),
        (Losing, "1 of 19 records are missing"),
        (Twice, "19 records are there more than once"),
        (Awaited, "must be a plain method"),
        (Unsafe, "emit fails when 8 threads call it"),
        (ClosesOnce, "closed already"),
        (Careless, "3 records, each emitted twice, are 6 calls"),
        (object, "has no method emit"),
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine")
def test_what_is_wrong_is_found(make: Callable[[], Any], message: str) -> None:
    """A sink that does not do what it must fails with a message that says what."""
    with pytest.raises((AssertionError, ValueError), match=message):
        check_sink(make)


def test_a_sink_that_hangs_after_a_fork_is_found() -> None:
    """A lock that a thread of the parent holds is one that the child waits for; the test ends all the same."""
    program = """
        import threading
        import llm_toll_autopatch.testing as kit
        from llm_toll_autopatch import MemorySink
        kit._PATIENCE_S = 1
        class Locked(MemorySink):
            lock = threading.Lock()
            first = True
            def emit(self, record):
                if self.first:
                    self.first = False
                    self.lock.acquire()  # as another thread would, at the moment of the fork
                    return
                with self.lock:
                    super().emit(record)
        conformance = kit.SinkConformance()
        conformance.make_sink = Locked
        try:
            conformance.test_a_forked_child()
        except AssertionError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "emit hangs in a forked child: make locks and connections anew there\n"


def test_read_back_of_the_authors(tmp_path: Path) -> None:
    """`check_sink` takes a function that reads the ids back."""
    paths = iter(range(100))
    check_sink(lambda: JSONLinesSink(tmp_path / str(next(paths))), ids_in)
    with pytest.raises(AssertionError, match="1 of 19 records are missing"):
        check_sink(MemorySink, lambda sink: [record.id for record in sink.records[1:]])  # type: ignore[attr-defined]
