"""Calls go out as JSON Lines, CSV, Parquet and Prometheus' text, and come back in from JSON Lines without loss."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from specimens import NOON, any_record
from terminals import at_terminal, command, plain, run
from test_cli import Shell, autotoll, ledger, record, write

from llm_toll_autopatch import JSONLinesSink
from llm_toll_autopatch.cli.formats import COLUMNS
from llm_toll_autopatch.ledger import SQLiteLedger
from llm_toll_autopatch.records import CallRecord, Usage
from llm_toll_autopatch.sinks.lines import record_from_line
from llm_toll_autopatch.sinks.rows import record_to_dict

__all__ = ["autotoll", "ledger"]  # fixtures

FULL = record(
    response_model="gpt-5-mini-2026-08-07",
    service_tier="flex",
    stream=True,
    usage=Usage(input_tokens=5, output_tokens=2**40, cache_read_tokens=3, details={"seconds": 7}),
    cost_usd=Decimal("0.000000001"),
    tags={"team": 'search, "ads"', "caf\u00e9": ""},
    time_to_first_chunk_s=0.25,
    chunks=3,
    response_id="resp_1",
    error_type="E",
    endpoint="api.openai.com",
)


def records(path: Path) -> list[CallRecord]:
    """What is in the ledger."""
    return list(SQLiteLedger(path).records())


class TestLines:
    """A line is a record, or says why it is none."""

    @given(any_record(st.uuids().map(str), st.decimals(-1, 10**9, places=9), st.integers(0, 2**63 - 1)))
    def test_there_and_back(self, each: CallRecord) -> None:
        """What was written is what is read."""
        assert record_from_line(json.dumps(record_to_dict(each))) == each

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"id": None}, "id is not a text"),
            ({"id": ""}, "id is empty"),
            ({"model": 5}, "model is not a text"),
            ({"endpoint": 5}, "endpoint is not a text"),
            ({"outcome": "fine"}, "outcome is none of completed, closed, abandoned, error, cancelled"),
            ({"usage_source": []}, "usage_source is none of reported, partial, estimated, missing"),
            ({"usage": {"input_tokens": "5"}}, "input_tokens is not a whole number"),
            ({"usage": {"input_tokens": True}}, "input_tokens is not a whole number"),
            ({"usage": {"details": {"x": 0.5}}}, "details.x is not a whole number"),
            ({"usage": {"details": [1]}}, "usage.details is not a JSON object"),
            ({"usage": [1]}, "usage is not a JSON object"),
            ({"tags": ["a"]}, "tags is not a JSON object"),
            ({"tags": {"a": 1}}, "the value of a tag is not a text"),
            ({"chunks": 1.5}, "chunks is not a whole number"),
            ({"cost_usd": "five"}, "cost_usd is not a number"),
            ({"cost_usd": "NaN"}, "cost_usd is not a number"),
            ({"cost_usd": [5]}, "cost_usd is not a number"),
            ({"started_at": "yesterday"}, "started_at is not an ISO 8601 time"),
            ({"started_at": "2026-11-23T12:00:00"}, "started_at has no time zone"),
            ({"started_at": 5}, "a value is not of its kind"),
            ({"stream": 1}, "stream is neither true nor false"),
            ({"duration_s": "1"}, "duration_s is not a number"),
            ({"time_to_first_chunk_s": "1"}, "time_to_first_chunk_s is not a number"),
        ],
    )
    def test_wrong_value(self, change: dict[str, Any], reason: str) -> None:
        """A value that is no good is named."""
        with pytest.raises(ValueError, match=f"^{reason}$"):
            record_from_line(json.dumps(record_to_dict(FULL) | change))

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (b'{"id": ', "not JSON: Expecting value at character 8"),
            (b"[]", "not a JSON object"),
            (b"{}", "started_at is missing"),
            (b'{"started_at": "2026-11-23T12:00:00Z", "id": "1"}', "provider, operation, method, model are missing"),
            (b"\xff", "not UTF-8"),
            (b"[" * 100_000, "nested too deeply"),
        ],
    )
    def test_no_record(self, line: bytes, reason: str) -> None:
        """A line that is something else says what it lacks, and quotes nothing of itself."""
        with pytest.raises(ValueError, match=f"^{reason}$"):
            record_from_line(line)

    def test_other_writers(self) -> None:
        """A cost that is a JSON number is the decimals that stand there, and unknown fields are left out."""
        each = record_from_line(json.dumps(record_to_dict(FULL) | {"cost_usd": 0.1, "colour": "red"}))
        assert each.cost_usd == Decimal("0.1")


class TestExport:
    """Calls for other programs."""

    @pytest.fixture
    def ledger(self, ledger: Path) -> Path:
        """A ledger in which one record has everything."""
        return write(ledger, FULL)

    def test_jsonl(self, autotoll: Shell, ledger: Path, tmp_path: Path) -> None:
        """JSON Lines are the lines that the sink writes."""
        run("export", "--jsonl", "--ledger", ledger, "-o", tmp_path / "calls.jsonl")
        sink = JSONLinesSink(tmp_path / "sink.jsonl")
        for each in records(ledger):
            sink.emit(each)
        sink.close()
        assert (tmp_path / "calls.jsonl").read_bytes() == (tmp_path / "sink.jsonl").read_bytes()

    def test_csv(self, ledger: Path) -> None:
        """CSV has a column for everything; tags and details are JSON."""
        done = run("export", "--csv", "--ledger", ledger)
        rows = list(csv.DictReader(io.StringIO(done.stdout)))
        assert (len(rows), done.stderr, tuple(rows[0])) == (4, "", COLUMNS)
        [row] = [row for row in rows if row["id"] == FULL.id]
        assert json.loads(row["tags"]) == dict(FULL.tags)
        assert json.loads(row["details"]) == {"seconds": 7}
        assert (row["cost_usd"], row["output_tokens"], row["stream"]) == ("0.000000001", str(2**40), "True")
        assert {other["time_to_first_chunk_s"] for other in rows if other is not row} == {""}

    def test_parquet(self, ledger: Path, tmp_path: Path) -> None:
        """Parquet has exact costs, times with their zone, and maps."""
        path = tmp_path / "calls.parquet"
        done = run("export", "--parquet", "-o", path, "--ledger", ledger)
        assert (done.returncode, done.stderr) == (0, "")
        table = pq.read_table(path)
        assert tuple(table.column_names) == COLUMNS
        [row] = [row for row in table.to_pylist(maps_as_pydicts="strict") if row["id"] == FULL.id]
        assert row["cost_usd"] == FULL.cost_usd
        assert row["started_at"] == FULL.started_at
        assert (row["tags"], row["details"]) == (dict(FULL.tags), {"seconds": 7})
        assert (row["output_tokens"], row["stream"], row["time_to_first_chunk_s"]) == (2**40, True, 0.25)

    def test_parquet_needs_a_library(self, ledger: Path, tmp_path: Path) -> None:
        """Without pyarrow the error says what to install, and no file is left."""
        code = "import sys; sys.modules['pyarrow'] = None\nfrom llm_toll_autopatch.cli import main\nsys.exit(main(sys.argv[1:]))"
        arguments = [*command()[:-1], code, "export", "--parquet", "-o", "x.parquet", "--ledger", str(ledger)]
        done = subprocess.run(
            arguments,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        )
        assert done.returncode == 1
        assert "pip install 'llm-toll-autopatch[parquet]'" in done.stderr
        assert list(tmp_path.glob("x.parquet*")) == []

    def test_parquet_at_a_terminal(self, ledger: Path) -> None:
        """A terminal is not filled with bytes."""
        with at_terminal("export", "--parquet", "--ledger", ledger) as terminal:
            assert terminal.end() == 1
        assert "--output calls.parquet" in terminal.text

    def test_prometheus(self, ledger: Path) -> None:
        """Prometheus' own parser reads the sums, whatever the names are; a cost that is not known is no sample."""
        name = 'a"b\\c\nd'
        failed = record(project="zeta", model="claude-sonnet-5", provider="anthropic", outcome="error")
        write(ledger, record(project=name, cost_usd=None, usage_source="partial"), failed)
        text = run("export", "--prometheus", "--ledger", ledger).stdout
        families = {family.name: family for family in text_string_to_metric_families(text)}
        assert {family.type for family in families.values()} == {"counter"}
        samples = {
            (sample.name, sample.labels["project"], sample.labels.get("direction") or sample.labels.get("outcome")): (
                sample.value
            )
            for family in families.values()
            for sample in family.samples
            if sample.labels["project"] != "acme"
        }
        zeta = {
            ("llm_toll_calls_total", "zeta", "completed"): 1,
            ("llm_toll_calls_total", "zeta", "error"): 1,
            ("llm_toll_tokens_total", "zeta", "input"): 2400,
            ("llm_toll_tokens_total", "zeta", "output"): 900,
            ("llm_toll_cost_usd_total", "zeta", None): 12.5123,
            ("llm_toll_unknown_cost_calls_total", "zeta", None): 0,
            ("llm_toll_estimated_calls_total", "zeta", None): 0,
        }
        named = {
            ("llm_toll_calls_total", name, "completed"): 1,
            ("llm_toll_tokens_total", name, "input"): 1200,
            ("llm_toll_tokens_total", name, "output"): 450,
            ("llm_toll_unknown_cost_calls_total", name, None): 1,
            ("llm_toll_estimated_calls_total", name, None): 1,
        }
        assert samples == zeta | named

    def test_filters(self, ledger: Path) -> None:
        """Only what is asked for goes out."""
        out = run("export", "--jsonl", "--project", "zeta", "--since", "2026-11-01", "--ledger", ledger).stdout
        assert [json.loads(line)["project"] for line in out.splitlines()] == ["zeta"]

    def test_whole_or_not_at_all(self, ledger: Path, tmp_path: Path) -> None:
        """A file is replaced once all is written; an error leaves the former one."""
        path = tmp_path / "calls.csv"
        path.write_text("before")
        assert run("export", "--csv", "-o", path, "--ledger", tmp_path / "none.db").returncode == 1
        assert path.read_text() == "before"
        assert run("export", "--csv", "-o", path, "--ledger", ledger).returncode == 0
        assert path.read_text().count("\n") == 5
        assert [each.name for each in tmp_path.glob("calls.csv*")] == ["calls.csv"]

    def test_device(self, ledger: Path) -> None:
        """What is no file is written to, and not replaced."""
        assert run("export", "--csv", "-o", "/dev/null", "--ledger", ledger).returncode == 0
        assert Path("/dev/null").is_char_device()

    def test_unwritable(self, ledger: Path, tmp_path: Path) -> None:
        """A place that cannot be written to is an error in a line."""
        done = run("export", "--csv", "-o", tmp_path / "none" / "calls.csv", "--ledger", ledger)
        assert done.returncode == 1
        assert done.stderr.startswith("autotoll: ")
        assert done.stderr.count("\n") == 1

    def test_broken_pipe(self, tmp_path: Path) -> None:
        """A reader that leaves early ends it silently."""
        with SQLiteLedger(tmp_path / "ledger.db") as many:
            many.add(record() for _ in range(3000))
        arguments = command("export", "--jsonl", "--ledger", many.path)
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(30) == 141

    def test_which_format(self, autotoll: Shell) -> None:
        """A format has to be said."""
        assert "--jsonl --csv --parquet --prometheus" in autotoll("export", code=2)


