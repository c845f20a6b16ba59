"""Limits on any 60 seconds: when there is room again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_toll_autopatch.budgets.limits import MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["room_after"]


def room_after(used: Iterable[tuple[float, int]], amount: int, most: int, now: float) -> float | None:
    """Return in how many seconds `amount` fits into a limit of `most` in 60 seconds, if nobody else takes the room.

    Args:
        used: When (in seconds) how much was used, oldest first; nothing older than 60 seconds.
        amount: What is to fit in; 0 wants some room, of 1.
        most: The limit.
        now: In seconds.

    Returns:
        0 when it fits in now; None when it never does.
    """
    wanted = max(amount, 1)
    if wanted > most:
        return None
    used = list(used)
    total = sum(each for _, each in used)
    after = 0.0
    for at, each in used:
        if total + wanted <= most:
            break
        total -= each
        after = max(after, at + MINUTE_S - now)
    return after
