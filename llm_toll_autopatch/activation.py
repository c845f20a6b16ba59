"""Whether this environment meters programs without a line of their code, and how to change that."""

from __future__ import annotations

import os
import site
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

from llm_toll_autopatch import _boot

__all__ = ["ENABLED", "SHIPPED", "SITE", "Activation", "NotInstalledError", "inspect", "set_enabled"]

SITE = Path(__file__).parent / "_site"
"""The directory with the `sitecustomize` that `autotoll run` uses."""

_PTH, _START = "llm_toll_autopatch.pth", "llm_toll_autopatch.start"
SHIPPED = {
    _PTH: f'import os; os.environ.get("{_boot.SWITCH}") and'
    ' __import__("llm_toll_autopatch._boot", fromlist=["main"]).main()\n',
    _START: "llm_toll_autopatch._boot:main\n",
}
"""The start files as they are in the wheel: nothing is imported unless the variable is set."""
ENABLED = {
    _PTH: "import llm_toll_autopatch._boot; llm_toll_autopatch._boot.always()\n",
    _START: "llm_toll_autopatch._boot:always\n",
}
"""As `autotoll enable` writes them."""


class NotInstalledError(LookupError):
    """The environment has no start file of ours: the package was not installed there by pip or the like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """How activation stands.

    Attributes:
        file: The `.pth` in this environment's site-packages; None if the package is on the path in some other way.
        enabled: Whether the environment meters every program that does not set `LLM_TOLL_AUTOPATCH=0`.
        variable: What `LLM_TOLL_AUTOPATCH` says in this process, None if it is not set.
        sitecustomize: Whether `autotoll run` has put its `sitecustomize` on the path of this process's children.
        pending: Whether this process is activated and has not imported an SDK yet.
    """

    file: Path | None
    enabled: bool
    variable: str | None
    sitecustomize: bool
    pending: bool

    @property
    def on(self) -> bool:
        """Whether a program that this environment's Python starts now would be metered."""
        return (self.file is not None or self.sitecustomize) and _boot.switched(default=self.enabled)

    def __str__(self) -> str:
        how = self._how()
        return f"activation without code: {'on' if self.on else 'off'} ({how})"

    def _how(self) -> str:
        if self.variable and not self.on:
            return f"{_boot.SWITCH}={self.variable}" + ("" if self.file else ", and no start file in this environment")
        if self.variable:
            return f"{_boot.SWITCH}={self.variable}"
        if self.enabled:
            return f"enabled in {self.file}"
        if self.file is None:
            return "no start file in this environment: use `autotoll run`, or install with pip"
        return f"`autotoll enable`, `autotoll run` or {_boot.SWITCH}=1 switch it on"


def inspect() -> Activation:
    """Return how activation stands in this environment and process."""
    file = _file()
    return Activation(
        file=file,
        enabled=file is not None and file.read_bytes() == ENABLED[_PTH].encode(),
        variable=os.environ.get(_boot.SWITCH) or None,
        sitecustomize=str(SITE) in os.environ.get("PYTHONPATH", "").split(os.pathsep),
        pending=_boot.pending(),
    )


def set_enabled(enabled: bool) -> list[Path]:
    """Have this environment meter every program by default, or only those that are told to. Return what was changed.

    The start files of the package are replaced, so that uninstalling removes them, and a new version starts disabled.

    Raises:
        NotInstalledError: This environment has no such files.
        OSError: They cannot be replaced.
    """
    file = _file()
    if file is None:
        raise NotInstalledError(f"there is no {_PTH} in {' or '.join(map(str, _folders()))}")
    changed = []
    for name, wanted in (ENABLED if enabled else SHIPPED).items():
        path = file.with_name(name)
        if not path.exists() or path.read_text(encoding="utf-8") != wanted:
            _replace(path, wanted)
            changed.append(path)
    return changed


def _file() -> Path | None:
    return next((path for folder in _folders() if (path := folder / _PTH).is_file()), None)


def _folders() -> list[Path]:
    """Return the directories of this environment whose `.pth` files Python runs, that of the package first."""
    users = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    found = dict.fromkeys(map(Path, (sysconfig.get_path("purelib"), *site.getsitepackages(), *users)))
    return sorted(found, key=Path(__file__).parent.parent.__ne__)


def _replace(path: Path, text: str) -> None:
    # Not written in place: installers may have hard-linked the file to their cache, and a start may be reading it.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
