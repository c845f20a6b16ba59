"""What metering adds to a chunk, in isolation: real chunk objects through the SDK's own stream, from a list.

Nothing is parsed, so that a tenth of a microsecond can be told. Beside it the floor: one more generator.

CPython looks attributes up in one cache for all types, of which the place of each follows from how many types came
before it. Which of them get in each other's way is an accident that makes up to 0.2 µs for models of pydantic's: some
programs have it and others have not, each time they run. So several are measured, with a few types more in each.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import anthropic
import openai
from anthropic._models import construct_type as anthropic_model
from anthropic.types import RawContentBlockDeltaEvent
from google.genai.types import GenerateContentResponse
from openai._models import construct_type as openai_model
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseTextDeltaEvent

from benchmarks.rows import Row, difference, found, in_turn, is_quick, of_found, show
from llm_toll_autopatch import MemorySink
from llm_toll_autopatch.metering import Call
from llm_toll_autopatch.providers import google_sessions, google_streams
from llm_toll_autopatch.readers.chat import ChatCompletions
from llm_toll_autopatch.readers.generate_content import GenerateContent
from llm_toll_autopatch.readers.messages import Messages
from llm_toll_autopatch.readers.responses import Responses
from llm_toll_autopatch.settings import Settings
from llm_toll_autopatch.streams import AsyncStreamProxy, StreamProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from llm_toll_autopatch.readers.reader import Reader

SUBJECT = "Added to a chunk, in isolation"
CHUNKS, ROUNDS = (500, 2) if is_quick() else (20_000, 5)
TYPES_MORE = (0,) if is_quick() else (0, 1, 3, 7, 12, 21, 34, 55, 80)
"""In each of the processes."""
_PROCESS = """
import runpy
types = [type(f"More{number}", (), {}) for number in range(%d)]
assert not any(hasattr(each, "name") for each in types)
runpy.run_module("benchmarks.chunks", run_name="__main__")
"""
ACTIVE = Settings.resolve(sink=MemorySink())


class Kind(NamedTuple):
    """A type of stream: who reads it, a chunk, the SDK's classes (none: generators), limits in µs, what is asked."""

    reader: Callable[[], Reader]
    chunk: Any
    classes: tuple[Any, Any] | None = None
    limits: tuple[float, float] = (0.5, 0.7)
    asks: bool = False


def _chat(**more: Any) -> Any:
    choice = {"index": 0, "delta": {"content": "word "}, "finish_reason": None, "logprobs": None}
    value = {"id": "c", "created": 1, "model": "gpt-5-mini", "choices": [choice], **more}
    return openai_model(type_=ChatCompletionChunk, value=value)


_OPENAI, _ANTHROPIC = (openai.Stream, openai.AsyncStream), (anthropic.Stream, anthropic.AsyncStream)
KINDS = {
    "openai chat": Kind(ChatCompletions, _chat(), _OPENAI),
    "openai chat, usage asked for": Kind(ChatCompletions, _chat(usage=None), _OPENAI, asks=True),
    "openai responses": Kind(
        Responses,
        openai_model(
            type_=ResponseTextDeltaEvent, value={"type": "response.output_text.delta", "delta": "word ", "item_id": "i"}
        ),
        _OPENAI,
    ),
    "anthropic": Kind(
        Messages,
        anthropic_model(
            type_=RawContentBlockDeltaEvent,
            value={"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "word "}},
        ),
        _ANTHROPIC,
    ),
    "google": Kind(
        GenerateContent,
        GenerateContentResponse.model_validate(
            {
                "candidates": [{"content": {"parts": [{"text": "word "}]}}],
                "usage_metadata": {"prompt_token_count": 10, "candidates_token_count": 2},
                "model_version": "gemini-3.8-flash",
            }
        ),
        limits=(1.0, 1.2),
    ),
}


def call_of(kind: Kind, settings: Settings) -> Call:
    """Begin a call as a wrapper does."""
    reader = kind.reader()
    reader.begin({"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Why is the sky blue?"}] * 4})
    reader.asks_for_usage = kind.asks
    return Call(reader, settings, provider="openai", method="benchmark", endpoint="api.openai.com")


def one_by_one(chunks: Any) -> Iterator[Any]:
    """Pass chunks on, each by a step of this generator."""
    for chunk in chunks:  # noqa: UP028 - the step is what is measured
        yield chunk


