"""Our tests against the SDKs as they were and are: `nox -s versions`, one session per set of versions and Python.

The three SDKs do not depend on one another, so a session takes one version of each. What a session found is kept under
`.nox/`, and `docs/versions.md` is written anew from all that is there after each.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import nox

PYTHONS = ("3.11", "3.12", "3.13")
TEST_TOOLS = ("pytest>=8", "pytest-asyncio>=0.25", "pytest-timeout>=2.3", "hypothesis>=6.100", "rich>=13")
DISTRIBUTIONS = ("openai", "anthropic", "google-genai")

# None is the newest release. OpenAI's floor is already the last of its oldest major, but for a bug-fix release.
SETS: dict[str, tuple[str | None, str | None, str | None]] = {
    "newest": (None, None, None),
    "last-major": ("2.54.0", "1.17.0", "2.34.0"),
    "older-major": ("1.109.1", "0.125.0", "1.75.0"),
    "floor": ("1.109.0", "0.75.0", "1.60.0"),
}

ROOT = Path(__file__).parent
RESULTS = ROOT / ".nox" / "version-results"
TABLE = ROOT / "docs" / "versions.md"

nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["versions"]
nox.options.error_on_missing_interpreters = False  # nox then says "skipped: Python interpreter 3.13 not found"


def _show_interpreters_of_pyenv() -> None:
    """Let pyenv's shims run every version it has: one that is not selected looks present to nox, and then fails."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {version: sorted(root.glob(f"{version}.*"), key=_numbers) for version in PYTHONS}
    names = [paths[-1].name for paths in found.values() if paths]
    if names and "PYENV_VERSION" not in os.environ:
        os.environ["PYENV_VERSION"] = ":".join(names)


def _numbers(path: Path) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", path.name)]


_show_interpreters_of_pyenv()


@nox.session(python=PYTHONS)
@nox.parametrize("sdks", list(SETS), ids=list(SETS))
def versions(session: nox.Session, sdks: str) -> None:
    """Run the tests against one version of each SDK."""
    wanted = [
        name if version is None else f"{name}=={version}"
        for name, version in zip(DISTRIBUTIONS, SETS[sdks], strict=True)
    ]
    upgrade = () if all(SETS[sdks]) else ("--upgrade",)  # a venv that is used again may hold last month's newest
    session.install("--quiet", *upgrade, "-e", ".", *TEST_TOOLS, *wanted)
    RESULTS.mkdir(parents=True, exist_ok=True)
    stem = RESULTS / f"{session.python}-{sdks}"
    report = stem.with_name(stem.name + ".xml")
    report.unlink(missing_ok=True)
    try:
        session.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *session.posargs)
    finally:
        if report.exists() and not session.posargs:  # a selection is no result
            listed = session.run("python", "-m", "pip", "list", "--format=json", silent=True)
            installed = {each["name"]: each["version"] for each in json.loads(str(listed))}
            row = {
                "python": str(session.python),
                "set": sdks,
                "date": dt.datetime.now(dt.UTC).date().isoformat(),
                "sdks": {name: installed[name] for name in DISTRIBUTIONS},
                **_counts(report),
            }
            stem.with_name(stem.name + ".json").write_text(json.dumps(row, indent=1), encoding="utf-8")
            _write_table()


def _counts(report: Path) -> dict[str, int]:
    totals = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for suite in ET.parse(report).getroot().iter("testsuite"):  # noqa: S314 - pytest has just written it
        for name in totals:
            totals[name] += int(suite.get(name, 0))
    failed = totals["failures"] + totals["errors"]
    return {
        "passed": totals["tests"] - failed - totals["skipped"],
        "failed": failed,
        "skipped": totals["skipped"],
    }


def _write_table() -> None:
    """Write `docs/versions.md` from the results of all sessions that have run here."""
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in RESULTS.glob("*.json")]
    order = list(SETS)
    rows.sort(key=lambda row: (order.index(row["set"]), _numbers(Path(row["python"]))))
    lines = [
        "# Versions",
        "",
        "Our own tests, which drive the real SDK clients against the simulator, on the newest release of each SDK, the",
        "last release of each older major, and the oldest that is supported. Written by `nox -s versions`; `nox -s",
        '"versions-3.13(newest)"` runs one row. A Python that a machine does not have is skipped and says so.',
        "",
        "| Python | openai | anthropic | google-genai | passed | failed | skipped | run on |",
        "|---|---|---|---|---:|---:|---:|---|",
    ]
    lines += [
        f"| {row['python']} | {' | '.join(row['sdks'][name] for name in DISTRIBUTIONS)} "
        f"| {row['passed']} | {row['failed']} | {row['skipped']} | {row['date']} |"
        for row in rows
    ]
    lines += [
        "",
        "A skipped test needs something that this version of the SDK does not have; `pytest -rs` names it. A method",
        "that a version lacks is not metered there and is a line in `status()`.",
    ]
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")
