"""Sinks take records, survive each other's failures, and are named in plain words."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
import threading
from dataclasses import fields
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from specimens import TEXTS, any_record, record

from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.ledger import SQLiteLedger
from llm_toll_autopatch.records import CallRecord, Usage
from llm_toll_autopatch.sinks import Sink, SinkUnavailableError
from llm_toll_autopatch.sinks.callback import CallbackSink
from llm_toll_autopatch.sinks.jsonl import JSONLinesSink
from llm_toll_autopatch.sinks.log import LoggingSink
from llm_toll_autopatch.sinks.memory import MemorySink
from llm_toll_autopatch.sinks.resolve import resolve_sink
from llm_toll_autopatch.sinks.rows import record_from_dict, record_to_dict
from llm_toll_autopatch.sinks.tee import PartlyDeliveredError, TeeSink, leaves

if TYPE_CHECKING:
    from collections.abc import Iterator

records = any_record(TEXTS, st.decimals(allow_nan=False, allow_infinity=False), counts=st.integers(0, 2**53))


class Unwilling:
    """A sink that raises what it is told to, until it is told to stop; then it keeps records."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.kept: list[CallRecord] = []

    def emit(self, record: CallRecord) -> None:
        """Raise the error, or keep `record`."""
        if self.error is not None:
            raise self.error
        self.kept.append(record)


@pytest.fixture(autouse=True)
def no_failures() -> Iterator[None]:
    """A clean tally before and after each test."""
    failures.reset()
    yield
    failures.reset()


class TestRows:
    """A record as JSON values."""

    @given(records)
    def test_round_trip(self, original: CallRecord) -> None:
        """A record that went through JSON is the record that it was, with the same cost to the last digit."""
        assert record_from_dict(json.loads(json.dumps(record_to_dict(original)))) == original

    def test_every_field_is_there_and_nothing_else(self) -> None:
        """The row has the record's fields and its usage's, and no others."""
        row = record_to_dict(record())
        assert set(row) == {field.name for field in fields(CallRecord)}
        assert set(row["usage"]) == {field.name for field in fields(Usage)}

    def test_formats(self) -> None:
        """Money is a plain decimal string, an unknown cost is null, a moment is ISO 8601 in UTC with microseconds."""
        east = datetime(2026, 11, 23, 13, 0, tzinfo=timezone(timedelta(hours=1)))
        row = record_to_dict(record(cost_usd=Decimal("1E-8"), started_at=east))
        assert (row["cost_usd"], row["started_at"]) == ("0.00000001", "2026-11-23T12:00:00.000000+00:00")
        assert record_to_dict(record(cost_usd=None))["cost_usd"] is None

    def test_rows_of_other_versions(self) -> None:
        """A field that is not known is left out, one that is missing takes its default."""
        row = record_to_dict(record())
        del row["chunks"], row["usage"]["web_searches"]
        row["new"] = row["usage"]["newer"] = 1
        assert record_from_dict(row).usage == Usage(input_tokens=1200, output_tokens=450)


class TestMemory:
    """Records kept in memory."""

    def test_sums(self) -> None:
        """Known costs are summed exactly, and unknown ones are counted instead of summed as 0."""
        sink = MemorySink()
        for cost in (Decimal("0.1"), Decimal("0.2"), None):
            sink.emit(record(cost_usd=cost))
        assert (sink.total_cost_usd, sink.unknown_costs, len(sink), len(list(sink))) == (Decimal("0.3"), 1, 3, 3)

    def test_snapshot(self) -> None:
        """`records` does not change afterwards, `clear` empties the sink, and an empty sink is still true."""
        sink = MemorySink()
        sink.emit(record())
        before = sink.records
        sink.clear()
        assert (len(before), sink.records, bool(sink)) == (1, (), True)

    def test_threads(self) -> None:
        """Records from many threads are all kept."""
        sink = MemorySink()

        def emit_many() -> None:
            for _ in range(200):
                sink.emit(record())

        threads = [threading.Thread(target=emit_many) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({each.id for each in sink}) == 800


class TestCallback:
    """Records handed to a function."""

    def test_gets_each_record(self) -> None:
        """The function is called with the record itself."""
        seen: list[CallRecord] = []
        original = record()
        CallbackSink(seen.append).emit(original)
        assert seen == [original]


class TestLogging:
    """Records as log lines."""

    def test_line(self, caplog: pytest.LogCaptureFixture) -> None:
        """A call is one line at INFO that a person can read."""
        caplog.set_level(logging.INFO, "llm_toll_autopatch.calls")
        LoggingSink().emit(record())
        assert caplog.messages == [
            (
                "openai chat.completions.create gpt-5-mini: completed, 1,200 in, 450 out, cost $0.00123, 0.81 s,"
                " project acme"
            )
        ]

    @pytest.mark.parametrize(
        ("changes", "part"),
        [
            ({"cost_usd": None}, "cost unknown"),
            ({"usage_source": "estimated"}, "~1,200 in, ~450 out, cost ~$0.00123"),
            ({"outcome": "error", "error_type": "RateLimitError"}, "error (RateLimitError)"),
            ({"response_model": "gpt-5-mini-2026-08-07"}, "gpt-5-mini-2026-08-07:"),
        ],
    )
    def test_marks(self, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], part: str) -> None:
        """What is unknown, estimated or failed says so."""
        caplog.set_level(logging.INFO)
        LoggingSink(logging.getLogger("app")).emit(record(**changes))
        assert part in caplog.text

    def test_attributes(self, caplog: pytest.LogCaptureFixture) -> None:
        """Every field is an attribute of the log record, under a name that no attribute of logging has."""
        caplog.set_level(logging.WARNING)
        LoggingSink(level=logging.WARNING).emit(record())
        [logged] = caplog.records
        names = {name for name in vars(logged) if name.startswith("llm_")}
        assert names == {f"llm_{field.name}" for field in (*fields(CallRecord), *fields(Usage))} - {"llm_usage"}
        assert vars(logged)["llm_input_tokens"] == 1200

    def test_disabled_level(self, caplog: pytest.LogCaptureFixture) -> None:
        """Nothing is logged below the logger's level."""
        caplog.set_level(logging.WARNING)
        LoggingSink().emit(record())
        assert caplog.records == []


