"""The calls that workers make. Each returns the id of the response that its caller was given, if it was given one."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import anthropic
import openai
from google import genai

__all__ = ["ASYNC", "SYNC", "AsyncClients", "Clients"]

GPT, CLAUDE, GEMINI = "gpt-5-mini", "claude-sonnet-5-5", "gemini-3.8-flash"
MESSAGES: list[Any] = [{"role": "user", "content": "Why is the sky blue?"}]
FLAGS = ("",) * 6 + ("+delay=2", "+no-usage", "+cached=5", "+chunks=30")
"""What models do: mostly nothing out of the ordinary."""


class Clients:
    """The real clients; the environment says where the simulator is."""

    def __init__(self) -> None:
        self.openai = openai.OpenAI(max_retries=0, timeout=30)
        self.anthropic = anthropic.Anthropic(max_retries=0, timeout=30)
        self.google = genai.Client(http_options={"retry_options": {"attempts": 1}})


class AsyncClients:
    """The same, async."""

    def __init__(self) -> None:
        self.openai = openai.AsyncOpenAI(max_retries=0, timeout=30)
        self.anthropic = anthropic.AsyncAnthropic(max_retries=0, timeout=30)
        self.google = genai.Client(http_options={"retry_options": {"attempts": 1}}).aio

    async def aclose(self) -> None:
        """Close what is open."""
        await self.openai.close()
        await self.anthropic.close()
        await self.google.aclose()


def _id(thing: Any) -> str | None:
    """Return the id of a response, of any of the SDKs, or of the response that an event or a chunk is part of."""
    for inner in ("response", "message"):
        thing = getattr(thing, inner, None) or thing
    found = getattr(thing, "response_id", None) or getattr(thing, "id", None)
    return found if isinstance(found, str) else None


def _chat(clients: Any, random: Random, **more: Any) -> Any:
    return clients.openai.chat.completions.create(model=GPT + random.choice(FLAGS), messages=MESSAGES, **more)


def _chat_raw(clients: Any, random: Random) -> Any:
    return clients.openai.chat.completions.with_raw_response.create(model=GPT + random.choice(FLAGS), messages=MESSAGES)


def _respond(clients: Any, random: Random, **more: Any) -> Any:
    return clients.openai.responses.create(model=GPT + random.choice(FLAGS), input="hi", max_output_tokens=50, **more)


def _message(clients: Any, random: Random, **more: Any) -> Any:
    return clients.anthropic.messages.create(
        model=CLAUDE + random.choice(FLAGS), max_tokens=50, messages=MESSAGES, **more
    )


def _message_raw(clients: Any, random: Random) -> Any:
    return clients.anthropic.messages.with_raw_response.create(
        model=CLAUDE + random.choice(FLAGS), max_tokens=50, messages=MESSAGES
    )


def _generate(clients: Any, random: Random) -> Any:
    return clients.google.models.generate_content(model=GEMINI + random.choice(FLAGS), contents="hi")


def _generate_stream(clients: Any, random: Random) -> Any:
    return clients.google.models.generate_content_stream(model=GEMINI + random.choice(FLAGS), contents="hi")


_PLAIN = (_chat, _respond, _message, _generate)
_RAW = (_chat_raw, _message_raw)
_STREAMS: tuple[Callable[[Any, Random], Any], ...] = (
    lambda clients, random: _chat(clients, random, stream=True),
    lambda clients, random: _respond(clients, random, stream=True),
    lambda clients, random: _message(clients, random, stream=True),
    _generate_stream,
)


def _whole(open_stream: Callable[[Any, Random], Any]) -> Callable[[Clients, Random], str | None]:
    """Read a stream to its end."""

    def call(clients: Clients, random: Random) -> str | None:
        seen = None
        for chunk in open_stream(clients, random):
            seen = seen or _id(chunk)
        return seen

    return call


def _broken(open_stream: Callable[[Any, Random], Any]) -> Callable[[Clients, Random], str | None]:
    """Break a stream off after a few chunks, and close it."""

    def call(clients: Clients, random: Random) -> str | None:
        seen, left = None, random.randint(1, 5)
        stream = open_stream(clients, random)
        for chunk in stream:
            seen = seen or _id(chunk)
            left -= 1
            if not left:
                break
        stream.close()
        return seen

    return call


def _failing(clients: Clients, random: Random) -> None:
    """A request that the server refuses, or an answer that is cut off."""
    flag = random.choice(("+error=500", "+error=429", "+cut"))
    for _ in clients.openai.chat.completions.create(model=GPT + flag, messages=MESSAGES, stream=True):
        pass


def _plain(send: Callable[[Any, Random], Any]) -> Callable[[Clients, Random], str | None]:
    return lambda clients, random: _id(send(clients, random))


def _raw(send: Callable[[Any, Random], Any]) -> Callable[[Clients, Random], str | None]:
    return lambda clients, random: _id(send(clients, random).parse())


SYNC: tuple[Callable[[Clients, Random], str | None], ...] = (
    *map(_plain, _PLAIN),
    *map(_raw, _RAW),
    *map(_whole, _STREAMS),
    *map(_broken, _STREAMS),
    _failing,
)


def _plain_async(send: Callable[[Any, Random], Any]) -> Callable[[AsyncClients, Random], Awaitable[str | None]]:
    async def call(clients: AsyncClients, random: Random) -> str | None:
        return _id(await send(clients, random))

    return call


def _raw_async(send: Callable[[Any, Random], Any]) -> Callable[[AsyncClients, Random], Awaitable[str | None]]:
    async def call(clients: AsyncClients, random: Random) -> str | None:
        raw = await send(clients, random)
        parsed = raw.parse()
        return _id(await parsed if asyncio.iscoroutine(parsed) else parsed)

    return call


def _stream_async(
    open_stream: Callable[[Any, Random], Any], *, broken: bool
) -> Callable[[AsyncClients, Random], Awaitable[str | None]]:
    async def call(clients: AsyncClients, random: Random) -> str | None:
        seen, left = None, random.randint(1, 5) if broken else None
        stream = await open_stream(clients, random)
        for number in itertools.count(1):
            try:
                chunk = await anext(stream)
            except StopAsyncIteration:
                break
            seen = seen or _id(chunk)
            if number == left:
                await (stream.aclose() if hasattr(stream, "aclose") else stream.close())
                break
        return seen

    return call


async def _cancelled(clients: AsyncClients, random: Random) -> None:
    """A call that its caller does not wait for."""
    try:
        async with asyncio.timeout(random.random() * 0.05):
            stream = await clients.openai.responses.create(model=GPT + "+delay=10", input="hi", stream=True)
            async for _ in stream:
                pass
    except TimeoutError:
        pass


ASYNC: tuple[Callable[[AsyncClients, Random], Awaitable[str | None]], ...] = (
    *map(_plain_async, _PLAIN),
    *map(_raw_async, _RAW),
    *(_stream_async(each, broken=broken) for each in _STREAMS for broken in (False, True)),
    _cancelled,
)
