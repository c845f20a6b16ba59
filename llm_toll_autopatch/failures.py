"""Our own errors, which the user's code never sees: logged once each, counted, shown by `status()`."""

from __future__ import annotations

import contextlib
import itertools
import logging

__all__ = ["LOGGER", "Failures", "failures"]

LOGGER = logging.getLogger("llm_toll_autopatch")
LOGGER.addHandler(logging.NullHandler())


class Failures:
    """Counts what went wrong on our side of a call, and logs the first of each kind with its traceback."""

    def __init__(self) -> None:
        self._count = itertools.count()
        self.total = 0
        self.last: str | None = None
        self._seen: set[tuple[str, str]] = set()

    def note(self, where: str, error: BaseException) -> None:
        """Count `error`, which happened in `where`; log it if it is the first of its kind there. Never raises."""
        self.total = next(self._count) + 1  # `next` is atomic where `+= 1` is not
        self.last = f"{where}: {type(error).__name__}"
        kind = (where, type(error).__name__)
        if kind in self._seen:
            return
        self._seen.add(kind)
        with contextlib.suppress(Exception):  # a broken logging handler is the user's, and must not break the call
            LOGGER.warning(
                "%s failed and the call went on; further failures of this kind are counted in status(), not logged",
                where,
                exc_info=error,
            )

    def reset(self) -> None:
        """Forget everything, for a new `patched()` block or test."""
        self.__init__()  # type: ignore[misc]


failures = Failures()
"""The process's one tally."""
