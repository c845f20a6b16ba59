"""The place where an SDK's tests are run: its own venv, its tests without its source, and pytest in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sdk_suites.suites import Suite

__all__ = ["ROOT", "WORK", "Run", "Workbench"]

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".sdk-suites"
PLUGIN = Path(__file__).resolve().parent / "plugin"

# What would make a test reach for a network, a key or another project's settings.
_UNWANTED = (
    "GOOGLE_API_KEY", "GEMINI_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN",
    "OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "PYTEST_ADDOPTS", "PYTHONPATH",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One run of pytest.

    Attributes:
        outcomes: `passed`, `failed` or `skipped`, by test id.
        reasons: The end of the traceback of those that failed, by test id.
        seconds: How long it took.
        metering: What `status()` said at the end; None of a bare run.
    """

    outcomes: dict[str, str]
    reasons: dict[str, str]
    seconds: float
    metering: dict[str, Any] | None

    @property
    def passed(self) -> int:
        """Number of tests that passed."""
        return sum(outcome == "passed" for outcome in self.outcomes.values())


class Workbench:
    """Makes what a suite needs, once for each version of its SDK, and runs it.

    Args:
        suite: The suite.
        version: The version of its SDK; None is the newest release.
    """

    def __init__(self, suite: Suite, version: str | None = None) -> None:
        self.suite = suite
        self.home = WORK / suite.sdk
        self._venv = self.home / "venv"
        self._python = self._venv / "bin" / "python"
        self.version = version or self._newest()

    def prepare(self) -> None:
        """Make the venv and unpack the tests, unless that has been done for this version and these requirements."""
        suite = self.suite
        extras = f"[{','.join(suite.extras)}]" if suite.extras else ""
        wanted = [f"{suite.distribution}{extras}=={self.version}", *suite.requirements, *suite.build_requirements]
        stamp = self.home / "installed.json"
        if stamp.exists() and json.loads(stamp.read_text(encoding="utf-8")) == wanted:
            return
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        subprocess.run([sys.executable, "-m", "venv", self._venv], check=True)
        self._pip("install", "--editable", str(ROOT), *wanted)
        if suite.in_sdist:
            self._unpack()
        stamp.write_text(json.dumps(wanted), encoding="utf-8")

    def run(self, selection: Iterable[str], *, metered: bool) -> Run:
        """Run `selection` of the suite and return what became of each test.

        Raises:
            RuntimeError: pytest ended without results, or the patches were not on.
        """
        suite = self.suite
        result = self.home / f"result-{'metered' if metered else 'bare'}.json"
        result.unlink(missing_ok=True)
        log = result.with_suffix(".log")
        tests = self.home / "tests" if suite.in_sdist else self._installed_tests()
        options = ["-o", "addopts=", "-p", "toll_suite_plugin", *suite.options, "-p", "no:cacheprovider"]
        options += ["-p", "no:xdist", "--tb=short", "-q"]
        if suite.ini is not None:
            ini = self.home / "pytest.ini"
            ini.write_text(suite.ini, encoding="utf-8")
            # Never from within the package: its types.py would shadow the standard library's.
            options += ["-c", str(ini), f"--rootdir={tests}"]
            selection = [str(tests / each) for each in selection]
        environment = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
        environment |= {
            "PYTHONPATH": str(PLUGIN),
            "TOLL_SUITE_RESULT": str(result),
            "TOLL_SUITE_METER": str(int(metered)),
        }
        started = time.monotonic()
        with log.open("w", encoding="utf-8") as output:
            subprocess.run(
                [self._python, "-m", "pytest", *options, *selection],
                cwd=self.home / "tests" if suite.in_sdist else self.home,
                env=environment, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False,
            )  # fmt: skip
        seconds = time.monotonic() - started
        if not result.exists():
            tail = log.read_text(encoding="utf-8")[-3000:]
            raise RuntimeError(f"{suite.sdk}: pytest ended without results\n{tail}")
        found = json.loads(result.read_text(encoding="utf-8"))
        metering = found.get("metering")
        if metered and not (metering and metering["active"] and metering["patched"].get(suite.sdk)):
            raise RuntimeError(f"{suite.sdk}: the patches were not on, the run proves nothing: {metering}")
        return Run(found["outcomes"], found["reasons"], seconds, metering)

    def _newest(self) -> str:
        """Ask pip for the newest release without installing it."""
        plan = subprocess.run(
            [
                sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps",
                "--report", "-", self.suite.distribution,
            ],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        return str(json.loads(plan.stdout)["install"][0]["metadata"]["version"])

    def _pip(self, *arguments: str) -> None:
        command: list[str | Path] = [self._python, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"]
        # What the caller has on PYTHONPATH would be found by the builds of what is installed, and be taken for theirs.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        subprocess.run(command, check=True, env=environment)

    def _unpack(self) -> None:
        """Unpack the tests and pytest's configuration without the source: what is tested is the installed package."""
        name = self.suite.distribution
        self._pip(
            "download", "--no-deps", "--no-binary", name, "--no-build-isolation", "--dest", str(self.home),
            f"{name}=={self.version}",
        )  # fmt: skip
        (archive,) = self.home.glob("*.tar.gz")
        unpacked = self.home / "tests"
        with tarfile.open(archive) as tar:
            tar.extractall(unpacked, filter="data")
        (top,) = unpacked.iterdir()
        for each in top.iterdir():
            if each.name != "src":
                shutil.move(each, unpacked / each.name)
        shutil.rmtree(top)

    def _installed_tests(self) -> Path:
        (tests,) = self._venv.glob("lib/python3*/site-packages/google/genai/tests")
        return tests
