"""Streams of the real SDKs whose chunks are there already: parsed once, then handed out again.

Parsing takes 15 to 120 µs a chunk, a microsecond more or less from one time to the next: nothing smaller can be told
through it. What is replaced lies below everything that anybody patches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anthropic
import openai
from google.genai import models

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

__all__ = ["Replays"]


class Replays:
    """Makes the streams of this process replayable.

    Args:
        times: How often the chunk in the middle of an answer is handed out.

    Attributes:
        on: Whether the next stream is replayed; as long as not, it is as it was.
    """

    def __init__(self, times: int) -> None:
        self._times = times
        self.on = False
        for sdk in (openai, anthropic):
            sdk.Stream.__stream__ = self._of_stream(sdk.Stream.__stream__)
            sdk.AsyncStream.__stream__ = self._of_async_stream(sdk.AsyncStream.__stream__)
        sync, asynchronous = models.Models, models.AsyncModels
        sync._generate_content_stream = self._of_google(sync._generate_content_stream)
        asynchronous._generate_content_stream = self._of_google_async(asynchronous._generate_content_stream)

    def _longer(self, chunks: list[Any]) -> list[Any]:
        middle = len(chunks) // 2
        return chunks[:middle] + chunks[middle : middle + 1] * self._times + chunks[middle + 1 :]

    def _of_stream(self, parse: Callable[[Any], Iterator[Any]]) -> Any:
        kept: dict[bytes, list[Any]] = {}

        def chunks(stream: Any, asked: bytes) -> Iterator[Any]:
            try:
                yield from kept[asked]
            finally:
                stream.response.close()

        def made(stream: Any) -> Iterator[Any]:
            if not self.on:
                return parse(stream)
            asked = stream.response.request.content
            if asked not in kept:
                kept[asked] = self._longer(list(parse(stream)))
            return chunks(stream, asked)

        return made

    def _of_async_stream(self, parse: Callable[[Any], AsyncIterator[Any]]) -> Any:
        kept: dict[bytes, list[Any]] = {}

        async def chunks(stream: Any) -> AsyncIterator[Any]:
            asked = stream.response.request.content
            if asked not in kept:
                kept[asked] = self._longer([chunk async for chunk in parse(stream)])
            try:
                for chunk in kept[asked]:
                    yield chunk
            finally:
                await stream.response.aclose()

        return lambda stream: chunks(stream) if self.on else parse(stream)

    def _of_google(self, parse: Callable[..., Iterator[Any]]) -> Any:
        kept: list[Any] = []

        def made(resource: Any, **request: Any) -> Iterator[Any]:
            if not self.on:
                return parse(resource, **request)
            if not kept:
                kept.extend(self._longer(list(parse(resource, **request))))
            return (chunk for chunk in kept)

        return made

    def _of_google_async(self, parse: Callable[..., Any]) -> Any:
        kept: list[Any] = []

        async def chunks() -> AsyncIterator[Any]:
            for chunk in kept:
                yield chunk

        async def made(resource: Any, **request: Any) -> Any:
            if self.on and kept:
                return chunks()
            parsed = await parse(resource, **request)
            if not self.on:
                return parsed
            kept.extend(self._longer([chunk async for chunk in parsed]))
            return chunks()

        return made
