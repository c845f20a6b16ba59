"""What the reporting has done since the process started, or since `reset`."""

from __future__ import annotations

import contextlib
import time

from llm_toll_autopatch.failures import LOGGER

__all__ = ["Counts", "counts", "drop"]

_LOG_EVERY_S = 60.0


class Counts:
    """What `status()` shows of the reporting."""

    __slots__ = ("dropped", "log_drops_from", "records")

    def __init__(self) -> None:
        self.records = 0
        self.dropped = 0
        self.log_drops_from = 0.0


counts = Counts()
"""The process's one tally."""


def drop(reason: str, records: int = 1) -> None:
    """Count records that are lost, and say why: once, and then once a minute at most. Never raises."""
    counts.dropped += records
    now = time.monotonic()
    if now < counts.log_drops_from:
        return
    counts.log_drops_from = now + _LOG_EVERY_S
    with contextlib.suppress(Exception):  # a broken logging handler is the user's
        LOGGER.error(
            "%s dropped, %d until now: %s",
            "a record was" if records == 1 else f"{records} records were",
            counts.dropped,
            reason,
        )
