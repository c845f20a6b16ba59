"""What metering adds to a chunk, to a call and to an open stream, measured in isolation.

    .venv/bin/python benchmarks/overhead.py

Real chunk objects of the SDKs pass through a stream that is as cheap as a stream can be, bare and in our proxy, in
turn and in the same run; the difference of the best of several rounds, in CPU time, is what a chunk costs. Machines
are noisy: compare rows, and repeat.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
import tracemalloc
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anthropic._models import construct_type as anthropic_model
from anthropic.types import RawContentBlockDeltaEvent
from google.genai.types import GenerateContentResponse
from openai._models import construct_type as openai_model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import ResponseTextDeltaEvent

from llm_toll_autopatch import MemorySink, SQLiteLedger
from llm_toll_autopatch.metering import Call
from llm_toll_autopatch.readers.chat import ChatCompletions
from llm_toll_autopatch.readers.generate_content import GenerateContent
from llm_toll_autopatch.readers.messages import Messages
from llm_toll_autopatch.readers.responses import Responses
from llm_toll_autopatch.settings import Settings
from llm_toll_autopatch.streams import AsyncStreamProxy, StreamProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from llm_toll_autopatch.readers.reader import Reader
    from llm_toll_autopatch.sinks import Sink

CHUNKS, CALLS, STREAMS, ROUNDS = 50_000, 2_000, 1_000, 7

CHOICE = {"index": 0, "delta": {"content": "word "}, "finish_reason": None, "logprobs": None}
KINDS: dict[str, tuple[Callable[[], Reader], Any]] = {
    "openai chat": (
        ChatCompletions,
        openai_model(
            type_=ChatCompletionChunk, value={"id": "c", "created": 1, "model": "gpt-5-mini", "choices": [CHOICE]}
        ),
    ),
    "openai responses": (
        Responses,
        openai_model(
            type_=ResponseTextDeltaEvent, value={"type": "response.output_text.delta", "delta": "word ", "item_id": "i"}
        ),
    ),
    "anthropic": (
        Messages,
        anthropic_model(
            type_=RawContentBlockDeltaEvent,
            value={"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "word "}},
        ),
    ),
    "google": (
        GenerateContent,
        GenerateContentResponse.model_validate(
            {
                "candidates": [{"content": {"parts": [{"text": "word "}]}}],
                "usage_metadata": {"prompt_token_count": 10, "candidates_token_count": 2},
                "model_version": "gemini-3.8-flash",
            }
        ),
    ),
}


class Stream:
    """As the SDKs' streams iterate."""

    def __init__(self, chunks: list[Any]) -> None:
        self._iterator = iter(chunks)

    def __iter__(self) -> Iterator[Any]:
        yield from self._iterator

    def close(self) -> None:
        """Close nothing."""


class AsyncStream:
    """The same, async."""

    def __init__(self, chunks: list[Any]) -> None:
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[Any]:
        for chunk in self._chunks:
            yield chunk

    async def close(self) -> None:
        """Close nothing."""


def call_of(reader: Callable[[], Reader], settings: Settings) -> Call:
    """Begin a call as a wrapper does."""
    made = reader()
    made.begin({"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Why is the sky blue?"}] * 4})
    return Call(made, settings, provider="openai", method="benchmark", endpoint="api.openai.com")


def best(work: Callable[[], None], rounds: int = ROUNDS) -> float:
    """Return the CPU seconds of the quickest of several rounds."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def drain(stream: Any) -> None:
    """Read a stream to its end."""
    for _ in stream:
        pass


async def drain_async(stream: Any) -> None:
    """Read an async stream to its end."""
    async for _ in stream:
        pass


def chunks(settings: Settings) -> None:
    """Print what a chunk costs."""
    print(f"{'added per chunk':<24}{'sync':>10}{'async':>10}   limit 0.5 µs (google 1.0), async 0.7 (google 1.2)")
    for name, (reader, chunk) in KINDS.items():
        data = [chunk] * CHUNKS

        def wrapped(reader: Callable[[], Reader] = reader, data: list[Any] = data) -> None:
            drain(StreamProxy(Stream(data), call_of(reader, settings)))

        async def wrapped_async(reader: Callable[[], Reader] = reader, data: list[Any] = data) -> None:
            await drain_async(AsyncStreamProxy(AsyncStream(data), call_of(reader, settings)))

        bare = best(lambda data=data: drain(Stream(data)))  # type: ignore[misc]
        bare_async = best(lambda data=data: asyncio.run(drain_async(AsyncStream(data))))  # type: ignore[misc]
        added = (best(wrapped) - bare) / CHUNKS * 1e6
        added_async = (best(lambda: asyncio.run(wrapped_async())) - bare_async) / CHUNKS * 1e6
        print(f"  {name:<22}{added:>7.2f} µs{added_async:>7.2f} µs")


def calls(folder: Path) -> None:
    """Print what a plain call costs, from the gate to its record, without what wrapt adds (about 1 µs)."""
    answer = openai_model(
        type_=ChatCompletion,
        value={
            "id": "c", "created": 1, "model": "gpt-5-mini", "service_tier": "default",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "word"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 1}},
        },
    )  # fmt: skip
    sinks: tuple[tuple[str, Sink, str], ...] = (
        ("memory", MemorySink(), "60"),
        ("ledger", SQLiteLedger(folder / "ledger.db"), "100"),
    )
    for name, sink, limit in sinks:
        settings = Settings.resolve(sink=sink)

        def work(settings: Settings = settings) -> None:
            for _ in range(CALLS):
                call_of(ChatCompletions, settings).finish(answer)

        work()
        print(f"added per call, {name:<8}{best(work) / CALLS * 1e6:>10.0f} µs   limit {limit} µs")


def memory(settings: Settings) -> None:
    """Print what an open stream holds."""
    reader, chunk = KINDS["openai chat"]
    streams = [Stream([chunk]) for _ in range(STREAMS)]
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    proxies = [StreamProxy(stream, call_of(reader, settings)) for stream in streams]
    held = (tracemalloc.get_traced_memory()[0] - before) / STREAMS
    tracemalloc.stop()
    print(f"held by an open stream  {held:>10.0f} bytes   limit 1280 bytes")
    for proxy in proxies:
        drain(proxy)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    in_memory = Settings.resolve(sink=MemorySink())
    chunks(in_memory)
    with tempfile.TemporaryDirectory() as made:
        calls(Path(made))
    memory(in_memory)
