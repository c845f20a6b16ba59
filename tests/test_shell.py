"""`autotoll` in a shell: it starts quickly, completes, and the demo shows what it is good for."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path

import pytest
from terminals import command, run
from test_cli import Shell, autotoll, ledger

from llm_toll_autopatch.cli import COMMANDS, parser_of
from llm_toll_autopatch.ledger import SQLiteLedger

__all__ = ["autotoll", "ledger"]  # fixtures

HEAVY = ("openai", "anthropic", "google.genai", "wrapt", "genai_prices", "pydantic", "httpx", "pyarrow", "rich")

Hidden = Callable[..., str]
_HIDING = """
import sys

class Hiding:
    def find_spec(self, name, path=None, target=None):
        if name in {packages!r}:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Hiding())
"""


@pytest.mark.parametrize(
    "arguments", [["--version"], ["report"], ["tail"], ["export", "--jsonl"], ["prune", "--older-than", "1d"]]
)
def test_fast_start(ledger: Path, arguments: list[str]) -> None:
    """What only reads the ledger imports no SDK, and nothing else that is slow to load."""
    where = [] if arguments == ["--version"] else ["--ledger", str(ledger)]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "llm_toll_autopatch", *arguments, *where],
        capture_output=True,
        text=True,
        check=False,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "llm_toll_autopatch.cli" in imported
    assert imported.isdisjoint(HEAVY)
    assert ("sqlite3" in imported) == (arguments != ["--version"])


class TestCompletion:
    """Scripts for shells."""

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_commands(self, autotoll: Shell, shell: str) -> None:
        """The script knows every command and its options."""
        script = autotoll("completion", shell)
        assert [command.name for command in COMMANDS if command.name not in script] == []
        assert "older-than" in script
        assert "autotoll" in script

    def test_bash(self, tmp_path: Path) -> None:
        """Bash completes commands and options by it."""
        script = tmp_path / "autotoll.bash"
        script.write_text(run("completion", "bash").stdout)
        code = (
            f"source {script}; COMP_WORDS=(autotoll {{words}}); COMP_CWORD={{last}};"
            " $(complete -p autotoll | sed 's/.*-F \\([^ ]*\\).*/\\1/') autotoll; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        )
        for words, last, expected in (("re", 1, {"report", "reprice"}), ("prune --old", 2, {"--older-than"})):
            done = subprocess.run(
                ["bash", "--norc", "-c", code.format(words=words, last=last)],
                capture_output=True,
                text=True,
                check=True,
            )
            assert set(done.stdout.split()) == expected

    def test_needs_a_library(self) -> None:
        """Without shtab the error says what to install."""
        code = "import sys; sys.modules['shtab'] = None\nfrom llm_toll_autopatch.cli import main\nsys.exit(main())"
        done = subprocess.run(
            [sys.executable, "-c", code, "completion", "bash"], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert "pip install 'llm-toll-autopatch[cli]'" in done.stderr

    def test_shells(self, autotoll: Shell) -> None:
        """A shell that is not known is refused with those that are."""
        assert "fish" in autotoll("completion", "cmd", code=2)


class TestDemo:
    """What it is good for, without a key and for nothing."""

    def test_all(self, tmp_path: Path) -> None:
        """It makes calls with each SDK, to a simulator, and shows what they would have cost."""
        path = tmp_path / "demo.db"
        done = run("demo", "--ledger", path, PYTHONWARNINGS="ignore")
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("it gets thinner") == 9
        *_, total, _, legend = done.stdout.splitlines()
        assert total.split()[:2] == ["total", "10"]
        assert legend.startswith("~ 1 call")
        assert {record.project for record in SQLiteLedger(path).records()} == {"chat-example"}

    @pytest.fixture
    def hidden(self, tmp_path: Path) -> Hidden:
        """Makes a PYTHONPATH with which packages are not found, by the command and by its children."""

        def path_without(*packages: str) -> str:
            (tmp_path / "sitecustomize.py").write_text(_HIDING.format(packages=packages))
            return f"{tmp_path}{os.pathsep}{Path.cwd()}"

        return path_without

    def test_one_sdk(self, hidden: Hidden) -> None:
        """With one SDK it asks by this one, and says what it left out."""
        done = run("demo", PYTHONPATH=hidden("anthropic", "google.genai"), PYTHONWARNINGS="ignore")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("Not installed, and so left out: anthropic, google-genai.\n")
        assert [line.split()[:2] for line in done.stdout.splitlines() if line.startswith("total")] == [["total", "4"]]

    def test_no_sdk(self, hidden: Hidden) -> None:
        """Without any it says what to install."""
        done = run("demo", PYTHONPATH=hidden("openai", "anthropic", "google.genai"))
        assert (done.returncode, done.stdout) == (1, "")
        assert "pip install 'llm-toll-autopatch[all]'" in done.stderr


def documented() -> list[str]:
    """The commands in the code blocks of the documentation."""
    text = (Path(__file__).parent.parent / "docs" / "command-line.md").read_text(encoding="utf-8")
    lines = [line for block in text.split("```")[1::2] for line in block.splitlines()]
    return [line.partition("autotoll ")[2] for line in lines if line.startswith("autotoll ")]


@pytest.mark.parametrize("line", documented())
def test_documented(line: str) -> None:
    """Every command in the documentation has the arguments that it takes."""
    arguments = list(takewhile(lambda word: word not in {"|", ">"}, shlex.split(line, comments=True)))
    parsed = parser_of(arguments).parse_args(arguments)
    assert parsed.command == arguments[0]
    assert callable(parsed.run)


def test_errors_are_a_line(tmp_path: Path) -> None:
    """An error is one line that leads on, never a traceback."""
    done = run("report", "--ledger", tmp_path / "none.db")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"autotoll: no ledger at {tmp_path / 'none.db'}; has anything been metered yet?\n"
    done = run("report", "--ledger", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_full_disk(ledger: Path) -> None:
    """What cannot be written is an error, not a success."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command("report", "--ledger", ledger), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith("autotoll: [Errno 28]")


