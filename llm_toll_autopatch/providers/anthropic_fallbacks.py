"""Anthropic's `BetaRefusalFallbackMiddleware`: the refused requests of a plain call, which its answer does not tell of.

The middleware sends a refused request again to another model, and hands out the last answer: that one is counted where
the call was made. Each that it goes on from is a record here. Streams tell of all of them in `usage.iterations`.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch import settings
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.metering import Call
from llm_toll_autopatch.providers import calls
from llm_toll_autopatch.readers.messages import Messages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llm_toll_autopatch.providers.target import Caller, Target, Wrapper
    from llm_toll_autopatch.settings import Settings

__all__ = ["refused"]


class _Hops:
    """The requests of one call, each of which is the last until another follows."""

    __slots__ = ("_answer", "_call", "_caller", "_settings", "_target")

    def __init__(self, target: Target, caller: Callable[[Any], Caller], active: Settings) -> None:
        self._target = target
        self._caller = caller
        self._settings = active
        self._call: Call | None = None
        self._answer: Any = None

    def sent(self, request: Any) -> Call | None:
        """Note that a request is about to be sent; return the call of the one before if it was billed. Never raises."""
        billed = None
        try:
            billed = self._superseded()
            reader = Messages()
            self._call = Call(reader, self._settings, provider="anthropic", method=self._target.method, endpoint=None)
            reader.begin(request.json)
        except Exception as error:
            failures.note(f"reading the request of {self._target.method}", error)
        return billed

    def answered(self, answer: Any) -> Any:
        """Note the answer to it, and return it."""
        self._answer = answer
        return answer

    def _superseded(self) -> Call | None:
        call, answer = self._call, self._answer
        self._call = self._answer = None
        if call is None or answer is None or not answer.http_response.is_success:
            if call is not None:
                call.drop()  # a failure that the middleware gets over: nothing was billed
            return None
        who = self._caller(SimpleNamespace(_client=answer._client))
        call.provider, call.endpoint = who.provider, who.endpoint
        calls.charge(call)
        call.finish(answer.http_response.json())  # the middleware has read it
        return call

    def end(self) -> None:
        """Leave the last request to whoever made the call."""
        if self._call is not None:
            self._call.drop()


def refused(target: Target, caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap the method of the middleware that sends a call's requests through `call_next`."""

    def wrapper(wrapped: Any, _instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        active = settings.active()
        given = {**dict(zip(("request", "call_next"), args, strict=False)), **kwargs}
        if active is None or given["request"].stream:
            return wrapped(*args, **kwargs)
        hops = _Hops(target, caller, active)
        send = _handled_async if target.is_async else _handled
        handled = send(wrapped, given, hops)
        return calls.named_like(wrapped, handled) if target.is_async else handled

    return wrapper


def _handled(wrapped: Any, given: Mapping[str, Any], hops: _Hops) -> Any:
    def call_next(request: Any) -> Any:
        hops.sent(request)
        return hops.answered(given["call_next"](request))

    try:
        return wrapped(given["request"], call_next)
    finally:
        hops.end()


async def _handled_async(wrapped: Any, given: Mapping[str, Any], hops: _Hops) -> Any:
    async def call_next(request: Any) -> Any:
        if (billed := hops.sent(request)) is not None:
            await billed.written()
        return hops.answered(await given["call_next"](request))

    try:
        return await wrapped(given["request"], call_next)
    finally:
        hops.end()
