"""The comparison of two runs, and the tables that show it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sdk_suites.workbench import Run

__all__ = ["Comparison", "compare", "markdown", "table"]

_HEADS = ("SDK", "version", "tests", "bare", "patched", "differ", "records", "our failures", "seconds")


@dataclass(frozen=True)
class Comparison:
    """What the two runs of a suite have shown.

    Attributes:
        sdk: The SDK.
        version: Its version.
        date: The day of the run.
        tests: Number of tests that were run bare.
        bare: How many of them passed.
        patched: How many passed with the patches on.
        broken: The tests that passed bare and did not pass patched, with the ends of their tracebacks.
        records: Number of records that the metering made.
        failures: Number of our own errors, which the tests did not see.
        failures_in: The tests in which these happened.
        seconds: How long both runs took.
    """

    sdk: str
    version: str
    date: str
    tests: int
    bare: int
    patched: int
    broken: Mapping[str, str]
    records: int
    failures: int
    failures_in: Sequence[str]
    seconds: float

    @property
    def good(self) -> bool:
        """Whether the patches changed nothing that a test sees, and nothing of ours failed behind its back."""
        return not self.broken and not self.failures and self.bare > 0 and self.records > 0

    def row(self) -> tuple[str, ...]:
        """Return the cells of its line in a table."""
        figures = (self.tests, self.bare, self.patched, len(self.broken), self.records, self.failures)
        return (self.sdk, self.version, *(f"{figure:,}" for figure in figures), f"{self.seconds:.0f}")


def compare(sdk: str, version: str, bare: Run, patched: Run) -> Comparison:
    """Compare two runs of the same selection, by test id. A test that did not run patched has not passed."""
    metering: Mapping[str, Any] = patched.metering or {}
    broken = {
        test: patched.reasons.get(test) or f"outcome: {patched.outcomes.get(test, 'not run')}"
        for test, outcome in bare.outcomes.items()
        if outcome == "passed" and patched.outcomes.get(test) != "passed"
    }
    return Comparison(
        sdk=sdk,
        version=version,
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        tests=len(bare.outcomes),
        bare=bare.passed,
        patched=patched.passed,
        broken=broken,
        records=int(metering.get("records", 0)),
        failures=int(metering.get("failures", 0)),
        failures_in=list(metering.get("failures_in", ())),
        seconds=bare.seconds + patched.seconds,
    )


def table(comparisons: Sequence[Comparison]) -> str:
    """Return the table for a terminal."""
    rows = [_HEADS, *(each.row() for each in comparisons)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def markdown(comparisons: Sequence[Comparison], path: Path) -> None:
    """Write the page with the table."""
    lines = [
        "# The SDKs' own tests",
        "",
        "Each SDK's own tests, of its newest release, bare and with the patches on, compared test by test. Written by",
        "`make sdk-suites`, which fails when a test that passes bare does not pass patched, or when something of ours failed",
        "where the test could not see it. Tests that fail bare need recordings or services that the distributions do not ship.",
        "",
        "| SDK | version | tests | pass bare | pass patched | passed bare only | records made | our failures | run on |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    lines += [f"| {' | '.join(each.row()[:-1])} | {each.date} |" for each in comparisons]
    broken = [f"- {each.sdk}: `{test}`" for each in comparisons for test in each.broken]
    if broken:
        lines += ["", "Passed bare only:", "", *broken]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
