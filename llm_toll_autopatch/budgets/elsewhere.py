"""Asking a keeper from a coroutine, when it may have to be waited for: on a thread, so that the event loop goes on."""

from __future__ import annotations

import concurrent.futures
import os
from typing import TYPE_CHECKING, TypeVar

from llm_toll_autopatch.failures import failures

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ask"]

_THREADS = 8

T = TypeVar("T")

_threads: concurrent.futures.ThreadPoolExecutor | None = None


async def ask(question: Callable[[], T], undo: Callable[[], object]) -> T:
    """Return the answer to `question`, which is asked on another thread.

    Args:
        question: What to call.
        undo: Called when this is cancelled while the question is on its way, once it has been answered.
    """
    global _threads
    try:
        import asyncio

        asyncio.get_running_loop()
    except RuntimeError:  # another framework's event loop
        return question()
    if _threads is None:
        _threads = concurrent.futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="llm-toll-gate")
    answer = _threads.submit(question)
    try:
        return await asyncio.wrap_future(answer)
    except asyncio.CancelledError:
        if not answer.cancelled():
            answer.add_done_callback(lambda _: _quietly(undo))
        raise


def _quietly(undo: Callable[[], object]) -> None:
    try:
        undo()
    except Exception as error:
        failures.note("releasing what was held for a call that was cancelled", error)


def _in_child() -> None:
    global _threads
    _threads = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