async def one_by_one_async(chunks: Any) -> AsyncIterator[Any]:
    """Do the same, async."""
    async for chunk in chunks:
        yield chunk


async def from_list(chunks: list[Any]) -> AsyncIterator[Any]:
    """Hand out a list as an async stream."""
    for chunk in chunks:
        yield chunk


class Response:
    """What an SDK's stream holds of HTTP."""

    def close(self) -> None:
        """Close nothing."""

    async def aclose(self) -> None:
        """Close nothing."""


def prepared(kind: Kind, chunks: list[Any], *, is_async: bool = False) -> Any:
    """Return the SDK's stream of chunks that are there already."""
    source: Any = from_list(chunks) if is_async else iter(chunks)
    if kind.classes is None:
        return source
    stream = kind.classes[is_async].__new__(kind.classes[is_async])
    stream._iterator = source
    stream.response = Response()
    return stream


def metered(kind: Kind, chunks: list[Any], settings: Settings = ACTIVE) -> Any:
    """Return the same stream as we hand it out."""
    call, stream = call_of(kind, settings), prepared(kind, chunks)
    if kind.classes is not None:
        return StreamProxy(stream, call)
    session = google_sessions.Session(settings)
    session.sent(call)
    return google_streams._handed_out(one_by_one(google_streams.counted(stream, call)), session)


def metered_async(kind: Kind, chunks: list[Any], settings: Settings = ACTIVE) -> Any:
    """Do the same, async."""
    call, stream = call_of(kind, settings), prepared(kind, chunks, is_async=True)
    if kind.classes is not None:
        return AsyncStreamProxy(stream, call)
    session = google_sessions.Session(settings)
    session.sent(call, [])
    return google_streams._handed_out_async(one_by_one_async(google_streams.counted_async(stream, call, [])), session)


def drain(stream: Any) -> None:
    """Read a stream to its end."""
    for _ in stream:
        pass


async def drain_async(stream: Any) -> None:
    """Read an async stream to its end."""
    async for _ in stream:
        pass


def compare(name: str, kind: Kind) -> None:
    """Show what a chunk of one type of stream costs."""
    data = [kind.chunk] * CHUNKS

    def bare() -> Any:
        return prepared(kind, data) if kind.classes else one_by_one(prepared(kind, data))

    def bare_async() -> Any:
        stream = prepared(kind, data, is_async=True)
        return stream if kind.classes else one_by_one_async(stream)

    async def ours_async() -> None:  # the proxy is made where the event loop runs
        await drain_async(metered_async(kind, data))

    with asyncio.Runner() as runner:

        def run(work: Callable[[], Awaitable[None]]) -> Callable[[], None]:
            async def body() -> None:
                await work()

            return lambda: runner.run(body())

        taken = in_turn(
            {
                "bare": lambda: drain(bare()),
                "floor": lambda: drain(one_by_one(bare())),
                "ours": lambda: drain(metered(kind, data)),
                "bare async": run(lambda: drain_async(bare_async())),
                "floor async": run(lambda: drain_async(one_by_one_async(bare_async()))),
                "ours async": run(ours_async),
            },
            ROUNDS,
        )
    for suffix, limit in (("", kind.limits[0]), (" async", kind.limits[1])):
        case = name + suffix.replace(" ", ", ")
        floor = difference(taken, f"floor{suffix}", f"bare{suffix}", CHUNKS)
        show(of_found(SUBJECT, f"{case}: one more generator", floor, "µs", note="the floor"))
        ours = difference(taken, f"ours{suffix}", f"bare{suffix}", CHUNKS)
        show(of_found(SUBJECT, f"{case}: llm_toll_autopatch", ours, "µs", limit=limit))


def in_processes() -> None:
    """Show the median of several processes."""
    rows: dict[str, list[Row]] = {}
    for more in TYPES_MORE:
        command = [sys.executable, "-c", _PROCESS % more, "--one", *sys.argv[1:]]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)  # noqa: S603 - our own
        for line in done.stdout.splitlines():
            row = Row(*json.loads(line))
            rows.setdefault(row.case, []).append(row)
    for case, each in rows.items():
        it = found([row.figure for row in each if row.figure is not None])
        show(of_found(SUBJECT, case, it, "µs", limit=each[0].limit, note=each[0].note))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if "--one" in sys.argv:
        for name, kind in KINDS.items():
            compare(name, kind)
    else:
        in_processes()
