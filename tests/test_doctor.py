"""`autotoll doctor` finds what is wrong, and says what to do."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from terminals import run
from test_cli import ledger, record, write

from llm_toll_autopatch.cli import main
from llm_toll_autopatch.ledger import SQLiteLedger
from llm_toll_autopatch.ledger.schema import MIGRATIONS

__all__ = ["ledger"]  # a fixture


class Doctor:
    """Runs the command in this process, where the SDKs have been imported already."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object, code: int = 0) -> list[dict[str, Any]]:
        """Return what it found."""
        assert main(["doctor", "--json", *map(str, arguments)]) == code
        captured = self._capsys.readouterr()
        assert captured.err == ""
        return [json.loads(line) for line in captured.out.splitlines()]


@pytest.fixture
def findings(capsys: pytest.CaptureFixture[str]) -> Doctor:
    """The command."""
    return Doctor(capsys)


def of_a_process(ledger: Path, first_on_path: Path) -> list[dict[str, Any]]:
    """What the command found as a process, with one more directory on its path."""
    done = run("doctor", "--json", "--ledger", ledger, PYTHONPATH=f"{first_on_path}{os.pathsep}{Path.cwd()}")
    assert done.stderr == ""
    found: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == ("wrong" in {each["level"] for each in found})
    return found


def about(found: list[dict[str, Any]], subject: str) -> list[tuple[str, str]]:
    """Levels and texts of what was found about a subject."""
    return [(each["level"], each["text"]) for each in found if each["subject"] == subject]


def test_sound(findings: Doctor, ledger: Path) -> None:
    """Where all is well, every SDK is patched and the ledger sound."""
    found = findings("--thorough", "--ledger", ledger)
    assert {each["level"] for each in found} == {"ok"}
    for name in ("openai", "anthropic", "google"):
        [(_, text)] = about(found, name)
        assert "methods are metered" in text
    [(_, text)] = about(found, "ledger")
    assert text.startswith(f"{ledger}: 3 calls, ")
    assert f"schema version {len(MIGRATIONS)}" in text
    [(_, text)] = about(found, "activation")
    assert text.startswith(("on (", "off ("))
    [(_, text)] = about(found, "versions")
    assert f"Python {sys.version.split()[0]}" in text


def test_for_people(ledger: Path) -> None:
    """As a process it prints a line for each, and writes nothing anywhere."""
    before = ledger.read_bytes()
    done = run("doctor", "--ledger", ledger)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ok"] * 7
    assert ledger.read_bytes() == before


def test_nothing_yet(findings: Doctor, tmp_path: Path) -> None:
    """No ledger is worth knowing, and only wrong for the strict; none is made."""
    path = tmp_path / "new" / "ledger.db"
    assert about(findings("--ledger", path), "ledger") == [("note", f"none at {path} yet: nothing has been metered")]
    findings("--strict", "--ledger", path, code=1)
    assert not path.parent.exists()


def test_unknown_prices(findings: Doctor, ledger: Path) -> None:
    """Models whose calls have no known cost are named, the most calls first; calls without any usage are not meant."""
    unknown = [record(model=model, cost_usd=None) for model in ("my-model", "my-model", "other")]
    write(ledger, *unknown, record(model="lost", cost_usd=None, usage_source="missing"))
    found = about(findings("--ledger", ledger), "prices")
    assert [(level, text.partition(" without")[0]) for level, text in found] == [
        ("note", "2 calls of 'my-model'"),
        ("note", "1 call of 'other'"),
    ]
    assert "autotoll reprice --unknown" in found[0][1]


def test_damaged(findings: Doctor, ledger: Path) -> None:
    """A damaged file is wrong, whether it can still be opened or not."""
    with SQLiteLedger(ledger) as large:
        large.add(record() for _ in range(2000))
    content = bytearray(ledger.read_bytes())
    half = len(content) // 2
    content[half : half + 20_000] = b"\xff" * 20_000
    ledger.write_bytes(content)
    found = about(findings("--ledger", ledger, code=1), "ledger")
    assert "wrong" in {level for level, _ in found}
    ledger.write_bytes(b"\xff" * len(content))
    [(level, text)] = about(findings("--ledger", ledger, code=1), "ledger")
    assert (level, "cannot be read" in text) == ("wrong", True)


def test_newer(findings: Doctor, ledger: Path) -> None:
    """A ledger of a newer version says what to upgrade."""
    with SQLiteLedger(ledger).transaction() as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    [(level, text)] = about(findings("--ledger", ledger, code=1), "ledger")
    assert (level, "pip install -U llm-toll-autopatch" in text) == ("wrong", True)


def test_settings(findings: Doctor, ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that makes no sense is wrong, and named."""
    monkeypatch.setenv("LLM_TOLL_AUTOPATCH_SINK", "nonsense")
    [(level, text)] = about(findings("--ledger", ledger, code=1), "settings")
    assert level == "wrong"
    assert "LLM_TOLL_AUTOPATCH_SINK" in text


@pytest.fixture
def python_path(tmp_path: Path) -> Path:
    """A directory before all others on the path."""
    path = tmp_path / "path"
    path.mkdir()
    return path


def test_moved_method(ledger: Path, python_path: Path) -> None:
    """A method that an SDK has moved is wrong, and named."""
    (python_path / "sitecustomize.py").write_text(
        "import openai.resources.embeddings as module\ndel module.Embeddings.create\n"
    )
    found = of_a_process(ledger, python_path)
    wrong = [text for level, text in about(found, "openai") if level == "wrong"]
    assert [text.partition(" has moved")[0] for text in wrong] == ["Embeddings.create (embeddings.create)"]


def test_foreign_wrapper(ledger: Path, python_path: Path) -> None:
    """Another tool's wrapper on the same method is worth knowing."""
    (python_path / "tracer.py").write_text(
        "import wrapt\n\ndef trace(wrapped, instance, args, kwargs):\n    return wrapped(*args, **kwargs)\n"
    )
    (python_path / "sitecustomize.py").write_text(
        "import openai.resources.embeddings as module\nimport tracer, wrapt\n"
        "wrapt.wrap_function_wrapper(module, 'Embeddings.create', tracer.trace)\n"
    )
    found = of_a_process(ledger, python_path)
    assert ("note", "also wrapped by tracer") in about(found, "openai")


def test_broken_sdk(ledger: Path, python_path: Path) -> None:
    """An SDK that cannot be imported is wrong; the others are looked at all the same."""
    (python_path / "anthropic.py").write_text("raise RuntimeError('broken installation')\n")
    found = of_a_process(ledger, python_path)
    [(level, text)] = about(found, "anthropic")
    assert (level, text.endswith("cannot be imported: RuntimeError: broken installation")) == ("wrong", True)
    assert about(found, "google")[0][0] == "ok"
