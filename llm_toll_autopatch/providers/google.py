"""The Google GenAI SDK: generate_content, its streams, chats and automatic function calling.

One user call may send several requests (automatic function calling, automatic continuation), so the meter sits on the
SDK's private methods that send exactly one each, and the proxies on what the user holds. A context variable that is set
while the user's stream advances tells the one about the other.
"""

from __future__ import annotations

import contextlib
import inspect
import weakref
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llm_toll_autopatch import settings
from llm_toll_autopatch.metering import Call, outcome_of
from llm_toll_autopatch.providers import calls
from llm_toll_autopatch.providers.target import Caller, Provider, Target, Wrapper
from llm_toll_autopatch.readers.generate_content import GenerateContent
from llm_toll_autopatch.streams import AsyncStreamProxy, Lifecycle, StreamProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from llm_toll_autopatch.settings import Settings

__all__ = ["PROVIDER"]


def _caller(resource: Any) -> Caller:
    client = resource._api_client
    host = urlsplit(client._http_options.base_url or "").hostname
    return Caller("vertex" if client.vertexai else "google", host)


class _Session(Lifecycle):
    """A stream as the user holds it, above the requests that it sends one after the other.

    Attributes:
        active: The configuration when the user asked for the stream; it counts for all its requests.
    """

    __slots__ = ("_connections", "active")

    def __init__(self, active: Settings) -> None:
        super().__init__()
        self.active = active
        self._connections: list[Any] = []

    def sent(self, call: Call, connections: list[Any] | None = None) -> None:
        """Take note of a request, and of what holds its connection."""
        self.calls = [each for each in self.calls if each.open]
        self.calls.append(call)
        self._connections = [] if connections is None else connections

    def within(self, chunks: Iterator[Any]) -> Iterator[Any]:
        """Pass on `chunks`, known to the requests that it takes to get each."""
        while True:
            token = _session.set(self)
            try:
                chunk = next(chunks)
            except StopIteration:
                return
            finally:
                _session.reset(token)
            yield chunk

    async def within_async(self, chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Pass on `chunks`, known to the requests that it takes to get each."""
        while True:
            token = _session.set(self)
            try:
                chunk = await chunks.__anext__()
            except StopAsyncIteration:
                return
            finally:
                _reset(token)
            yield chunk

    async def close(self, chunks: Any) -> None:
        """Close the user's async generator, and the connection, which the SDK leaves open until the next collection."""
        try:
            await chunks.aclose()
        finally:
            await _release(self._connections)


_session: ContextVar[_Session | None] = ContextVar("llm_toll_google_session", default=None)
_connections: ContextVar[list[Any] | None] = ContextVar("llm_toll_google_connections", default=None)


def _reset(token: Token[Any]) -> None:
    with contextlib.suppress(ValueError):  # closed by another task than the one that waits
        token.var.reset(token)


async def _release(connections: list[Any]) -> None:
    """Close the responses of the HTTP library (httpx2, httpx or aiohttp) below the SDK's own."""
    while connections:
        response = connections.pop().response_stream
        close = getattr(response, "aclose", None) or getattr(response, "close", None)
        if close is not None and inspect.isawaitable(closing := close()):
            await closing


def _held(_target: Target, _caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap a method that returns the stream which the user holds."""

    def wrapper(wrapped: Any, _instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        active = settings.active()
        chunks = wrapped(*args, **kwargs)
        if active is None or _session.get() is not None:  # a chat's own, inside the stream that the chat handed out
            return chunks
        session = _Session(active)
        return StreamProxy(chunks, session, close_on_break=active.close_on_break, source=session.within(chunks))

    return wrapper


def _held_async(_target: Target, _caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap a method that returns, when awaited, the stream which the user holds."""

    async def hand_out(wrapped: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], session: _Session) -> Any:
        token = _session.set(session)  # some versions send the first request here
        try:
            chunks = await wrapped(*args, **kwargs)
        except BaseException as error:
            session.end(outcome_of(error), error)
            raise
        finally:
            _reset(token)
        return AsyncStreamProxy(
            chunks,
            session,
            close_on_break=session.active.close_on_break,
            source=session.within_async(chunks),
            close=lambda: session.close(chunks),
        )

    def wrapper(wrapped: Any, _instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        active = settings.active()
        if active is None or _session.get() is not None:
            return wrapped(*args, **kwargs)
        return calls.named_like(wrapped, hand_out(wrapped, args, kwargs, _Session(active)))

    return wrapper


def _begin(
    target: Target, caller: Callable[[Any], Caller], instance: Any, kwargs: Mapping[str, Any]
) -> tuple[_Session | None, Call | None]:
    """Begin the call of one request of a stream, under the configuration of the stream that the user holds."""
    session = _session.get()
    active = settings.active() if session is None else session.active
    call = None if active is None else calls.begin(target, caller, instance, kwargs, active)[0]
    if call is not None:
        call.stream = True
    return session, call


def _streamed(target: Target, caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap the private method that sends one request and returns its chunks as a generator."""

    def counted(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Any]:
        # The request is sent with the first `next`, as by the SDK's own generator: one that is never asked is free.
        session, call = _begin(target, caller, instance, kwargs)
        chunks = wrapped(*args, **kwargs)
        if call is None:
            yield from chunks
            return
        if session is not None:
            session.sent(call)
        try:
            for chunk in chunks:
                call.feed(chunk)
                yield chunk
        except GeneratorExit:
            call.end("closed")
            raise
        except BaseException as error:
            call.end(outcome_of(error), error)
            raise
        call.end("completed")

    def wrapper(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return counted(wrapped, instance, args, kwargs)

    return wrapper


def _streamed_async(target: Target, caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap the private method that sends one request and returns, when awaited, its chunks as an async generator."""

    async def send(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        session, call = _begin(target, caller, instance, kwargs)
        if call is None:
            return await wrapped(*args, **kwargs)
        connections: list[Any] = []
        token = _connections.set(connections)
        try:
            chunks = await wrapped(*args, **kwargs)
        except BaseException as error:
            call.end(outcome_of(error), error)
            raise
        finally:
            _reset(token)
        counted = _count_async(chunks, call, connections)
        if session is not None:
            session.sent(call, connections)
        else:
            # Nobody above tells how it ends. With a session this would speak too soon: a generator's weak references
            # die before the generator sees that it is closed, and older versions drop it while the user closes theirs.
            weakref.finalize(counted, call.end, "abandoned", from_finalizer=True)
        return counted

    def wrapper(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return calls.named_like(wrapped, send(wrapped, instance, args, kwargs))

    return wrapper


async def _count_async(chunks: AsyncIterator[Any], call: Call, connections: list[Any]) -> AsyncIterator[Any]:
    try:
        async for chunk in chunks:
            call.feed(chunk)
            yield chunk
    except BaseException as error:
        if isinstance(error, GeneratorExit):
            call.end("closed")
        else:
            call.end(outcome_of(error), error)
        with contextlib.suppress(Exception):
            await _release(connections)
        raise
    call.end("completed")


def _answered(target: Target, _caller: Callable[[Any], Caller]) -> Wrapper:
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


_MODELS = "google.genai.models"
_CHATS = "google.genai.chats"
_CLIENT = "google.genai._api_client"
_UNARY, _STREAM = "models.generate_content", "models.generate_content_stream"

PROVIDER = Provider(
    name="google",
    caller=_caller,
    targets=(
        Target(_MODELS, "Models._generate_content", _UNARY, calls.request, GenerateContent),
        Target(_MODELS, "AsyncModels._generate_content", _UNARY, calls.request, GenerateContent, True),
        Target(_MODELS, "Models._generate_content_stream", _STREAM, _streamed, GenerateContent),
        Target(_MODELS, "AsyncModels._generate_content_stream", _STREAM, _streamed_async, GenerateContent, True),
        Target(_MODELS, "Models.generate_content_stream", _STREAM, _held),
        Target(_MODELS, "AsyncModels.generate_content_stream", _STREAM, _held_async, is_async=True),
        Target(_CHATS, "Chat.send_message_stream", "chats.send_message_stream", _held),
        Target(_CHATS, "AsyncChat.send_message_stream", "chats.send_message_stream", _held_async, is_async=True),
        Target(_CLIENT, "BaseApiClient._async_request", "requests", _answered, is_async=True),
    ),
)
