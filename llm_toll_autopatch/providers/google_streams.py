"""Google's generate_content streams, above the several requests that each may send.

The meter sits on the SDK's private methods that send exactly one request each, the proxy on what the user holds;
`google_sessions` tells the one about the other.
"""

from __future__ import annotations

import contextlib
import sys
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from llm_toll_autopatch import settings
from llm_toll_autopatch.budgets.stopping import watched, watched_async
from llm_toll_autopatch.metering import Call, outcome_of
from llm_toll_autopatch.providers import calls
from llm_toll_autopatch.providers.google_sessions import (
    Session,
    current,
    on_behalf_of,
    on_behalf_of_async,
    release,
    sender,
)  # fmt: skip
from llm_toll_autopatch.providers.steps import Under
from llm_toll_autopatch.streams import AsyncStreamProxy, CloseAsync, StreamProxy, close_soon, outcome_of_exit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
    from types import TracebackType

    from llm_toll_autopatch.providers.target import Caller, Target, Wrapper

__all__ = [
    "answered", "counted", "counted_async", "held", "held_async", "hold", "streamed", "streamed_async",
]  # fmt: skip


_connections: ContextVar[list[Any] | None] = ContextVar("llm_toll_google_connections", default=None)


class _Held(StreamProxy):
    """The generator that the user holds."""

    _self_meter: Session

    def _self_loop(self) -> Iterator[Any]:
        self._self_meter.begins()
        return super()._self_loop()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Any:
        self._self_meter.end(outcome_of_exit(error), error)
        return super().__exit__(kind, error, traceback)

    def close(self) -> Any:
        """Close the stream, having reported it: what the SDK drops while it closes says less."""
        self._self_meter.end("closed")
        return super().close()


class _AsyncHeld(AsyncStreamProxy):
    """The async generator that the user holds."""

    _self_meter: Session

    def _self_loop(self) -> AsyncIterator[Any]:
        self._self_meter.begins()
        return super()._self_loop()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Any:
        self._self_meter.end(outcome_of_exit(error), error)
        return await super().__aexit__(kind, error, traceback)

    async def close(self) -> Any:
        """Close the stream, having reported it: what the SDK drops while it closes says less."""
        self._self_meter.end("closed")
        return await super().close()

    aclose = close

    def _self_closer(self) -> CloseAsync:
        return self._self_meter.close

    async def asend(self, value: Any) -> Any:
        """Advance the generator."""
        return await self._self_step(self.__wrapped__.asend(value))

    async def athrow(self, *error: Any) -> Any:
        """Raise inside the generator."""
        return await self._self_step(self.__wrapped__.athrow(*error))

    async def _self_step(self, step: Awaitable[Any]) -> Any:
        session = self._self_meter
        try:
            return await on_behalf_of_async(session, step)
        except StopAsyncIteration:
            session.end("completed")
            await session.written()
            raise
        except BaseException as error:
            self._self_finish(outcome_of(error), error)
            raise


def _asked_by_a_chat() -> bool:
    """Return whether the nearest caller in the SDK is a chat, which asks on behalf of the stream that it handed out.

    Otherwise it is what calls the user's tools, or there is none in a thread or task that a tool started: then the
    stream is the tool's own.
    """
    frame = sys._getframe(2)
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name.startswith("google.genai."):
            return name == "google.genai.chats"
        frame = frame.f_back  # type: ignore[assignment]
    return False


