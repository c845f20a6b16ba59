"""Work that outlasts the request that began it: background responses, runs, batches. One record for each, by its id."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm_toll_autopatch.metering import Call

__all__ = ["claim", "counted", "give_up", "keep", "note", "take", "waits"]

_BOUND = 10_000

_waiting: dict[str, Call] = {}
_counted: dict[str, object] = {}


def keep(work: str, call: Call) -> None:
    """Let `call` wait until its work, whose id is `work`, is heard of again; else it is recorded at exit.

    The oldest of very many is recorded as it is.
    """
    _waiting[work] = call
    if len(_waiting) > _BOUND:
        with contextlib.suppress(StopIteration, KeyError, RuntimeError):  # another thread was faster
            _waiting.pop(next(iter(_waiting))).give_up()


def give_up() -> None:
    """Record what waits as it is known."""
    while _waiting:
        with contextlib.suppress(KeyError):
            _waiting.popitem()[1].give_up()


def take(work: str) -> Call | None:
    """Return the call that waits for `work`, which then waits no more; None when there is none."""
    return _waiting.pop(work, None)


def waits() -> bool:
    """Return whether any call waits."""
    return bool(_waiting)


def counted(work: str) -> bool:
    """Return whether `work` has its record."""
    return work in _counted


def note(work: str) -> None:
    """Remember that `work` has its record."""
    claim(work)


def claim(work: str) -> bool:
    """Note that `work` has its record; return whether nobody had noted it before. Two threads may do so at once."""
    mine = object()
    first = _counted.setdefault(work, mine) is mine  # atomic
    if len(_counted) > _BOUND:
        with contextlib.suppress(StopIteration, KeyError, RuntimeError):
            del _counted[next(iter(_counted))]
    return first
