"""Our tests against the SDKs as they were and are: `nox -s versions`, one session per set of versions and Python.

`nox -s libraries` runs known libraries on the SDKs, each in a venv of its own, and writes `docs/libraries.md`.

The three SDKs do not depend on one another, so a session takes one version of each. What a session found is kept under
`.nox/`, and the table of `docs/versions.md` is written anew from all that is there after each.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import nox

PYTHONS = ("3.11", "3.12", "3.13")
TEST_TOOLS = ("pytest>=8", "pytest-asyncio>=0.25", "pytest-timeout>=2.3")  # of the libraries' sessions
DISTRIBUTIONS = ("openai", "anthropic", "google-genai")

# None is the newest release. OpenAI's floor is already the last of its oldest major, but for a bug-fix release.
SETS: dict[str, tuple[str | None, str | None, str | None]] = {
    "newest": (None, None, None),
    "last-major": ("2.54.0", "1.17.0", "2.34.0"),
    "older-major": ("1.109.1", "0.125.0", "1.75.0"),
    "floor": ("1.109.0", "0.75.0", "1.60.0"),
}

# What each library needs, and the names of the distributions that the table shows.
LIBRARIES: dict[str, tuple[str, ...]] = {
    "langchain": ("langchain-openai", "langchain-anthropic", "langchain-google-genai"),
    "instructor": ("instructor[anthropic,google-genai]",),
    "pydantic-ai": ("pydantic-ai-slim[openai,anthropic,google]",),
    "openai-agents": ("openai-agents",),
    "litellm": ("litellm",),
    "dspy": ("dspy",),
    # Its package for Anthropic does not work with the later SDKs that it allows: `temperature`, `typing.Union`.
    "llama-index": (
        "llama-index-llms-openai",
        "llama-index-llms-anthropic",
        "llama-index-llms-google-genai",
        "anthropic<1",
    ),
}

# What these are about is the same with every release of an SDK: `nox -s versions -- whole` runs them too.
SAME_WITH_ALL = (
    "activation", "budget_command", "budgets", "caps", "chaos", "cli", "console", "docs", "durability", "examples",
    "failing_ledgers", "keepers", "lanes", "ledger", "llm_toll", "llm_toll_examples", "notebook", "otel", "page",
    "plugins", "postgres", "price_overrides", "pricing", "privacy", "processes", "prometheus", "prune",
    "pytest_plugin", "queries", "races", "report", "reporting", "repricing", "scopes", "sdk_suites", "settings",
    "shell", "simulator", "sinks", "sources", "testing", "tracked_limits", "transfer", "watch", "workflows",
)  # fmt: skip

ROOT = Path(__file__).parent
RESULTS = ROOT / ".nox" / "version-results"
TABLE = ROOT / "docs" / "versions.md"
LIBRARY_RESULTS = ROOT / ".nox" / "library-results"
LIBRARY_TABLE = ROOT / "docs" / "libraries.md"
BEGIN, END = "<!-- results: written by nox -->", "<!-- end of the results -->"

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
    session.install("--quiet", *upgrade, "-e", ".[dev]", *wanted)
    RESULTS.mkdir(parents=True, exist_ok=True)
    stem = RESULTS / f"{session.python}-{sdks}"
    report = stem.with_name(stem.name + ".xml")
    report.unlink(missing_ok=True)
    whole = session.posargs == ["whole"]
    chosen = [] if whole else session.posargs
    left_out = [] if whole else [f"--ignore=tests/test_{name}.py" for name in SAME_WITH_ALL]
    options = ("-q", "-p", "no:cacheprovider", f"--junitxml={report}")
    try:
        session.run("python", "-m", "pytest", *options, *left_out, *chosen)
    finally:
        if report.exists() and not chosen:  # a selection of the user's is no result
            installed = _installed(session)
            row = {
                "python": str(session.python),
                "set": sdks,
                "date": dt.datetime.now(dt.UTC).date().isoformat(),
                "sdks": {name: installed[name] for name in DISTRIBUTIONS},
                "files": _files(report),
                **_counts(report),
            }
            stem.with_name(stem.name + ".json").write_text(json.dumps(row, indent=1), encoding="utf-8")
            _write_table()


def _installed(session: nox.Session) -> dict[str, str]:
    """Return the versions of what the session has installed; by no installer, of which there are several."""
    code = "import importlib.metadata as m, json; print(json.dumps([(d.name, d.version) for d in m.distributions()]))"
    listed = json.loads(str(session.run("python", "-c", code, silent=True)))
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in listed}


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


def _files(report: Path) -> int:
    """Return how many files of tests there were: a class's name begins with that of its file."""
    cases = ET.parse(report).getroot().iter("testcase")  # noqa: S314 - pytest has just written it
    return len({re.split(r"\.(?=[A-Z])", case.get("classname") or case.get("name", ""))[0] for case in cases})


