"""Where a provider reports nothing, or not all of it: what is estimated, from what, and how it says so."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import sys
import types
from collections.abc import Callable
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest
from anthropic._models import construct_type as construct_anthropic
from google.genai import types as google
from hypothesis import given, settings
from hypothesis import strategies as st
from openai._models import construct_type as construct_openai
from sources import ASYNC, GPT, PROMPT, SYNC, Source, async_clients_of, clients_of
from test_include_usage import OPENAI, client_at
from test_usage import chat, chunk, message, response

from llm_toll_autopatch import MemorySink, TokenEstimateWarning, Usage, flush, patch_all, patched
from llm_toll_autopatch.estimate import text_chars, tokens
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.metering import Call
from llm_toll_autopatch.readers.chat import ChatCompletions
from llm_toll_autopatch.readers.generate_content import GenerateContent
from llm_toll_autopatch.readers.messages import Messages
from llm_toll_autopatch.readers.reader import Reader
from llm_toll_autopatch.readers.responses import Responses
from llm_toll_autopatch.records import CallRecord
from llm_toll_autopatch.settings import Settings
from llm_toll_autopatch.simulator import Simulator

pytestmark = pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning")

PRICES = {"*": {"input": 1, "output": 10}}
DATA = "A" * 4000


def begun(reader: Reader, request: dict[str, Any]) -> int:
    """The characters that a reader counts in a request."""
    reader.begin(request)
    return reader.input_chars


def test_four_characters_are_a_token() -> None:
    """`max(1, characters // 4)`, and nothing for nothing."""
    assert [tokens(chars) for chars in (0, 1, 3, 4, 7, 8, 4000)] == [0, 1, 1, 1, 1, 2, 1000]


def test_input_is_all_text_and_no_data() -> None:
    """Messages, instructions, tools and system text count; base64, data URLs, identifiers and roles do not."""
    parts = [
        {"type": "text", "text": "x" * 10},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DATA}"}},
        {"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}},
    ]
    tools = [{"type": "function", "function": {"name": "abcde", "parameters": {"description": "fghij"}}}]
    messages = [{"role": "user", "content": parts}, {"role": "tool", "tool_call_id": DATA, "content": "y" * 7}]
    assert begun(ChatCompletions(), {"messages": messages, "tools": tools}) == 10 + len("wav") + 7 + 10
    items = [
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "x" * 10}, {"type": "input_image", "image_url": DATA}],
        }
    ]
    assert begun(Responses(), {"input": items, "instructions": "y" * 5, "tools": tools}) == 10 + 5 + 10
    blocks = [
        {"type": "text", "text": "x" * 10, "cache_control": {"type": "ephemeral"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "z" * 8}},
        {"type": "thinking", "thinking": "t" * 3, "signature": DATA},
    ]
    assert begun(Messages(), {"messages": [{"role": "user", "content": blocks}], "system": "y" * 5}) == 10 + 8 + 3 + 5
    image = google.Part.from_bytes(data=DATA.encode(), mime_type="image/png")
    contents = google.Content(role="user", parts=[google.Part(text="x" * 10), image])
    config = google.GenerateContentConfig(system_instruction="y" * 5)
    assert begun(GenerateContent(), {"contents": [contents], "config": config}) == 15
    plain = {"contents": [{"parts": [{"text": "x" * 10}, {"inlineData": {"mimeType": "image/png", "data": DATA}}]}]}
    assert begun(GenerateContent(), plain) == 10


def test_nothing_of_a_request_is_consumed() -> None:
    """An iterator in a request is the SDK's to read; a structure that contains itself does not hang us."""
    messages = iter([{"role": "user", "content": "x"}])
    assert text_chars(messages) == 0
    assert next(messages)
    endless: list[Any] = ["x"]
    endless.append(endless)
    assert text_chars(endless) > 0


def finished(reader: Reader, answer: Any = None, chunks: Any = ()) -> int:
    """The characters that a reader counts in an answer."""
    for each in chunks:
        reader.feed(each)
    if answer is not None:
        reader.finish(answer)
    return reader.output_chars


