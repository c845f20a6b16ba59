"""Whether this thread is running an event loop, which nothing may hold up."""

from __future__ import annotations

import sys

__all__ = ["in_event_loop"]


def in_event_loop() -> bool:
    """Return whether an asyncio event loop runs on this thread. Does not import asyncio for that."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None
