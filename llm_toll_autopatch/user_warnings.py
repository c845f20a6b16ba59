"""Warnings for the user: they point at his line, and cannot break his program."""

from __future__ import annotations

import sys
import warnings

from llm_toll_autopatch.failures import LOGGER
from llm_toll_autopatch.providers.frames import is_uncounted
from llm_toll_autopatch.sdks import SDKS

__all__ = ["warn"]

_NOT_USER_CODE = tuple(
    f"{name}." for name in (__package__, "threading", "contextlib", *(sdk.package for sdk in SDKS.values()))
)


def warn(message: str, category: type[UserWarning]) -> None:
    """Emit a warning. Where warnings are errors it is logged instead: a call of the user's is not ours to break."""
    try:
        warnings.warn(message, category, stacklevel=_depth_of_user_code())
    except Exception:  # the category under -W error, or whatever a `showwarning` of the user's raises
        LOGGER.warning(message)


def _depth_of_user_code() -> int:
    """Return the `stacklevel` with which the caller's `warnings.warn` points at the user's line, if there is one."""
    depth, frame = 1, sys._getframe(1)
    while frame is not None and f"{frame.f_globals.get('__name__')}.".startswith(_NOT_USER_CODE):
        depth += not is_uncounted(frame.f_code)
        frame = frame.f_back  # type: ignore[assignment]
    return depth
