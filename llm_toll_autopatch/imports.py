"""Hooks that run when a module has been imported. Standard library only, and cheap: this may run at interpreter start.

wrapt has such hooks too, but importing wrapt alone takes longer than all else that happens at start.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["exists", "forget", "when_imported"]

Hook = Callable[[str], None]

_hooks: dict[str, list[Hook]] = {}
_finding = threading.local()


def when_imported(name: str, hook: Hook) -> None:
    """Call `hook(name)` once module `name` has been imported: now if it has, else right after its body has run.

    The hook must not raise; what it raises would make the user's import fail.
    """
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    if module is not None and not getattr(spec, "_initializing", False):
        hook(name)
        return
    _hooks.setdefault(name, []).append(hook)
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


def forget() -> None:
    """Drop all hooks that have not run, and the finder."""
    _hooks.clear()
    if _FINDER in sys.meta_path:
        sys.meta_path.remove(_FINDER)


def exists(name: str) -> bool:
    """Return whether there is a module `name` below a package that has been imported, without importing anything."""
    from importlib.machinery import PathFinder

    parts = name.split(".")
    # The innermost package that has been imported knows where to look for the rest.
    depth = next((n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in sys.modules), 0)
    path = getattr(sys.modules.get(".".join(parts[:depth])), "__path__", None)
    for n in range(depth, len(parts)):
        spec = None if path is None else PathFinder.find_spec(".".join(parts[: n + 1]), path)
        if spec is None:
            return False
        path = spec.submodule_search_locations
    return depth > 0


# Neither class derives from `importlib.abc`'s: importing that takes longer than all the rest here.
class _Finder:
    """Finds nothing itself: it lets the others find a module, and puts a loader around theirs that runs the hooks."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if fullname not in _hooks or getattr(_finding, "name", None) == fullname:
            return None
        _finding.name = fullname
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            _finding.name = None
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
        return spec


class _Loader:
    """Stands in for a module's loader until the module's body runs."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The body, and whoever asks later, sees the loader that the module would have had.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        for hook in _hooks.pop(module.__name__, ()):
            hook(module.__name__)


_FINDER = _Finder()
