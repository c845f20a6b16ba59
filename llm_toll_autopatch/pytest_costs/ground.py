"""What lies under all scopes of a process while a test runs: who counts its calls, and what limits them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llm_toll_autopatch import _boot, patching, settings
from llm_toll_autopatch.budgets.keeper import strictest
from llm_toll_autopatch.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llm_toll_autopatch.budgets.keeper import Kept
    from llm_toll_autopatch.pytest_costs.calls import LLMCalls

__all__ = ["Ground", "begin_metering", "end_metering"]


class Ground:
    """Has the calls that begin while it is in place counted and limited, whoever configured the metering.

    Args:
        calls: Who counts them.
        limits: What limits them.
    """

    def __init__(self, calls: LLMCalls, limits: Iterable[Kept] = ()) -> None:
        self.calls = calls
        self.limits = tuple(limits)
        self._last: tuple[Settings | None, Settings | None] = (None, None)

    def over(self, base: Settings) -> Settings | None:
        """Return `base` with them."""
        known, merged = self._last
        if known is not base:
            limits = strictest([*base.limits, *self.limits])
            merged = replace(base, limits=limits, spends=(*base.spends, self.calls))
            self._last = (base, merged)
        return merged


def begin_metering() -> Settings | None:
    """Meter this process unless it does so already; return what `end_metering` takes.

    The records go nowhere but to who counts: a test's calls belong into the user's ledger only if his code says so.

    Raises:
        TypeError: A setting that is written somewhere has the wrong type.
        ValueError: It makes no sense.
    """
    _boot.wake()
    if settings.in_force() is not None:
        return None
    chosen = Settings.resolve(sink=_forget)
    patching._put_in_force(chosen)
    return chosen


def end_metering(ours: Settings | None) -> None:
    """Meter no more, if nobody has configured it in the meantime."""
    if ours is not None and settings.in_force() is ours:
        patching._put_in_force(None)


def _forget(_record: object) -> None:
    pass
