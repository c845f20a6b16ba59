"""Activation at interpreter start: meters a program that does not mention us, from the first import of an SDK on.

`llm_toll_autopatch.pth`, `llm_toll_autopatch.start` and `sitecustomize` come here, possibly several times in a process:
virtual environments run `.pth` files twice. What runs before an SDK is imported imports nothing, not even `typing`, and
nothing here can stop the interpreter: what goes wrong is one line on stderr, and the program runs without metering.
"""

import os
import sys
from _thread import RLock  # `threading` takes time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["SWITCH", "always", "cancel", "main", "pending", "switched", "wake"]

SWITCH = "LLM_TOLL_AUTOPATCH"
"""The variable that switches it on (1, true, yes, on) or off (0, false, no, off)."""

PACKAGES = ("openai", "anthropic", "google.genai")
"""What wakes us: the packages of `sdks.SDKS`, which takes longer to import than all the rest here."""

_LONGEST_WAIT_S = 10

_begun = False
_waking = False


def switched(default: bool = False) -> bool:
    """Return whether the environment switches the activation on. Where it says neither, `default` counts."""
    value = os.environ.get(SWITCH, "").strip().lower()
    if value in ("1", "true", "yes", "on"):
        return True
    return default and value not in ("0", "false", "no", "off")


def main() -> None:
    """Meter this process once it imports an SDK, if the environment says so. Never raises."""
    _start(default=False)


def always() -> None:
    """Do so unless the environment says no: what `autotoll enable` writes into an environment. Never raises."""
    _start(default=True)


def pending() -> bool:
    """Return whether the process is activated and no SDK has been imported yet."""
    return _FINDER in sys.meta_path


def wake() -> None:
    """Meter now, if the process is activated and nothing has been done about it yet. Never raises."""
    global _waking
    if not pending():
        return
    # Another thread may be at it. After a fork it may be gone, and nobody would ever give the lock back.
    held = _LOCK.acquire(True, _LONGEST_WAIT_S)
    try:
        if pending() and not _waking:  # it may be what is waking now that imports an SDK
            _waking = True
            try:
                _begin()
            finally:
                cancel()
                _waking = False
    finally:
        if held:
            _LOCK.release()


def cancel() -> None:
    """Leave it to the program, which configures the metering itself."""
    global _begun
    _begun = True
    try:  # noqa: SIM105 - contextlib takes time
        sys.meta_path.remove(_FINDER)
    except ValueError:  # it was not there, or another thread was faster
        pass


def _start(default: bool) -> None:
    global _begun
    try:
        if _begun or not switched(default):
            return
        _begun = True  # once is enough
        sys.meta_path.insert(0, _FINDER)
        if any(package in sys.modules for package in PACKAGES):
            wake()
    except (Exception, SystemExit) as error:
        _complain(error)


def _begin() -> None:
    try:
        import atexit

        atexit.register(_tell)  # first, so that it runs last: after the records have been written
        from llm_toll_autopatch import patching

        patching.begin()
    except (Exception, SystemExit) as error:
        _complain(error)


def _complain(error: BaseException) -> None:
    _print(f"llm_toll_autopatch is off: {type(error).__name__}: {error}")


def _tell() -> None:
    """Say at the end that something went wrong: whoever changed no code does not ask `status()`."""
    try:
        module = sys.modules.get("llm_toll_autopatch.failures")
        if module is not None and module.failures.total:
            _print(
                f"llm_toll_autopatch: {module.failures.total} failures of its own, and calls may be missing from the"
                f" report; the last: {module.failures.last}"
            )
    except Exception as error:
        _complain(error)


def _print(text: str) -> None:
    try:  # noqa: SIM105 - contextlib takes time
        sys.stderr.write(" ".join(text.split()) + "\n")
    except Exception:  # noqa: S110 - there is no stderr, and nobody to tell
        pass


class _Finder:
    """Wakes the metering the first time that an SDK is looked for, and lets the others find it."""

    def find_spec(
        self, fullname: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if fullname not in PACKAGES:
            return None
        wake()
        for finder in list(sys.meta_path):  # the hooks of the metering are in front now, where the import has passed
            find_spec = getattr(finder, "find_spec", None)  # which old ones lack
            if find_spec is not None and finder is not self:
                spec: ModuleSpec | None = find_spec(fullname, path, target)
                if spec is not None:
                    return spec
        return None


_FINDER = _Finder()

_LOCK = RLock()
"""A second thread that imports another SDK meanwhile waits until the metering is ready for it."""
