"""`autotoll prune` deletes what it said, after a yes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from terminals import at_terminal, plain, run
from test_cli import Shell, autotoll, record, write

from llm_toll_autopatch.ledger import SQLiteLedger

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["autotoll"]  # a fixture


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A ledger with two old calls of two projects, and a new one."""
    now = datetime.now(UTC)
    old = now - timedelta(days=100)
    path = tmp_path / "ledger.db"
    return write(path, record(started_at=old), record(started_at=old, project="zeta"), record(started_at=now))


def calls(path: Path) -> int:
    """How many calls are left."""
    return sum(group.calls for group in SQLiteLedger(path).totals())


def test_dry_run(autotoll: Shell, ledger: Path) -> None:
    """A dry run shows by project what would go, and deletes nothing."""
    lines = autotoll("prune", "--older-than", "90d", "--dry-run", "--vacuum", "--ledger", ledger).splitlines()
    assert [line.split()[:2] for line in lines[:4]] == [
        ["project", "calls"],
        ["acme", "1"],
        ["zeta", "1"],
        ["total", "2"],
    ]
    assert lines[-1].startswith("2 calls from before ")
    assert lines[-1].endswith("would be deleted.")
    assert calls(ledger) == 3


def test_yes(autotoll: Shell, ledger: Path) -> None:
    """With --yes it does not ask; a second time there is nothing to do."""
    assert autotoll("prune", "--older-than", "90d", "--yes", "--ledger", ledger).splitlines()[-1] == "2 calls deleted."
    assert calls(ledger) == 1
    assert autotoll("prune", "--older-than", "90d", "--ledger", ledger).startswith("No calls from before ")


def test_project(autotoll: Shell, ledger: Path) -> None:
    """A project's calls can go by themselves."""
    autotoll("prune", "--older-than", "90d", "--project", "zeta", "--yes", "--ledger", ledger)
    assert calls(ledger) == 2


@pytest.mark.parametrize("rich", [True, False])
@pytest.mark.parametrize(
    ("answer", "code", "left"), [("y\n", 0, 1), ("Yes\n", 0, 1), ("\n", 1, 3), ("no\n", 1, 3), ("\x04", 1, 3)]
)
def test_asks(ledger: Path, rich: bool, answer: str, code: int, left: int) -> None:
    """At a terminal it asks, and anything but a yes deletes nothing."""
    with at_terminal("prune", "--older-than", "90d", "--ledger", ledger, rich=rich) as terminal:
        terminal.wait_for("for good? [y/N] ")
        terminal.type(answer)
        assert terminal.end() == code
    assert ("Nothing is deleted." in plain(terminal.text)) == bool(code)
    assert calls(ledger) == left


def test_interrupted(ledger: Path) -> None:
    """Ctrl-C at the question deletes nothing."""
    with at_terminal("prune", "--older-than", "90d", "--ledger", ledger) as terminal:
        terminal.wait_for("[y/N]")
        terminal.type("\x03")
        assert terminal.end() == 130
    assert "Traceback" not in terminal.text
    assert calls(ledger) == 3


def test_nobody_to_ask(ledger: Path) -> None:
    """Without a terminal it does not guess, and says how to say yes."""
    done = run("prune", "--older-than", "90d", "--ledger", ledger)
    assert done.returncode == 1
    assert "--yes" in done.stderr
    assert calls(ledger) == 3


def test_vacuum(autotoll: Shell, tmp_path: Path) -> None:
    """With --vacuum the file gets smaller, also when there is nothing to delete."""
    with SQLiteLedger(tmp_path / "ledger.db") as ledger:
        ledger.add(record(error_type="x" * 500) for _ in range(1000))
    autotoll("prune", "--older-than", "today", "--yes", "--ledger", ledger.path)
    before = ledger.path.stat().st_size
    out = autotoll("prune", "--older-than", "today", "--vacuum", "--ledger", ledger.path)
    after = ledger.path.stat().st_size
    assert out.splitlines()[-1] == f"The file had {before:,} bytes, and has {after:,}."
    assert after < before / 4


@pytest.mark.parametrize("rich", [True, False])
@pytest.mark.parametrize(
    ("arguments", "label"), [(["prune", "--older-than", "1d", "--yes"], "pruning"), (["reprice"], "repricing")]
)
def test_progress(ledger: Path, rich: bool, arguments: list[str], label: str) -> None:
    """At a terminal long work shows how far it is, with `rich`; without, it just does it."""
    with at_terminal(*arguments, "--ledger", ledger, rich=rich) as terminal:
        assert terminal.end() == 0
    assert (label in plain(terminal.text)) is rich


@pytest.mark.parametrize(
    ("arguments", "part"), [([], "--older-than"), (["--older-than", "old"], "--older-than: 'old' is no such moment")]
)
def test_wrong(autotoll: Shell, arguments: list[str], part: str) -> None:
    """What is old has to be said."""
    assert part in autotoll("prune", *arguments, code=2)


def test_missing(autotoll: Shell, tmp_path: Path) -> None:
    """No ledger is an error, and none is made."""
    assert "no ledger at" in autotoll("prune", "--older-than", "1d", "--yes", "--ledger", tmp_path / "x.db", code=1)
    assert not (tmp_path / "x.db").exists()
