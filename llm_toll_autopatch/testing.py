"""What the author of a sink or a ledger can check it with.

    from llm_toll_autopatch.testing import SinkConformance

    class TestMySink(SinkConformance):
        def make_sink(self):
            return MySink("http://127.0.0.1:8086")

Needs no test framework: `check_sink(make_sink)` does the same in one call.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import signal
import threading
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.ledger.money import sum_usd
from llm_toll_autopatch.records import CallRecord, Usage, new_id
from llm_toll_autopatch.sinks import SinkUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llm_toll_autopatch.sinks import Sink

__all__ = ["SinkConformance", "check_sink", "sample_records"]

_THREADS = 8
_EACH = 20
_PATIENCE_S = 30
_TEXTS = (
    "", " ", "日本語 🦊", "'; DROP TABLE calls; --", "<script>", 'a"b\\c', "two\nlines\0", "\ud800", "x" * 5000,
)  # fmt: skip


def sample_record(**changes: Any) -> CallRecord:
    """Return the record of an ordinary call, with a new id, changed in places."""
    plain = CallRecord(
        id=new_id(),
        provider="openai",
        operation="chat",
        method="chat.completions.create",
        model="gpt-5-mini",
        usage=Usage(input_tokens=1200, output_tokens=450),
        usage_source="reported",
        cost_usd=Decimal("0.0012"),
        project="conformance",
        started_at=datetime.now(UTC),
        duration_s=0.8,
    )
    return replace(plain, **changes)


def sample_records() -> Iterator[CallRecord]:
    """Yield records of all kinds that a program may make, odd ones too, each with a new id."""
    yield sample_record()
    yield sample_record(cost_usd=None, usage_source="partial")
    yield sample_record(cost_usd=Decimal(0), usage=Usage(), usage_source="missing", outcome="error", error_type="E")
    for outcome in ("completed", "closed", "abandoned", "cancelled"):
        yield sample_record(outcome=outcome, stream=True, chunks=7, time_to_first_chunk_s=0.2)
    yield sample_record(
        response_model="gpt-5-mini-2026-08-07",
        service_tier="flex",
        response_id="resp_1",
        endpoint="api.openai.com",
        tags=MappingProxyType({"team": "search", "": ""}),
        usage=Usage(
            **{name: 10 for name in Usage.__slots__ if name != "details"},
            details=MappingProxyType({"images": 2, "a.new-part": 3}),
        ),
    )
    yield sample_record(cost_usd=Decimal("0.000000001"), duration_s=0.0)
    yield sample_record(cost_usd=Decimal("1234567.123456789"), usage=Usage(input_tokens=2**40, output_tokens=2**40))
    for text in _TEXTS:
        yield sample_record(model=text, project=text or "default", tags=MappingProxyType({text: text}))


class SinkConformance:
    """Tests of what every sink must do; a subclass says how to make one.

    Each test makes its own. Where a sink's back end is not always there, it may raise `SinkUnavailableError` from
    `emit`; these tests need one that is there.
    """

    def make_sink(self) -> Sink:
        """Return a new sink."""
        raise NotImplementedError

    def read_back(self, sink: Sink) -> list[str] | None:
        """Return the ids of the records that `sink` has; None, the default, if it cannot be asked.

        A ledger, or anything else with `records`, is asked by itself.
        """
        records = getattr(sink, "records", None)
        if records is None:
            return None
        return [record.id for record in (records() if callable(records) else records)]

    @contextlib.contextmanager
    def _sink(self) -> Iterator[Sink]:
        sink = self.make_sink()
        try:
            yield sink
        finally:
            for method in ("flush", "close"):
                if callable(call := getattr(sink, method, None)):
                    call()

    def test_emit_is_called_with_a_record(self) -> None:
        """`emit` is a plain method of one argument, and returns nothing."""
        with self._sink() as sink:
            assert callable(getattr(sink, "emit", None)), f"{sink!r} has no method emit(record)"
            assert not inspect.iscoroutinefunction(sink.emit), "emit must be a plain method: it is called, not awaited"
            inspect.signature(sink.emit).bind(sample_record())
            returned = _emit(sink, sample_record())
            assert not inspect.isawaitable(returned), "emit returned something to be awaited, which nobody does"

    def test_every_kind_of_record(self) -> None:
        """Each kind of record is taken; none is changed, and none is lost."""
        with self._sink() as sink:
            ids = []
            for record in sample_records():
                ids.append(record.id)
                _emit(sink, record)
            self._expect(sink, ids)

    def test_many_threads(self) -> None:
        """Several threads may emit at once."""
        with self._sink() as sink:
            errors: list[BaseException] = []
            ids: list[str] = []

            def emit_some() -> None:
                try:
                    for _ in range(_EACH):
                        record = sample_record()
                        ids.append(record.id)
                        _emit(sink, record)
                except BaseException as error:
                    errors.append(error)

            threads = [threading.Thread(target=emit_some, daemon=True) for _ in range(_THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(_PATIENCE_S)
                assert not thread.is_alive(), f"emit did not come back within {_PATIENCE_S} s with {_THREADS} threads"
            if errors:
                raise AssertionError(f"emit fails when {_THREADS} threads call it: {errors[0]!r}") from errors[0]
            self._expect(sink, ids)

    def test_flush_and_close(self) -> None:
        """`flush` and `close`, where they are there, may be called at any time, twice, and before the first record."""
        for before in (True, False):
            with self._sink() as sink:
                if before:
                    _emit(sink, sample_record())
                for method in ("flush", "flush", "close", "close"):
                    call: Callable[[], object] | None = getattr(sink, method, None)
                    if call is not None:
                        call()

    def test_a_forked_child(self) -> None:
        """A process that forks after the first record can go on, and so can its child, without a wait."""
        if not hasattr(os, "fork"):
            return
        with self._sink() as sink:
            _emit(sink, sample_record())
            with warnings.catch_warnings():  # from Python 3.12 on a fork beside other threads is warned of
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
            if child == 0:
                signal.alarm(_PATIENCE_S)
                try:
                    _emit(sink, sample_record())
                    if callable(flush := getattr(sink, "flush", None)):
                        flush()
                    os._exit(0)
                except BaseException:
                    os._exit(1)
            ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert ended != -signal.SIGALRM, "emit hangs in a forked child: make locks and connections anew there"
            assert ended == 0, "emit fails in a forked child: make locks and connections anew there"
            _emit(sink, sample_record())

    def test_a_ledger_keeps_a_record_once(self) -> None:
        """What can add up what it holds counts a record that it gets twice once, and adds up exactly."""
        with self._sink() as sink:
            if not hasattr(sink, "totals"):
                return
            costs = [Decimal("0.1"), Decimal("0.2"), Decimal("0.000000001")]
            for cost in costs:
                record = sample_record(cost_usd=cost)
                _emit(sink, record)
                _emit(sink, record)
            [totals] = sink.totals(by=["project"])
            assert totals.calls == len(costs), f"{len(costs)} records, each emitted twice, are {totals.calls} calls"
            assert totals.cost_usd == sum_usd(costs), f"the sum of {costs} is not {totals.cost_usd}"

    def _expect(self, sink: Sink, ids: list[str]) -> None:
        if callable(flush := getattr(sink, "flush", None)):
            flush()
        kept = self.read_back(sink)
        if kept is None:
            return
        missing = set(ids) - set(kept)
        assert not missing, f"{len(missing)} of {len(ids)} records are missing"
        assert len(kept) == len(set(kept)), f"{len(kept) - len(set(kept))} records are there more than once"


def _emit(sink: Sink, record: CallRecord) -> object:
    before = repr(record)
    try:
        returned: object = sink.emit(record)  # type: ignore[func-returns-value]
    except SinkUnavailableError as error:
        raise AssertionError(f"the sink is not available, so nothing can be checked: {error}") from error
    except Exception as error:
        raise AssertionError(f"emit raised {error!r} for {before}") from error
    assert repr(record) == before, f"emit changed the record from {before} to {record!r}"
    return returned


def check_sink(make_sink: Callable[[], Sink], read_back: Callable[[Sink], list[str] | None] | None = None) -> None:
    """Run all tests of `SinkConformance`.

    Args:
        make_sink: Returns a new sink; it is called for each test.
        read_back: Returns the ids of the records that a sink has. Not needed for one with `records`.

    Raises:
        AssertionError: The sink does not do what it must; the message says what.
    """
    conformance = SinkConformance()
    conformance.make_sink = make_sink  # type: ignore[method-assign]
    if read_back is not None:
        conformance.read_back = read_back  # type: ignore[assignment, method-assign]
    for name in vars(SinkConformance):
        if name.startswith("test_"):
            getattr(conformance, name)()
