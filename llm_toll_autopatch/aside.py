"""Work of others that may take for ever, done on a thread that may be left behind."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from llm_toll_autopatch.failures import failures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["aside", "finished"]


def aside(work: Callable[[], object], where: str) -> threading.Thread | None:
    """Start `work` on a thread of its own; what it raises is noted. None where none can be started, and it is done."""

    def guarded() -> None:
        try:
            work()
        except Exception as error:
            failures.note(where, error)

    thread = threading.Thread(target=guarded, name="llm-toll-aside", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # CPython 3.12.0 to 3.12.2 start none in exit hooks (its issue 113964)
        guarded()
        return None
    return thread


def finished(threads: Sequence[threading.Thread | None], deadline: float) -> bool:
    """Wait for all of `threads` until the deadline; return whether they are done."""
    for thread in threads:
        if thread is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread is not None and thread.is_alive() for thread in threads)
