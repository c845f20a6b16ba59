"""Golden tables: usage objects as the providers send them, built by the SDKs' own classes, and what we make of each.

The shapes follow the published schemas: OpenAI's `types/completion_usage.py`, `types/responses/response_usage.py` and
`types/responses/response.py`; Anthropic's `types/usage.py`, `types/message_delta_usage.py` and
`types/beta/beta_usage.py`; Google's `types.GenerateContentResponseUsageMetadata`; those of compatible servers follow
the API references of Groq, DeepSeek, Together, Mistral, OpenRouter and xAI. The figures are ours.
"""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from anthropic._models import construct_type as construct_anthropic
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.beta import BetaMessage
from google.genai import types as google
from openai._models import construct_type as construct_openai
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent

from llm_toll_autopatch import CallRecord, MemorySink, Usage
from llm_toll_autopatch.metering import Call
from llm_toll_autopatch.readers.chat import ChatCompletions
from llm_toll_autopatch.readers.consistency import balanced
from llm_toll_autopatch.readers.fields import leftovers
from llm_toll_autopatch.readers.generate_content import GenerateContent
from llm_toll_autopatch.readers.messages import Messages
from llm_toll_autopatch.readers.reader import Reader
from llm_toll_autopatch.readers.responses import Responses
from llm_toll_autopatch.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning")

FLAG = {"contradictory": 1}
PRICES: dict[str, dict[str, Any]] = {
    "*": {
        "input": 1,
        "output": 10,
        "cache_read": "0.1",
        "cache_write_5m": "1.25",
        "cache_write_1h": 2,
        "web_search": 10,
    },
    "adviser": {"input": 100, "output": 1000},
}


def metered(
    reader: Reader, *, chunks: Any = (), response: Any = None, ended: bool = True, request: Any = None
) -> CallRecord:
    """The record of a call that got these chunks, or this response."""
    sink = MemorySink()
    reader.begin({"model": "a-model", **(request or {})})
    settings = Settings.resolve(sink=sink, prices=PRICES, estimate_input=False)
    call = Call(reader, settings, provider="openai", method="m", endpoint=None)
    for chunk in chunks:
        call.feed(chunk)
    if response is not None:
        call.finish(response)
    else:
        call.end("completed" if ended else "closed")
    return sink.records[0]


def chat(usage: Any, text: str = "Hello") -> Any:
    """A chat completion, as the SDK builds it."""
    message = {"role": "assistant", "content": text}
    return construct_openai(
        type_=ChatCompletion,
        value={"id": "c", "model": "a-model", "usage": usage, "choices": [{"index": 0, "message": message}]},
    )


