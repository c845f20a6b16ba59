"""Putting the wrappers on the SDKs and taking them off again."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from operator import contains
from typing import TYPE_CHECKING, Any, Literal, Unpack

from llm_toll_autopatch import _boot, imports, reporting, settings
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.health import ProviderStatus, Status, version_of
from llm_toll_autopatch.pricing.prices import prepare
from llm_toll_autopatch.providers import load
from llm_toll_autopatch.sdks import SDKS
from llm_toll_autopatch.settings import Options, Settings, SinkSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from decimal import Decimal

    from llm_toll_autopatch.budgets.keeper import OnOrphan
    from llm_toll_autopatch.budgets.limits import Reset
    from llm_toll_autopatch.estimators import Estimator
    from llm_toll_autopatch.patches import Patch
    from llm_toll_autopatch.providers.target import Target
    from llm_toll_autopatch.sinks import Sink

__all__ = ["flush", "patch_all", "patched", "status", "unpatch_all"]

_lock = threading.RLock()
_patches: dict[str, dict[Any, Patch]] = {name: {} for name in SDKS}
_missing: dict[str, dict[Any, None]] = {name: {} for name in SDKS}
_late: set[str] = set()
_metered: set[str] = set()
"""The SDKs that are metered now. Scopes do not matter here: a stream may be read in another context than the one in
which it was opened, and the wrappers know which of the two counts."""


def patch_all(
    *,
    sink: SinkSpec = None,
    project: str | None = None,
    tags: Mapping[str, str] | None = None,
    include_usage: Literal["auto"] | bool | None = None,
    close_on_break: bool | None = None,
    estimate_input: bool | None = None,
    estimator: Estimator | str | None = None,
    prices: Mapping[str, Mapping[str, Any]] | None = None,
    providers: Iterable[str] | None = None,
    max_budget: Decimal | float | str | None = None,
    reset: Reset | None = None,
    rate_limit: int | None = None,
    tpm_limit: int | None = None,
    strict_budget: bool | None = None,
    stop_streams: bool | None = None,
    on_ledger_error: Literal["refuse", "allow"] | None = None,
    on_orphan: OnOrphan | None = None,
) -> Status:
    """Meter every call that this process makes through the OpenAI, Anthropic and Google GenAI SDKs from now on.

    The SDKs may be imported before or after. A second call replaces the configuration of the first.

    What is not given (None) comes from the environment (`LLM_TOLL_AUTOPATCH_SINK`, `LLM_TOLL_AUTOPATCH_PROJECT` …),
    else from `[tool.llm_toll_autopatch]` of the nearest `pyproject.toml`, else it is the default. `autotoll config`
    shows it.

    Args:
        sink: Where the records go: a sink, a callable of one argument, a name (`"console"`, `"jsonl:PATH"`,
            `"llm-toll"`, `"log"`, `"memory"`, `"otel"`, `"prometheus"`, `"sqlite:///PATH"`, or that of an installed
            package's sink), or a list of these. By default the embedded ledger in the user's data directory.
        project: Who pays. By default `"default"`.
        tags: What for.
        include_usage: Whether to ask for usage where OpenAI's streams report it only when asked, and to hide from the
            program what comes of it. `"auto"`, the default: on OpenAI's own hosts; True: everywhere, though some
            compatible servers refuse the option; False: never, and what the stream costs is estimated.
        close_on_break: Whether leaving a `for` over a stream early closes the stream, as it does by default. False
            keeps the SDKs' behaviour, which can go on reading it and holds its connection until then.
        estimate_input: Whether the input tokens of a call without reported usage are estimated from the request's text.
            True by default.
        estimator: What estimates the tokens of a text where a provider reports none, in the place of four characters
            each: a callable from str to int, which streams give their text piece by piece, or `"tiktoken"`, if that is
            installed and has its tables on this machine. It gets the text of a request before a stream is asked for,
            and the texts of a plain call if the answer leaves a figure out; no request's if `estimate_input` is False.
        prices: USD per million tokens by model name or glob: `{"my-model*": {"input": 2.5, "output": 10}}`.
        providers: Which SDKs: `["openai", "anthropic", "google"]`. All by default.
        max_budget: USD that the project may cost, in all processes that write to the same ledger; calls in scopes of
            other projects count too. What the ledger holds of the project's window counts from the start. Once it is
            used up, calls are refused before they are sent (`BudgetExceededError`).
        reset: When the budget starts anew, in UTC: `"daily"`, `"weekly"` (on Monday), `"monthly"`; by default never.
        rate_limit: Calls of the project in any 60 seconds; more are refused (`LocalRateLimitError`).
        tpm_limit: Tokens of the project in any 60 seconds, likewise.
        strict_budget: Whether what a call may cost at most is held from the budget before it is sent, so that calls
            at the same time cannot overspend it together. A call of which that cannot be said is refused. By default
            False: a call that is under way when the budget is used up counts in full, with a `BudgetOverrunWarning`.
        stop_streams: Whether a stream is cut off when it reaches the budget: what has come is delivered, then
            `BudgetExceededError` is raised in the loop. By default False.
        on_ledger_error: Whether to `"refuse"` a call when the ledger cannot say what is left, or to `"allow"` it. By
            default strict budgets refuse, others allow.
        on_orphan: What to do with what a process held that died: `"charge"` it to the budget, as the provider most
            likely will, which is the default, or `"release"` it.

    Returns:
        What is patched now; `status()` says it again later.

    Raises:
        TypeError: An argument, or what is written in its place elsewhere, has the wrong type.
        ValueError: One of these has a value that makes no sense, or what is written elsewhere is no option.
    """
    chosen = Settings.resolve(
        sink=sink,
        project=project,
        tags=tags,
        include_usage=include_usage,
        close_on_break=close_on_break,
        estimate_input=estimate_input,
        estimator=estimator,
        prices=prices,
        providers=providers,
        max_budget=max_budget,
        reset=reset,
        rate_limit=rate_limit,
        tpm_limit=tpm_limit,
        strict_budget=strict_budget,
        stop_streams=stop_streams,
        on_ledger_error=on_ledger_error,
        on_orphan=on_orphan,
    )
    _boot.cancel()
    _put_in_force(chosen.going_on_from(settings.in_force()))
    return status()


def begin() -> None:
    """Meter as `patch_all()` does, for a process that was activated without code.

    Raises:
        ImportError: wrapt is missing, which otherwise shows only when an SDK is imported.
        TypeError: A setting has the wrong type.
        ValueError: A setting makes no sense.
    """
    import_module("llm_toll_autopatch.patches")
    _put_in_force(Settings.resolve())


def unpatch_all() -> None:
    """Meter no more, and leave every class attribute of the SDKs as it was.

    Streams that are open go on and are recorded when they end. Where another tool's closure holds our wrapper it has to
    stay, and does nothing.
    """
    _boot.cancel()
    _put_in_force(None)


@contextmanager
def patched(**options: Unpack[Options]) -> Iterator[Sink]:
    """Meter within a `with` block, for tests: process-wide, may be nested, and leaves all as it was.

    The inner configuration replaces the outer one until the block ends.

    Args:
        **options: As `patch_all` takes them; without `sink` it is a new `MemorySink`, whatever is written elsewhere.

    Yields:
        The sink.
    """
    if options.get("sink") is None:
        from llm_toll_autopatch.sinks.memory import MemorySink

        options["sink"] = MemorySink()
    chosen = Settings.resolve(**options)
    _boot.wake()
    before = settings.in_force()
    _put_in_force(chosen)
    try:
        yield chosen.sink
    finally:
        _put_in_force(before)


def status() -> Status:
    """Return what is installed, patched, missing and failing."""
    _boot.wake()
    active = settings.in_force()
    with _lock:
        providers = {name: _provider_status(name) for name in (SDKS if active is None else active.providers)}
    return Status(
        active=active is not None,
        providers=providers,
        records=reporting.counts.records,
        open_calls=reporting.open_calls(),
        queued=reporting.queued(),
        dropped=reporting.counts.dropped,
        failures=failures.total,
        last_failure=failures.last,
        unknown_prices=tuple(active.prices.unknown) if active is not None else (),
        ledger=None if active is None else reporting.ledger_of(active.sink),
        hints=() if active is None else tuple(active.hints),
        sinks=() if active is None else reporting.sinks_of(active.sink),
    )


def flush(timeout: float | None = None) -> None:
    """Wait until every record has been written.

    Args:
        timeout: Seconds to wait at most; None waits as long as it takes.
    """
    active = settings.in_force()
    reporting.flush(None if active is None else active.sink, timeout)


def _put_in_force(chosen: Settings | None) -> None:
    with _lock:
        settings.activate(chosen)
        if chosen is None:
            imports.forget()
        wanted = () if chosen is None else chosen.providers
        _metered.intersection_update(wanted)
        _metered.update(wanted)
        for name, sdk in SDKS.items():
            if name in wanted:
                if sdk.package in sys.modules and not _patches[name]:
                    _late.add(name)
                imports.when_imported(sdk.package, lambda _package, name=name: _wake(name))  # type: ignore[misc]
            else:
                _remove(name)


def _wake(name: str) -> None:
    """Patch what is imported of an SDK, and wait for the rest. Runs inside the user's import: never raises."""
    try:
        prepare()
        for target in load(name).targets:
            imports.when_imported(target.module, lambda _module, target=target: _install(name, target))  # type: ignore[misc]
    except Exception as error:
        failures.note(f"patching {name}", error)


def _install(name: str, target: Any) -> None:
    from llm_toll_autopatch.patches import Patch

    try:
        with _lock:
            if name not in _metered:
                return
            patch = _patches[name].get(target)
            if patch is not None and patch.in_place():
                return
            module = sys.modules[target.module]
            _patches[name][target] = Patch(target, module, load(name).caller, partial(contains, _metered, name))
            _missing[name].pop(target, None)
    except LookupError:
        if not target.optional:
            _missing[name][target] = None
    except Exception as error:
        failures.note(f"patching {target.path}", error)


def _remove(name: str) -> None:
    _missing[name].clear()
    _late.discard(name)
    for target, patch in list(_patches[name].items()):
        try:
            if patch.remove():
                del _patches[name][target]
        except Exception as error:
            failures.note(f"unpatching {target.path}", error)


def _provider_status(name: str) -> ProviderStatus:
    if SDKS[name].package not in sys.modules:
        return ProviderStatus(version=version_of(name))
    patches = _patches[name].values()
    foreign = {origin: None for patch in patches for origin in patch.foreign()}
    # A module that is not there never told anything.
    gone = [target for target in load(name).targets if not target.optional and not imports.exists(target.module)]
    version = version_of(name)
    missing, later = _told_apart(version, (*_missing[name], *gone), {patch.target.method for patch in patches})
    return ProviderStatus(
        version=version,
        imported=True,
        late=name in _late,
        patched=_labels(patch.target for patch in patches),
        missing=_labels(missing),
        later=later,
        foreign=tuple(foreign),
    )


def _told_apart(
    version: str | None, absent: Iterable[Target], metered: set[str]
) -> tuple[list[Target], tuple[str, ...]]:
    """Return what has moved, and what came with a later version, unless this one has it elsewhere."""
    from llm_toll_autopatch.providers.since import later_than

    missing: list[Target] = []
    later: dict[str, None] = {}
    for target in absent:
        since = later_than(version, target)
        if since is None:
            missing.append(target)
        elif target.method not in metered:
            later[f"{target.method} ({since})"] = None
    return missing, tuple(later)


def _labels(targets: Iterable[Target]) -> tuple[str, ...]:
    """Return a name for each target, once. `Class.method` alone would be ambiguous: several modules have one."""
    return tuple({f"{target.path} ({target.method})": None for target in targets})
