"""What a thread of ours, and the process, are doing."""

from __future__ import annotations

import threading

__all__ = ["here", "phase"]


class _Here(threading.local):
    """What this thread is doing."""

    emitting = False  # it is within `emit` of a sink
    works = False  # it belongs to the outbox or a lane: it waits for no sink


here = _Here()


class _Phase:
    """What the process is doing."""

    exiting = False  # the program ends: nothing is paused for, and what fails is not tried again


phase = _Phase()
