"""One quiet line a call on stderr."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import textwrap
from decimal import Decimal
from typing import Any

import pytest
from specimens import record
from versions import HALF_READ_AT_EXIT

from llm_toll_autopatch import ConsoleSink, Usage
from llm_toll_autopatch.simulator import Simulator


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def line(**changes: Any) -> str:
    """The line of a record on something that is no terminal."""
    file = io.StringIO()
    ConsoleSink(file).emit(record(**changes))
    return file.getvalue()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "[llm-toll] gpt-5-mini: 1,200 in, 450 out, $0.00123, 0.8 s\n"),
        ({"usage_source": "estimated"}, "[llm-toll] gpt-5-mini: ~1,200 in, ~450 out, ~$0.00123, 0.8 s\n"),
        ({"cost_usd": None}, "[llm-toll] gpt-5-mini: 1,200 in, 450 out, $?, 0.8 s\n"),
        ({"response_model": "gpt-5-mini-2026"}, "[llm-toll] gpt-5-mini-2026: 1,200 in, 450 out, $0.00123, 0.8 s\n"),
        ({"outcome": "closed"}, "[llm-toll] gpt-5-mini: 1,200 in, 450 out, $0.00123, 0.8 s, closed\n"),
        (
            {"outcome": "error", "error_type": "APITimeoutError", "usage": Usage(), "usage_source": "missing",
             "cost_usd": Decimal(0)},
            "[llm-toll] gpt-5-mini: no usage, $0.00, 0.8 s, error APITimeoutError\n",
        ),
        ({"model": "a\x1b[2Jb\nc\ud800"}, "[llm-toll] a?[2Jb?c?: 1,200 in, 450 out, $0.00123, 0.8 s\n"),
    ],
)  # fmt: skip
def test_line(changes: dict[str, Any], expected: str) -> None:
    """A line has the model, tokens, cost and time; what is estimated, unknown or odd says so; a name is only a name."""
    assert line(**changes) == expected


def test_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets colours, unless NO_COLOR is set or it is a dumb one; what is no terminal gets none."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")

    def shown() -> str:
        file = Terminal()
        ConsoleSink(file).emit(record())
        return file.getvalue()

    assert shown().startswith("\033[2m[llm-toll]\033[0m \033[36mgpt-5-mini\033[0m: ")
    monkeypatch.setenv("TERM", "dumb")
    assert "\033" not in shown()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033" not in shown()
    assert "\033" not in line()


def test_sum() -> None:
    """`close` prints the sum once, marks estimates, and counts what is not known."""
    file = io.StringIO()
    sink = ConsoleSink(file)
    for cost in ("0.1", "0.2"):
        sink.emit(record(cost_usd=Decimal(cost)))
    sink.close()
    sink.close()
    assert file.getvalue().splitlines()[2:] == ["[llm-toll] total 2 calls, 2,400 in, 900 out, $0.30"]
    sink.emit(record(cost_usd=None, usage_source="partial"))
    sink.close()
    total = "[llm-toll] total 1 call, ~1,200 in, ~450 out, ~$0.00 and 1 of unknown cost"
    assert file.getvalue().splitlines()[-1] == total


def test_no_sum() -> None:
    """The sum can be left out, and there is none without calls."""
    file = io.StringIO()
    ConsoleSink(file).close()
    sink = ConsoleSink(file, summary=False)
    sink.emit(record())
    sink.close()
    assert len(file.getvalue().splitlines()) == 1


def test_a_broken_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stderr that is closed, broken or not there at all breaks nothing."""

    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    closed = io.StringIO()
    closed.close()
    for file in (Broken(), closed, None):
        monkeypatch.setattr(sys, "stderr", file)
        sink = ConsoleSink()
        sink.emit(record())
        sink.close()


PROGRAM = """
    import os, sys, openai, llm_toll_autopatch
    llm_toll_autopatch.patch_all(sink="console")
    client = openai.OpenAI()
    client.responses.create(model="gpt-5-mini", input="hi")
    print("answer")
    kept = client.responses.create(model="gpt-5-mini", input="hi", stream=True)
    next(kept)
"""


@HALF_READ_AT_EXIT
def test_a_program(sim: Simulator) -> None:
    """A program's stdout is its own; stderr has a line a call, also of the stream open at exit, and then the sum."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(PROGRAM)],
        env={**os.environ, **sim.environment()}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == "answer\n"
    first, second, total = done.stderr.splitlines()
    assert first.startswith("[llm-toll] gpt-5-mini: 25 in, 8 out, $0.00")
    assert second.endswith(", abandoned")
    assert total.startswith("[llm-toll] total 2 calls, ~")


@HALF_READ_AT_EXIT
def test_a_real_terminal(sim: Simulator) -> None:
    """On a pseudo-terminal the lines are coloured."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, **sim.environment(), "TERM": "xterm"}
    environment.pop("NO_COLOR", None)
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(PROGRAM)],
        env=environment, stdout=subprocess.DEVNULL, stderr=theirs, timeout=60, check=True,
    )  # fmt: skip
    os.close(theirs)
    printed = os.read(ours, 65536).decode()
    os.close(ours)
    assert printed.startswith("\033[2m[llm-toll]\033[0m \033[36mgpt-5-mini\033[0m: 25 in, 8 out, \033[32m$0.00")


@HALF_READ_AT_EXIT
def test_stderr_closed_by_the_program(sim: Simulator) -> None:
    """A program that closes its stderr goes on and ends as it would."""
    program = "import os, sys\nsys.stderr.close()\nos.close(2)" + textwrap.dedent(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env={**os.environ, **sim.environment()}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "answer\n")