@pytest.mark.parametrize("arguments", [["report"], ["export", "--jsonl"], ["budget"], ["tail"], ["config"]])
def test_closed_streams(ledger: Path, arguments: list[str]) -> None:
    """A command whose stdin, stdout and stderr are closed does what it does, with the exit code that it has."""
    line = shlex.join([sys.executable, "-m", "llm_toll_autopatch", *arguments])
    environment = {**os.environ, "LLM_TOLL_AUTOPATCH_SINK": f"sqlite:///{ledger}"}
    done = subprocess.run(["sh", "-c", f"{line} >&-"], stderr=subprocess.PIPE, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert subprocess.run(["sh", "-c", f"{line} <&- >&- 2>&-"], env=environment, check=False).returncode == 0


def test_nobody_to_ask(ledger: Path) -> None:
    """Where stdin is closed, a command that has to ask says that it cannot."""
    line = shlex.join(
        [sys.executable, "-m", "llm_toll_autopatch", "prune", "--older-than", "0d", "--ledger", str(ledger)]
    )
    done = subprocess.run(["sh", "-c", f"{line} <&-"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "nobody to ask" in done.stderr


def test_a_project_that_cannot_be_written(ledger: Path) -> None:
    """A project's name in another encoding is wrong arguments, and no traceback."""
    command: list[str | bytes] = [
        sys.executable,
        "-m",
        "llm_toll_autopatch",
        "budget",
        "set",
        b"caf\xe9",
        "1",
        "--ledger",
        str(ledger),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONUTF8": "1"})
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "PROJECT" in done.stderr


def test_ctrl_c_in_the_demo() -> None:
    """Ctrl-C, which a terminal sends to all of its processes, ends the demo as any command, without a traceback."""
    demo = [sys.executable, "-u", "-m", "llm_toll_autopatch", "demo"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        demo, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as running:
        assert running.stdout is not None
        assert any("plain" in line for line in running.stdout)
        os.killpg(running.pid, signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    assert (running.returncode, errors) == (130, "")
