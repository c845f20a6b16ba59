"""Frames of ours that a warning's `stacklevel` does not count."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any

__all__ = ["is_uncounted", "uncounted"]

F = TypeVar("F", bound="Callable[..., Any]")

_MARK = "(passed over like importlib._bootstrap)"


def is_uncounted(code: CodeType) -> bool:
    """Return whether `code` is that of a function that is `uncounted`."""
    return code.co_filename.endswith(_MARK)


def uncounted(function: F) -> F:
    """Make a wrapper invisible to `warnings.warn(stacklevel=…)` in what it wraps.

    The SDKs warn of deprecated models and methods at the line that called them. A frame in between takes the blame, and
    Python's default filters, which show a `DeprecationWarning` only where `__main__` has it, would hide the warning.
    The warnings machinery passes over frames whose file is named after importlib's bootstrap (`_is_internal_frame` in
    CPython's `warnings.py`), hence the name. In a traceback the frame is still there.
    """
    code = function.__code__
    name = f"{code.co_filename} {_MARK}"
    function.__code__ = code.replace(co_filename=name)
    return function
