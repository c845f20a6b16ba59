"""What the user asked for, checked once, when it is configured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, Unpack

from llm_toll_autopatch import sources, user_warnings
from llm_toll_autopatch.budgets.caps import KnownCaps, known_caps
from llm_toll_autopatch.budgets.keeper import Keeper, Kept, OnOrphan
from llm_toll_autopatch.budgets.limits import Asked
from llm_toll_autopatch.budgets.memory import MemoryKeeper
from llm_toll_autopatch.hints import Hints
from llm_toll_autopatch.records import CallRecord
from llm_toll_autopatch.sinks import Sink
from llm_toll_autopatch.sinks.tee import leaves

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

    from llm_toll_autopatch.budgets.limits import Reset
    from llm_toll_autopatch.estimate import Measure
    from llm_toll_autopatch.estimators import Estimator
    from llm_toll_autopatch.pricing.prices import Prices

__all__ = [
    "Counter",
    "Options",
    "Overlay",
    "Settings",
    "SinkSpec",
    "activate",
    "active",
    "everywhere",
    "in_force",
    "overlaid",
    "overlay",
    "seen_here",
]

SinkSpec = Sink | Callable[[CallRecord], Any] | str | list[Any] | tuple[Any, ...] | None
"""What `sink=` takes: a sink, a callable of one argument, a name, a list of these; None is the embedded ledger."""


class Options(TypedDict, total=False):
    """The arguments of `patch_all`, where they are passed on. None is not given."""

    sink: SinkSpec
    project: str | None
    tags: Mapping[str, str] | None
    include_usage: Literal["auto"] | bool | None
    close_on_break: bool | None
    estimate_input: bool | None
    estimator: Estimator | str | None
    prices: Mapping[str, Mapping[str, Any]] | None
    providers: Iterable[str] | None
    max_budget: Decimal | float | str | None
    reset: Reset | None
    rate_limit: int | None
    tpm_limit: int | None
    strict_budget: bool | None
    stop_streams: bool | None
    on_ledger_error: Literal["refuse", "allow"] | None
    on_orphan: OnOrphan | None


class Counter(Protocol):
    """Who is told of every record of a call, beside the sinks: a `Spend`, or a test."""

    def add(self, record: CallRecord) -> None:
        """Count a call. Never raises, and may be called by a finalizer."""
        ...


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
    keeper: Keeper
    limits: tuple[Kept, ...]
    strict_budget: bool
    stop_streams: bool
    on_ledger_error: Literal["refuse", "allow"] | None
    on_orphan: OnOrphan
    hints: Hints = field(default_factory=Hints)
    spends: tuple[Counter, ...] = ()
    # What every call would have to look up.
    takers: tuple[tuple[Sink, None], ...] = field(init=False, repr=False, compare=False)
    told: tuple[Any, ...] = field(init=False, repr=False, compare=False)
    known_caps: KnownCaps | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        known = leaves(self.sink)
        for name, value in (
            ("takers", tuple((sink, None) for sink in known)),
            ("told", tuple(sink for sink in known if hasattr(sink, "began"))),
            ("known_caps", known_caps(self.keeper)),
        ):
            object.__setattr__(self, name, value)

    @classmethod
    def resolve(cls, **arguments: Unpack[Options]) -> Settings:
        """Check the arguments of `patch_all` and fill the gaps: from the environment, `pyproject.toml`, the defaults.

        Raises:
            TypeError: An argument has the wrong type, or a value that is written elsewhere.
            ValueError: One has a value that makes no sense. What is not an argument names where it is written.
        """
        values = sources.resolved(arguments)
        asked = Asked(**{name: values.pop(name) for name in ("max_budget", "reset", "rate_limit", "tpm_limit")})
        keeper = _keeper_in(values["sink"])
        limits = tuple((limit, keeper) for limit in asked.of(values["project"]))
        return cls(measure=values.pop("estimator"), keeper=keeper, limits=limits, **values)

    def going_on_from(self, before: Settings | None) -> Settings:
        """Return this configuration with what `before` has counted against limits, where no ledger keeps them."""
        if before is None or not (isinstance(self.keeper, MemoryKeeper) and isinstance(before.keeper, MemoryKeeper)):
            return self
        return replace(self, keeper=before.keeper, limits=tuple((limit, before.keeper) for limit, _ in self.limits))


def _keeper_in(sink: Sink) -> Keeper:
    """Return what keeps the limits: the first ledger of `sink`, else the memory of this process."""
    ledger = next((leaf for leaf in leaves(sink) if isinstance(leaf, Keeper)), None)
    return MemoryKeeper() if ledger is None else ledger


class Overlay(Protocol):
    """What a scope puts over the configuration in force."""

    def over(self, base: Settings) -> Settings | None:
        """Return `base` as the scope changes it; None where it switches the metering off."""
        ...


_active: Settings | None = None
_everywhere: Overlay | None = None
_overlay: ContextVar[Overlay | None] = ContextVar("llm_toll_scope", default=None)


def active() -> Settings | None:
    """Return the configuration in force in this context; None while nothing is metered."""
    return None if _active is None else seen_here(_active)


def seen_here(base: Settings) -> Settings | None:
    """Return `base` with what lies over it in this context; None where that switches the metering off."""
    scope = _overlay.get()
    if _everywhere is not None:
        changed = _everywhere.over(base)
        if changed is None:
            return None
        base = changed
    return base if scope is None else scope.over(base)


def in_force() -> Settings | None:
    """Return the process's configuration, whatever the scopes of this context change of it."""
    return _active


def overlay() -> Overlay | None:
    """Return what lies over the configuration in this context."""
    return _overlay.get()


def everywhere(scope: Overlay | None) -> Overlay | None:
    """Put `scope` over the configuration in all contexts, below their own scopes; return what it replaces.

    For tests, whose calls may be made by any thread and any task, under whatever configuration the program chooses.
    """
    global _everywhere
    before, _everywhere = _everywhere, scope
    return before


@contextmanager
def overlaid(scope: Overlay) -> Iterator[None]:
    """Put `scope` over the configuration in this context."""
    token = _overlay.set(scope)
    try:
        yield
    finally:
        try:
            _overlay.reset(token)
        except ValueError:  # a generator that is closed by somebody in whose context the scope never was
            user_warnings.warn(
                "a scope ended in another context than the one that it began in: it has been in force for what ran "
                "there, and not for what runs here; do not yield in a scope",
                UserWarning,
            )


def activate(settings: Settings | None) -> None:
    """Put `settings` in force for calls that begin from now on; None meters no more."""
    global _active
    _active = settings
