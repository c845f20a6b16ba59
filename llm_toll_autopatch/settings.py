"""What the user asked for, checked once, when it is configured."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict

from llm_toll_autopatch.hints import Hints
from llm_toll_autopatch.pricing.prices import Prices
from llm_toll_autopatch.records import CallRecord
from llm_toll_autopatch.sdks import SDKS
from llm_toll_autopatch.sinks import Sink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llm_toll_autopatch.estimate import Measure
    from llm_toll_autopatch.estimators import Estimator
    from llm_toll_autopatch.spend import Spend

__all__ = [
    "Options",
    "Overlay",
    "Settings",
    "SinkSpec",
    "activate",
    "active",
    "checked_flag",
    "checked_project",
    "checked_tags",
    "in_force",
    "overlaid",
    "overlay",
]

SinkSpec = Sink | Callable[[CallRecord], Any] | str | list[Any] | tuple[Any, ...] | None
"""What `sink=` takes: a sink, a callable of one argument, a name, a list of these; None is the embedded ledger."""


class Options(TypedDict, total=False):
    """The arguments of `patch_all`, where they are passed on."""

    sink: SinkSpec
    project: str | None
    tags: Mapping[str, str] | None
    include_usage: Literal["auto"] | bool
    close_on_break: bool
    estimate_input: bool
    estimator: Estimator | str | None
    prices: Mapping[str, Mapping[str, Any]] | None
    providers: Iterable[str] | None


_ENVIRONMENT = "LLM_TOLL_AUTOPATCH_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One configuration, immutable. A call keeps the one that was active when it began."""

    sink: Sink
    prices: Prices
    project: str
    tags: Mapping[str, str]
    include_usage: Literal["auto"] | bool
    close_on_break: bool
    estimate_input: bool
    measure: Measure
    providers: tuple[str, ...]
    hints: Hints = field(default_factory=Hints)
    spends: tuple[Spend, ...] = ()

    @classmethod
    def resolve(
        cls,
        *,
        sink: SinkSpec = None,
        project: str | None = None,
        tags: Mapping[str, str] | None = None,
        include_usage: Literal["auto"] | bool = "auto",
        close_on_break: bool = True,
        estimate_input: bool = True,
        estimator: Estimator | str | None = None,
        prices: Mapping[str, Mapping[str, Any]] | None = None,
        providers: Iterable[str] | None = None,
    ) -> Settings:
        """Check the arguments of `patch_all` and fill the gaps from the environment, then from the defaults.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: An argument, or a variable of the environment, has a value that makes no sense.
        """
        from llm_toll_autopatch.sinks.resolve import resolve_sink

        source = "sink="
        if sink is None and (named := os.environ.get(f"{_ENVIRONMENT}SINK")):
            sink, source = named, f"{_ENVIRONMENT}SINK"
        if project is None:
            project = os.environ.get(f"{_ENVIRONMENT}PROJECT") or "default"
        return cls(
            sink=resolve_sink(sink, source=source),
            prices=Prices(prices),
            project=checked_project(project),
            tags=checked_tags(tags),
            include_usage=_checked_include_usage(include_usage),
            close_on_break=checked_flag("close_on_break", close_on_break),
            estimate_input=checked_flag("estimate_input", estimate_input),
            measure=_measure_of(estimator),
            providers=_checked_providers(providers),
        )


def checked_project(project: object) -> str:
    """Return `project` if it is a name; raise a TypeError otherwise."""
    if not isinstance(project, str) or not project:
        raise TypeError(f"project= takes a name such as 'billing-bot', not {project!r}")
    return project


def checked_flag(name: str, value: object) -> bool:
    """Return `value` if it is a bool; raise a TypeError that names the argument otherwise."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}= takes True or False, not {value!r}")
    return value


def _measure_of(estimator: Estimator | str | None) -> Measure:
    if estimator is None:
        return len
    from llm_toll_autopatch.estimators import measure_of

    return measure_of(estimator)


def _checked_include_usage(value: object) -> Literal["auto"] | bool:
    if value != "auto" and not isinstance(value, bool):
        raise ValueError(f"include_usage= takes 'auto', True or False, not {value!r}")
    return value


def checked_tags(tags: object) -> Mapping[str, str]:
    """Return an unchangeable copy of `tags` if it maps strings to strings; raise a TypeError otherwise."""
    if tags is None:
        return MappingProxyType({})
    if not isinstance(tags, Mapping) or not all(isinstance(x, str) for pair in tags.items() for x in pair):
        raise TypeError(f"tags= takes a mapping of str to str such as {{'team': 'search'}}, not {tags!r}")
    return MappingProxyType(dict(tags))


def _checked_providers(providers: object) -> tuple[str, ...]:
    if providers is None:
        return tuple(SDKS)
    if isinstance(providers, str) or not isinstance(providers, Iterable):
        raise TypeError(f"providers= takes a list such as ['openai'], not {providers!r}")
    chosen = tuple(providers)
    for name in chosen:
        if name not in SDKS:
            raise ValueError(f"providers= does not know {name!r}; there are {', '.join(SDKS)}")
    return chosen


class Overlay(Protocol):
    """What a scope puts over the configuration in force."""

    def over(self, base: Settings) -> Settings | None:
        """Return `base` as the scope changes it; None where it switches the metering off."""
        ...


_active: Settings | None = None
_overlay: ContextVar[Overlay | None] = ContextVar("llm_toll_scope", default=None)


def active() -> Settings | None:
    """Return the configuration in force in this context; None while nothing is metered."""
    base, scope = _active, _overlay.get()
    return base if base is None or scope is None else scope.over(base)


def in_force() -> Settings | None:
    """Return the process's configuration, whatever the scopes of this context change of it."""
    return _active


def overlay() -> Overlay | None:
    """Return what lies over the configuration in this context."""
    return _overlay.get()


@contextmanager
def overlaid(scope: Overlay) -> Iterator[None]:
    """Put `scope` over the configuration in this context."""
    token = _overlay.set(scope)
    try:
        yield
    finally:
        _overlay.reset(token)


def activate(settings: Settings | None) -> None:
    """Put `settings` in force for calls that begin from now on; None meters no more."""
    global _active
    _active = settings