def test_chat_output_is_all_that_the_model_wrote() -> None:
    """Text, reasoning, refusals, transcripts, names and arguments of tool calls, of all choices, plain and in deltas."""
    call = {"index": 0, "id": DATA, "type": "function", "function": {"name": "ab", "arguments": "{cd}"}}
    said: list[tuple[dict[str, Any], int]] = [
        ({"content": "x" * 5}, 5),
        ({"content": "x" * 5, "reasoning_content": "r" * 7}, 12),
        ({"content": None, "reasoning": "r" * 7, "reasoning_details": [{"text": "r" * 7}]}, 7),
        ({"content": None, "refusal": "n" * 3}, 3),
        ({"content": None, "tool_calls": [call, call]}, 12),
        ({"content": "x", "tool_calls": [call]}, 7),
        ({"content": None, "function_call": {"name": "ab", "arguments": "c"}}, 3),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "t" * 4}]},
                    {"type": "text", "text": "u"},
                ]
            },
            5,
        ),
        ({"content": None, "audio": {"id": DATA, "data": DATA, "transcript": "h" * 9}}, 9),
    ]
    for delta, chars in said:
        choices = [{"index": number, "delta": delta, "text": "twice"} for number in range(2)]
        streamed = construct_openai(type_=type(chunk()), value={"id": "c", "model": "m", "choices": choices})
        assert finished(ChatCompletions(), chunks=[streamed]) == 2 * chars
        choices = [{"index": number, "message": {"role": "assistant", **delta}} for number in range(2)]
        whole = construct_openai(type_=type(chat(None)), value={"id": "c", "model": "m", "choices": choices})
        assert finished(ChatCompletions(), whole) == 2 * chars
        assert finished(ChatCompletions(), json.loads(whole.model_dump_json(warnings=False))) == 2 * chars


def test_output_of_the_others_is_all_that_the_model_wrote() -> None:
    """Text, reasoning and tool calls of every item and block."""
    output = [
        {
            "type": "reasoning",
            "id": DATA,
            "summary": [{"type": "summary_text", "text": "r" * 4}],
            "encrypted_content": DATA,
        },
        {
            "type": "message",
            "id": DATA,
            "content": [{"type": "output_text", "text": "x" * 5}, {"type": "refusal", "refusal": "n"}],
        },
        {"type": "function_call", "call_id": DATA, "id": DATA, "name": "ab", "arguments": "{}"},
    ]
    assert finished(Responses(), response(None, output=output)) == 4 + 5 + 1 + 4
    content = [
        {"type": "thinking", "thinking": "t" * 4, "signature": DATA},
        {"type": "text", "text": "x" * 5},
        {"type": "tool_use", "id": DATA, "name": "ab", "input": {"city": "cd"}},
    ]
    spoken = construct_anthropic(type_=type(message(None)), value={**message(None).to_dict(), "content": content})
    assert finished(Messages(), spoken) == 4 + 5 + 2 + 2


# The estimator


@pytest.mark.parametrize("source", SYNC, ids=str)
def test_an_estimator_counts_instead(source: Source, sim: Simulator) -> None:
    """A callable's tokens are the estimate, for the request's text and for what came, piece by piece."""
    texts: list[str] = []

    def words(text: str) -> int:
        texts.append(text)
        return 3

    suppress = contextlib.suppress(AttributeError)  # Anthropic's helper cannot do without usage
    with patched(estimator=words, prices=PRICES) as sink, clients_of(sim) as clients, suppress:
        list(source.open(clients, source.model + "+no-usage"))
    assert isinstance(sink, MemorySink)
    (record,) = sink.records
    assert texts[0] == PROMPT
    assert "".join(texts[1:]).strip() == "Falling water speeds up, so it gets thinner."
    assert record.usage.input_tokens == 3
    assert record.usage.output_tokens == 3 * (len(texts) - 1)
    assert record.usage_source == "estimated"


def test_an_estimator_that_fails_breaks_nothing(sim: Simulator) -> None:
    """What it cannot count is counted in characters, and the failure is noted."""

    def broken(_text: str) -> Any:
        return -1

    with patched(estimator=broken) as sink, clients_of(sim) as clients:
        clients.openai.chat.completions.create(
            model=GPT + "+no-usage", messages=[{"role": "user", "content": "x" * 40}]
        )
    assert isinstance(sink, MemorySink)
    assert sink.records[0].usage.input_tokens == 10
    assert failures.last == "estimator=: TypeError"
    failures.reset()


