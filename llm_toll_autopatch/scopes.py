"""Who pays, and what for: settings for a block of code, in its context only."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from llm_toll_autopatch import settings
from llm_toll_autopatch.options import checked_flag, checked_project, checked_tags
from llm_toll_autopatch.spend import Spend

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from llm_toll_autopatch.settings import Settings, SinkSpec
    from llm_toll_autopatch.sinks import Sink

__all__ = ["scope"]


@contextmanager
def scope(
    project: str | None = None,
    *,
    tags: Mapping[str, str] | None = None,
    sink: SinkSpec = None,
    enabled: bool | None = None,
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
        enabled: False: do not meter the calls of this block. True: meter them again within one that says False.

    Yields:
        What the calls of the block have cost so far.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: `sink` is a name that is not known.
    """
    spend = Spend()
    chosen = _Scope.resolve(project=project, tags=tags, sink=sink, enabled=enabled, spend=spend)
    with settings.overlaid(chosen):
        yield spend


class _Scope:
    """What scopes change of the configuration in force: the innermost one, with those around it already in it."""

    def __init__(
        self,
        *,
        project: str | None,
        tags: Mapping[str, str],
        sink: Sink | None,
        enabled: bool,
        spends: tuple[Spend, ...],
    ) -> None:
        self._project = project
        self._tags = tags
        self._sink = sink
        self._enabled = enabled
        self._spends = spends
        self._last: tuple[Settings | None, Settings | None] = (None, None)

    @classmethod
    def resolve(
        cls,
        *,
        project: str | None,
        tags: Mapping[str, str] | None,
        sink: SinkSpec,
        enabled: bool | None,
        spend: Spend,
    ) -> _Scope:
        """Check the arguments of `scope` and put them over the overlay of the scope around it.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: `sink` is a name that is not known.
        """
        outer = settings.overlay()
        chosen = None
        if sink is not None:
            from llm_toll_autopatch.sinks.resolve import resolve_sink

            chosen = resolve_sink(sink)
        if project is not None:
            checked_project(project)
        if enabled is not None:
            checked_flag("enabled", enabled)
        if not isinstance(outer, _Scope):
            outer = cls(project=None, tags=MappingProxyType({}), sink=None, enabled=True, spends=())
        return cls(
            project=outer._project if project is None else project,
            tags=MappingProxyType({**outer._tags, **checked_tags(tags)}),
            sink=outer._sink if chosen is None else chosen,
            enabled=outer._enabled if enabled is None else enabled,
            spends=(*outer._spends, spend),
        )

    def over(self, base: Settings) -> Settings | None:
        """Return `base` as changed by the scopes; None where they switch the metering off."""
        if not self._enabled:
            return None
        known, merged = self._last
        if known is not base:
            merged = replace(
                base,
                project=base.project if self._project is None else self._project,
                tags=MappingProxyType({**base.tags, **self._tags}),
                sink=base.sink if self._sink is None else self._sink,
                spends=self._spends,
            )
            self._last = (base, merged)
        return merged
