"""Random chunks and random ends: exactly one record, and the totals of a plain re-count."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from anthropic._models import construct_type
from anthropic.types import RawMessageStreamEvent
from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import BaseModel
from openai.types.chat import ChatCompletionChunk

from llm_toll_autopatch import MemorySink, flush
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.metering import Call
from llm_toll_autopatch.readers.chat import ChatCompletions
from llm_toll_autopatch.readers.generate_content import GenerateContent
from llm_toll_autopatch.readers.messages import Messages
from llm_toll_autopatch.readers.reader import Reader
from llm_toll_autopatch.readers.responses import Responses
from llm_toll_autopatch.records import CallRecord
from llm_toll_autopatch.settings import Settings
from llm_toll_autopatch.streams import StreamProxy

pytestmark = pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning")

texts = st.text(max_size=30)
counts = st.none() | st.integers(0, 10**6)
junk = st.none() | st.integers(-5, 5) | st.text(max_size=3) | st.lists(st.integers(), max_size=2) | st.booleans()


class Source:
    """Stands where an SDK's stream stands: yields what it is given, fails where it is told to, knows if it was closed."""

    def __init__(self, chunks: list[Any], fails: bool) -> None:
        self.closed = 0
        self._chunks = self._generate(chunks, fails)

    @staticmethod
    def _generate(chunks: list[Any], fails: bool) -> Iterator[Any]:
        yield from chunks
        if fails:
            raise ConnectionError

    def __iter__(self) -> Iterator[Any]:
        return self._chunks

    def __next__(self) -> Any:
        return next(self._chunks)

    def close(self) -> None:
        self.closed += 1


def openai_chunk(text: str, prompt: int | None, completion: int | None) -> Any:
    """A real chunk, built as the SDK builds it: without validation."""
    usage = None if prompt is None else {"prompt_tokens": prompt, "completion_tokens": completion}
    return ChatCompletionChunk.construct(
        id="c", model="gpt-5-mini", choices=[{"index": 0, "delta": {"content": text}}], usage=usage
    )


def google_chunk(text: str, prompt: int | None, candidates: int | None) -> Any:
    """A real chunk."""
    return types.GenerateContentResponse.model_validate(
        {
            "candidates": [{"content": {"parts": [{"text": text}]}}],
            "usage_metadata": {"prompt_token_count": prompt, "candidates_token_count": candidates},
            "model_version": "gemini-3.8-flash",
        }
    )


def record_of(reader: Reader, chunks: list[Any], taken: int, ending: str, fails: bool) -> tuple[CallRecord, Source]:
    """Let a user take some chunks of a metered stream and end it; return the one record that there must be."""
    sink = MemorySink()
    reader.begin({"model": "gpt-5-mini"})
    call = Call(reader, Settings.resolve(sink=sink), provider="openai", method="m", endpoint=None)
    call.stream = True
    source = Source(chunks, fails)
    stream: Any = StreamProxy(source, call)
    try:
        if ending == "for":
            for number, _ in enumerate(stream):
                if number + 1 >= taken:
                    break
        else:
            for _ in range(taken):
                next(stream)
            if ending == "close":
                stream.close()
                stream.close()
            elif ending == "drain":
                list(stream)
    except (StopIteration, ConnectionError):
        pass
    del stream
    flush(5)
    (record,) = sink.records
    return record, source


