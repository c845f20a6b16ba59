"""What must be made anew in a forked child: locks that a thread of the parent held, connections of the parent."""

from __future__ import annotations

import atexit
import os
import weakref
from contextlib import suppress
from typing import Protocol

__all__ = ["Forkable", "keep_for_ever", "watch_forks"]


class Forkable(Protocol):
    """Something that must know when it wakes up in a forked child."""

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


def _in_child() -> None:
    for thing in list(_watched):
        thing.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
