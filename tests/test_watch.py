"""`autotoll tail` and `autotoll watch` show what comes in, at a terminal and at a pipe, and end cleanly."""

from __future__ import annotations

import json
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from specimens import NOON
from terminals import at_terminal, command, plain
from test_cli import Shell, autotoll, ledger, record, write

from llm_toll_autopatch.budgets.limits import Limit
from llm_toll_autopatch.ledger import SQLiteLedger
from llm_toll_autopatch.sinks.lines import record_from_line

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["autotoll", "ledger"]  # fixtures

CTRL_C = "\x03"


class TestTail:
    """The last calls."""

    def test_lines(self, autotoll: Shell, ledger: Path) -> None:
        """The last calls that came in stand in columns, the newest below; estimates and unknown costs are marked."""
        write(
            ledger,
            record(
                project="own",
                model="m",
                outcome="error",
                error_type="APIError",
                cost_usd=None,
                usage_source="estimated",
            ),
        )
        assert autotoll("tail", "-n", 2, "--ledger", ledger).splitlines() == [
            "started (UTC)        project  model            method                    input  output     cost  took  outcome",
            "2026-11-23 12:00:00  zeta     claude-sonnet-5  chat.completions.create   1,200     450   $12.50  0.8s  completed",
            "2026-11-23 12:00:00  own      m                chat.completions.create  ~1,200    ~450  unknown  0.8s  error (APIError)",
        ]

    def test_json(self, autotoll: Shell, ledger: Path) -> None:
        """As JSON they are whole records."""
        lines = autotoll("tail", "--json", "--project", "zeta", "--ledger", ledger).splitlines()
        assert [record_from_line(line) for line in lines] == list(SQLiteLedger(ledger).records(project="zeta"))

    def test_none(self, autotoll: Shell, ledger: Path, tmp_path: Path) -> None:
        """No calls are no lines; no ledger is an error."""
        assert autotoll("tail", "--project", "none", "--ledger", ledger) == ""
        assert autotoll("tail", "-n", 0, "--ledger", ledger) == ""
        assert "no ledger at" in autotoll("tail", "--ledger", tmp_path / "none.db", code=1)

    @pytest.mark.parametrize("arguments", [["-n", "-1"], ["-n", "x"], ["--interval", "0"], ["--interval", "nan"]])
    def test_wrong(self, autotoll: Shell, arguments: list[str]) -> None:
        """Numbers that mean nothing are refused."""
        assert "is not a" in autotoll("tail", *arguments, code=2)

    @pytest.mark.parametrize("rich", [True, False])
    def test_follow(self, ledger: Path, rich: bool) -> None:
        """Calls show up as they come in, below the last ones, until Ctrl-C, which is no failure."""
        with at_terminal("tail", "-f", "-n", 1, "--interval", "0.05", "--ledger", ledger, rich=rich) as terminal:
            terminal.wait_for("claude-sonnet-5")
            write(ledger, record(project="newcomer"))
            terminal.wait_for("newcomer")
            terminal.type(CTRL_C)
            assert terminal.end() == 0
        assert plain(terminal.text).count("started (UTC)") == 1
        assert "Traceback" not in terminal.text

    def test_follow_piped(self, tmp_path: Path) -> None:
        """At a pipe every call is a line at once; it may start before there is a ledger."""
        path = tmp_path / "ledger.db"
        arguments = command("tail", "-f", "--json", "--interval", "0.05", "--ledger", path)
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            sent = record()
            write(path, sent)
            assert record_from_line(process.stdout.readline()) == sent
            write(path, record(project="two"))
            assert json.loads(process.stdout.readline())["project"] == "two"
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A ledger with two calls of today."""
    now = datetime.now(UTC)
    return write(tmp_path / "ledger.db", record(started_at=now), record(project="zeta", started_at=now))


class TestWatch:
    """What is being spent."""

    def test_live(self, fresh: Path) -> None:
        """With `rich` a view of the sums and the last calls changes as calls come in, and Ctrl-C ends it."""
        with at_terminal("watch", "--interval", "0.05", "--ledger", fresh) as terminal:
            terminal.wait_for("$0.0246, 2 calls")
            terminal.wait_for("last hour: $0.0246")
            write(fresh, record(project="newcomer", started_at=datetime.now(UTC), cost_usd=None))
            terminal.wait_for("$0.0246 + 1 unknown, 3 calls")
            terminal.wait_for("newcomer")
            terminal.wait_for("Ctrl-C ends it")
            terminal.type(CTRL_C)
            assert terminal.end() == 0
        assert "\x1b[?25h" in terminal.text  # the cursor is back
        assert "Traceback" not in terminal.text

    def test_budgets(self, fresh: Path) -> None:
        """The budgets of which the least is left are shown, with what is spent of them."""
        with SQLiteLedger(fresh) as ledger:
            for number in range(7):
                ledger.set_cap(Limit(f"project-{number}", "usd", number * 10**9))
        with at_terminal("watch", "--interval", "0.05", "--ledger", fresh) as terminal:
            terminal.wait_for("used up")
            terminal.type(CTRL_C)
            assert terminal.end() == 0
        text = plain(terminal.text)
        assert "project-4" in text
        assert "project-6" not in text

    def test_killed(self, fresh: Path) -> None:
        """A terminal gets its cursor back when the command is asked to end."""
        with at_terminal("watch", "--interval", "0.05", "--ledger", fresh) as terminal:
            terminal.wait_for("Ctrl-C ends it")
            terminal.process.terminate()
            assert terminal.end() == 128 + signal.SIGTERM
        assert terminal.text.index("\x1b[?25h") > terminal.text.index("\x1b[?25l")

    def test_without_rich(self, fresh: Path) -> None:
        """Without `rich` there is a line each time."""
        with at_terminal("watch", "--interval", "0.05", "--ledger", fresh, rich=False) as terminal:
            terminal.wait_for("$0.0246, 2 calls")
            write(fresh, record(started_at=datetime.now(UTC)))
            terminal.wait_for("$0.0369, 3 calls")
            terminal.type(CTRL_C)
            assert terminal.end() == 0
        assert "\x1b" not in terminal.text

    def test_piped(self, tmp_path: Path) -> None:
        """At a pipe, too; it may start before there is a ledger, and counts only what is asked for."""
        path = tmp_path / "ledger.db"
        arguments = command(
            "watch", "--since", "2026-11-01", "--project", "acme", "--interval", "0.05", "--ledger", path
        )
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert "since 2026-11-01 00:00Z: $0.00, 0 calls" in process.stdout.readline()
            write(path, record(), record(project="zeta"), record(started_at=NOON - timedelta(days=60)))
            assert any("$0.0123, 1 call," in line for line in process.stdout)
            process.send_signal(signal.SIGINT)
            process.stdout.read()
            assert process.wait(30) == 0

    def test_many_groups(self, tmp_path: Path) -> None:
        """Of many groups the most expensive are shown, and the total is of all."""
        now = datetime.now(UTC)
        path = write(
            tmp_path / "ledger.db",
            *(record(project=f"p{number:02}", cost_usd=Decimal(number), started_at=now) for number in range(50)),
        )
        with at_terminal("watch", "-n", 0, "--by", "project", "--interval", "0.05", "--ledger", path) as terminal:
            terminal.wait_for("Ctrl-C ends it")
            terminal.type(CTRL_C)
            assert terminal.end() == 0
        view = plain(terminal.text)
        assert ("p49" in view, "p19" in view, "p18" in view) == (True, True, False)
        assert "and 19 more groups" in view
        assert "$1,225.00" in view

    def test_broken(self, autotoll: Shell, tmp_path: Path) -> None:
        """A file that is no ledger ends it with a reason."""
        path = tmp_path / "notes.txt"
        path.write_text("notes " * 1000)
        assert autotoll("watch", "--ledger", path, code=1).startswith("autotoll: the ledger at ")
