"""`autotoll demo`: calls with the SDKs that are installed, to a simulator here, and what they would have cost."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from llm_toll_autopatch.cli.exits import OK, CommandError
from llm_toll_autopatch.cli.spending import in_order, show_table
from llm_toll_autopatch.cli.terminal import is_terminal
from llm_toll_autopatch.sdks import SDKS

if TYPE_CHECKING:
    import argparse

__all__ = ["configure", "run"]

_BY = ("project", "model")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `demo`."""
    parser.add_argument("--ledger", metavar="PATH", help="keep the calls in this ledger (default: forget them)")


def run(arguments: argparse.Namespace) -> int:
    """Make the calls, print what they cost and return the exit code."""
    from llm_toll_autopatch.demo import installed

    missing = [sdk.distribution for sdk in SDKS.values() if not installed(sdk.package)]
    if len(missing) == len(SDKS):
        raise CommandError("none of the SDKs is installed: pip install 'llm-toll-autopatch[all]'")
    if missing:
        print(f"Not installed, and so left out: {', '.join(missing)}.")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="autotoll-demo-") as directory:
        path = Path(arguments.ledger or Path(directory) / "ledger.db").expanduser().absolute()
        simulated = [sys.executable, "-m", "llm_toll_autopatch.simulator", "--"]
        done = subprocess.run(  # noqa: S603 - this very package
            [*simulated, sys.executable, "-m", "llm_toll_autopatch.demo"],
            env={**os.environ, "LLM_TOLL_AUTOPATCH_SINK": f"sqlite:///{path}"},
            check=False,
        )
        if done.returncode:
            raise CommandError(f"the demo ended with exit code {done.returncode}; `autotoll doctor` may know why")
        _report(path)
    return OK


def _report(path: Path) -> None:
    from llm_toll_autopatch.ledger.sqlite import SQLiteLedger

    print("What that would have cost, as `autotoll report` tells it:\n")
    show_table(_BY, in_order(_BY, SQLiteLedger(path).totals(_BY)), bars=is_terminal(sys.stdout))
