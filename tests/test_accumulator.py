"""`StreamAccumulator` recognises chunks by their shape and counts as the readers of the patches do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sources import CLAUDE, GEMINI, GPT, MESSAGES, READABLE_SYNC, Source, clients_of

from llm_toll_autopatch import StreamAccumulator, Usage
from llm_toll_autopatch.simulator import Simulator

EIGHT = Usage(input_tokens=25, output_tokens=8)


def forms(chunk: Any) -> dict[str, Any]:
    """A chunk in the forms in which it may come."""
    return {
        "object": chunk,
        "dict": chunk.model_dump(),
        "sparse dict": chunk.model_dump(exclude_unset=True),
        "json": chunk.model_dump(mode="json", by_alias=True, exclude_none=True),
    }


@pytest.mark.parametrize("source", READABLE_SYNC, ids=str)
@pytest.mark.parametrize("form", ["object", "dict", "sparse dict", "json"])
def test_streams_are_recognised(source: Source, form: str, sim: Simulator) -> None:
    """The chunks of every SDK, as its objects and as dicts, give the reported figures, the model and the provider."""
    accumulator = StreamAccumulator()
    with clients_of(sim) as clients:
        for chunk in source.open(clients, source.model + "+reasoning=4+cached=6"):
            accumulator.feed(forms(chunk)[form])
    usage = accumulator.usage
    assert (accumulator.usage_source, accumulator.model) == ("reported", source.model)
    assert accumulator.provider == source.provider
    assert (usage.cache_read_tokens, usage.output_tokens, usage.reasoning_tokens) == (6, 12, 4)
    assert usage.input_tokens == (31 if source.provider == "anthropic" else 25)


@pytest.mark.parametrize("source", [each for each in READABLE_SYNC if each.name != "anthropic stream"], ids=str)
@pytest.mark.parametrize("form", ["object", "json"])
def test_without_reported_usage_there_is_an_estimate(source: Source, form: str, sim: Simulator) -> None:
    """Where the provider says nothing, the output is estimated at four characters a token, and says that it is."""
    accumulator = StreamAccumulator()
    with clients_of(sim) as clients:
        for chunk in source.open(clients, source.model + "+no-usage"):
            accumulator.feed(forms(chunk)[form])
    # "Falling water speeds up, so it gets thinner."
    assert accumulator.usage == Usage(output_tokens=44 // 4)
    assert accumulator.usage_source == "estimated"


def test_helper_events_are_unpacked(sim: Simulator) -> None:
    """The events of the OpenAI SDK's own stream helper have the chunk inside."""
    accumulator = StreamAccumulator()
    with clients_of(sim) as clients:
        options = {"stream_options": {"include_usage": True}}
        with clients.openai.chat.completions.stream(model=GPT, messages=MESSAGES, **options) as stream:
            for event in stream:
                accumulator.feed(event)
    assert (accumulator.usage, accumulator.usage_source) == (EIGHT, "reported")


@pytest.mark.parametrize("form", ["object", "dict", "sparse dict", "json"])
def test_whole_responses_are_recognised(form: str, sim: Simulator) -> None:
    """So are whole responses."""
    with clients_of(sim) as clients:
        answers = [
            (clients.openai.chat.completions.create(model=GPT, messages=MESSAGES), GPT),
            (clients.openai.responses.create(model=GPT, input="hi"), GPT),
            (clients.anthropic.messages.create(model=CLAUDE, max_tokens=9, messages=MESSAGES), CLAUDE),
            (clients.google.models.generate_content(model=GEMINI, contents="hi"), GEMINI),
        ]
    for answer, model in answers:
        accumulator = StreamAccumulator()
        assert accumulator.finish(forms(answer)[form])
        assert (accumulator.usage, accumulator.model) == (EIGHT, model)


def test_what_came_so_far_counts() -> None:
    """Half a stream is partial: what was reported stands, and the output is not below what was written."""
    accumulator = StreamAccumulator()
    usage = {"input_tokens": 31, "output_tokens": 1}
    accumulator.feed({"type": "message_start", "message": {"id": "msg_1", "model": CLAUDE, "usage": usage}})
    assert accumulator.usage_source == "partial"
    accumulator.feed({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x" * 40}})
    accumulator.feed({"type": "ping"})
    assert accumulator.usage == Usage(input_tokens=31, output_tokens=10)
    assert accumulator.usage_source == "partial"
    accumulator.feed({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 12}})
    assert (accumulator.usage, accumulator.usage_source) == (Usage(input_tokens=31, output_tokens=12), "reported")


def test_the_last_figures_win() -> None:
    """Figures that grow, or shrink, from chunk to chunk are not added up; counts that are missing change nothing."""
    accumulator = StreamAccumulator()
    for prompt, written in ((15, 3), (14, 9)):
        metadata = {"promptTokenCount": prompt, "candidatesTokenCount": written, "trafficType": "ON_DEMAND"}
        part = {"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}
        accumulator.feed({"candidates": [part], "usageMetadata": metadata, "modelVersion": GEMINI})
    accumulator.feed({"usageMetadata": {"trafficType": "ON_DEMAND"}})
    assert accumulator.usage == Usage(input_tokens=14, output_tokens=9)


@dataclass(slots=True)
class _Delta:
    content: str


@dataclass(slots=True)
class _Choice:
    delta: _Delta
    finish_reason: str | None = None


@dataclass(slots=True)
class _Chunk:
    model: str
    choices: list[_Choice]


def test_dataclasses_are_read() -> None:
    """Chunks that are dataclasses, with slots too, are read as the models are."""
    accumulator = StreamAccumulator()
    assert accumulator.feed(_Chunk(GPT, [_Choice(_Delta("x" * 20))]))
    assert (accumulator.usage, accumulator.model) == (Usage(output_tokens=5), GPT)


def test_nothing_recognised_is_missing() -> None:
    """What is not recognised leaves no figures, and the source says so."""
    accumulator = StreamAccumulator()
    for chunk in ("text", None, 3, {"delta": "hi"}, {"type": "ping"}, {"choices": [], "model": 1}, object()):
        assert not accumulator.feed(chunk)
    assert not accumulator.finish({"choices": ["a"], "model": "T-800"})
    assert (accumulator.usage, accumulator.usage_source) == (Usage(), "missing")
    assert (accumulator.model, accumulator.provider) == ("", None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["choices", "model", "type", "delta", "message", "usage", "candidates", "usageMetadata", "content", "response",
             "usage_metadata", "id", "object", "parts", "text", "finish_reason", "item_id", "item", "content_block"]
        ),
        inner | st.sampled_from(["message_start", "content_block_delta", "message_delta", "response.completed", "response.output_text.delta"]),
        max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip


@given(st.lists(JSON, max_size=6))
def test_any_json_can_be_fed(chunks: list[Any]) -> None:
    """Nothing that is fed raises; the counts are never negative."""
    from llm_toll_autopatch.failures import failures

    accumulator = StreamAccumulator()
    for chunk in chunks:
        accumulator.begins_another(chunk)
        accumulator.feed(chunk)
        accumulator.finish(chunk)
    usage = accumulator.usage
    assert min(usage.input_tokens, usage.output_tokens) >= 0
    assert accumulator.usage_source in ("missing", "estimated", "partial", "reported")
    failures.reset()  # what is malformed in a known shape may be noted, and does not matter here