class TestImport:
    """Calls from other ledgers."""

    @pytest.fixture
    def lines(self, ledger: Path, tmp_path: Path) -> Path:
        """What `export` makes of a ledger."""
        write(ledger, FULL)
        path = tmp_path / "calls.jsonl"
        run("export", "--jsonl", "-o", path, "--ledger", ledger)
        return path

    def test_round_trip(self, autotoll: Shell, ledger: Path, lines: Path, tmp_path: Path) -> None:
        """What goes out comes in, once, however often it is read."""
        other = tmp_path / "other.db"
        assert autotoll("import", lines, "--ledger", other) == "4 imported, 0 were there already.\n"
        assert records(other) == records(ledger)
        assert autotoll("import", lines, lines, "--ledger", other) == "0 imported, 8 were there already.\n"
        assert records(other) == records(ledger)

    def test_stdin(self, lines: Path, tmp_path: Path) -> None:
        """`-` is stdin; empty lines are nothing."""
        done = run("import", "-", "--ledger", tmp_path / "other.db", given="\n" + lines.read_text() + "\n\n")
        assert (done.stdout, done.stderr) == ("4 imported, 0 were there already.\n", "")

    def test_bad_line(self, lines: Path, tmp_path: Path) -> None:
        """A line that holds no record stops it, is named by file and number, and what came before is in."""
        good = lines.read_text().splitlines()
        lines.write_text("\n".join([good[0], good[1][:50], *good[2:]]))
        other = tmp_path / "other.db"
        done = run("import", lines, "--ledger", other)
        assert done.returncode == 1
        assert done.stderr.startswith(f"autotoll: {lines}:2: not JSON: ")
        assert good[1][10:30] not in done.stderr
        assert done.stdout.startswith(
            "1 imported, 0 were there already; stopped at a line that holds no record (--keep-going"
        )
        assert len(records(other)) == 1

    def test_keep_going(self, lines: Path, tmp_path: Path) -> None:
        """With --keep-going such lines are left out, and it is still not a success."""
        good = lines.read_text().splitlines()
        lines.write_text("\n".join([good[0], "{}", *good[1:], "[1]"]))
        other = tmp_path / "other.db"
        done = run("import", lines, "--keep-going", "--ledger", other)
        assert [line.split(":")[2] for line in done.stderr.splitlines()] == ["2", "6"]
        assert (done.returncode, done.stdout) == (1, "4 imported, 0 were there already, 2 lines hold no record.\n")

    def test_dry_run(self, autotoll: Shell, lines: Path, tmp_path: Path) -> None:
        """A dry run checks and makes nothing."""
        out = autotoll("import", lines, "--dry-run", "--ledger", tmp_path / "other.db")
        assert out == "4 records would be imported, unless they are there already.\n"
        assert not (tmp_path / "other.db").exists()

    def test_missing_file(self, lines: Path, tmp_path: Path) -> None:
        """If one of the files is not there, nothing is read."""
        done = run("import", lines, tmp_path / "none.jsonl", "--ledger", tmp_path / "other.db")
        assert done.returncode == 1
        assert "none.jsonl" in done.stderr
        assert not (tmp_path / "other.db").exists()

    def test_many(self, tmp_path: Path) -> None:
        """Thousands come in by several transactions, and a bar shows how far it is, on stderr, then goes away."""
        path = tmp_path / "calls.jsonl"
        many = [record(id=str(UUID(int=number)), started_at=NOON + timedelta(seconds=number)) for number in range(2500)]
        path.write_text("".join(json.dumps(record_to_dict(each)) + "\n" for each in many))
        with at_terminal("import", path, "--ledger", tmp_path / "other.db") as terminal:
            assert terminal.end() == 0
        assert "importing" in terminal.text
        assert plain(terminal.text).splitlines()[-1].endswith("2,500 imported, 0 were there already.")
        assert records(tmp_path / "other.db") == many

    def test_interrupted(self, tmp_path: Path) -> None:
        """Ctrl-C ends it without a traceback."""
        arguments = command("import", "-", "--keep-going", "--ledger", tmp_path / "other.db")
        with subprocess.Popen(arguments, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stderr is not None
            process.stdin.write("x\n")
            process.stdin.flush()
            process.stderr.readline()
            process.send_signal(signal.SIGINT)
            assert process.stderr.read() == ""
            assert process.wait(30) == 130