class TestJSONLines:
    """Records as lines of a file."""

    def test_lines(self, tmp_path: Path) -> None:
        """Each record is one line that reads back as the record, in a new private file in a new directory."""
        path = tmp_path / "new" / "calls.jsonl"
        sink = JSONLinesSink(path)
        originals = [record(), record(tags={"note": "two\nlines"}), record(model="mod\u00e8le \ud800")]
        for original in originals:
            sink.emit(original)
        sink.close()
        assert [record_from_dict(json.loads(line)) for line in path.read_bytes().splitlines()] == originals
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_goes_on_after_close_and_rotation(self, tmp_path: Path) -> None:
        """A closed file is opened again, and one that was moved away is made anew."""
        path = tmp_path / "calls.jsonl"
        sink = JSONLinesSink(path)
        sink.emit(record())
        sink.close()
        sink.emit(record())
        path.rename(tmp_path / "calls.1.jsonl")
        sink.emit(record())
        sink.close()
        assert len((tmp_path / "calls.1.jsonl").read_text().splitlines()) == 2
        assert len(path.read_text().splitlines()) == 1

    def test_fork(self, tmp_path: Path) -> None:
        """A forked child writes to the same file through a descriptor of its own, and both records are there."""
        sink = JSONLinesSink(tmp_path / "calls.jsonl")
        sink.emit(record())
        with sink._lock:  # as if another thread of the parent were writing
            child = os.fork()
            if child == 0:
                sink.emit(record())
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        sink.close()
        assert len(sink.path.read_text().splitlines()) == 2

    def test_unwritable(self, tmp_path: Path) -> None:
        """A file that cannot be written may be writable later."""
        sink = JSONLinesSink(tmp_path)
        with pytest.raises(SinkUnavailableError, match="directory"):
            sink.emit(record())

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_full_disk(self) -> None:
        """A full disk is worth another try."""
        sink = JSONLinesSink("/dev/full")
        with pytest.raises(SinkUnavailableError):
            sink.emit(record())
        sink.close()

    def test_torn_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Half a line, left by a disk that filled up, is ended before the next record, which is whole."""
        sink = JSONLinesSink(tmp_path / "calls.jsonl")
        write = os.write
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda file, line: write(file, line[:10]))
            with pytest.raises(SinkUnavailableError, match="part"):
                sink.emit(record())
        original = record()
        sink.emit(original)
        sink.close()
        half, whole = sink.path.read_text().splitlines()
        assert (len(half), record_from_dict(json.loads(whole))) == (10, original)


class TestTee:
    """Several sinks as one."""

    def test_one_failure_does_not_stop_the_others(self) -> None:
        """Every sink gets the record, and what one raises is noted, not raised."""
        first, last = MemorySink(), MemorySink()
        TeeSink(first, Unwilling(RuntimeError("no")), last).emit(record())
        assert (len(first), len(last), failures.total, failures.last) == (1, 1, 1, "Unwilling.emit: RuntimeError")

    @pytest.mark.parametrize("busy_sinks", [1, 2])
    def test_only_the_unavailable_get_it_again(self, busy_sinks: int) -> None:
        """A retry with `remaining` gives the record once to each sink that did not have it, and to no other."""
        willing = MemorySink()
        busy = [Unwilling(SinkUnavailableError("busy")) for _ in range(busy_sinks)]
        original = record()
        with pytest.raises(PartlyDeliveredError) as caught:
            TeeSink(*busy, willing).emit(original)
        for sink in busy:
            sink.error = None
        caught.value.remaining.emit(original)
        assert willing.records == (original,)
        assert [sink.kept for sink in busy] == [[original]] * busy_sinks

    def test_nested(self) -> None:
        """A tee within a tee is only its sinks, so that records can be delivered to each of them."""
        a, b, c = MemorySink(), MemorySink(), MemorySink()
        tee = TeeSink(a, TeeSink(b, c))
        assert (tee.sinks, leaves(tee), leaves(a)) == ((a, b, c), (a, b, c), (a,))

    def test_flush_and_close(self) -> None:
        """Sinks that can be flushed and closed are, whatever another one raises."""
        called: list[str] = []

        class Closable(MemorySink):
            def flush(self) -> None:
                raise OSError

            def close(self) -> None:
                called.append("close")

        tee = TeeSink(MemorySink(), Closable(), Closable())
        tee.flush()
        tee.close()
        assert (called, failures.total) == (["close", "close"], 2)


def takes_two(a: object, b: object) -> None:
    """Not a sink: it takes two arguments."""


async def coroutine(record: object) -> None:
    """Not a sink: it would have to be awaited."""


class TestResolve:
    """From what a user writes to a sink."""

    @pytest.mark.parametrize(
        ("spec", "shown"),
        [
            ("memory", "<MemorySink: 0 records>"),
            ("log", "LoggingSink('llm_toll_autopatch.calls', INFO)"),
            ("jsonl:/srv/a:b.jsonl", "JSONLinesSink('/srv/a:b.jsonl')"),
            ("sqlite:////srv/calls.db", "SQLiteLedger('/srv/calls.db')"),
            ("sqlite:///calls.db", f"SQLiteLedger({str(Path.cwd() / 'calls.db')!r})"),
            (print, "CallbackSink(<built-in function print>)"),
            (["memory"], "<MemorySink: 0 records>"),
            (["memory", ("memory", "memory")], f"TeeSink({', '.join(['<MemorySink: 0 records>'] * 3)})"),
        ],
    )
    def test_accepted(self, spec: object, shown: str) -> None:
        """Names, callables and lists of them become sinks."""
        assert repr(resolve_sink(spec)) == shown

    def test_a_sink_is_itself(self) -> None:
        """A sink is taken as it is, and a bound method is a callable."""
        sink = MemorySink()
        assert resolve_sink(sink) is sink
        assert isinstance(resolve_sink(sink.emit), CallbackSink)

    def test_default(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """None is the embedded ledger in the user's data directory, which nothing is written to yet."""
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        sink = resolve_sink(None)
        assert isinstance(sink, SQLiteLedger)
        assert sink.path.name == "ledger.db"
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("spec", "parts"),
        [
            ("consle", ["unknown sink 'consle'", '"memory"', '"jsonl:PATH"']),
            ("", ["unknown sink ''"]),
            ("jsonl:", ["unknown sink 'jsonl:'"]),
            ("memory:x", ["unknown sink 'memory:x'"]),
            ("sqlite://calls.db", ["sqlite:///relative.db or sqlite:////absolute/path.db"]),
            ("sqlite:///:memory:", ['"memory"']),
            ([], ["empty list"]),
        ],
    )
    def test_unknown_names(self, spec: object, parts: list[str]) -> None:
        """An unknown name is a ValueError that says where it stood and what is accepted."""
        with pytest.raises(ValueError, match=r"^LLM_TOLL_AUTOPATCH_SINK ") as caught:
            resolve_sink(spec, source="LLM_TOLL_AUTOPATCH_SINK")
        assert [part for part in parts if part not in str(caught.value)] == []

    @pytest.mark.parametrize(
        "spec", ["mysql://ann:s3cret@host/db", "oracle:ann:s3cret@host", "ann:s3cret@host", "x://h/?password=s3cret"]
    )
    def test_credentials_are_not_shown(self, spec: str) -> None:
        """The message about a URL has nothing of it but the scheme."""
        with pytest.raises(ValueError, match="unknown sink") as caught:
            resolve_sink(spec)
        assert "s3cret" not in str(caught.value)
        assert "host" not in str(caught.value)

    @pytest.mark.parametrize(
        ("spec", "part"),
        [
            (42, "type int"),
            (Path("calls.jsonl"), "Path"),
            (MemorySink, r"MemorySink\("),
            (takes_two, "one argument"),
            (coroutine, "coroutine function"),
            ([42], "type int"),
        ],
    )
    def test_wrong_types(self, spec: object, part: str) -> None:
        """What cannot be a sink is a TypeError that says why."""
        with pytest.raises(TypeError, match=rf"^sink= .*{part}"):
            resolve_sink(spec)

    def test_lazy(self) -> None:
        """Neither the protocol nor a sink that is no ledger loads sqlite3 or platformdirs."""
        code = (
            "import sys; from llm_toll_autopatch.sinks.resolve import resolve_sink;"
            " resolve_sink(['memory', 'log', 'jsonl:x', print]); print({'sqlite3', 'platformdirs'} & set(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        assert done.stdout.strip() == "set()"


def test_all_are_sinks(tmp_path: Path) -> None:
    """Each of them satisfies the protocol."""
    for sink in (MemorySink(), CallbackSink(print), LoggingSink(), JSONLinesSink(tmp_path / "x"), TeeSink()):
        assert isinstance(sink, Sink)