CHAT: dict[str, tuple[Any, Usage]] = {
    "openai": (
        {
            "prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0, "cache_write_tokens": 64},
            "completion_tokens_details": {"reasoning_tokens": 192, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
        },
        Usage(input_tokens=2006, output_tokens=300, cache_read_tokens=1920, cache_write_tokens=64, reasoning_tokens=192),
    ),
    "openai predicted outputs": (
        {
            "prompt_tokens": 60, "completion_tokens": 90, "total_tokens": 150,
            "completion_tokens_details": {"accepted_prediction_tokens": 18, "rejected_prediction_tokens": 10},
        },
        Usage(input_tokens=60, output_tokens=90, details={"accepted_prediction_tokens": 18, "rejected_prediction_tokens": 10}),
    ),
    "openai audio and image": (
        {
            "prompt_tokens": 400, "completion_tokens": 200, "total_tokens": 600,
            "prompt_tokens_details": {"audio_tokens": 150, "image_tokens": 200, "text_tokens": 50},
            "completion_tokens_details": {"audio_tokens": 150, "text_tokens": 50},
        },
        Usage(input_tokens=400, output_tokens=200, input_audio_tokens=150, input_image_tokens=200, output_audio_tokens=150),
    ),
    "a part of tomorrow": (
        {
            "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "sources_used": 2, "new_details": {"holo_tokens": 3},
            "prompt_tokens_details": {"video_tokens": 4, "smell_tokens": 1},
            "completion_tokens_details": {"video_tokens": 2, "smell_tokens": 3},
        },
        Usage(
            input_tokens=10, output_tokens=5,
            details={"sources_used": 2, "new_details.holo_tokens": 3, "input_video_tokens": 4, "smell_tokens": 1, "output_video_tokens": 2, "output_smell_tokens": 3},
        ),
    ),
    "deepseek": (
        {"prompt_tokens": 100, "completion_tokens": 40, "total_tokens": 140, "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36},
        Usage(input_tokens=100, output_tokens=40, cache_read_tokens=64),
    ),
    "together": (
        {"prompt_tokens": 30, "completion_tokens": 7, "total_tokens": 37, "cached_tokens": 16},
        Usage(input_tokens=30, output_tokens=7, cache_read_tokens=16),
    ),
    "groq": (
        {"queue_time": 0.04, "prompt_tokens": 46, "prompt_time": 1.0, "completion_tokens": 9, "completion_time": 0.02, "total_tokens": 55, "total_time": 2.0},
        Usage(input_tokens=46, output_tokens=9),
    ),
    "openrouter": (
        {
            "prompt_tokens": 20, "completion_tokens": 8, "total_tokens": 28, "cost": 3, "is_byok": False,
            "cost_details": {"upstream_inference_cost": 2}, "server_tool_use": {"web_search_requests": 3},
        },
        Usage(input_tokens=20, output_tokens=8, web_searches=3),
    ),
    "litellm in front of anthropic": (
        {"prompt_tokens": 120, "completion_tokens": 5, "total_tokens": 125, "cache_creation_input_tokens": 50, "cache_read_input_tokens": 60},
        Usage(input_tokens=120, output_tokens=5, cache_read_tokens=60, cache_write_tokens=50),
    ),
    "xai leaves the reasoning out of the output": (
        {"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135, "completion_tokens_details": {"reasoning_tokens": 94}},
        Usage(input_tokens=32, output_tokens=103, reasoning_tokens=94),
    ),
    "gemini's compatible endpoint does not name it": (
        {"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623},
        Usage(input_tokens=20, output_tokens=603, reasoning_tokens=405, details=FLAG),
    ),
    "no completion_tokens": ({"prompt_tokens": 20, "total_tokens": 29}, Usage(input_tokens=20, output_tokens=9)),
    "no prompt_tokens": ({"completion_tokens": 9, "total_tokens": 29}, Usage(input_tokens=20, output_tokens=9)),
    "a total of 0": ({"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 0}, Usage(input_tokens=20, output_tokens=9)),
    "whole floats": ({"prompt_tokens": 20.0, "completion_tokens": 9.0}, Usage(input_tokens=20, output_tokens=9)),
    "more cached than prompt": (
        {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29, "prompt_tokens_details": {"cached_tokens": 21}},
        Usage(input_tokens=20, output_tokens=9, cache_read_tokens=21, details=FLAG),
    ),
    "more reasoning than output": (
        {"prompt_tokens": 20, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 10}},
        Usage(input_tokens=20, output_tokens=9, reasoning_tokens=10, details=FLAG),
    ),
    "a total below its parts": (
        {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 25},
        Usage(input_tokens=20, output_tokens=9, details=FLAG),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("usage", "expected"), CHAT.values(), ids=CHAT)
def test_chat_usage(usage: Any, expected: Usage) -> None:
    """Each figure of a chat completion's usage is found, in the SDK's model and in the JSON alike."""
    record = metered(ChatCompletions(), response=chat(usage))
    assert (expected, "reported") == (record.usage, record.usage_source)
    raw = json.loads(chat(usage).model_dump_json(warnings=False))
    assert metered(ChatCompletions(), response=raw).usage == expected


def chunk(usage: Any = None, text: str | None = None, finish: str | None = None, **extra: Any) -> Any:
    """A chunk of a chat completion, as the SDK builds it; without text it has no choice."""
    choices = [] if text is None else [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]
    value = {"id": "c", "model": "a-model", "choices": choices, **({} if usage is None else {"usage": usage}), **extra}
    return construct_openai(type_=ChatCompletionChunk, value=value)


SMALL = {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21}
LARGE = {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29}
CHAT_STREAMS: dict[str, list[Any]] = {
    "openai": [chunk(text="Hello"), chunk(text="", finish="stop"), chunk(LARGE)],
    "usage on the last content chunk": [chunk(text="Hello"), chunk(LARGE, text="", finish="stop")],
    "usage on every chunk, growing": [chunk(SMALL, text="Hello"), chunk(LARGE, text="", finish="stop")],
    "one more chunk after the usage": [chunk(text="Hello", finish="stop"), chunk(LARGE), chunk()],
    "groq": [
        chunk(text="Hello", x_groq={"id": "r"}),
        chunk(text="", finish="stop", x_groq={"id": "r", "usage": {**LARGE, "queue_time": 0.1}}),
    ],
    "azure's prelude": [
        construct_openai(type_=ChatCompletionChunk, value={"id": "", "model": "", "choices": []}),
        chunk(text="Hello", finish="stop"),
        chunk(LARGE),
    ],
}


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("chunks", CHAT_STREAMS.values(), ids=CHAT_STREAMS)
def test_chat_streams_report_wherever_the_usage_is(chunks: list[Any], ended: bool) -> None:
    """The usage that came last counts, once, and is the final one when the model had ended, though the user left."""
    record = metered(ChatCompletions(), chunks=chunks, ended=ended)
    assert record.usage == Usage(input_tokens=20, output_tokens=9)
    assert record.usage_source == "reported"
    assert (record.response_model, record.response_id) == ("a-model", "c")


def test_growing_usage_is_final_with_the_last_choice() -> None:
    """With two choices the figures at the end of the first one are a part; what came on top is estimated."""
    chunks = [chunk(SMALL, text="Hello " * 10, finish="stop"), chunk(SMALL, text="and more")]
    record = metered(ChatCompletions(), chunks=chunks, ended=False, request={"n": 2})
    assert record.usage_source == "partial"
    assert record.usage == Usage(input_tokens=20, output_tokens=(60 + 8) // 4)


def test_missing_output_is_estimated() -> None:
    """A total that only repeats the prompt says nothing about an answer that did come."""
    record = metered(ChatCompletions(), response=chat({"prompt_tokens": 20, "total_tokens": 20}, "x" * 40))
    assert (record.usage, record.usage_source) == (Usage(input_tokens=20, output_tokens=10), "partial")
    record = metered(ChatCompletions(), response=chat({"prompt_tokens": 20, "total_tokens": 20}, ""))
    assert (record.usage, record.usage_source) == (Usage(input_tokens=20), "reported")


# Responses


def response(usage: Any, **fields: Any) -> Any:
    """A response, as the SDK builds it."""
    return construct_openai(
        type_=Response, value={"id": "r", "model": "a-model", "output": [], "usage": usage, **fields}
    )


PLAIN = {
    "input_tokens": 75, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 1186, "output_tokens_details": {"reasoning_tokens": 1024}, "total_tokens": 1261,
}  # fmt: skip
PLAIN_USAGE = Usage(input_tokens=75, output_tokens=1186, reasoning_tokens=1024)
SEARCHES = [
    {"type": "web_search_call", "id": "1", "status": "completed", "action": {"type": "search", "query": "a"}},
    {"type": "web_search_call", "id": "2", "status": "completed", "action": {"type": "open_page", "url": "b"}},
    {"type": "web_search_call", "id": "3", "status": "completed"},
    {"type": "file_search_call", "id": "4", "status": "completed", "queries": ["a"]},
]
RESPONSES: dict[str, tuple[Any, dict[str, Any], Usage]] = {
    "plain": (PLAIN, {}, PLAIN_USAGE),
    "cached": (
        {
            "input_tokens": 5000, "output_tokens": 10, "total_tokens": 5010, "output_tokens_details": {"reasoning_tokens": 0},
            "input_tokens_details": {
                "cached_tokens": 4096, "cache_write_tokens": 512,
                "cache_write_tokens_details": {"ttl_30m_tokens": 500, "ttl_12h_tokens": 12},
            },
        },
        {},
        Usage(
            input_tokens=5000, output_tokens=10, cache_read_tokens=4096, cache_write_tokens=512,
            details={"cache_write_tokens_details.ttl_30m_tokens": 500, "cache_write_tokens_details.ttl_12h_tokens": 12},
        ),
    ),
    "web searches": (PLAIN, {"tool_usage": {"web_search": {"num_requests": 3}}}, replace(PLAIN_USAGE, web_searches=3)),
    "searches, counted by us": (PLAIN, {"output": SEARCHES}, replace(PLAIN_USAGE, web_searches=2, details={"file_searches": 1})),
    "searches, counted by them": (
        PLAIN,
        {"output": SEARCHES, "tool_usage": {"web_search": {"num_requests": 0}}},
        replace(PLAIN_USAGE, details={"file_searches": 1}),
    ),
    "image generation": (
        PLAIN,
        {
            "tool_usage": {
                "image_gen": {
                    "input_tokens": 13, "input_tokens_details": {"image_tokens": 0, "text_tokens": 13},
                    "output_tokens": 196, "output_tokens_details": {"image_tokens": 196, "text_tokens": 0}, "total_tokens": 209,
                    "cached_tokens": 5, "cached_tokens_details": {"cached_image_tokens": 0, "cached_text_tokens": 5},
                },
                "web_search": {"num_requests": 0},
            }
        },
        replace(
            PLAIN_USAGE,
            details={
                "image_gen_input_tokens": 13, "image_gen_input_text_tokens": 13, "image_gen_output_tokens": 196,
                "image_gen_output_image_tokens": 196, "image_gen_total_tokens": 209, "image_gen_cached_tokens": 5,
                "image_gen_cached_text_tokens": 5,
            },
        ),
    ),
    "a gateway's own cost": ({**PLAIN, "cost": 4, "cost_details": {"a": 1}}, {}, PLAIN_USAGE),
    "details are null": (
        {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7, "input_tokens_details": None, "output_tokens_details": None},
        {},
        Usage(input_tokens=3, output_tokens=4),
    ),
    "contradictory": (
        {"input_tokens": 3, "output_tokens": 4, "output_tokens_details": {"reasoning_tokens": 5}},
        {},
        Usage(input_tokens=3, output_tokens=4, reasoning_tokens=5, details=FLAG),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("usage", "fields", "expected"), RESPONSES.values(), ids=RESPONSES)
def test_responses_usage(usage: Any, fields: dict[str, Any], expected: Usage) -> None:
    """Each figure of a response's usage is found, plain and on the terminal event of a stream."""
    record = metered(Responses(), response=response(usage, **fields))
    assert (record.usage, record.usage_source) == (expected, "reported")
    item_events = [{"type": "response.output_item.done", "item": item} for item in fields.get("output", ())]
    done = {
        "type": "response.completed",
        "response": {"id": "r", "model": "a-model", "usage": usage, **fields, "output": []},
    }
    events = [construct_openai(type_=ResponseStreamEvent, value=each) for each in (*item_events, done)]
    record = metered(Responses(), chunks=events)
    assert (record.usage, record.usage_source) == (expected, "reported")


@pytest.mark.parametrize("terminal", ["response.completed", "response.incomplete", "response.failed"])
def test_responses_streams_end_with_the_tier_that_served(terminal: str) -> None:
    """The first event says `auto`, the last one what it was; all three ends report, also if the user leaves right there."""
    created = {
        "type": "response.created",
        "response": {"id": "r", "model": "a-model", "service_tier": "auto", "usage": None},
    }
    ended = {"type": terminal, "response": {"id": "r", "model": "a-model", "service_tier": "default", "usage": PLAIN}}
    events = [construct_openai(type_=ResponseStreamEvent, value=each) for each in (created, ended)]
    record = metered(Responses(), chunks=events, ended=False)
    assert (record.usage, record.service_tier, record.usage_source) == (PLAIN_USAGE, "default", "reported")


def test_a_search_counts_though_the_stream_was_left() -> None:
    """Searches that had been made when the user left are billed, and in the record."""
    done = {"type": "response.output_item.done", "item": SEARCHES[0]}
    delta = {"type": "response.output_text.delta", "delta": "word" * 10}
    events = [construct_openai(type_=ResponseStreamEvent, value=each) for each in (done, delta)]
    record = metered(Responses(), chunks=events, ended=False)
    assert (record.usage, record.usage_source) == (Usage(output_tokens=10, web_searches=1), "partial")
    assert record.cost_usd == Decimal("0.0101")  # 10 tokens at 10 USD a million, one search at 10 USD a thousand


# Anthropic


def message(usage: Any, kind: Any = Message) -> Any:
    """A message, as the SDK builds it."""
    value = {"id": "m", "type": "message", "role": "assistant", "model": "a-model", "content": [], "usage": usage}
    return construct_anthropic(type_=kind, value=value)


TOKENS = {"input_tokens": 100, "output_tokens": 50, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
MESSAGES: dict[str, tuple[Any, Usage, str | None]] = {
    "plain": ({"input_tokens": 2095, "output_tokens": 503}, Usage(input_tokens=2095, output_tokens=503), None),
    "cache of two durations": (
        {
            "input_tokens": 50, "output_tokens": 20, "cache_read_input_tokens": 1800, "cache_creation_input_tokens": 248,
            "cache_creation": {"ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 100}, "service_tier": "standard",
        },
        Usage(
            input_tokens=2098, output_tokens=20, cache_read_tokens=1800, cache_write_tokens=248, cache_write_5m_tokens=148, cache_write_1h_tokens=100,
        ),
        "standard",
    ),
    "writes without a split": (
        {"input_tokens": 50, "output_tokens": 20, "cache_creation_input_tokens": 10, "cache_creation": None},
        Usage(input_tokens=60, output_tokens=20, cache_write_tokens=10, cache_write_5m_tokens=10),
        None,
    ),
    "thinking and server tools": (
        {**TOKENS, "output_tokens_details": {"thinking_tokens": 30}, "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1}},
        Usage(input_tokens=100, output_tokens=50, reasoning_tokens=30, web_searches=2, details={"web_fetch_requests": 1}),
        None,
    ),
    "batch": ({**TOKENS, "service_tier": "batch"}, Usage(input_tokens=100, output_tokens=50), "batch"),
    "fast mode": ({**TOKENS, "service_tier": "standard", "speed": "fast"}, Usage(input_tokens=100, output_tokens=50), "fast"),
    "bound to the US": (
        {**TOKENS, "inference_geo": "us", "service_tier": "standard"},
        Usage(input_tokens=100, output_tokens=50, details={"inference_geo_us": 1}),
        "standard",
    ),
    "not bound": ({**TOKENS, "inference_geo": "global"}, Usage(input_tokens=100, output_tokens=50), None),
    "a compaction, which the top level leaves out": (
        {
            **TOKENS,
            "iterations": [
                {"type": "compaction", "input_tokens": 900, "output_tokens": 80, "cache_read_input_tokens": 7, "cache_creation_input_tokens": 0},
                {"type": "message", "model": None, **TOKENS},
            ],
        },
        Usage(
            input_tokens=1007, output_tokens=130, cache_read_tokens=7,
            details={"compaction_input_tokens": 907, "compaction_output_tokens": 80},
        ),
        None,
    ),
    "more written than the total": (
        {"input_tokens": 1, "output_tokens": 2, "cache_creation_input_tokens": 5, "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 4}},
        Usage(
            input_tokens=9, output_tokens=2, cache_write_tokens=8, cache_write_5m_tokens=4, cache_write_1h_tokens=4, details=FLAG,
        ),
        None,
    ),
    "more thinking than output": (
        {**TOKENS, "output_tokens_details": {"thinking_tokens": 51}},
        Usage(input_tokens=100, output_tokens=50, reasoning_tokens=51, details=FLAG),
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("usage", "expected", "tier"), MESSAGES.values(), ids=MESSAGES)
def test_messages_usage(usage: Any, expected: Usage, tier: str | None) -> None:
    """Each figure of a message's usage is found, whole, and merged from the start and the delta of a stream."""
    record = metered(Messages(), response=message(usage, BetaMessage if "iterations" in usage else Message))
    assert (record.usage, record.service_tier, record.usage_source) == (expected, tier, "reported")
    start = {"type": "message_start", "message": {**message(None).to_dict(), "usage": {**usage, "output_tokens": 1}}}
    delta = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": usage["output_tokens"]}}
    events = [construct_anthropic(type_=RawMessageStreamEvent, value=event) for event in (start, delta)]
    record = metered(Messages(), chunks=events, ended=False)
    assert (record.usage, record.service_tier, record.usage_source) == (expected, tier, "reported")


def test_the_advice_of_another_model_has_its_own_price() -> None:
    """What an adviser used is in the record's figures, and is priced as that model's."""
    advice = {"type": "advisor_message", "model": "adviser", "input_tokens": 10, "output_tokens": 1}
    own = {"input_tokens": 100, "output_tokens": 50}
    record = metered(
        Messages(), response=message({**own, "iterations": [{"type": "message", **own}, advice]}, BetaMessage)
    )
    details = {"advisor_input_tokens": 10, "advisor_output_tokens": 1}
    assert record.usage == Usage(input_tokens=110, output_tokens=51, details=details)
    assert record.cost_usd == Decimal("0.0006") + Decimal("0.002")  # 100 * 1 + 50 * 10, 10 * 100 + 1 * 1000


def test_a_web_search_that_was_begun_counts_though_the_stream_was_left() -> None:
    """The searches come with the last event; before it those that were seen are the lower bound."""
    start = {
        "type": "message_start",
        "message": {**message(None).to_dict(), "usage": {"input_tokens": 727, "output_tokens": 1}},
    }
    block = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    search = {"type": "content_block_start", "index": 0, "content_block": block}
    events = [construct_anthropic(type_=RawMessageStreamEvent, value=event) for event in (start, search)]
    record = metered(Messages(), chunks=events, ended=False)
    assert (record.usage, record.usage_source) == (Usage(input_tokens=727, output_tokens=2, web_searches=1), "partial")


# Google


def generated(usage: Any, **fields: Any) -> Any:
    """A response of Google's SDK, from the JSON that the service sends."""
    return google.GenerateContentResponse.model_validate({"candidates": [], "usageMetadata": usage, **fields})


GOOGLE: dict[str, tuple[Any, Usage]] = {
    "plain": ({"promptTokenCount": 8, "candidatesTokenCount": 40, "totalTokenCount": 48}, Usage(input_tokens=8, output_tokens=40)),
    "thoughts": (
        {"promptTokenCount": 264, "candidatesTokenCount": 104, "thoughtsTokenCount": 989, "totalTokenCount": 1357},
        Usage(input_tokens=264, output_tokens=1093, reasoning_tokens=989),
    ),
    "thoughts alone": (
        {"promptTokenCount": 21, "thoughtsTokenCount": 60, "totalTokenCount": 81},
        Usage(input_tokens=21, output_tokens=60, reasoning_tokens=60),
    ),
    "tool use": (
        {
            "promptTokenCount": 20, "candidatesTokenCount": 30, "toolUsePromptTokenCount": 500, "totalTokenCount": 550,
            "toolUsePromptTokensDetails": [{"modality": "TEXT", "tokenCount": 400}, {"modality": "IMAGE", "tokenCount": 100}],
        },
        Usage(input_tokens=520, output_tokens=30, tool_use_input_tokens=500, input_image_tokens=100),
    ),
    "modalities": (
        {
            "promptTokenCount": 1300, "candidatesTokenCount": 70, "totalTokenCount": 1370, "cachedContentTokenCount": 600,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 10}, {"modality": "AUDIO", "tokenCount": 500},
                {"modality": "VIDEO", "tokenCount": 532}, {"modality": "IMAGE", "tokenCount": 258},
            ],
            "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 500}, {"modality": "TEXT", "tokenCount": 100}],
            "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 50}, {"modality": "TEXT", "tokenCount": 20}],
        },
        Usage(
            input_tokens=1300, output_tokens=70, cache_read_tokens=600, input_audio_tokens=500, input_image_tokens=258, output_audio_tokens=50,
            details={"input_video_tokens": 532, "cache_read_audio_tokens": 500},
        ),
    ),
    "no output": ({"promptTokenCount": 9, "totalTokenCount": 9}, Usage(input_tokens=9)),
    "no prompt count": ({"candidatesTokenCount": 4, "totalTokenCount": 13}, Usage(input_tokens=9, output_tokens=4)),
    "more cached than prompt": (
        {"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 13, "cachedContentTokenCount": 10},
        Usage(input_tokens=9, output_tokens=4, cache_read_tokens=10, details=FLAG),
    ),
    "a total that is not the sum": (
        {"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 14},
        Usage(input_tokens=9, output_tokens=4, details=FLAG),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("usage", "expected"), GOOGLE.values(), ids=GOOGLE)
def test_google_usage(usage: Any, expected: Usage) -> None:
    """Each figure of Google's usage is found, also in the body that `should_return_http_response` leaves as it came."""
    record = metered(GenerateContent(), response=generated(usage))
    assert (record.usage, record.usage_source) == (expected, "reported")
    body = {"usageMetadata": usage, "modelVersion": "gemini-9", "responseId": "g"}
    raw = google.GenerateContentResponse(sdk_http_response=google.HttpResponse(headers={}, body=json.dumps(body)))
    record = metered(GenerateContent(), response=raw)
    assert (record.usage, record.usage_source) == (expected, "reported")
    assert (record.response_model, record.response_id) == ("gemini-9", "g")


def test_googles_body_is_estimated_where_it_has_no_usage() -> None:
    """The text of a body that is left as it came counts when it reports nothing, without what is data in it."""
    parts = [{"text": "word" * 10}, {"inlineData": {"mimeType": "image/png", "data": "A" * 4000}}]
    body = json.dumps({"candidates": [{"content": {"parts": parts}}]})
    raw = google.GenerateContentResponse(sdk_http_response=google.HttpResponse(headers={}, body=body))
    record = metered(GenerateContent(), response=raw)
    assert (record.usage, record.usage_source) == (Usage(output_tokens=10), "estimated")


@pytest.mark.filterwarnings("ignore:.* is not a valid TrafficType:UserWarning")  # google-genai 1.60 knows fewer
def test_googles_tier_is_that_of_the_traffic_or_of_the_request() -> None:
    """Vertex names it on every chunk, also on those that hold no counts; the Gemini API's SDK drops it."""
    counted = {"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 13}
    vertex = [generated({"trafficType": "ON_DEMAND"}), generated({**counted, "trafficType": "ON_DEMAND_FLEX"})]
    record = metered(GenerateContent(), chunks=vertex)
    assert (record.usage, record.service_tier) == (Usage(input_tokens=9, output_tokens=4), "on_demand_flex")
    if hasattr(google, "ServiceTier"):  # 1.60 has none, and no such option
        asked = {"config": google.GenerateContentConfig(service_tier=google.ServiceTier.FLEX)}
        assert metered(GenerateContent(), response=generated(counted), request=asked).service_tier == "flex"
    plain: dict[str, Any] = {"config": {"service_tier": "priority"}}
    assert metered(GenerateContent(), response=generated(counted), request=plain).service_tier == "priority"


@pytest.mark.parametrize(("model", "searches"), [("gemini-2.5-flash", 1), ("gemini-3.8-flash", 2), ("other", 2)])
def test_googles_searches_are_billed_by_prompt_or_by_query(model: str, searches: int) -> None:
    """A grounded prompt of Gemini 2 is one search, and one of Gemini 3 as many as there were queries."""
    counted = {"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 13}
    grounded = [{"groundingMetadata": {"webSearchQueries": ["a", "b"]}, "content": {"parts": [{"text": "x"}]}}]
    record = metered(GenerateContent(), response=generated(counted, candidates=grounded, modelVersion=model))
    assert record.usage == Usage(input_tokens=9, output_tokens=4, web_searches=searches)


def test_googles_running_total_is_final_when_it_comes_with_the_end() -> None:
    """A total from before the end is a part, one that comes with the finish reason the last word, and may be lower."""
    first = generated(
        {"promptTokenCount": 15, "candidatesTokenCount": 2}, candidates=[{"content": {"parts": [{"text": "x" * 40}]}}]
    )
    end = {"content": {"parts": [{"text": "y"}]}, "finishReason": "STOP"}
    silent = google.GenerateContentResponse.model_validate({"candidates": [end]})
    record = metered(GenerateContent(), chunks=[first, silent], ended=False)
    assert (record.usage, record.usage_source) == (Usage(input_tokens=15, output_tokens=10), "partial")
    last = generated({"promptTokenCount": 14, "candidatesTokenCount": 3}, candidates=[end])
    record = metered(GenerateContent(), chunks=[first, last], ended=False)
    assert (record.usage, record.usage_source) == (Usage(input_tokens=14, output_tokens=3), "reported")


# What they share


def test_contradictory_records_can_be_counted() -> None:
    """The flag is a count, so that a sum of usages says how many of them contradict themselves."""
    odd = Usage(input_tokens=1, details=FLAG)
    assert (odd + odd + Usage(input_tokens=5)).details == {"contradictory": 2}


def test_a_total_fills_one_gap_and_no_more() -> None:
    """What follows from a total is taken from it; what does not stays unknown."""
    assert balanced(None, None, 10, reasoning=0, cached=0, silent=True) == (None, None, 0, False)
    assert balanced(5, None, 3, reasoning=0, cached=0, silent=True) == (5, None, 0, True)
    assert balanced(None, 5, 3, reasoning=0, cached=0, silent=True) == (None, 5, 0, True)
    assert balanced(5, 2, 20, reasoning=0, cached=9, silent=True) == (5, 2, 0, True)


def test_money_and_durations_are_no_counts() -> None:
    """Whole figures under names of money and time are not kept as units."""
    assert leftovers({"cost": 1, "cost_in_usd_ticks": 12, "prompt_time": 2, "images": 3}, frozenset()) == {"images": 3}
