"""The benchmarks run here, quickly, and say what they found. No figure is looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import PROGRAMS
from benchmarks.environments import OURS
from benchmarks.rows import Row

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("program", [name for name, environments in PROGRAMS.items() if OURS in environments])
def test_each_program_runs_and_tells_rows(program: str) -> None:
    """A rough look gives rows with figures, and whatever has none says why."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{program}", OURS.name, "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    rows = [Row(*json.loads(line)) for line in done.stdout.splitlines()]
    assert any(row.figure is not None for row in rows)
    assert [row for row in rows if row.figure is None and not row.note] == []
    assert [row for row in rows if "does not run" in row.note] == []