def held(_target: Target, _caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap a method that returns the stream which the user holds."""

    def wrapper(wrapped: Any, _instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        active = settings.active()
        chunks = wrapped(*args, **kwargs)
        if active is None or (_asked_by_a_chat() and current() is not None):
            return chunks
        return _handed_out(chunks, Session(active))

    return wrapper


def _handed_out(chunks: Any, session: Session) -> _Held:
    session.chunks = chunks
    return _Held(chunks, session, close_on_break=session.active.close_on_break)


def _handed_out_async(chunks: Any, session: Session) -> _AsyncHeld:
    session.chunks = chunks
    return _AsyncHeld(chunks, session, close_on_break=session.active.close_on_break)


def held_async(_target: Target, _caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap a method that returns, when awaited, the stream which the user holds."""

    async def hand_out(wrapped: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], session: Session) -> Any:
        try:
            chunks = await on_behalf_of_async(session, wrapped(*args, **kwargs))
        except BaseException as error:
            session.end(outcome_of(error), error)  # some versions send the first request here
            raise
        return _handed_out_async(chunks, session)

    def wrapper(wrapped: Any, _instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        active = settings.active()
        if active is None or (_asked_by_a_chat() and current() is not None):
            return wrapped(*args, **kwargs)
        return calls.named_like(wrapped, hand_out(wrapped, args, kwargs, Session(active)))

    return wrapper


def hold(is_stream: Callable[[Any], bool], *, is_async: bool) -> Wrapper:
    """Wrap a method that sends its first request at once and returns either an answer or a stream."""

    async def send(wrapped: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], session: Session) -> Any:
        answer = await on_behalf_of_async(session, wrapped(*args, **kwargs))
        return _handed_out_async(answer, session) if is_stream(answer) else answer

    def wrapper(wrapped: Any, _instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        active = settings.active()
        if active is None:
            return wrapped(*args, **kwargs)
        session = Session(active)
        if is_async:
            return calls.named_like(wrapped, send(wrapped, args, kwargs, session))
        answer = on_behalf_of(session, lambda: wrapped(*args, **kwargs))
        return _handed_out(answer, session) if is_stream(answer) else answer

    return wrapper


def streamed(target: Target, caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap the private method that sends one request and returns its chunks as a generator."""

    def begin(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Iterator[Any], Call | None]:
        session = sender()
        active = settings.active() if session is None else session.active
        call = None if active is None else calls.begin(target, caller, instance, kwargs, active)[0]
        if call is not None:
            call.stream = True
            if session is not None:
                session.sent(call)
        return wrapped(*args, **kwargs), call

    def wrapper(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return _asked(partial(begin, wrapped, instance, args, kwargs))

    return wrapper


def counted(chunks: Iterator[Any], call: Call) -> Iterator[Any]:
    """Pass on the chunks of one request, and end its call when they end or are given up."""
    return _asked(None, chunks, call)


def _asked(begin: Any, chunks: Any = (), call: Call | None = None) -> Iterator[Any]:
    # The request is sent with the first `next`, as by the SDK's own generator: one that is never asked is free.
    if begin is not None:
        chunks, call = begin()
        begin = None  # and the arguments with it
    if call is None:
        yield from chunks
        return
    try:
        for chunk in watched(chunks, call):
            call.feed(chunk)
            yield chunk
    except BaseException:
        _given_up(call)
        raise
    call.end("completed")


def _given_up(call: Call) -> None:
    """End the call of a request whose chunks are given up on account of the current exception."""
    error = sys.exception()
    assert error is not None
    if isinstance(error, GeneratorExit):
        call.end("closed")
    else:
        call.end(outcome_of(error), error)


def streamed_async(target: Target, caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap the private method that sends one request and returns, when awaited, its chunks as an async generator."""

    async def send(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        session = sender()
        active = settings.active() if session is None else session.active
        call = None if active is None else (await calls.begin_async(target, caller, instance, kwargs, active))[0]
        if call is None:
            return await wrapped(*args, **kwargs)
        call.stream = True
        connections: list[Any] = []
        try:
            chunks = await Under(_connections, connections, wrapped(*args, **kwargs))
        except BaseException as error:
            call.end(outcome_of(error), error)
            raise
        if session is not None:
            session.sent(call, connections)
        return counted_async(chunks, call, connections, session)

    def wrapper(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return calls.named_like(wrapped, send(wrapped, instance, args, kwargs))

    return wrapper


def counted_async(
    chunks: AsyncIterator[Any],
    call: Call,
    connections: list[Any] | None = None,
    session: Session | None = None,
) -> AsyncIterator[Any]:
    """Pass on the chunks of one request, end its call when they end or are given up, and release its connections.

    Args:
        chunks: The SDK's async generator.
        call: The request's.
        connections: What holds its connection.
        session: The stream above, which tells how it ends for the user.
    """
    return _Counted(chunks, call, connections, session)


class _Counted:
    """The chunks of one async request.

    An async generator would hold its frame, and the event loop a weak reference to it, while the stream is open.
    """

    __slots__ = ("_call", "_chunks", "_connections", "_session")

    def __init__(
        self, chunks: AsyncIterator[Any], call: Call, connections: list[Any] | None, session: Session | None
    ) -> None:
        self._call = call
        self._chunks = watched_async(chunks, call)
        self._connections = connections
        self._session = session

    @property
    def ag_running(self) -> bool:
        """Whether somebody waits for a chunk."""
        return bool(getattr(self._chunks, "ag_running", False))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        call = self._call
        try:
            async for chunk in self._chunks:
                call.feed(chunk)
                return chunk
        except GeneratorExit:  # in which nothing can be awaited
            _given_up(call)
            raise
        except BaseException:
            if not self.ag_running:  # else this step is one too many
                _given_up(call)
                with contextlib.suppress(Exception):
                    await release(self._connections)
            raise
        call.end("completed")
        await call.written()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Close the SDK's generator, which refuses while somebody waits for a chunk; then give up the request."""
        if (close := getattr(self._chunks, "aclose", None)) is not None:
            await close()
        self._call.end("closed")
        await release(self._connections)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # an `__init__` that raised
            if (call := self._call).open:
                if self._session is None:
                    call.end("abandoned", from_finalizer=True)
                close_soon(partial(_dropped, call, self._connections, self._session), None)


async def _dropped(call: Call, connections: list[Any] | None, session: Session | None) -> None:
    """End the call of a request that was dropped, unless it has been said how it ended; release its connection."""
    # The SDK drops a request and goes on; or the event loop shuts down, and has closed what the user holds.
    call.end("closed" if session is not None and session.goes_on else "abandoned")
    await release(connections)


def answered(target: Target, _caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap the private method through which an async request gets its connection, to have it at hand for closing."""
    del target

    async def send(wrapped: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], connections: list[Any]) -> Any:
        answer = await wrapped(*args, **kwargs)
        connections.append(answer)
        return answer

    def wrapper(wrapped: Any, _instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        connections = _connections.get()
        if connections is None:
            return wrapped(*args, **kwargs)
        return calls.named_like(wrapped, send(wrapped, args, kwargs, connections))

    return wrapper
