"""Caps that an operator has set in the ledger, beside the limits that code asks for: looked at now and then."""

from __future__ import annotations

import os
import threading
import time
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

from llm_toll_autopatch.budgets.keeper import strictest
from llm_toll_autopatch.failures import failures

if TYPE_CHECKING:
    from llm_toll_autopatch.budgets.keeper import Keeper
    from llm_toll_autopatch.budgets.limits import Limit
    from llm_toll_autopatch.settings import Settings

__all__ = ["FRESH_S", "KnownCaps", "capped", "capped_async", "capped_if_fresh", "capped_now", "known_caps"]

FRESH_S = 5.0
"""How old what is known of a ledger's caps may be, at most, when a call begins."""

_PATIENCE_S = 5.0
"""How long a call waits for another one that looks at a ledger for the first time."""


class KnownCaps:
    """What is known of the caps in one ledger."""

    __slots__ = ("by_project", "lock", "until")

    def __init__(self) -> None:
        self.by_project: dict[str, list[Limit]] = {}
        self.until = 0.0  # on the monotonic clock
        # Re-entrant: a finalizer that runs in the middle of this must not wait for itself.
        self.lock = threading.RLock()


_known: weakref.WeakKeyDictionary[Keeper, KnownCaps] = weakref.WeakKeyDictionary()


def known_caps(keeper: Keeper) -> KnownCaps | None:
    """Return what is known of the caps in `keeper`, which is nothing yet at first; None for one that has none."""
    if not hasattr(keeper, "caps"):  # the process's own memory
        return None
    try:
        return _known.setdefault(keeper, KnownCaps())
    except TypeError:  # somebody's own keeper, that has no hash or takes no weak references
        return None


def capped_if_fresh(settings: Settings) -> Settings | None:
    """Return `settings` with the caps of its project among its limits; None when the ledger has to be looked at."""
    known = settings.known_caps
    if known is None:
        return settings
    if time.monotonic() >= known.until:
        return None
    caps = known.by_project.get(settings.project)
    return settings if caps is None else _joined(settings, caps)


def capped(settings: Settings) -> Settings:
    """Return `settings` with the caps of its project among its limits; look at the ledger if that is due.

    Never raises: what cannot be read is as it was known last.
    """
    found = capped_if_fresh(settings)
    if found is None:
        _look(settings)
        found = capped_now(settings)
    return found


async def capped_async(settings: Settings) -> Settings:
    """Do as `capped` does, without holding up the event loop."""
    found = capped_if_fresh(settings)
    if found is None:
        from llm_toll_autopatch.budgets import elsewhere

        await elsewhere.ask(lambda: _look(settings), lambda: None)
        found = capped_now(settings)
    return found


def capped_now(settings: Settings) -> Settings:
    """Do as `capped` does with what is known, however old; for what must not wait."""
    known = settings.known_caps
    caps = None if known is None else known.by_project.get(settings.project)
    return settings if caps is None else _joined(settings, caps)


def _joined(settings: Settings, caps: list[Limit]) -> Settings:
    return replace(settings, limits=strictest([*settings.limits, *((limit, settings.keeper) for limit in caps)]))


def _look(settings: Settings) -> None:
    """Read the caps, unless another thread is about to, or has just done so."""
    known = settings.known_caps
    assert known is not None
    if not known.lock.acquire(timeout=0 if known.until else _PATIENCE_S):
        return
    try:
        if time.monotonic() < known.until:
            return
        try:
            by_project: dict[str, list[Limit]] = {}
            for limit in settings.keeper.caps():  # type: ignore[attr-defined]
                by_project.setdefault(limit.account, []).append(limit)
            known.by_project = by_project
        except Exception as error:
            failures.note("reading the caps in the ledger", error)
        finally:
            known.until = time.monotonic() + FRESH_S
    finally:
        known.lock.release()


def _in_child() -> None:
    for known in list(_known.values()):
        known.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
