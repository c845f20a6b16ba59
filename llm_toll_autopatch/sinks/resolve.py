"""From what a user writes after `sink=` to a sink."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from llm_toll_autopatch.sinks import Sink

__all__ = ["checked_sink", "resolve_sink"]

_ACCEPTED = (
    '"ledger", "memory", "console", "log", "jsonl:PATH", "otel", "prometheus", "llm-toll",'
    ' "sqlite:///relative.db", "sqlite:////absolute/path.db"'
)
_ACCEPTED_TYPES = f"a sink, a callable of one argument, one of the names {_ACCEPTED}, or a list of these"
_LONGEST_ECHO = 60


def resolve_sink(spec: object, *, source: str = "sink=") -> Sink:
    """Return the sink that `spec` means.

    Args:
        spec: A sink, a callable of one argument, a name, or a list or tuple of these, which becomes a `TeeSink`. None
            or `"ledger"` is the embedded default, a SQLite ledger in the user's data directory, also within a list.
        source: Where `spec` comes from (an argument, an environment variable), for the message of an error.

    Raises:
        ValueError: `spec` is an unknown name, an empty list, or a sink whose library is not installed.
        TypeError: It is none of what is accepted.
    """
    if spec is None or spec == "ledger":  # text cannot say None
        from llm_toll_autopatch.ledger.sqlite import SQLiteLedger

        return SQLiteLedger()
    if isinstance(spec, str):
        return _from_name(spec, source)
    if isinstance(spec, (list, tuple)):
        if not spec:
            raise ValueError(f"{source} is an empty list; accepted: {_ACCEPTED_TYPES}")
        sinks = [resolve_sink(item, source=source) for item in spec]
        if len(sinks) == 1:
            return sinks[0]
        from llm_toll_autopatch.sinks.tee import TeeSink

        return TeeSink(*sinks)
    return checked_sink(spec, source)


def checked_sink(spec: Any, source: str) -> Sink:
    """Return `spec`, a sink or a callable of one argument, as a sink; raise a TypeError if it is neither."""
    if isinstance(spec, type):
        raise TypeError(f"{source} is the class {spec.__name__}; give an object of it: {spec.__name__}(…)")
    emit = getattr(spec, "emit", None)
    function = emit if callable(emit) else spec
    if not callable(function):
        raise TypeError(f"{source} is of type {type(spec).__name__}; accepted: {_ACCEPTED_TYPES}")
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"{source} is a coroutine function; a sink is called, not awaited: it must be a plain function")
    if not _takes_one_argument(function):
        raise TypeError(f"{source} cannot be called with one argument, the record; accepted: {_ACCEPTED_TYPES}")
    if function is emit:
        sink: Sink = spec
        return sink
    from llm_toll_autopatch.sinks.callback import CallbackSink

    return CallbackSink(function)


def _takes_one_argument(function: Callable[..., object]) -> bool:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # builtins may have none
        return True
    try:
        signature.bind(object())
    except TypeError:
        return False
    return True


def _from_name(name: str, source: str) -> Sink:
    scheme, colon, rest = name.partition(":")
    make = _SINKS.get(scheme + colon)
    # A name without a colon stands alone; one with a colon needs something after it.
    if make is not None and bool(colon) == bool(rest):
        try:
            return make(rest)
        except ValueError as error:
            raise ValueError(f"{source} is {_without_secrets(name)!r}: {error}") from None
    from llm_toll_autopatch.sinks.plugins import installed, sink_of

    plugins = installed()
    if scheme in plugins and bool(colon) == bool(rest):
        return sink_of(plugins[scheme], rest, source)
    others = "".join(f', "{each}"' for each in sorted(plugins))
    raise ValueError(f"{source} names the unknown sink {_without_secrets(name)!r}; accepted: {_ACCEPTED}{others}")


def _without_secrets(name: str) -> str:
    """Return as much of `name` as can be shown: of a URL or anything with a user in it, only the scheme."""
    scheme, colon, _ = name.partition(":")
    if name.startswith("postgres") or (not name.startswith(("sqlite:", "jsonl:")) and ("://" in name or "@" in name)):
        return (scheme if colon else "") + ":…"
    return name if len(name) <= _LONGEST_ECHO else name[:_LONGEST_ECHO] + "…"


def _memory(_: str) -> Sink:
    from llm_toll_autopatch.sinks.memory import MemorySink

    return MemorySink()


def _console(_: str) -> Sink:
    from llm_toll_autopatch.sinks.console import ConsoleSink

    return ConsoleSink()


def _otel(_: str) -> Sink:
    from llm_toll_autopatch.sinks.otel import OTelSink

    return OTelSink()


def _prometheus(_: str) -> Sink:
    from llm_toll_autopatch.sinks.prometheus import PrometheusSink

    return PrometheusSink()


def _llm_toll(url: str) -> Sink:
    from llm_toll_autopatch.sinks.llm_toll import LLMTollSink

    return LLMTollSink(url or None)


def _log(_: str) -> Sink:
    from llm_toll_autopatch.sinks.log import LoggingSink

    return LoggingSink()


def _jsonl(path: str) -> Sink:
    from llm_toll_autopatch.sinks.jsonl import JSONLinesSink

    return JSONLinesSink(path)


def _sqlite(rest: str) -> Sink:
    from llm_toll_autopatch.ledger.location import path_from_url
    from llm_toll_autopatch.ledger.sqlite import SQLiteLedger

    return SQLiteLedger(path_from_url("sqlite:" + rest))


def _postgres(rest: str) -> Sink:
    from llm_toll_autopatch.ledger.postgres import PostgresLedger

    return PostgresLedger("postgresql:" + rest)


_SINKS: dict[str, Callable[[str], Sink]] = {
    "console": _console,
    "jsonl:": _jsonl,
    "llm-toll": _llm_toll,
    "llm-toll:": _llm_toll,
    "log": _log,
    "memory": _memory,
    "otel": _otel,
    "postgres:": _postgres,
    "postgresql:": _postgres,
    "prometheus": _prometheus,
    "sqlite:": _sqlite,
}
"""By name, or by scheme with its colon."""
