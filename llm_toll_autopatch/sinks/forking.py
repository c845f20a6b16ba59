"""What must be made anew in a forked child: locks that a thread of the parent held, connections of the parent."""

from __future__ import annotations

import atexit
import os
import time
import weakref
from contextlib import suppress
from typing import Protocol

__all__ = ["Forkable", "keep_for_ever", "watch_forks"]


_PATIENCE_S = 2.0


class Forkable(Protocol):
    """Something that must know when it wakes up in a forked child.

    Optional, and called together in the parent: `before_fork(deadline)`, on the monotonic clock, and
    `after_fork_in_parent()`.
    """

    def after_fork_in_child(self) -> None:
        """Start anew, without touching what belongs to the parent. Runs while the child has one thread."""
        ...


_watched: weakref.WeakSet[Forkable] = weakref.WeakSet()


def watch_forks(thing: Forkable) -> None:
    """Have `thing.after_fork_in_child()` called in every forked child, for as long as `thing` lives."""
    _watched.add(thing)


_kept: list[object] = []


def keep_for_ever(thing: object) -> None:
    """Have `thing`, which belongs to the parent, never freed: for what must not even be closed in a child."""
    if not _kept:
        atexit.register(_outlive_the_interpreter)
    _kept.append(thing)


def _outlive_the_interpreter() -> None:
    """Give each kept thing a reference that the end of the interpreter does not take away."""
    with suppress(ImportError):
        import ctypes

        for thing in _kept:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


_told: list[Forkable] = []


def _before() -> None:
    deadline = time.monotonic() + _PATIENCE_S
    _told[:] = _watched
    for thing in _told:
        with suppress(Exception):  # what is raised here is printed into the program's terminal
            getattr(thing, "before_fork", _nothing)(deadline)


def _in_parent() -> None:
    while _told:
        with suppress(Exception):
            getattr(_told.pop(), "after_fork_in_parent", _nothing)()


def _in_child() -> None:
    _told.clear()
    for thing in list(_watched):
        thing.after_fork_in_child()


def _nothing(*_: object) -> None:
    pass


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
