"""The command line: `PYTHONPATH=tests python -m sdk_suites`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from sdk_suites.report import Comparison, compare, markdown, table
from sdk_suites.suites import SUITES
from sdk_suites.workbench import ROOT, WORK, Workbench

if TYPE_CHECKING:
    from sdk_suites.suites import Suite


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; return 1 when the patches changed something."""
    parser = argparse.ArgumentParser(prog="sdk_suites", description="Run the SDKs' own tests bare and patched.")
    names = [suite.sdk for suite in SUITES]
    parser.add_argument("--sdk", action="append", choices=names, help="only this one; may be repeated (all)")
    parser.add_argument("--slice", action="store_true", help="the fast part of each: about two minutes in all")
    parser.add_argument(
        "--select", nargs="+", metavar="TEST", help="these tests of one SDK instead, as pytest takes them"
    )
    chosen = parser.parse_args(arguments)
    if chosen.select and len(chosen.sdk or ()) != 1:
        parser.error("--select needs one --sdk")
    comparisons = []
    for suite in SUITES:
        if chosen.sdk and suite.sdk not in chosen.sdk:
            continue
        selection = chosen.select or (suite.slice if chosen.slice else suite.selection)
        comparison = _run(suite, tuple(selection))
        comparisons.append(comparison)
        if tuple(selection) == suite.selection:
            _keep(comparison)
    _say(table(comparisons))
    return 0 if all(each.good for each in comparisons) else 1


def _run(suite: Suite, selection: tuple[str, ...]) -> Comparison:
    bench = Workbench(suite)
    _say(f"{suite.sdk} {bench.version}: preparing")
    bench.prepare()
    _say(f"{suite.sdk} {bench.version}: bare")
    bare = bench.run(selection, metered=False)
    _say(f"{suite.sdk} {bench.version}: patched, after {bare.passed:,} passed in {bare.seconds:.0f} s")
    patched = bench.run(selection, metered=True)
    comparison = compare(suite.sdk, bench.version, bare, patched)
    for test, reason in comparison.broken.items():
        _say(f"\npassed bare only: {test}\n{reason}")
    for test in comparison.failures_in:
        _say(f"\nsomething of ours failed in {test}")
    for text in (patched.metering or {}).get("failed", ()):
        _say(text)
    return comparison


def _keep(comparison: Comparison) -> None:
    """Keep the result of a full run, and write the page once there is one of each SDK."""
    (WORK / comparison.sdk / "comparison.json").write_text(json.dumps(asdict(comparison)), encoding="utf-8")
    kept = [WORK / suite.sdk / "comparison.json" for suite in SUITES]
    results = [json.loads(path.read_text(encoding="utf-8")) for path in kept if path.exists()]
    # What an older version of this script kept says less, or something else: that run has to be made again.
    current = [Comparison(**each) for each in results if each.keys() == Comparison.__dataclass_fields__.keys()]
    if len(current) == len(SUITES):
        markdown(current, ROOT / "docs" / "sdk-suites.md")


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command line


if __name__ == "__main__":
    sys.exit(main())
