"""Virtual environments with the built wheel in them, and real interpreters started in them."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from llm_toll_autopatch import CallRecord, SQLiteLedger

ROOT = Path(__file__).parent.parent
DEPENDENCIES = sysconfig.get_path("purelib")
MINE = ("LLM_TOLL_AUTOPATCH", "PYTHON", "XDG_DATA_HOME", "VIRTUAL_ENV")


def build(folder: Path, target: str = "wheel", *, root: Path = ROOT) -> Path:
    """Build a wheel or an sdist into a folder."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    return next(folder.glob("*.whl" if target == "wheel" else "*.tar.gz"))


class Environment:
    """A virtual environment that finds what we depend on, and the SDKs, where the tests have them.

    Args:
        folder: Where it is to be.
        wheel: What is installed in it; None for nothing.
    """

    def __init__(self, folder: Path, wheel: Path | None) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        self.folder = folder
        self.bin = folder / "bin"
        self.python = self.bin / "python"
        self.site = next((folder / "lib").glob("python3.*")) / "site-packages"
        (self.site / "dependencies.pth").write_text(DEPENDENCIES)
        if wheel is not None:
            self.pip("install", "--no-deps", str(wheel))

    def lose(self, *names: str) -> None:
        """Find what we depend on no more, if its name begins with one of `names`."""
        (self.site / "dependencies.pth").unlink()
        for path in Path(DEPENDENCIES).iterdir():
            if not path.name.startswith(names) and path.suffix != ".pth":
                (self.site / path.name).symlink_to(path)

    def pip(self, *arguments: str) -> None:
        """Run pip on this environment, without the network."""
        command = [sys.executable, "-m", "pip", "--python", str(self.python), "--disable-pip-version-check"]
        offline = ["--no-index"] if arguments[0] == "install" else []
        subprocess.run([*command, *arguments, *offline], check=True, capture_output=True, cwd=self.folder)

    def names(self) -> set[str]:
        """What is in site-packages and in bin."""
        return {path.name for folder in (self.site, self.bin) for path in folder.iterdir()}

    def run(
        self, program: str | Path, *arguments: str | Path, cwd: str | Path | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of this environment, in an environment of variables that says nothing of us but `variables`."""
        found = self.bin / program if (self.bin / program).exists() else program
        return subprocess.run(
            [found, *arguments], cwd=cwd or self.folder, env=self.variables(**variables), capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip

    def variables(self, **variables: str) -> dict[str, str]:
        """The variables of a process, whose ledger is in the environment's own data directory."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith(MINE)}
        return {**plain, "XDG_DATA_HOME": str(self.folder / "data"), **variables}

    def records(self) -> list[CallRecord]:
        """What the ledger holds; none if there is no ledger."""
        path = self.folder / "data" / "llm_toll_autopatch" / "ledger.db"
        if not path.exists():
            return []
        with SQLiteLedger(path) as ledger:
            return list(ledger.records())

    def forget(self) -> None:
        """Have no ledger."""
        for path in (self.folder / "data" / "llm_toll_autopatch").glob("*"):
            path.unlink()
