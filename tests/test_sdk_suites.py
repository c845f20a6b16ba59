"""The runner of the SDKs' own tests: its comparison, its plugin and its tables. `make sdk-suites` runs it in earnest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sdk_suites import __main__ as command_line
from sdk_suites.report import Comparison, compare, markdown, table
from sdk_suites.suites import SUITES
from sdk_suites.workbench import PLUGIN, Run

METERING = {"records": 5, "failures": 0, "failures_in": {}}


def run(outcomes: dict[str, str], metering: dict[str, Any] | None = None) -> Run:
    """A run that took a second."""
    reasons = {test: "because" for test, outcome in outcomes.items() if outcome == "failed"}
    return Run(outcomes, reasons, 1.0, metering)


def test_equal_runs_are_good() -> None:
    """Tests that fail or are skipped in both runs are no difference."""
    outcomes = {"a": "passed", "b": "failed", "c": "skipped"}
    compared = compare("openai", "3.0", run(outcomes), run(outcomes, METERING))
    assert compared.good
    assert (compared.tests, compared.bare, compared.patched, compared.records) == (3, 1, 1, 5)


@pytest.mark.parametrize("outcome", ["failed", "skipped", None])
def test_a_test_that_passes_bare_only_is_broken(outcome: str | None) -> None:
    """A test that passes bare and fails, is skipped or is gone with the patches on is a difference, with its reason."""
    after = {"b": "passed"} | ({} if outcome is None else {"a": outcome})
    compared = compare("openai", "3.0", run({"a": "passed"}), run(after, METERING))
    assert not compared.good
    assert list(compared.broken) == ["a"]
    assert ("because" in compared.broken["a"]) is (outcome == "failed")


@pytest.mark.parametrize("changes", [{"records": 0}, {"failures": 1}])
def test_a_run_that_proves_nothing_is_not_good(changes: dict[str, int]) -> None:
    """A run without a record metered nothing, and an error of ours that no test saw is still one."""
    outcomes = {"a": "passed"}
    assert not compare("openai", "3.0", run(outcomes), run(outcomes, METERING | changes)).good


def test_tables(tmp_path: Path) -> None:
    """The tables have a line for each SDK, and name what passed bare only."""
    outcomes = {"a": "passed", "tests/b": "passed"}
    good = compare("openai", "3.0", run(outcomes), run(outcomes, METERING))
    bad = replace(good, sdk="google", broken={"tests/b": "why"})
    assert [line.split()[:2] for line in table([good, bad]).splitlines()[1:]] == [["openai", "3.0"], ["google", "3.0"]]
    page = tmp_path / "page.md"
    markdown([good, bad], page)
    text = page.read_text(encoding="utf-8")
    assert "| openai | 3.0 | 2 | 2 | 2 | 0 | 5 | 0 |" in text
    assert "- google: `tests/b`" in text


@pytest.mark.parametrize("metered", [False, True])
def test_the_plugin_writes_what_became_of_each_test(metered: bool, tmp_path: Path) -> None:
    """Errors in set-up and tear-down count as failures; the metered run has the patches on before the test module."""
    (tmp_path / "test_sample.py").write_text(
        "import pytest\n"
        "import llm_toll_autopatch\n"
        "METERED = llm_toll_autopatch.status().active\n"
        "@pytest.fixture\n"
        "def late():\n    yield\n    raise RuntimeError('late')\n"
        "def test_fine(): pass\n"
        "def test_bad(): assert METERED is None\n"
        "def test_late(late): pass\n"
        "@pytest.mark.skip\n"
        "def test_skipped(): pass\n",
        encoding="utf-8",
    )
    (tmp_path / "test_unreadable.py").write_text("import no_such_module\n", encoding="utf-8")
    result = tmp_path / "result.json"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "toll_suite_plugin",
        "--continue-on-collection-errors",
        "-c",
        os.devnull,
    ]
    subprocess.run(
        [*command, f"--rootdir={tmp_path}", str(tmp_path)],
        env=os.environ
        | {"PYTHONPATH": str(PLUGIN), "TOLL_SUITE_RESULT": str(result), "TOLL_SUITE_METER": str(int(metered))},
        cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    found = json.loads(result.read_text(encoding="utf-8"))
    assert found["outcomes"] == {
        "test_sample.py::test_fine": "passed",
        "test_sample.py::test_bad": "failed",
        "test_sample.py::test_late": "failed",
        "test_sample.py::test_skipped": "skipped",
        "test_unreadable.py": "failed",
    }
    assert f"assert {metered} is None" in found["reasons"]["test_sample.py::test_bad"]
    assert ("metering" in found) is metered
    if metered:
        assert found["metering"]["active"]


def test_the_command_fails_when_a_test_breaks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The exit code is 1 when anything differs, and the page is written when all three SDKs have been run in full."""
    broken: dict[str, str] = {}

    def fake(suite: Any, selection: tuple[str, ...]) -> Comparison:
        (tmp_path / suite.sdk).mkdir(exist_ok=True)
        return Comparison(suite.sdk, "1.0", "2026-01-01", 1, 1, 1 - len(broken), broken, 1, 0, [], 1.0)

    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(command_line, "_run", fake)
    monkeypatch.setattr(command_line, "WORK", tmp_path)
    monkeypatch.setattr(command_line, "ROOT", tmp_path)
    page = tmp_path / "docs" / "sdk-suites.md"
    assert command_line.main(["--slice"]) == 0
    assert command_line.main(["--sdk", "openai"]) == 0
    assert not page.exists()
    assert command_line.main([]) == 0
    assert page.exists()
    broken["tests/a"] = "why"
    assert command_line.main(["--sdk", "google"]) == 1
    assert "- google: `tests/a`" in page.read_text(encoding="utf-8")


def test_slices_are_parts_of_the_whole() -> None:
    """What the slice runs, the full run covers."""
    for suite in SUITES:
        for part in suite.slice:
            assert any(part == each or part.startswith(f"{each}/") for each in suite.selection), part
