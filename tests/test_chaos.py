"""A short run of the chaos program (`make chaos`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_nothing_that_was_promised_is_lost() -> None:
    """Workers are killed, stopped, locked out and starved of disk; each response that they were given is there once."""
    tests = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-m", "chaos", "--seconds", "15"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "promised (0 missing)" in done.stdout
