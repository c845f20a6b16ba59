"""`autotoll doctor`: whether everything works, and what to do where it does not."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from llm_toll_autopatch.cli import checks, chosen
from llm_toll_autopatch.cli.exits import FAILED, OK
from llm_toll_autopatch.cli.table import Columns, printable
from llm_toll_autopatch.cli.terminal import Styles

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from llm_toll_autopatch.cli.checks import Finding

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `doctor`."""
    parser.add_argument("--strict", action="store_true", help="what is only worth knowing counts as wrong, too")
    parser.add_argument("--thorough", action="store_true", help="compare the ledger's indexes with its rows as well")
    parser.add_argument("--json", action="store_true", help="what was found as JSON Lines")
    chosen.add_ledger(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print what was found and return the exit code: 1 if something is wrong."""
    columns, styles = Columns([False, False, False]), Styles(sys.stdout)
    colours: dict[str, Callable[[str], str]] = {"ok": str, "note": styles.yellow, "wrong": styles.red}
    bad = 0
    for finding in _findings(arguments):
        bad += finding.level == "wrong" or (arguments.strict and finding.level == "note")
        if arguments.json:
            print(json.dumps(finding._asdict()))
        else:
            [line] = columns.lines([[f"{finding.level:<5}", f"{finding.subject:<10}", printable(finding.text)]])
            print(colours[finding.level](line), flush=True)
    return FAILED if bad else OK


def _findings(arguments: argparse.Namespace) -> Iterator[Finding]:
    ledger = chosen.ledger(arguments)
    yield from checks.libraries()
    yield from checks.settings()
    yield from checks.activated()
    yield from checks.sdks()
    yield from checks.ledger(ledger, thorough=arguments.thorough)
    yield from checks.prices(ledger)
