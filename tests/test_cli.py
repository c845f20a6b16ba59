"""`autotoll` says what was spent, exactly and without pretending, and is a good citizen of a shell."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from specimens import NOON
from specimens import record as plain_record

from llm_toll_autopatch.cli import COMMANDS, main, periods
from llm_toll_autopatch.cli.table import aligned
from llm_toll_autopatch.ledger import SQLiteLedger
from llm_toll_autopatch.records import CallRecord

if TYPE_CHECKING:
    from pathlib import Path


def record(**changes: Any) -> CallRecord:
    """A record of a call that cost 1.23 cents."""
    return plain_record(**{"cost_usd": Decimal("0.0123"), **changes})


def write(path: Path, *records: CallRecord) -> Path:
    """A ledger at `path` with these records."""
    with SQLiteLedger(path) as ledger:
        for each in records:
            ledger.emit(each)
    return path


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger of which everything is known, and no setting that leads to another."""
    monkeypatch.delenv("LLM_TOLL_AUTOPATCH_SINK", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return write(
        tmp_path / "ledger.db",
        record(),
        record(started_at=NOON + timedelta(days=1)),
        record(project="zeta", model="claude-sonnet-5", provider="anthropic", cost_usd=Decimal("12.5")),
    )


class Shell:
    """Runs `main` and keeps what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object, code: int = 0) -> str:
        """Return what was printed: to stdout when `code` is 0, to stderr otherwise, where the other stays empty."""
        assert main([str(argument) for argument in arguments]) == code
        captured = self._capsys.readouterr()
        assert (captured.err if code == 0 else captured.out) == ""
        return captured.out if code == 0 else captured.err


@pytest.fixture
def autotoll(capsys: pytest.CaptureFixture[str]) -> Shell:
    """The command line."""
    return Shell(capsys)


class TestTable:
    """The report for people."""

    def test_plain(self, autotoll: Shell, ledger: Path) -> None:
        """Columns line up, amounts add up, the most expensive comes first, and there is no legend without a mark."""
        assert autotoll("report", "--ledger", ledger).splitlines() == [
            "project  model            calls  input  output      cost",
            "zeta     claude-sonnet-5      1  1,200     450  $12.5000",
            "acme     gpt-5-mini           2  2,400     900   $0.0246",
            "total                         3  3,600   1,350  $12.5246",
        ]

    def test_marks(self, autotoll: Shell, ledger: Path) -> None:
        """Estimates and unknown costs are marked, also in the total, and explained."""
        write(
            ledger,
            record(usage_source="estimated", cost_usd=None),
            record(project="own", model="my-model", cost_usd=None),
        )
        assert autotoll("report", "--ledger", ledger).splitlines() == [
            "project  model            calls   input  output       cost",
            "zeta     claude-sonnet-5      1   1,200     450   $12.5000",
            "acme     gpt-5-mini           3  ~3,600  ~1,350   ~$0.0246  + 1 unknown",
            "own      my-model             1   1,200     450    unknown",
            "total                         5  ~6,000  ~2,250  ~$12.5246  + 2 unknown",
            "",
            "~ 1 call with tokens, and so a cost, estimated wholly or in part: the provider did not report them",
            (
                "unknown: 2 calls not in the sums: the model has no known price (`autotoll prices MODEL`), "
                "or the call was interrupted before any answer came"
            ),
        ]

    def test_only_unknown(self, autotoll: Shell, tmp_path: Path) -> None:
        """Where no cost is known, the total is unknown and not $0.00."""
        path = write(tmp_path / "ledger.db", record(cost_usd=None))
        assert "$" not in autotoll("report", "--ledger", path)

    @pytest.mark.parametrize(
        ("cost", "shown"), [("0", "$0.00"), ("0.00000012", "$0.00000012"), ("1234567.891", "$1,234,567.89")]
    )
    def test_amounts(self, autotoll: Shell, tmp_path: Path, cost: str, shown: str) -> None:
        """Nothing that costs anything reads as nothing."""
        path = write(tmp_path / "ledger.db", record(cost_usd=Decimal(cost)))
        assert autotoll("report", "--ledger", path).splitlines()[-1].endswith(f"  {shown}")

    def test_days(self, autotoll: Shell, ledger: Path) -> None:
        """Days come in their order."""
        lines = autotoll("report", "--by", "day", "--ledger", ledger).splitlines()
        assert [line.split()[0] for line in lines] == ["day", "2026-11-23", "2026-11-24", "total"]

    @pytest.mark.parametrize(
        ("by", "header"),
        [
            (["--by", "provider"], ["provider"]),
            (["--by", "day,model"], ["day", "model"]),
            (["--by", "outcome", "--by", "method,outcome"], ["outcome", "method"]),
        ],
    )
    def test_by(self, autotoll: Shell, ledger: Path, by: list[str], header: list[str]) -> None:
        """Groupings can be repeated and comma separated; each is one column, in the order given."""
        lines = autotoll("report", *by, "--ledger", ledger).splitlines()
        assert lines[0].split() == [*header, "calls", "input", "output", "cost"]

    def test_period(self, autotoll: Shell, ledger: Path) -> None:
        """A day that is named is within the period at both ends."""
        out = autotoll("report", "--since", "2026-11-24", "--until", "2026-11-24", "--ledger", ledger)
        assert out.splitlines()[-1].split() == ["total", "1", "1,200", "450", "$0.0123"]

    def test_nothing(self, autotoll: Shell, ledger: Path, tmp_path: Path) -> None:
        """An empty ledger and an empty period are told, not shown as an empty table."""
        empty = write(tmp_path / "empty.db")
        assert autotoll("report", "--ledger", empty) == "No calls yet: the ledger is empty.\n"
        assert autotoll("report", "--since", "2030-01-01", "--ledger", ledger) == "No calls in this period.\n"

    def test_names_cannot_steer_the_terminal(self, autotoll: Shell, tmp_path: Path) -> None:
        """A model's name comes from a server: an escape sequence in it is shown as harmless characters."""
        path = write(tmp_path / "ledger.db", record(model="\033[2Jgpt\n5"))
        out = autotoll("report", "--ledger", path)
        assert "\033" not in out
        assert len(out.splitlines()) == 3

    def test_wide_characters(self) -> None:
        """Columns line up for characters that take two cells, and for combining ones that take none."""
        assert aligned([["日本", "1"], ["abcd", "1"], ["e\u0301bcd", "1"]], [False, True]) == [
            "日本  1",
            "abcd  1",
            "e\u0301bcd  1",
        ]


class TestMachines:
    """The report for other programs."""

    def test_json(self, autotoll: Shell, ledger: Path) -> None:
        """Figures are exact: the cost is a decimal string, or null where none is known."""
        write(ledger, record(project="own", usage_source="partial", cost_usd=None, outcome="error"))
        report = json.loads(
            autotoll("report", "--by", "project", "--json", "--since", "2026-11-01", "--ledger", ledger)
        )
        figures = {"input_tokens": 1200, "output_tokens": 450, "unknown_cost_calls": 0, "estimated_calls": 0}
        two = {"input_tokens": 2400, "output_tokens": 900}
        own = {"unknown_cost_calls": 1, "estimated_calls": 1, "errors": 1}
        assert report == {
            "by": ["project"],
            "since": "2026-11-01T00:00:00+00:00",
            "until": None,
            "groups": [
                {**figures, "project": "zeta", "calls": 1, "cost_usd": "12.5", "errors": 0},
                {**figures, **two, "project": "acme", "calls": 2, "cost_usd": "0.0246", "errors": 0},
                {**figures, **own, "project": "own", "calls": 1, "cost_usd": None},
            ],
            "total": {**own, "input_tokens": 4800, "output_tokens": 1800, "calls": 4, "cost_usd": "12.5246"},
        }

    def test_csv(self, autotoll: Shell, ledger: Path) -> None:
        """There is a header row, and a cost that is not known is empty."""
        write(ledger, record(project="own, inc.", cost_usd=None))
        rows = list(csv.DictReader(io.StringIO(autotoll("report", "--csv", "--ledger", ledger))))
        assert [(row["project"], row["calls"], row["cost_usd"], row["unknown_cost_calls"]) for row in rows] == [
            ("zeta", "1", "12.5", "0"),
            ("acme", "2", "0.0246", "0"),
            ("own, inc.", "1", "", "1"),
        ]

    def test_nothing(self, autotoll: Shell, tmp_path: Path) -> None:
        """An empty ledger is still JSON and CSV."""
        empty = write(tmp_path / "empty.db")
        report = json.loads(autotoll("report", "--json", "--ledger", empty))
        assert (report["groups"], report["total"]["cost_usd"]) == ([], "0")
        assert autotoll("report", "--csv", "--ledger", empty).count("\n") == 1


class TestWhere:
    """Which ledger is read."""

    @pytest.mark.parametrize("prefix", ["", "sqlite:///"])
    def test_argument(self, autotoll: Shell, ledger: Path, prefix: str) -> None:
        """`--ledger` takes a path or a URL."""
        assert "total" in autotoll("report", "--ledger", f"{prefix}{ledger}")

    def test_environment(self, autotoll: Shell, ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The setting that leads the records to a ledger leads the report there too."""
        monkeypatch.setenv("LLM_TOLL_AUTOPATCH_SINK", f"sqlite:///{ledger}")
        assert "total" in autotoll("report")

    @pytest.mark.parametrize("setting", ["", "log"])
    def test_default(self, autotoll: Shell, ledger: Path, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
        """Without a ledger in the settings it is the default one."""
        monkeypatch.setenv("LLM_TOLL_AUTOPATCH_SINK", setting)
        write(SQLiteLedger().path, record(project="default-ledger"))
        assert "default-ledger" in autotoll("report")

    def test_missing(self, autotoll: Shell, ledger: Path) -> None:
        """A ledger that is not there is an error with a question that leads on."""
        assert "no ledger at" in autotoll("report", code=1)

    def test_no_ledger(self, autotoll: Shell, tmp_path: Path) -> None:
        """A file that is no ledger is an error, not a traceback."""
        path = tmp_path / "notes.txt"
        path.write_text("notes " * 1000)
        assert autotoll("report", "--ledger", path, code=1).startswith("autotoll: the ledger at ")


class TestArguments:
    """What is accepted, and what is said when it is not."""

    @pytest.mark.parametrize(
        ("arguments", "part"),
        [
            (["report", "--by", "colour"], "'colour'; by any of: project, model, provider, day, week, month"),
            (
                ["report", "--since", "last week"],
                "--since: 'last week' is no such moment; accepted: a date (2026-11-23)",
            ),
            (["report", "--until", "2026-13-01"], "'2026-13-01' is no such moment"),
            (["report", "--since", "999999w"], "no such moment"),
            (["report", "--ledger", "sqlite://x"], "sqlite:///relative.db"),
            (["report", "--json", "--csv"], "not allowed with"),
            (["reprot"], "report"),
        ],
    )
    def test_wrong(self, autotoll: Shell, arguments: list[str], part: str) -> None:
        """A wrong argument is exit code 2 and a message with what is accepted."""
        assert part in autotoll(*arguments, code=2)

    def test_wrong_environment(self, autotoll: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
        """A URL in the environment that means no file is told like one in an argument."""
        monkeypatch.setenv("LLM_TOLL_AUTOPATCH_SINK", "sqlite://x")
        assert "LLM_TOLL_AUTOPATCH_SINK" in autotoll("report", code=2)

    def test_help(self, autotoll: Shell) -> None:
        """The bare command shows its help, with every command and what it does."""
        out = autotoll()
        assert [command.name for command in COMMANDS if f"\n    {command.name}" not in out] == []
        assert autotoll("--help") == out
        assert autotoll("--version").startswith("autotoll ")
        assert "--since" in autotoll("report", "--help")

    @pytest.mark.parametrize(
        ("text", "since", "until"),
        [
            ("2026-11-23", "2026-11-23T00:00", "2026-11-24T00:00"),
            ("today", "2026-11-25T00:00", "2026-11-26T00:00"),
            ("Yesterday", "2026-11-24T00:00", "2026-11-25T00:00"),
            ("7d", "2026-11-18T16:30", "2026-11-18T16:30"),
            ("24h", "2026-11-24T16:30", "2026-11-24T16:30"),
            ("90m", "2026-11-25T15:00", "2026-11-25T15:00"),
            ("2w", "2026-11-11T16:30", "2026-11-11T16:30"),
            ("2026-11-23T09:00", "2026-11-23T09:00", "2026-11-23T09:00"),
            ("2026-11-23T09:00+02:00", "2026-11-23T07:00", "2026-11-23T07:00"),
        ],
    )
    def test_moments(self, text: str, since: str, until: str) -> None:
        """Days are UTC and whole, ages count back from now, times are UTC unless they say otherwise."""
        now = datetime(2026, 11, 25, 16, 30, tzinfo=UTC)
        expected = [datetime.fromisoformat(moment).replace(tzinfo=UTC) for moment in (since, until)]
        assert [periods.since(text, now), periods.until(text, now)] == expected


class TestShell:
    """As a process."""

    @staticmethod
    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the command in a process of its own."""
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "llm_toll_autopatch", *arguments],
            check=False,
            capture_output=True,
            text=True,
            encoding="utf-8",
            env={**os.environ, **environment},
        )

    def test_module(self, ledger: Path) -> None:
        """`python -m llm_toll_autopatch` is the same command, and its exit code is the process's."""
        done = self.run("report", "--ledger", str(ledger))
        assert (done.returncode, done.stderr, "total" in done.stdout) == (0, "", True)
        assert self.run("report", "--by", "colour").returncode == 2

    def test_narrow_encoding(self, tmp_path: Path) -> None:
        """A terminal that cannot show a character gets its escape instead of a traceback."""
        path = write(tmp_path / "ledger.db", record(project="caf\u00e9"))
        done = self.run("report", "--ledger", str(path), PYTHONIOENCODING="ascii")
        assert (done.returncode, r"caf\xe9" in done.stdout) == (0, True)

    def test_broken_pipe(self, ledger: Path) -> None:
        """A reader that leaves early (`| head`) ends the command silently."""
        read, write_end = os.pipe()
        os.close(read)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "llm_toll_autopatch", "report", "--ledger", str(ledger)],
                check=False,
                stdout=write_end,
                stderr=subprocess.PIPE,
                text=True,
            )
        finally:
            os.close(write_end)
        assert (done.returncode, done.stderr) == (141, "")

    @pytest.mark.parametrize(
        ("terminal", "no_color", "coloured"), [(True, "", True), (True, "1", False), (False, "", False)]
    )
    def test_colour(
        self, ledger: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool, no_color: str, coloured: bool
    ) -> None:
        """Only a terminal gets styles, and not one whose user wants none."""
        stream = io.StringIO()
        monkeypatch.setattr(stream, "isatty", lambda: terminal)
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setenv("NO_COLOR", no_color)
        monkeypatch.setenv("TERM", "xterm")
        assert main(["report", "--ledger", str(ledger)]) == 0
        assert ("\033[" in stream.getvalue()) is coloured

    def test_fast_start(self) -> None:
        """Help needs neither a database nor anything else that is slow to load."""
        code = (
            "import sys; from llm_toll_autopatch.cli import main; main(['--help'])\n"
            "print({'sqlite3', 'platformdirs', 'rich', 'openai', 'wrapt', 'genai_prices'} & set(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        assert done.stdout.endswith("set()\n")
