"""Google's interactions: one call for each request that the generated resource sends.

The public `create` may send several, and takes a stream apart to put them together: it reads `stream.generator`, not
the stream. So what counts goes into that attribute, and the proxy on the stream that the public method returns.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch import lasting
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.providers import calls, stainless
from llm_toll_autopatch.providers.google_sessions import configured, current
from llm_toll_autopatch.providers.google_streams import counted, counted_async, hold

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llm_toll_autopatch.metering import Call
    from llm_toll_autopatch.providers.calls import Deliver
    from llm_toll_autopatch.providers.target import Caller, Target, Wrapper

__all__ = ["fetched", "fetched_before", "interaction", "opened"]


def interaction(target: Target, caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap the generated `create`, which sends one request and returns an answer, a stream, or either still raw."""
    return calls.request(target, caller, _deliver, configured)


def _deliver(call: Call, answer: Any, target: Target) -> Any:
    if _is_stream(answer):
        _count(call, answer, is_async=target.is_async)
    elif hasattr(answer, "http_response") and hasattr(answer, "parse"):
        _deliver_raw(call, answer, target)
    else:
        call.finish(answer)
    return answer


def _is_stream(answer: Any) -> bool:
    return hasattr(answer, "generator") and hasattr(answer, "response")


def _count(call: Call, stream: Any, *, is_async: bool) -> None:
    call.stream = True
    if (session := current()) is not None:
        session.sent(call)
    if is_async:
        stream.generator = counted_async(stream.generator, call, session=session)
    else:
        stream.generator = counted(stream.generator, call)
    if session is None:
        weakref.finalize(stream, call.end, "abandoned", from_finalizer=True)


def _deliver_raw(call: Call, raw: Any, target: Target) -> None:
    http = raw.http_response
    if http.is_closed:  # the body has been read, nothing more is awaited
        call.finish(http.json())
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


def fetched(target: Target, caller: Callable[[Any], Caller], deliver: Deliver = _deliver) -> Wrapper:
    """Wrap a method that fetches an interaction: it is free, but tells what one in the background has used.

    Only those that wait are counted: nothing tells an interaction that was begun elsewhere in the background from one
    that was recorded there when it was answered.
    """
    del caller

    def take(call: Call | None, answer: Any) -> Any:
        if call is None:
            return answer
        try:
            return deliver(call, answer, target)
        except Exception as error:
            failures.note(f"reading the answer of {target.method}", error)
            call.end("abandoned")  # which lets it wait again
            return answer

    async def wait(wrapped: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], work: str) -> Any:
        answer = await wrapped(*args, **kwargs)
        call = lasting.take(work)
        answer = take(call, answer)
        if call is not None:
            await call.written()
        return answer

    def wrapper(wrapped: Any, _instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if not lasting.waits():
            return wrapped(*args, **kwargs)
        work = str(kwargs.get("id") or (args[0] if args else ""))
        if target.is_async:
            return calls.named_like(wrapped, wait(wrapped, args, kwargs, work))
        answer = wrapped(*args, **kwargs)
        return take(lasting.take(work), answer)

    return wrapper


def fetched_before(target: Target, caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap such a method of the versions up to 2.0, which the generator of OpenAI's and Anthropic's SDKs made."""
    return fetched(target, caller, stainless.deliver)