@pytest.mark.parametrize("with_estimator", [True, False])
def test_estimate_input_false_is_zero(with_estimator: bool, sim: Simulator) -> None:
    """The input is 0 then, an estimator does not get the request's text, and the output is estimated as before."""
    seen: list[str] = []

    def counting(text: str) -> int:
        seen.append(text)
        return 1

    chosen = counting if with_estimator else None
    with patched(estimate_input=False, estimator=chosen) as sink, clients_of(sim) as clients:
        clients.openai.chat.completions.create(
            model=GPT + "+no-usage", messages=[{"role": "user", "content": "x" * 40}]
        )
    assert isinstance(sink, MemorySink)
    (record,) = sink.records
    assert record.usage.input_tokens == 0
    assert record.usage.output_tokens > 0
    assert "x" * 40 not in seen


def test_wrong_estimators_are_refused_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A number, an unknown name, a tokenizer that is missing, not on this machine or broken: said when it is configured."""
    with pytest.raises(TypeError, match="callable"):
        patch_all(estimator=4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'tiktoken', not 'claude'"):
        patch_all(estimator="claude")
    monkeypatch.setattr("llm_toll_autopatch.estimators.find_spec", lambda _: None)
    monkeypatch.delitem(sys.modules, "tiktoken", raising=False)
    with pytest.raises(ValueError, match="pip install tiktoken"):
        patch_all(estimator="tiktoken")
    fake = types.ModuleType("tiktoken")
    monkeypatch.setitem(sys.modules, "tiktoken", fake)
    for directory in (str(tmp_path), ""):
        monkeypatch.setenv("TIKTOKEN_CACHE_DIR", directory)
        with pytest.raises(ValueError, match="works offline only"):
            patch_all(estimator="tiktoken")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    url = b"https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
    (tmp_path / hashlib.sha1(url).hexdigest()).touch()
    with pytest.raises(ValueError, match="does not work here: AttributeError"):
        patch_all(estimator="tiktoken")
    fake.get_encoding = lambda name: types.SimpleNamespace(encode_ordinary=str.split)  # type: ignore[attr-defined]
    with patched(estimator="tiktoken"):
        settings_now = Settings.resolve(sink=MemorySink(), estimator="tiktoken")
        assert settings_now.measure("three short words") == 12


# Early ends


@pytest.mark.parametrize("source", SYNC, ids=str)
@pytest.mark.parametrize("flags", ["", "+no-usage", "+reasoning=8", "+tools"])
def test_a_break_is_never_free(source: Source, flags: str, sim: Simulator) -> None:
    """What was reported is taken, the rest estimated, both from what came until then; the record says so and costs."""
    with patched(prices=PRICES) as sink, clients_of(sim) as clients:
        stream = source.open(clients, f"{source.model}+chunks=40+in=321{flags}")
        for number, _ in enumerate(stream):
            if number == 10:
                break
    assert isinstance(sink, MemorySink)
    (record,) = sink.records
    assert record.cost_usd is not None
    assert record.cost_usd > 0
    if source.reports_early and "no-usage" not in flags:
        assert record.usage.input_tokens == 321
        assert record.usage_source in ("partial", "reported")
    elif "tools" not in flags:  # a short stream, which ends before the break
        assert record.usage.input_tokens == len(PROMPT) // 4
        assert record.usage_source == "estimated"


def drop(stream: Any) -> None:
    next(stream)
    next(stream)


def cut(stream: Any) -> None:
    with contextlib.suppress(Exception):
        list(stream)


@pytest.mark.parametrize("source", SYNC, ids=str)
@pytest.mark.parametrize(("end", "flags", "outcome"), [(drop, "", "abandoned"), (cut, "+cut=12", "error"), (cut, "+error-after=12", "error")])  # fmt: skip
def test_a_stream_that_is_cut_or_dropped_is_never_free(
    source: Source, end: Callable[[Any], None], flags: str, outcome: str, sim: Simulator
) -> None:
    """A connection that breaks, an error event, or a stream that nobody reads on: the same rules."""
    with patched(prices=PRICES) as sink:
        with clients_of(sim) as clients:
            end(source.open(clients, f"{source.model}+chunks=40+in=321{flags}"))
        flush(5)
    assert isinstance(sink, MemorySink)
    (record,) = sink.records
    assert record.outcome == outcome or source.name == "anthropic stream"
    assert record.usage.input_tokens == (321 if source.reports_early else len(PROMPT) // 4)
    assert record.cost_usd is not None
    assert record.cost_usd > 0


@pytest.mark.parametrize("source", ASYNC, ids=str)
async def test_a_cancelled_stream_is_never_free(source: Source, sim: Simulator) -> None:
    """A task that is cancelled while it waits has paid for what came until then."""
    with patched(prices=PRICES) as sink:
        async with async_clients_of(sim) as clients:
            stream = await source.open(clients, f"{source.model}+chunks=400+delay=5+in=321")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.25):
                    async for _ in stream:
                        pass
    assert isinstance(sink, MemorySink)
    (record,) = sink.records
    assert record.outcome == "cancelled"
    assert record.usage.input_tokens == (321 if source.reports_early else len(PROMPT) // 4)
    assert record.usage.output_tokens > 0
    assert record.cost_usd is not None
    assert record.cost_usd > 0


def test_leaving_at_the_finish_reason_of_openai(sim: Simulator) -> None:
    """Who stops at the finish reason has not let the usage chunk come: an estimate, and marked as one."""
    with patched() as sink, client_at(OPENAI, sim) as client:
        for each in client.chat.completions.create(
            model=GPT, messages=[{"role": "user", "content": PROMPT}], stream=True
        ):
            if each.choices[0].finish_reason:
                break
    assert isinstance(sink, MemorySink)
    assert sink.records[0].usage_source == "estimated"


def test_one_warning_a_call(sim: Simulator) -> None:
    """The warning names the call, comes once, and does not break a loop where warnings are errors."""
    with patched(), clients_of(sim) as clients:
        with pytest.warns(TokenEstimateWarning, match="reported no usage") as caught:
            list(SYNC[1].open(clients, GPT + "+no-usage"))
        assert len(caught) == 1


def test_money_is_exact_in_any_context(sim: Simulator) -> None:
    """A program that computes with three digits gets the cost with all of them."""
    with (
        localcontext() as context,
        patched(prices={"*": {"input": 1, "output": 1}}) as sink,
        clients_of(sim) as clients,
    ):
        context.prec = 3
        clients.openai.chat.completions.create(
            model=GPT + "+in=1234567+out=1", messages=[{"role": "user", "content": "x"}]
        )
    assert isinstance(sink, MemorySink)
    assert str(sink.records[0].cost_usd) == "1.234568"


# Any stream, cut anywhere


def settled(make: Callable[[], Reader], chunks: list[Any], ended: bool) -> CallRecord:
    """The record of a call that took these chunks and then ended, or was left."""
    sink = MemorySink()
    reader = make()
    reader.begin({"model": "m", "messages": "x" * 40, "contents": "x" * 40, "input": "x" * 40})
    call = Call(reader, Settings.resolve(sink=sink, prices=PRICES), provider="openai", method="m", endpoint=None)
    call.stream = True
    for each in chunks:
        call.feed(each)
    call.end("completed" if ended else "closed")
    return sink.records[0]


def chat_stream(pieces: list[str], output: int, every: bool) -> list[Any]:
    def usage(sent: int) -> dict[str, int]:
        return {"prompt_tokens": 30, "completion_tokens": output * sent // max(1, len(pieces)), "total_tokens": 0}

    chunks = [chunk(usage(number) if every else None, text=piece) for number, piece in enumerate(pieces, 1)]
    return [*chunks, chunk(usage(len(pieces)), text="", finish="stop") if every else chunk(usage(len(pieces)))]


def responses_stream(pieces: list[str], output: int, _every: bool) -> list[Any]:
    from openai.types.responses import ResponseStreamEvent

    usage = {"input_tokens": 30, "output_tokens": output, "total_tokens": 30 + output}
    events = [{"type": "response.output_text.delta", "delta": piece} for piece in pieces]
    done = {"type": "response.completed", "response": {"id": "r", "model": "m", "usage": usage}}
    return [construct_openai(type_=ResponseStreamEvent, value=event) for event in (*events, done)]


def messages_stream(pieces: list[str], output: int, _every: bool) -> list[Any]:
    from anthropic.types import RawMessageStreamEvent

    start = {
        "type": "message_start",
        "message": {**message(None).to_dict(), "usage": {"input_tokens": 30, "output_tokens": 1}},
    }
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": each}} for each in pieces
    ]
    end = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": output}}
    return [construct_anthropic(type_=RawMessageStreamEvent, value=event) for event in (start, *deltas, end)]


def google_stream(pieces: list[str], output: int, every: bool) -> list[Any]:
    chunks = []
    for number, piece in enumerate([*pieces, ""], 1):
        last = number > len(pieces)
        usage = {
            "prompt_token_count": 30,
            "candidates_token_count": output * min(number, len(pieces)) // max(1, len(pieces)),
        }
        candidate = {"content": {"parts": [{"text": piece}]}, **({"finish_reason": "STOP"} if last else {})}
        fields = {"candidates": [candidate], **({"usage_metadata": usage} if last or every else {})}
        chunks.append(google.GenerateContentResponse.model_validate(fields))
    return chunks


STREAMS: dict[str, tuple[Callable[[], Reader], Callable[[list[str], int, bool], list[Any]]]] = {
    "chat": (ChatCompletions, chat_stream),
    "responses": (Responses, responses_stream),
    "messages": (Messages, messages_stream),
    "google": (GenerateContent, google_stream),
}


@pytest.mark.parametrize("provider", STREAMS)
@given(pieces=st.lists(st.text(max_size=40), max_size=8), extra=st.integers(0, 500), every=st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_stream_cut_anywhere(provider: str, pieces: list[str], extra: int, every: bool) -> None:
    """The cost is not negative, not below what was reported, and never falls with more chunks, up to the reported one.

    The provider bills at least what its text looks like here: where its figure is below our estimate, its figure
    counts in the end, and the last step is one down.
    """
    make, stream = STREAMS[provider]
    output = sum(map(len, pieces)) // 4 + 1 + extra
    chunks = stream(pieces, output, every)
    before = Decimal(0)
    for taken in range(len(chunks) + 1):
        record = settled(make, chunks[:taken], taken == len(chunks))
        assert record.cost_usd is not None
        assert record.cost_usd >= before
        before = record.cost_usd
        reader = make()
        for each in chunks[:taken]:
            reader.feed(each)
        if reading := reader.usage(ended=False):
            reported = reading.usage.input_tokens + 10 * reading.usage.output_tokens
            assert record.cost_usd * 1_000_000 >= reported
    assert record.usage_source == "reported"
    assert record.usage == Usage(input_tokens=30, output_tokens=output if pieces or provider in ("responses", "messages") else record.usage.output_tokens)  # fmt: skip
    assert before == Decimal(30 + 10 * record.usage.output_tokens) / 1_000_000


figures = st.none() | st.integers(-5, 10**7) | st.floats(allow_nan=True) | st.text(max_size=2) | st.booleans()
names = st.sampled_from(
    [
        "prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens", "audio_tokens",
        "input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "prompt_token_count",
        "candidates_token_count", "thoughts_token_count", "cached_content_token_count", "anything",
    ]
)  # fmt: skip
details = st.sampled_from(
    [
        "prompt_tokens_details",
        "completion_tokens_details",
        "input_tokens_details",
        "cache_creation",
        "server_tool_use",
        "iterations",
    ]
)
usages = st.dictionaries(names, figures) | st.fixed_dictionaries({}, optional={"usage": figures}) | st.tuples(
    st.dictionaries(names, figures), st.dictionaries(details, st.dictionaries(names, figures) | figures)
).map(lambda pair: {**pair[0], **pair[1]})  # fmt: skip


@given(usage=usages)
@settings(max_examples=200, deadline=None)
def test_any_figures_give_one_record(usage: Any) -> None:
    """Whatever figures come, there is a record, nothing of ours fails, no count is negative, and oddities are flagged."""
    for make in (ChatCompletions, Responses, Messages):
        sink = MemorySink()
        call = Call(make(), Settings.resolve(sink=sink, prices=PRICES), provider="openai", method="m", endpoint=None)
        call.finish({"id": "x", "model": "m", "usage": usage})
        (record,) = sink.records
        counted = record.usage
        assert failures.last is None
        assert (
            min(counted.input_tokens, counted.output_tokens, counted.cache_read_tokens, counted.reasoning_tokens) >= 0
        )
        if "contradictory" not in counted.details:
            assert counted.cache_read_tokens + counted.cache_write_tokens <= counted.input_tokens
            assert counted.reasoning_tokens <= counted.output_tokens
        assert record.cost_usd is None or record.cost_usd >= 0
