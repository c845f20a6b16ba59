"""What must be made anew in a forked child: locks that a thread of the parent held, connections of the parent."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["Forkable", "watch_forks"]


class Forkable(Protocol):
    """Something that must know when it wakes up in a forked child."""

    def after_fork_in_child(self) -> None:
        """Start anew, without touching what belongs to the parent. Runs while the child has one thread."""
        ...


_watched: weakref.WeakSet[Forkable] = weakref.WeakSet()


def watch_forks(thing: Forkable) -> None:
    """Have `thing.after_fork_in_child()` called in every forked child, for as long as `thing` lives."""
    _watched.add(thing)


def _in_child() -> None:
    for thing in list(_watched):
        thing.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
