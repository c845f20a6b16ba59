"""Google's interactions: one call for each request that the generated resource sends.

The public `create` may send several, and takes a stream apart to put them together: it reads `stream.generator`, not
the stream. So what counts goes into that attribute, and the proxy on the stream that the public method returns.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.providers import calls
from llm_toll_autopatch.providers.google_streams import configured, counted, counted_async, current, hold
from llm_toll_autopatch.readers.fields import get, text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from llm_toll_autopatch.metering import Call
    from llm_toll_autopatch.providers.target import Caller, Target, Wrapper

__all__ = ["fetched", "interaction", "opened"]

_MOST = 1_000
_running: dict[str, Call] = {}
"""Calls of interactions that run in the background, by their id: what they use is told when they are fetched."""


def interaction(target: Target, caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap the generated `create`, which sends one request and returns an answer, a stream, or either still raw."""
    return calls.request(target, caller, _deliver, configured)


def _deliver(call: Call, answer: Any, target: Target) -> Any:
    if _is_stream(answer):
        _count(call, answer, is_async=target.is_async)
    elif hasattr(answer, "http_response") and hasattr(answer, "parse"):
        _deliver_raw(call, answer, target)
    else:
        _settle(call, answer)
    return answer


def _settle(call: Call, answer: Any) -> None:
    """Take a whole interaction, a model or JSON; the call of one that runs in the background waits for its end."""
    if not _runs(answer):
        call.finish(answer)
        return
    if len(_running) >= _MOST and (oldest := _running.pop(next(iter(_running)), None)) is not None:
        oldest.end("abandoned")
    _running[str(get(answer, "id"))] = call


def _is_stream(answer: Any) -> bool:
    return hasattr(answer, "generator") and hasattr(answer, "response")


def _runs(answer: Any) -> bool:
    return get(answer, "status") in ("in_progress", "queued") and text(answer, "id") is not None


def _count(call: Call, stream: Any, *, is_async: bool) -> None:
    call.stream = True
    if (session := current()) is not None:
        session.sent(call)
    if is_async:
        stream.generator = counted_async(_watched_async(stream.generator, call), call)
    else:
        stream.generator = counted(_watched(stream.generator, call), call)
    if session is None:
        weakref.finalize(stream, call.end, "abandoned", from_finalizer=True)


def _watched(events: Iterator[Any], call: Call) -> Iterator[Any]:
    """Pass on the events; the SDK hands out one that tells of an error like any other, and raises nothing."""
    for event in events:
        if get(event, "event_type") == "error":
            call.end("error")
        yield event


async def _watched_async(events: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
    """The same, async."""
    async for event in events:
        if get(event, "event_type") == "error":
            call.end("error")
        yield event


def _deliver_raw(call: Call, raw: Any, target: Target) -> None:
    http = raw.http_response
    if http.is_closed:  # the body has been read, nothing more is awaited
        _settle(call, http.json())
        return
    parse = raw._parser

    def take(parsed: Any) -> Any:
        unread.detach()
        try:
            return _deliver(call, parsed, target)
        except Exception as error:
            failures.note(f"reading the raw response of {target.method}", error)
            return parsed

    async def parse_async(response: Any) -> Any:
        return take(await parse(response))

    raw._parser = parse_async if target.is_async else lambda response: take(parse(response))
    unread = weakref.finalize(raw, _look_again, call, http)


def _look_again(call: Call, http: Any) -> None:
    """End the call of a raw response that nobody parsed: its body may have been read all the same."""
    try:
        call.reader.finish(http.json())
        call.end("completed", from_finalizer=True)
    except Exception:  # not read, or no JSON
        call.end("abandoned", from_finalizer=True)


def opened(target: Target, _caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap the public `create`, whose stream is what the user holds."""
    return hold(_is_stream, is_async=target.is_async)


def fetched(target: Target, _caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap a method that fetches an interaction: it is free, but tells what one in the background has used."""

    def take(answer: Any, interaction_id: Any) -> Any:
        try:
            if _is_stream(answer):
                if (call := _running.pop(str(interaction_id), None)) is not None:
                    _count(call, answer, is_async=target.is_async)
            elif not _runs(answer) and (call := _running.pop(text(answer, "id") or "", None)) is not None:
                call.finish(answer)
        except Exception as error:
            failures.note(f"reading the answer of {target.method}", error)
        return answer

    async def wait(wrapped: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return take(await wrapped(*args, **kwargs), kwargs.get("id"))

    def wrapper(wrapped: Any, _instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if not _running:
            return wrapped(*args, **kwargs)
        if target.is_async:
            return calls.named_like(wrapped, wait(wrapped, args, kwargs))
        return take(wrapped(*args, **kwargs), kwargs.get("id"))

    return wrapper
