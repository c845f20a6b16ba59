"""Run the benchmarks, print one table and write it to `docs/benchmarks.md`: `make bench`.

`--quick` is a rough look and writes nothing; `--full` takes about an hour: more rounds, and ten million records, too. A
benchmark never fails a build: what does not run is a row that says why.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.environments import OTHERS, OURS, ROOT, Environment, prepared
from benchmarks.rows import Row, is_quick

PROGRAMS: dict[str, tuple[Environment, ...]] = {
    "startup": (OURS,),
    "chunks": (OURS,),
    "calls": (OURS,),
    "bytecodes": (OURS,),
    "memory": (OURS,),
    "rivals": (OURS, *OTHERS),
    "scale": (OURS,),
}
"""What is run, in this order, and in which environments."""
_PATIENCE_S = 900
_PATIENCE_FULL_S = 7_200
_OPTIONS = ("--quick", "--full")


_HOW_TO_READ = """
Every figure is what is added to the bare SDK in the same run, the cases taking turns: the median of the rounds. The
spread is half the distance between their quartiles. `±` is the standard error of the median that follows from it and
from the number of rounds: two figures that are no further apart than that are the same. Limits are our own.

- **In isolation**: the SDK's real chunk objects through its own stream, from a list; a call from our wrapper's gate to
  its record, around an answer that is there. Nothing is sent or parsed, so that a tenth of a microsecond can be told.
  A chunk of pydantic's models takes up to 0.2 µs more in some programs than in others, by the number of their types
  alone (CPython has one small cache for the attributes of all of them): the figure is the median of nine such programs.
- **Through the SDK**: the whole client, over a transport within the process. The same instructions take about twice as
  long there: the SDK's own, ten times as many, have just filled the processor's caches.
- **A chunk beside others** bears its part of the call that opened the stream: one in 300 through the SDK, in 2,000 in
  isolation.
- **Others** are set up as their documentation says, in their newest releases, spans kept in memory. Whether they saw
  the tokens of a stream whose user had not asked for them is a table of its own: what does not look is cheap.
"""


def run(program: str, environment: Environment) -> tuple[list[Row], str]:
    """Return the rows of one program in one environment, and the version of what is measured."""
    ready = prepared(environment)
    if ready.missing:
        return [Row(program, environment.name, None, "", note=ready.missing)], ""
    options = [option for option in _OPTIONS if option in sys.argv]
    patience_s = _PATIENCE_FULL_S if "--full" in options else _PATIENCE_S
    command = [str(ready.python), "-m", f"benchmarks.{program}", environment.name, *options]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=patience_s, check=False)  # noqa: S603 - our own
    except subprocess.TimeoutExpired:
        return [Row(program, environment.name, None, "", note=f"took more than {patience_s} s")], ""
    rows = [Row(*json.loads(line)) for line in done.stdout.splitlines() if line.startswith("[")]
    if done.returncode or not rows:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        rows.append(Row(program, environment.name, None, "", note=f"does not run: {last}"))
    return rows, ready.versions.get(environment.shown, "")


def told(row: Row) -> str:
    """Return a row as a line of Markdown."""
    if row.unit == "seen":
        return f"| {row.case} | {'seen' if row.figure else 'not seen'} | | | | |"
    figure = "none" if row.figure is None else f"{row.figure:.2f} {row.unit}"
    error = "" if row.error is None else f"± {row.error:.2f}"
    spread = "" if row.spread is None else f"{row.spread:.2f}"
    verdict = "" if row.limit is None or row.figure is None else ("met" if row.figure <= row.limit else "**not met**")
    limit = "" if row.limit is None else f"{row.limit:g} {row.unit}, {verdict}"
    return f"| {row.case} | {figure} | {error} | {spread} | {limit} | {row.note} |"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def main() -> None:
    """Run all and write the page."""
    rows: list[Row] = []
    measured: dict[str, str] = {}
    for program, environments in PROGRAMS.items():
        for environment in environments:
            began = time.monotonic()
            more, measured[environment.name] = run(program, environment)
            rows += more
            print(f"{program}, {environment.name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    lines = [
        "# Benchmarks",
        "",
        (
            f"Written by `make bench` on {dt.datetime.now(dt.UTC).date()}: {os.cpu_count()} cores, {_processor()},"
            f" Python {platform.python_version()}. CPU time."
        ),
        "",
        " · ".join(f"{name} {version}" for name, version in measured.items()),
        _HOW_TO_READ.rstrip(),
    ]
    for subject in dict.fromkeys(row.subject for row in rows):
        lines += ["", f"## {subject}", "", "| case | figure | ± | spread | limit | |", "|---|---:|---:|---:|---|---|"]
        lines += [told(row) for row in rows if row.subject == subject]
    page = "\n".join(lines) + "\n"
    print(page)
    if not is_quick():
        (ROOT / "docs" / "benchmarks.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
