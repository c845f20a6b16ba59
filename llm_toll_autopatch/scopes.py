"""Who pays, and what for: settings for a block of code, in its context only."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from llm_toll_autopatch import settings
from llm_toll_autopatch.budgets.keeper import Kept, strictest
from llm_toll_autopatch.budgets.limits import Asked
from llm_toll_autopatch.budgets.memory import MemoryKeeper
from llm_toll_autopatch.options import checked_flag, checked_project, checked_tags
from llm_toll_autopatch.records import new_id
from llm_toll_autopatch.spend import Spend

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from decimal import Decimal

    from llm_toll_autopatch.budgets.limits import Reset
    from llm_toll_autopatch.settings import Settings, SinkSpec
    from llm_toll_autopatch.sinks import Sink

__all__ = ["scope"]

_NO_TAGS: Mapping[str, str] = MappingProxyType({})


@contextmanager
def scope(
    project: str | None = None,
    *,
    tags: Mapping[str, str] | None = None,
    sink: SinkSpec = None,
    enabled: bool | None = None,
    max_budget: Decimal | float | str | None = None,
    reset: Reset | None = None,
    rate_limit: int | None = None,
    tpm_limit: int | None = None,
    strict_budget: bool | None = None,
    stop_streams: bool | None = None,
) -> Iterator[Spend]:
    """Say who pays for the calls of a block, and see what they cost.

    Holds for the current context only: other threads and tasks that run at the same time are not affected; a task that
    is created in the block is. What counts is where the SDK's method is called, not where its coroutine is awaited or
    its stream is read. Scopes nest: what the inner one says wins, tags are merged.

    Do not let a generator `yield` in the block: its caller would run in the scope.

    Args:
        project: Who pays.
        tags: What for; added to those of the outer scope.
        sink: Where the records go instead, as `patch_all` takes it.
        enabled: False: do not meter the calls of this block, nor limit them. True: meter them again within one that
            says False.
        max_budget: USD that the project may cost, as for `patch_all`; without a project, what this block may cost. The
            limits of outer scopes and of `patch_all` hold as well.
        reset: When the budget starts anew. It is then the project's in force, if none is given here.
        rate_limit: Calls of the project, or of this block, in any 60 seconds.
        tpm_limit: Tokens of the project, or of this block, in any 60 seconds.
        strict_budget: As for `patch_all`, for all the limits of a call.
        stop_streams: Likewise.

    Yields:
        What the calls of the block have cost so far.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: `sink` is a name that is not known, or a limit makes no sense.
    """
    spend = Spend()
    asked = Asked.checked(max_budget, reset, rate_limit, tpm_limit)
    chosen = _innermost().within(
        project=None if project is None else checked_project(project),
        tags=checked_tags(tags),
        sink=None if sink is None else _resolved_sink(sink),
        enabled=None if enabled is None else checked_flag("enabled", enabled),
        strict_budget=None if strict_budget is None else checked_flag("strict_budget", strict_budget),
        stop_streams=None if stop_streams is None else checked_flag("stop_streams", stop_streams),
        asked=asked,
        spend=spend,
    )
    with settings.overlaid(chosen):
        yield spend


def _resolved_sink(sink: SinkSpec) -> Sink:
    """Return the sink that is meant; raise as `scope` does."""
    from llm_toll_autopatch.sinks.resolve import resolve_sink

    return resolve_sink(sink)


def _innermost() -> _Scope:
    """Return the scope of this context, or one that changes nothing."""
    outer = settings.overlay()
    return outer if isinstance(outer, _Scope) else _Scope()


@dataclass(frozen=True, slots=True)
class _Limits:
    """What one scope limits: a project, or its own block of code.

    Attributes:
        asked: The limits.
        project: Whose they are, if they are a project's; None is the one of `patch_all`.
        block: The block's id and its own keeper, if they are the block's.
    """

    asked: Asked
    project: str | None
    block: tuple[str, MemoryKeeper] | None

    def over(self, base: Settings) -> list[Kept]:
        """Return the limits, with their keepers."""
        if self.block is not None:
            block, keeper = self.block
            return [(limit, keeper) for limit in self.asked.of(block, is_block=True)]
        return [(limit, base.keeper) for limit in self.asked.of(self.project or base.project)]


@dataclass(slots=True)
class _Scope:
    """What scopes change of the configuration in force: the innermost one, with those around it already in it."""

    project: str | None = None
    tags: Mapping[str, str] = field(default_factory=lambda: _NO_TAGS)
    sink: Sink | None = None
    enabled: bool = True
    strict_budget: bool | None = None
    stop_streams: bool | None = None
    limits: tuple[_Limits, ...] = ()
    spends: tuple[Spend, ...] = ()
    _last: tuple[Settings | None, Settings | None] = (None, None)

    def within(
        self,
        *,
        project: str | None,
        tags: Mapping[str, str],
        sink: Sink | None,
        enabled: bool | None,
        strict_budget: bool | None,
        stop_streams: bool | None,
        asked: Asked,
        spend: Spend,
    ) -> _Scope:
        """Return what holds in a scope within this one, which changes these; None changes nothing."""
        limits = self.limits
        if asked != Asked():
            # What starts anew at midnight is no block's, which is over by then.
            of_block = project is None and asked.reset is None
            block = (new_id(), MemoryKeeper()) if of_block else None
            limits = (*limits, _Limits(asked, self.project if project is None else project, block))
        return _Scope(
            project=self.project if project is None else project,
            tags=MappingProxyType({**self.tags, **tags}),
            sink=self.sink if sink is None else sink,
            enabled=self.enabled if enabled is None else enabled,
            strict_budget=self.strict_budget if strict_budget is None else strict_budget,
            stop_streams=self.stop_streams if stop_streams is None else stop_streams,
            limits=limits,
            spends=(*self.spends, spend),
        )

    def over(self, base: Settings) -> Settings | None:
        """Return `base` as changed by the scopes; None where they switch the metering off."""
        if not self.enabled:
            return None
        known, merged = self._last
        if known is not base:
            merged = replace(
                base,
                project=base.project if self.project is None else self.project,
                tags=MappingProxyType({**base.tags, **self.tags}),
                sink=base.sink if self.sink is None else self.sink,
                limits=strictest([*base.limits, *(kept for each in self.limits for kept in each.over(base))]),
                strict_budget=base.strict_budget if self.strict_budget is None else self.strict_budget,
                stop_streams=base.stop_streams if self.stop_streams is None else self.stop_streams,
                spends=(*base.spends, *self.spends),
            )
            self._last = (base, merged)
        return merged
