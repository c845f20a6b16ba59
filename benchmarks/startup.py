"""What activation without code adds to the start of an interpreter, as CPU time of the process.

    .venv/bin/python benchmarks/startup.py [rounds]

Two virtual environments, one with the built wheel in it, one without; the cases take turns, so that a busy machine is
as unfair to one as to the other. The median of each is shown, and what it adds to the case that it is compared with.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
ROUNDS = 41
NOTHING, SDK = "pass", "import openai"


class Case(NamedTuple):
    """A way to start: its name, whether the wheel is installed, variables, program, what it is compared with."""

    name: str
    installed: bool
    variables: dict[str, str]
    code: str
    base: str


def cases(site: Path) -> list[Case]:
    """Return the cases. `site` is the site-packages with the wheel."""
    on = {"LLM_TOLL_AUTOPATCH": "1"}
    run = {**on, "PYTHONPATH": str(site / "llm_toll_autopatch" / "_site")}
    return [
        Case("bare", False, {}, NOTHING, "bare"),
        Case("inert", True, {}, NOTHING, "bare"),
        Case("active, no SDK", True, on, NOTHING, "bare"),
        Case("autotoll run, no SDK", True, run, NOTHING, "bare"),
        Case("bare, openai", False, {}, SDK, "bare, openai"),
        Case("inert, openai", True, {}, SDK, "bare, openai"),
        Case("active, openai", True, on, SDK, "bare, openai"),
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


def cpu_ms(python: Path, case: Case) -> float:
    """Return the CPU time of one start, in milliseconds."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("LLM_TOLL_", "PYTHON"))}
    process = os.posix_spawn(python, [str(python), "-c", case.code], {**plain, **case.variables})
    _, status, usage = os.wait4(process, 0)
    if status:
        sys.exit(f"{case.name}: status {status}")
    return (usage.ru_utime + usage.ru_stime) * 1e3


def main(rounds: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", made]
        subprocess.run(build, cwd=ROOT, check=True, capture_output=True)  # noqa: S603 - our own
        without, _ = environment(folder / "without", None)
        with_it, site = environment(folder / "with", next(folder.glob("*.whl")))
        times: dict[str, list[float]] = {case.name: [] for case in cases(site)}
        for number in range(rounds + 1):
            for case in cases(site):
                taken = cpu_ms(with_it if case.installed else without, case)
                if number:  # the first round compiles
                    times[case.name].append(taken)
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"{'CPU at start, median of ' + str(rounds):<32}{'ms':>8}{'added':>8}   limit 3 ms without an SDK")
    for case in cases(site):
        print(f"  {case.name:<30}{medians[case.name]:>8.1f}{medians[case.name] - medians[case.base]:>+8.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else ROUNDS)
