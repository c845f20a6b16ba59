"""What being installed and active adds to the start of an interpreter and to imports, as CPU time of the process.

    .venv/bin/python -m benchmarks.startup llm_toll_autopatch

Two virtual environments, one with the built wheel in it, one without; the cases take turns, so that a busy machine is
as unfair to one as to the other.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import warnings
import zipfile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.environments import ROOT
from benchmarks.rows import Row, added, found, is_full, is_quick, more, of_found, show

if TYPE_CHECKING:
    from collections.abc import Mapping

SUBJECT, BLAMED = "Added to the start of a process", "What imports take, of that (`-X importtime`, not CPU time)"
LIMIT_MS = 3.0
ROUNDS, ROUNDS_WITH_SDK = (1, 1) if is_quick() else (61, 25) if is_full() else (21, 5)
_BLAMED = 5
NOTHING, SDK = "pass", "import openai"
PACKAGE = "import llm_toll_autopatch"
PATCH = "from llm_toll_autopatch import patch_all; patch_all()"


class Case(NamedTuple):
    """A way to start: its name, its program, what it is compared with, whether we are installed, variables, a limit."""

    name: str
    code: str
    base: str
    installed: bool = True
    variables: Mapping[str, str] = MappingProxyType({})
    limit: float | None = None

    @property
    def rounds(self) -> int:
        """How often it is started."""
        return ROUNDS_WITH_SDK if SDK in self.code else ROUNDS


def cases(site: Path) -> list[Case]:
    """Return the cases. `site` is the site-packages with the wheel."""
    on = {"LLM_TOLL_AUTOPATCH": "1"}
    run = {**on, "PYTHONPATH": str(site / "llm_toll_autopatch" / "_site")}
    bare, with_sdk = "bare", "openai imported"
    return [
        Case(bare, NOTHING, bare, installed=False),
        Case("installed, not active", NOTHING, bare, limit=LIMIT_MS),
        Case("active, no SDK imported", NOTHING, bare, variables=on, limit=LIMIT_MS),
        Case("active by `autotoll run`, no SDK imported", NOTHING, bare, variables=run, limit=LIMIT_MS),
        Case("`import llm_toll_autopatch`", PACKAGE, bare),
        Case("`patch_all()`, no SDK imported", PATCH, bare),
        Case(with_sdk, SDK, with_sdk, installed=False),
        Case("installed, not active; openai imported", SDK, with_sdk),
        Case("active; openai imported", SDK, with_sdk, variables=on),
        Case("`patch_all()` before openai is imported", f"{PATCH}; {SDK}", with_sdk),
        Case("`patch_all()` after openai is imported", f"{SDK}; {PATCH}", with_sdk),
    ]


def environment(folder: Path, wheel: Path | None) -> tuple[Path, Path]:
    """Make a virtual environment. Return its interpreter and its site-packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)  # noqa: S603 - our own
    site = next((folder / "lib").glob("python3.*")) / "site-packages"
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    if wheel is not None:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    return folder / "bin" / "python", site


def without_ours(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables without those that change what is measured, and with others."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("LLM_TOLL_", "PYTHON"))}
    return {**plain, **variables}


def cpu_ms(python: Path, case: Case) -> float:
    """Return the CPU time of one start, in milliseconds."""
    process = os.posix_spawn(python, [str(python), "-c", case.code], without_ours(case.variables))
    _, status, usage = os.wait4(process, 0)
    if status:
        sys.exit(f"{case.name}: status {status}")
    return (usage.ru_utime + usage.ru_stime) * 1e3


def measured(folder: Path, wheel: Path) -> None:
    """Show what each case adds to its base."""
    without, _ = environment(folder / "without", None)
    with_it, site = environment(folder / "with", wheel)
    times: dict[str, list[float]] = {case.name: [] for case in cases(site)}
    for number in range(ROUNDS + 1):
        for case in cases(site):
            if number > case.rounds or (is_quick() and not number and SDK in case.code):
                continue
            taken = cpu_ms(with_it if case.installed else without, case)
            if number:  # the first round compiles
                times[case.name].append(taken)
    for case in cases(site):
        base = times[case.base]
        if case.name != case.base:
            note = f"{case.base} {found(base).median:.0f} ms"
            how = added if SDK in case.code else more
            show(of_found(SUBJECT, case.name, how(times[case.name], base), "ms", limit=case.limit, note=note))
    blame(with_it, "active, no SDK imported", {"LLM_TOLL_AUTOPATCH": "1"}, NOTHING)
    blame(with_it, "`patch_all()`, no SDK imported", {}, PATCH)


def blame(python: Path, case: str, variables: dict[str, str], code: str) -> None:
    """Show the modules that take the most by themselves, of those that are imported in addition."""
    command = [str(python), "-X", "importtime", "-c"]
    took: list[dict[str, float]] = []
    for each, with_variables in ((NOTHING, {}), (code, variables)):
        rounds = []
        for _ in range(1 if is_quick() else 3):
            done = subprocess.run(  # noqa: S603 - our own
                [*command, each], env=without_ours(with_variables), capture_output=True, text=True, check=True
            )
            lines = re.findall(r"import time: +(\d+) \| +\d+ \| +(\S+)", done.stderr)
            rounds.append({module: int(own) / 1e3 for own, module in lines})
        took.append({module: found([each.get(module, 0.0) for each in rounds]).median for module in rounds[0]})
    before, after = took
    ours = {module: own for module, own in after.items() if module not in before}
    show(Row(BLAMED, f"{case}: all {len(ours)} modules", sum(ours.values()), "ms"))
    for module, own in sorted(ours.items(), key=lambda each: -each[1])[:_BLAMED]:
        show(Row(BLAMED, f"{case}: `{module}`", own, "ms"))


def main() -> None:
    """Build the wheel, and measure."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", made]
        subprocess.run(build, cwd=ROOT, check=True, capture_output=True)  # noqa: S603 - our own
        measured(folder, next(folder.glob("*.whl")))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