@given(
    chunks=st.lists(st.builds(openai_chunk, texts, counts, counts), max_size=8),
    taken=st.integers(0, 9),
    ending=st.sampled_from(["for", "close", "drop", "drain"]),
    fails=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_openai_totals_are_those_of_a_recount(chunks: list[Any], taken: int, ending: str, fails: bool) -> None:
    """Any chunks, taken and ended in any way, give one record whose totals follow from the chunks that were taken."""
    record, _ = record_of(ChatCompletions(), chunks, taken, ending, fails)
    seen = chunks[: record.chunks]
    chars = sum(len(chunk.choices[0].delta.content) for chunk in seen)
    reported = [chunk.usage for chunk in seen if chunk.usage is not None]
    last = reported[-1] if reported else None
    estimate = max(1, chars // 4) if chars else 0
    if last is None:
        assert record.usage_source in ("estimated", "missing")
        assert record.usage.output_tokens == (estimate if record.usage_source == "estimated" else 0)
        return
    assert record.usage.input_tokens == last.prompt_tokens
    floor = last.completion_tokens or 0
    if record.usage_source == "reported":
        assert record.outcome == "completed"
        assert record.usage.output_tokens == floor
    else:
        assert record.usage_source == "partial"
        assert record.usage.output_tokens == max(floor, estimate)


@given(
    chunks=st.lists(st.builds(google_chunk, texts, counts, counts), max_size=8),
    taken=st.integers(0, 9),
    ending=st.sampled_from(["for", "close", "drop", "drain"]),
)
@settings(max_examples=100, deadline=None)
def test_google_totals_are_those_of_a_recount(chunks: list[Any], taken: int, ending: str) -> None:
    """The last running total wins, also where it is lower than the one before; a stream cut short is never below it."""
    record, _ = record_of(GenerateContent(), chunks, taken, ending, fails=False)
    seen = [chunk.usage_metadata for chunk in chunks[: record.chunks]]
    known = [u for u in seen if u.prompt_token_count is not None or u.candidates_token_count is not None]
    if known:
        assert record.usage.output_tokens >= (known[-1].candidates_token_count or 0)
        if known[-1].prompt_token_count is not None:
            assert record.usage.input_tokens == known[-1].prompt_token_count
    else:
        assert record.usage_source in ("estimated", "missing")


@given(ending=st.sampled_from(["for", "close", "drop", "drain"]), taken=st.integers(0, 5), fails=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_stream_that_did_not_end_by_itself_is_closed(ending: str, taken: int, fails: bool) -> None:
    """The stream below is closed exactly when the user did not read it to its end."""
    record, source = record_of(ChatCompletions(), [openai_chunk("word", None, None)] * 5, taken, ending, fails)
    assert bool(source.closed) == (record.outcome != "completed")


@given(value=st.recursive(junk, lambda inner: st.dictionaries(texts, inner, max_size=3) | st.lists(inner, max_size=3)))
@settings(max_examples=150, deadline=None)
def test_readers_survive_any_shape(value: Any) -> None:
    """Whatever a compatible server sends, reading it raises nothing that reaches the user, and there is one record."""
    shapes = [
        SimpleNamespace(type=kind, usage=value, choices=value, candidates=value, message=value, response=value)
        for kind in ("message_start", "message_delta", "response.completed", "content_block_delta")
    ]
    for make in (ChatCompletions, Responses, Messages, GenerateContent):
        sink = MemorySink()
        reader = make()
        call = Call(reader, Settings.resolve(sink=sink), provider="openai", method="m", endpoint=None)
        for chunk in (*shapes, value, {"usage": value}):
            call.feed(chunk)
        call.finish({"usage": value, "choices": value, "content": value, "output": value, "model": value})
        (record,) = sink.records
        assert record.usage.input_tokens >= 0
        assert record.usage.output_tokens >= 0
    failures.reset()  # what a reader trips over is noted, and that is right


def test_anthropic_merges_start_and_deltas() -> None:
    """A delta's figures are totals that overwrite the start's; the split of cache writes survives from the start."""
    start = {
        "type": "message_start",
        "message": {
            "id": "m", "type": "message", "role": "assistant", "model": "claude-sonnet-5-5", "content": [],
            "stop_reason": None, "stop_sequence": None,
            "usage": {
                "input_tokens": 727, "output_tokens": 1, "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 30,
                "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
                "service_tier": "standard",
            },
        },
    }  # fmt: skip
    delta = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"input_tokens": 1595, "output_tokens": 200, "server_tool_use": {"web_search_requests": 2}},
    }
    record, _ = record_of(
        Messages(),
        [construct_type(type_=RawMessageStreamEvent, value=event) for event in (start, delta)],
        9,
        "drain",
        False,
    )
    usage = record.usage
    assert record.usage_source == "reported"
    assert (usage.input_tokens, usage.output_tokens) == (1595 + 100 + 30, 200)
    assert (usage.cache_read_tokens, usage.cache_write_5m_tokens, usage.cache_write_1h_tokens) == (100, 10, 20)
    assert usage.web_searches == 2
    assert record.service_tier == "standard"


def test_the_models_are_the_sdks_own() -> None:
    """The chunks of these tests are of the classes that the SDKs hand out."""
    assert isinstance(openai_chunk("a", 1, 2), BaseModel)
    assert openai_chunk("a", 1, 2).usage.prompt_tokens == 1