def _write_table() -> None:
    """Write the table of `docs/versions.md`, between its marks, from the results of all sessions that have run here."""
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in RESULTS.glob("*.json")]
    order = list(SETS)
    rows.sort(key=lambda row: (order.index(row["set"]), _numbers(Path(row["python"]))))
    lines = [
        "| Python | openai | anthropic | google-genai | files | passed | failed | skipped | run on |",
        "|---|---|---|---|---:|---:|---:|---:|---|",
    ]
    lines += [
        f"| {row['python']} | {' | '.join(row['sdks'][name] for name in DISTRIBUTIONS)} "
        f"| {row['files']} | {row['passed']} | {row['failed']} | {row['skipped']} | {row['date']} |"
        for row in rows
    ]
    _write_between_marks(TABLE, lines)


def _write_between_marks(page: Path, lines: list[str]) -> None:
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(before + "\n".join([BEGIN, "", *lines, "", END]) + after, encoding="utf-8")


@nox.session(python=PYTHONS[0])
@nox.parametrize("library", list(LIBRARIES), ids=list(LIBRARIES))
def libraries(session: nox.Session, library: str) -> None:
    """Run a library that sits on the SDKs, bare and with the patches on."""
    wanted = LIBRARIES[library]
    session.install("--quiet", "--upgrade", "-e", ".", *TEST_TOOLS, *wanted)
    LIBRARY_RESULTS.mkdir(parents=True, exist_ok=True)
    report = LIBRARY_RESULTS / f"{library}.xml"
    report.unlink(missing_ok=True)
    tests = f"tests/libraries/test_{library.replace('-', '_')}.py"
    # What a library deprecates or leaves open is its own affair, and must not change what it does.
    options = ("-o", "filterwarnings=ignore", "-p", "no:cacheprovider", f"--junitxml={report}")
    try:
        session.run("python", "-m", "pytest", "-q", *options, tests, *session.posargs)
    finally:
        if report.exists() and not session.posargs:  # a selection is no result
            installed = _installed(session)
            names = [re.split(r"[\[<]", each)[0] for each in wanted]
            row = {
                "date": dt.datetime.now(dt.UTC).date().isoformat(),
                "library": {name: installed[name] for name in names if name not in DISTRIBUTIONS},
                "sdks": {name: installed[name] for name in DISTRIBUTIONS if name in installed},
                "calls": _calls(report),
            }
            report.with_suffix(".json").write_text(json.dumps(row, indent=1), encoding="utf-8")
            _write_library_table()


def _calls(report: Path) -> list[dict[str, Any]]:
    """Return the calls of a library in the order in which they were made, and how each went."""
    calls = []
    for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314 - pytest has just written it
        said = {each.get("name"): each.get("value") for each in case.iter("property")}
        if "call" in said:
            good = case.find("failure") is None and case.find("error") is None
            calls.append({"name": said["call"], "metered": said["metered"] == "True", "good": good})
    return calls


def _write_library_table() -> None:
    """Write the tables of `docs/libraries.md`, between its marks, from all results here."""
    rows = [(path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in LIBRARY_RESULTS.glob("*.json")]
    rows.sort(key=lambda row: list(LIBRARIES).index(row[0]))
    lines = [
        "| library | on | calls tried | as bare, one record a request | as bare, not metered | not good | run on |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    details = []
    for library, row in rows:
        calls = row["calls"]
        good = [call for call in calls if call["good"]]
        metered = sum(call["metered"] for call in good)
        lines.append(
            f"| {_versions(row['library'])} | {_versions(row['sdks'])} | {len(calls)} | {metered} "
            f"| {len(good) - metered} | {len(calls) - len(good)} | {row['date']} |"
        )
        details += ["", f"**{library}**: " + " · ".join(f"{call['name']}{_mark(call)}" for call in calls)]
    _write_between_marks(LIBRARY_TABLE, [*lines, *details])


def _versions(installed: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in installed.items())


def _mark(call: dict[str, Any]) -> str:
    return "" if call["good"] and call["metered"] else " (not metered)" if call["good"] else " (FAILED)"
