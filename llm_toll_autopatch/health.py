"""What `status()` answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from llm_toll_autopatch.sdks import SDKS

__all__ = ["ProviderStatus", "SinkStatus", "Status", "version_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderStatus:
    """One SDK.

    Attributes:
        version: Its installed version; None when it is not installed.
        imported: Whether the program has imported it; what is patched can only be told then.
        late: Whether it had been imported before it was patched. What the program had taken from its objects by then
            (a bound method, `with_raw_response`) is not metered.
        patched: `Class.method (resource method)` of what is patched. Modules that the SDK loads later are patched when
            it does.
        missing: `Class.method (resource method)` of what this version of the SDK does not have, though it should: it
            has most likely moved, and is not metered.
        later: `resource method (version)` of what came with a later version of the SDK, and which.
        foreign: Modules whose wrappers sit on the same methods.
    """

    version: str | None
    imported: bool = False
    late: bool = False
    patched: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkStatus:
    """One sink, since it got its first record.

    Attributes:
        name: Its class.
        written: Records that it has taken.
        queued: Records that wait for it.
        dropped: Records that it will not get, since too many waited or the program ended.
        failures: Attempts that failed. A record whose attempt raised anything but `SinkUnavailableError` is not tried
            again.
        state: `ok`; `slow`: called by a thread of its own, and not waited for; `retrying`: it could not take a record,
            and gets it again; `stuck`: it holds a thread and does not come back; `suspended`: it failed so often that
            it is left alone for a while, and its records are kept.
        reason: Why it could not take a record, in its own words, while it is `retrying`.
    """

    name: str
    written: int = 0
    queued: int = 0
    dropped: int = 0
    failures: int = 0
    state: str = "ok"
    reason: str = ""

    def __str__(self) -> str:
        figures = f"{self.written} written, {self.queued} waiting, {self.dropped} dropped, {self.failures} failures"
        state = "" if self.state == "ok" else f", {self.state}"
        return f"{self.name}: {figures}{state}{': ' + self.reason if self.reason else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state of the metering; prints itself readably.

    Attributes:
        active: Whether calls that begin now are metered.
        providers: Each SDK that is to be metered, by name.
        records: Records made since the process started.
        open_calls: Calls that have begun and not ended.
        queued: Records that wait to be written.
        dropped: Records that were lost, since the queue was full or the program ended.
        failures: Our own errors, which the user's code never saw.
        last_failure: Where the last one happened and what it was.
        unknown_prices: Models without a known price.
        ledger: Where the ledger is.
        hints: What you can do about servers that do not get on with your settings.
        sinks: Each sink of the configuration.
    """

    active: bool
    providers: Mapping[str, ProviderStatus]
    records: int
    open_calls: int
    queued: int
    dropped: int
    failures: int
    last_failure: str | None
    unknown_prices: tuple[str, ...]
    ledger: str | None
    hints: tuple[str, ...] = ()
    sinks: tuple[SinkStatus, ...] = ()

    def __str__(self) -> str:
        lines = [f"metering   {'on' if self.active else 'off'}", f"ledger     {self.ledger or 'none'}"]
        for name, sdk in self.providers.items():
            lines.append(f"{name:<10} {_sentence(sdk)}")
            lines += [f"{'':<10} missing, not metered: {method}" for method in sdk.missing]
            if sdk.later:
                lines.append(f"{'':<10} not in this version: {', '.join(sdk.later)}")
            lines += [f"{'':<10} also wrapped by {module}" for module in sdk.foreign]
        lines.append(
            f"records    {self.records} made, {self.queued} waiting, {self.dropped} dropped, {self.open_calls} open"
        )
        lines += [f"sink       {sink}" for sink in self.sinks]
        if self.failures:
            lines.append(f"failures   {self.failures} of ours, the last: {self.last_failure}")
        if self.unknown_prices:
            lines.append(f"no price   {', '.join(self.unknown_prices)}")
        lines += [f"hint       {hint}" for hint in self.hints]
        return "\n".join(lines)


def _sentence(sdk: ProviderStatus) -> str:
    if sdk.version is None:
        return "not installed"
    if not sdk.imported:
        return f"{sdk.version}, not imported yet"
    late = "; imported before: methods taken from its objects by then are not metered" if sdk.late else ""
    return f"{sdk.version}, {len(sdk.patched)} methods patched{late}"


@cache
def version_of(name: str) -> str | None:
    """Return the installed version of the SDK called `name`; None when it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(SDKS[name].distribution)
    except PackageNotFoundError:
        return None
