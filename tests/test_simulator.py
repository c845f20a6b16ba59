"""The real SDKs' clients, driven through the simulator."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import anthropic
import openai
import pydantic
import pytest
from google import genai
from google.genai import errors as google_errors

from llm_toll_autopatch.readers.fields import get
from llm_toll_autopatch.simulator import ReceivedRequest, Scenario, Simulator

MESSAGES: Any = [{"role": "user", "content": "Why?"}]
GPT, CLAUDE, GEMINI = "gpt-5-mini", "claude-sonnet-5-5", "gemini-3.8-flash"


@pytest.fixture(scope="module")
def server() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def sim(server: Simulator) -> Simulator:
    server.clear()
    return server


@dataclasses.dataclass
class Clients:
    """One client of each SDK."""

    openai: Any
    anthropic: Any
    google: Any
    vertex: Any


@pytest.fixture(scope="module")
def clients(server: Simulator) -> Iterator[Clients]:
    with ExitStack() as stack:
        at = {"base_url": server.google_base_url}
        yield Clients(
            openai=stack.enter_context(openai.OpenAI(base_url=server.openai_base_url, api_key="k", max_retries=0)),
            anthropic=stack.enter_context(
                anthropic.Anthropic(base_url=server.anthropic_base_url, api_key="k", max_retries=0)
            ),
            google=stack.enter_context(genai.Client(api_key="k", http_options=at)),
            vertex=stack.enter_context(genai.Client(vertexai=True, api_key="k", http_options=at)),
        )


@dataclasses.dataclass
class Seen:
    """What a client saw of an answer, in words that fit all of them."""

    model: str | None = None
    text: str = ""
    refusal: str = ""
    reasoning: str = ""
    tool: tuple[str, Any] | None = None
    finish: str | None = None
    tier: str | None = None
    usage: dict[str, Any] | None = None
    pieces: int = 0


def chat_usage(usage: Any) -> dict[str, Any] | None:
    return usage and {
        "in": usage.prompt_tokens,
        "out": usage.completion_tokens,
        "reasoning": usage.completion_tokens_details.reasoning_tokens,
        "cached": usage.prompt_tokens_details.cached_tokens,
        "written": get(usage.prompt_tokens_details, "cache_write_tokens") or 0,
    }


def chat(clients: Clients, model: str, stream: bool, **options: Any) -> Seen:
    if stream:
        options.setdefault("stream_options", {"include_usage": True})
    answer = clients.openai.chat.completions.create(model=f"{GPT}{model}", messages=MESSAGES, stream=stream, **options)
    seen = Seen()
    arguments = ""
    for chunk in answer if stream else [answer]:
        seen.model, seen.tier = chunk.model, chunk.service_tier
        seen.usage = chat_usage(chunk.usage) or seen.usage
        for choice in chunk.choices[:1]:
            part = choice.delta if stream else choice.message
            seen.pieces += bool(part.content)
            seen.text += part.content or ""
            seen.refusal += part.refusal or ""
            seen.reasoning += getattr(part, "reasoning_content", None) or ""
            seen.finish = choice.finish_reason or seen.finish
            for call in part.tool_calls or []:
                arguments += call.function.arguments
                seen.tool = (call.function.name or (seen.tool or ("",))[0], arguments)
    return dataclasses.replace(seen, tool=(seen.tool[0], json.loads(arguments))) if seen.tool else seen


def responses(clients: Clients, model: str, stream: bool, **options: Any) -> Seen:
    answer = clients.openai.responses.create(model=f"{GPT}{model}", input="Why?", stream=stream, **options)
    seen = Seen()
    if stream:
        for event in answer:
            seen.pieces += event.type == "response.output_text.delta"
            if event.type in ("response.completed", "response.incomplete", "response.failed"):
                answer = event.response
    seen.model, seen.tier, seen.finish, seen.text = answer.model, answer.service_tier, answer.status, answer.output_text
    for item in answer.output:
        if item.type == "reasoning":
            seen.reasoning = item.summary[0].text
        if item.type == "function_call":
            seen.tool = (item.name, json.loads(item.arguments))
        if item.type == "message":
            seen.refusal = "".join(part.refusal for part in item.content if part.type == "refusal")
    usage = answer.usage
    seen.usage = usage and {
        "in": usage.input_tokens,
        "out": usage.output_tokens,
        "reasoning": usage.output_tokens_details.reasoning_tokens,
        "cached": usage.input_tokens_details.cached_tokens,
        "written": get(usage.input_tokens_details, "cache_write_tokens"),
    }
    return seen


def messages(clients: Clients, model: str, stream: bool, **options: Any) -> Seen:
    request = {"model": f"{CLAUDE}{model}", "max_tokens": 100, "messages": MESSAGES, **options}
    seen = Seen()
    if stream:
        with clients.anthropic.messages.stream(**request) as events:
            seen.pieces = sum(event.type == "text" for event in events)
            answer = events.get_final_message()
    else:
        answer = clients.anthropic.messages.create(**request)
    seen.model, seen.finish, seen.tier = answer.model, answer.stop_reason, answer.usage.service_tier
    for block in answer.content:
        if block.type == "thinking":
            assert block.signature
            seen.reasoning = block.thinking
        if block.type == "tool_use":
            seen.tool = (block.name, block.input)
        if block.type == "text":
            seen.text = block.text
    if seen.finish == "refusal":
        seen.text, seen.refusal = "", seen.text
    usage = answer.usage
    seen.usage = {
        "in": usage.input_tokens,
        "out": usage.output_tokens,
        "reasoning": get(get(usage, "output_tokens_details"), "thinking_tokens") or 0,
        "cached": usage.cache_read_input_tokens,
        "written": usage.cache_creation_input_tokens,
    }
    return seen


def generate(clients: Clients, model: str, stream: bool, **options: Any) -> Seen:
    models = options.pop("client", clients.google).models
    call = models.generate_content_stream if stream else models.generate_content
    answer = call(model=f"{GEMINI}{model}", contents="Why?", **options)
    seen = Seen()
    for chunk in answer if stream else [answer]:
        seen.model = chunk.model_version
        usage = chunk.usage_metadata
        if chunk.prompt_feedback:
            seen.refusal = chunk.prompt_feedback.block_reason.value
        for candidate in (chunk.candidates or [])[:1]:
            seen.finish = candidate.finish_reason.value if candidate.finish_reason else seen.finish
            for part in candidate.content.parts or []:
                if part.function_call:
                    seen.tool = (part.function_call.name, part.function_call.args)
                elif part.thought:
                    seen.reasoning += part.text
                else:
                    seen.text += part.text
                    seen.pieces += 1
        seen.usage = usage and {
            "in": usage.prompt_token_count,
            "out": usage.candidates_token_count or 0,
            "reasoning": usage.thoughts_token_count or 0,
            "cached": usage.cached_content_token_count or 0,
            "written": 0,
        }
    return seen


Ask = Callable[..., Seen]
APIS: dict[str, Ask] = {"chat": chat, "responses": responses, "messages": messages, "generate": generate}
every_api = pytest.mark.parametrize("api", APIS)
both_ways = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
DEFAULT = {"in": 25, "out": 8, "reasoning": 0, "cached": 0, "written": 0}
USUAL_END = {"chat": "stop", "responses": "completed", "messages": "end_turn", "generate": "STOP"}


@every_api
@both_ways
def test_plain_answer(sim: Simulator, clients: Clients, api: str, stream: bool) -> None:
    """Without flags a model answers with eight pieces of text, usual usage and a usual end."""
    seen = APIS[api](clients, "", stream)
    assert seen.text == Scenario().text() == "Falling water speeds up, so it gets thinner."
    assert (seen.model, seen.usage, seen.finish) == (sim.requests[0].scenario.model, DEFAULT, USUAL_END[api])  # type: ignore[union-attr]
    assert not stream or seen.pieces == 8
    assert sim.wait_idle()
    assert [(r.method, r.status, r.completed, r.hung_up) for r in sim.requests] == [("POST", 200, True, False)]


COUNTS: list[tuple[str, dict[str, dict[str, int]]]] = [
    ("+in=7+out=9", {"*": {"in": 7, "out": 9}}),
    ("+in=0+out=0", {"*": {"in": 0, "out": 0}}),
    ("+chunks=3", {"*": {"out": 3}}),
    ("+chunks=20+out=7", {"*": {"out": 7}}),
    ("+empty", {"*": {"out": 0}}),
    ("+empty+endless", {"*": {"out": 0}}),
    ("+cached=11", {"*": {"cached": 11}}),
    ("+reasoning=5", {"*": {"out": 13, "reasoning": 5}, "generate": {"out": 8, "reasoning": 5}}),
    ("+thinking", {"*": {"out": 24, "reasoning": 16}, "generate": {"out": 8, "reasoning": 16}}),
    ("+cache-write=6", {"*": {"written": 6}, "generate": {}}),
    ("+usage-every", {"*": {}}),
    ("+cumulative+reasoning=3", {"*": {"out": 11, "reasoning": 3}, "generate": {"out": 8, "reasoning": 3}}),
    ("+usage-last", {"*": {}}),
]

KNOWS_REASONING = "output_tokens_details" in anthropic.types.Usage.model_fields


@every_api
@both_ways
@pytest.mark.parametrize(("flags", "changes"), COUNTS)
def test_reported_usage(
    clients: Clients, api: str, stream: bool, flags: str, changes: dict[str, dict[str, int]]
) -> None:
    """The flags for counts show in the usage that the SDK reports, plain and streamed alike."""
    expected = {**DEFAULT, **changes.get(api, changes["*"])}
    if stream and api == "messages" and expected["reasoning"] and not KNOWS_REASONING:
        pytest.skip("the stream helper of this version drops the fields of the usage that it does not know")
    seen = APIS[api](clients, flags, stream)
    assert seen.usage == expected
    assert seen.text == Scenario.parse(flags).text()
    assert seen.reasoning == "".join(Scenario.parse(flags).reasoning_chunks())


@both_ways
def test_anthropic_usage_in_detail(clients: Clients, stream: bool) -> None:
    """Anthropic's cache writes are split by lifetime, and message_delta can raise the input."""
    request: Any = {"model": f"{CLAUDE}+cache-write=9+delta-input=1595", "max_tokens": 9, "messages": MESSAGES}
    if not stream:
        usage = clients.anthropic.messages.create(**request).usage
        assert (usage.cache_creation.ephemeral_5m_input_tokens, usage.cache_creation.ephemeral_1h_input_tokens) == (
            5,
            4,
        )
        return
    events = list(clients.anthropic.messages.create(stream=True, **request))
    assert (events[0].message.usage.input_tokens, events[0].message.usage.output_tokens) == (25, 1)
    assert (events[-2].usage.input_tokens, events[-2].usage.output_tokens) == (1595, 8)


@every_api
@both_ways
@pytest.mark.parametrize("flag", ["no-usage", "usage-null", "bad-usage"])
def test_usage_that_is_no_usage(clients: Clients, api: str, stream: bool, flag: str) -> None:
    """Usage can be missing, null or of wrong types, and the SDK hands it on."""
    answers: list[Any]
    if api == "chat":
        options: Any = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        answer = clients.openai.chat.completions.create(model=f"{GPT}+{flag}", messages=MESSAGES, **options)
        answers = list(answer) if stream else [answer]
    elif api == "responses":
        answer = clients.openai.responses.create(model=f"{GPT}+{flag}", input="Why?", stream=stream)
        answers = [event.response for event in answer if hasattr(event, "response")] if stream else [answer]
    elif api == "messages":
        answer = clients.anthropic.messages.create(
            model=f"{CLAUDE}+{flag}", max_tokens=9, messages=MESSAGES, stream=stream
        )
        answers = [e for e in answer if e.type == "message_delta"] if stream else [answer]
    else:
        models = clients.google.models
        call = models.generate_content_stream if stream else models.generate_content
        answer = call(model=f"{GEMINI}+{flag}", contents="Why?")
        answers = list(answer) if stream else [answer]
    key = "usage_metadata" if api == "generate" else "usage"
    assert answers
    if flag == "no-usage":
        assert all(key not in a.model_fields_set for a in answers)
    elif flag == "usage-null":
        # Google's SDK drops what is null.
        assert all(getattr(a, key) is None and (api == "generate" or key in a.model_fields_set) for a in answers)
    else:
        usage = getattr(answers[-1], key)
        assert -1 in vars(usage).values()


@every_api
@both_ways
@pytest.mark.parametrize("declared", [False, True])
def test_tool_call(clients: Clients, api: str, stream: bool, declared: bool) -> None:
    """With `tools` the model calls the first declared function with fitting arguments, else get_weather."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "y"], "type": "string"}}}
    tools: Any = {
        "chat": {"tools": [{"type": "function", "function": {"name": "add", "parameters": schema}}]},
        "responses": {"tools": [{"type": "function", "name": "add", "parameters": schema, "strict": False}]},
        "messages": {"tools": [{"name": "add", "input_schema": schema}]},
        "generate": {"config": {"tools": [{"function_declarations": [{"name": "add", "parameters": schema}]}]}},
    }
    seen = APIS[api](clients, "+tools", stream, **(tools[api] if declared else {}))
    assert seen.tool == (("add", {"a": 1, "b": "x"}) if declared else ("get_weather", {"city": "Paris"}))
    assert seen.text == ""
    assert seen.finish == {"chat": "tool_calls", "messages": "tool_use"}.get(api, USUAL_END[api])


TOOL_RESULTS: dict[str, dict[str, Any]] = {
    "chat": {"messages": [*MESSAGES, {"role": "tool", "tool_call_id": "c", "content": "sunny"}]},
    "responses": {"input": [{"type": "function_call_output", "call_id": "c", "output": "sunny"}]},
    "messages": {
        "messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "sunny"}]}]
    },
}


@pytest.mark.parametrize("api", TOOL_RESULTS)
@pytest.mark.parametrize(("flag", "calls"), [("tools", False), ("tools=1", False), ("tools=2", True)])
def test_tool_results_are_counted(clients: Clients, api: str, flag: str, calls: bool) -> None:
    """A request that carries as many tool results as there are rounds is answered with text."""
    create: Any = {
        "chat": clients.openai.chat.completions.create,
        "responses": clients.openai.responses.create,
        "messages": clients.anthropic.messages.create,
    }[api]
    model = f"{CLAUDE if api == 'messages' else GPT}+{flag}"
    answer = create(model=model, **TOOL_RESULTS[api], **({"max_tokens": 9} if api == "messages" else {}))
    assert ("get_weather" in answer.to_json()) is calls


@both_ways
def test_automatic_function_calling(sim: Simulator, clients: Clients, stream: bool) -> None:
    """Google's automatic function calling runs the function for each round and ends with the text."""
    calls = []

    def forecast(town: str, days: int) -> str:
        """Return the weather."""
        calls.append((town, days))
        return "sunny"

    # Old versions of the SDK do not understand annotations that are strings, as they are in this file.
    forecast.__annotations__ = {"town": str, "days": int, "return": str}
    seen = generate(clients, "+tools=2", stream, config={"tools": [forecast]})
    assert calls == [("Paris", 1)] * 2
    assert seen.text == Scenario().text()
    assert len(sim.requests) == 3


@both_ways
@pytest.mark.parametrize("asked", ["flag", "request"])
def test_choices(clients: Clients, stream: bool, asked: str) -> None:
    """The flag or the request multiplies choices and candidates, and the default output count with them."""
    flag, n = ("+choices=3", None) if asked == "flag" else ("", 3)
    options: Any = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    answer = clients.openai.chat.completions.create(
        model=f"{GPT}{flag}", messages=MESSAGES, **options, **({"n": n} if n else {})
    )
    chunks = list(answer) if stream else [answer]
    assert {choice.index for chunk in chunks for choice in chunk.choices} == {0, 1, 2}
    assert chunks[-1].usage.completion_tokens == 24
    call = clients.google.models.generate_content_stream if stream else clients.google.models.generate_content
    result = call(model=f"{GEMINI}{flag}", contents="Why?", config={"candidate_count": n})
    last = list(result)[-1] if stream else result
    assert ([c.index for c in last.candidates], last.usage_metadata.candidates_token_count) == ([0, 1, 2], 24)


@pytest.mark.parametrize(("api", "tier"), [("chat", "default"), ("responses", "default"), ("messages", "standard")])
@both_ways
def test_tier(clients: Clients, api: str, tier: str, stream: bool) -> None:
    """The tier that served is the usual one, or the flag's; OpenAI serves the tier that the request wants."""
    ask = APIS[api]
    assert ask(clients, "", stream).tier == tier
    assert ask(clients, "+tier=priority", stream).tier == "priority"
    if api != "messages":
        assert ask(clients, "", stream, service_tier="flex").tier == "flex"


@every_api
@both_ways
def test_refusal(clients: Clients, api: str, stream: bool) -> None:
    """A refusal comes where each API has it, and is no text."""
    seen = APIS[api](clients, "+refusal", stream)
    words = Scenario.parse("+refusal").text()
    assert (seen.text, seen.refusal) == ("", "PROHIBITED_CONTENT" if api == "generate" else words)


@every_api
@both_ways
def test_incomplete(clients: Clients, api: str, stream: bool) -> None:
    """An incomplete answer ends for want of tokens."""
    ends = {"chat": "length", "responses": "incomplete", "messages": "max_tokens", "generate": "MAX_TOKENS"}
    assert APIS[api](clients, "+incomplete", stream).finish == ends[api]


@both_ways
def test_failed(clients: Clients, stream: bool) -> None:
    """A failed response is an answer with status 200 that says so."""
    assert responses(clients, "+failed", stream).finish == "failed"


def test_chat_stream_usage_as_the_real_api(clients: Clients) -> None:
    """Usage in a chat stream: none unasked; null, then a chunk without choices when asked; or as the flags say."""

    def usages(flags: str, **options: Any) -> list[tuple[int, bool, int | None]]:
        chunks = clients.openai.chat.completions.create(
            model=f"{GPT}+chunks=2{flags}", messages=MESSAGES, stream=True, **options
        )
        return [
            (len(c.choices), "usage" in c.model_fields_set, c.usage.completion_tokens if c.usage else None)
            for c in chunks
        ]

    asked: Any = {"stream_options": {"include_usage": True}}
    assert usages("") == [(1, False, None)] * 4
    assert usages("", **asked) == [(1, True, None)] * 4 + [(0, True, 2)]
    assert usages("+usage-last") == [(1, False, None)] * 3 + [(1, True, 2)]
    assert usages("+usage-every") == [(1, True, 0), (1, True, 1), (1, True, 2), (1, True, 2)]


def test_gemini_stream_usage(clients: Clients) -> None:
    """Gemini's totals grow on every chunk; `usage-last` leaves only the last; Vertex names its traffic type before."""

    def outputs(client: Any, flags: str) -> list[Any]:
        stream = client.models.generate_content_stream(model=f"{GEMINI}+chunks=3{flags}", contents="Why?")
        return [
            c.usage_metadata and (c.usage_metadata.candidates_token_count or c.usage_metadata.traffic_type.value)
            for c in stream
        ]

    assert outputs(clients.google, "") == [1, 2, 3]
    assert outputs(clients.google, "+usage-last") == [None, None, 3]
    assert outputs(clients.vertex, "") == ["ON_DEMAND", "ON_DEMAND", 3]
    assert outputs(clients.vertex, "+cumulative") == [1, 2, 3]


def test_anthropic_cumulative_deltas(clients: Clients) -> None:
    """With `cumulative` Anthropic reports usage several times, growing."""
    stream = clients.anthropic.messages.create(
        model=f"{CLAUDE}+cumulative+chunks=3", max_tokens=9, messages=MESSAGES, stream=True
    )
    assert [event.usage.output_tokens for event in stream if event.type == "message_delta"] == [1, 2, 3, 3]


def test_event_sequences(sim: Simulator, clients: Clients) -> None:
    """Responses and Messages send their events in the services' order."""
    events = list(clients.openai.responses.create(model=f"{GPT}+chunks=2+reasoning=1", input="Why?", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type.removeprefix("response.") for event in events] == [
        "created", "in_progress",
        "output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta",
        "reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    assert (events[0].response.service_tier, events[0].response.usage) == ("auto", None)
    with clients.anthropic.messages.with_streaming_response.create(
        model=f"{CLAUDE}+chunks=2", max_tokens=9, messages=MESSAGES, stream=True
    ) as raw:
        lines = [line for line in raw.iter_lines() if line.startswith("event: ")]
    assert [line.removeprefix("event: ") for line in lines] == [
        "message_start", "content_block_start", "ping", "content_block_delta", "content_block_delta",
        "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    assert sim.wait_idle()
    assert [request.events_sent for request in sim.requests] == [16, 8]


def test_stream_helpers(clients: Clients) -> None:
    """The SDKs' own accumulating helpers accept the streams."""
    with clients.openai.chat.completions.stream(model=f"{GPT}+tools", messages=MESSAGES) as chat_stream:
        assert chat_stream.get_final_completion().choices[0].message.tool_calls[0].function.name == "get_weather"
    with clients.openai.responses.stream(model=f"{GPT}+thinking", input="Why?") as response_stream:
        assert response_stream.get_final_response().output_text == Scenario().text()
    with clients.anthropic.messages.stream(model=CLAUDE, max_tokens=9, messages=MESSAGES) as message_stream:
        assert "".join(message_stream.text_stream) == Scenario().text()


class Town(pydantic.BaseModel):
    """A town."""

    name: str
    people: int
    twins: list[Town]


def test_structured_outputs(clients: Clients) -> None:
    """A request that wants a schema gets a text that fits it."""
    town = Town(name="Paris", people=1, twins=[])
    flat: Any = pydantic.create_model("Flat", name=str, people=int, big=bool)
    got = clients.openai.chat.completions.parse(model=GPT, messages=MESSAGES, response_format=flat)
    assert got.choices[0].message.parsed == flat(name="Paris", people=1, big=True)
    assert clients.openai.responses.parse(model=GPT, input="?", text_format=flat).output_parsed.big is True
    if hasattr(clients.anthropic.messages, "parse"):  # it came after 0.75
        parsed = clients.anthropic.messages.parse(model=CLAUDE, max_tokens=9, messages=MESSAGES, output_format=flat)
        assert parsed.parsed_output.name == town.name
    config = {"response_mime_type": "application/json", "response_schema": flat}
    assert clients.google.models.generate_content(model=GEMINI, contents="?", config=config).parsed.people == 1


@every_api
@both_ways
@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503, 529])
def test_http_error(sim: Simulator, clients: Clients, api: str, stream: bool, status: int) -> None:
    """With `error` the SDK raises its own exception for that status, with the provider's own JSON."""
    kinds: Any = (openai.APIStatusError, anthropic.APIStatusError, google_errors.APIError)
    with pytest.raises(kinds) as caught:
        APIS[api](clients, f"+error={status}", stream)
    error: Any = caught.value
    assert (error.code if api == "generate" else error.status_code) == status
    assert sim.requests[0].status == status
    if api == "messages":
        assert error.body["error"]["type"] in anthropic_error_types() and error.request_id  # noqa: PT018
    if api == "generate":
        assert isinstance(error, google_errors.ClientError if status < 500 else google_errors.ServerError)


def anthropic_error_types() -> set[str]:
    names = "invalid_request authentication not_found rate_limit api overloaded"
    return {f"{name}_error" for name in names.split()}


@every_api
@pytest.mark.parametrize("after", [0, 3, 8])
def test_error_event(sim: Simulator, clients: Clients, api: str, after: int) -> None:
    """With `error-after` a stream fails after so many content events, with the SDK's own exception."""
    kinds: dict[str, Any] = {
        "chat": openai.APIError,
        "responses": openai.APIError,
        "messages": anthropic.APIStatusError,
        "generate": google_errors.ServerError,
    }
    with pytest.raises(kinds[api]) as caught:
        APIS[api](clients, f"+error-after={after}", True)
    assert not isinstance(caught.value, openai.APIConnectionError)
    assert sim.wait_idle()
    before = {"chat": 1, "responses": 4, "messages": 3, "generate": 0}[api]
    assert sim.requests[0].events_sent == before + after + 1


@every_api
@pytest.mark.parametrize("after", [0, 3, 8])
def test_cut(sim: Simulator, clients: Clients, api: str, after: int) -> None:
    """With `cut` the connection breaks after so many content events, without the end of the body."""
    with pytest.raises(Exception, match=r"(?i)incomplete chunked read|connection error"):
        APIS[api](clients, f"+cut={after}", True)
    assert sim.wait_idle()
    request = sim.requests[0]
    before = {"chat": 1, "responses": 4, "messages": 3, "generate": 0}[api]
    assert (request.events_sent, request.completed, request.hung_up) == (before + after, False, False)


@every_api
def test_cut_plain(sim: Simulator, clients: Clients, api: str) -> None:
    """With `cut` a plain answer breaks off in the middle of its body."""
    with pytest.raises(Exception, match=r"(?i)peer closed|connection error"):
        APIS[api](clients, "+cut", False)
    assert not sim.requests[0].completed


def endless(clients: Clients, api: str, flags: str) -> Any:
    """Open a stream that never ends."""
    if api == "chat":
        return clients.openai.chat.completions.create(model=f"{GPT}{flags}", messages=MESSAGES, stream=True)
    if api == "responses":
        return clients.openai.responses.create(model=f"{GPT}{flags}", input="Why?", stream=True)
    if api == "messages":
        request: Any = {"model": f"{CLAUDE}{flags}", "max_tokens": 9, "messages": MESSAGES}
        return clients.anthropic.messages.create(stream=True, **request)
    return clients.google.models.generate_content_stream(model=f"{GEMINI}{flags}", contents="Why?")


@every_api
@pytest.mark.parametrize("delay", [1, 60_000])
def test_hang_up_is_noticed(sim: Simulator, clients: Clients, api: str, delay: int) -> None:
    """A client that closes an endless stream is noticed at once, also while the server waits for the next event."""
    stream = endless(clients, api, f"+endless+delay={delay}")
    next(stream)
    began = time.monotonic()
    stream.close()
    request = sim.requests[0]
    assert request.wait(10)
    assert time.monotonic() - began < 5
    assert (request.hung_up, request.completed) == (True, False)
    assert request.hung_up_after_s is not None
    assert request.hung_up_after_s < 10
    assert request.events_sent >= 1
    assert delay == 1 or request.events_sent == 1


@every_api
def test_endless_text_goes_on(clients: Clients, api: str) -> None:
    """An endless stream is still text long after an ordinary one would have ended."""
    stream = endless(clients, api, "+endless")
    for _ in range(100):
        last = next(stream)
    stream.close()
    assert "finish" not in str(getattr(last, "type", ""))


def test_hang_up_during_the_first_wait(sim: Simulator, clients: Clients) -> None:
    """A client that gives up before a plain answer has begun is noticed."""
    with pytest.raises(openai.APITimeoutError):
        clients.openai.with_options(timeout=1).chat.completions.create(model=f"{GPT}+first=60000", messages=MESSAGES)
    request = sim.requests[0]
    assert request.wait(10)
    assert (request.hung_up, request.events_sent) == (True, 0)


def test_delays(sim: Simulator, clients: Clients) -> None:
    """`first` and `delay` hold events back: the client sees none before its time."""
    began = time.monotonic()
    stream = clients.openai.chat.completions.create(
        model=f"{GPT}+first=60+delay=20+chunks=2", messages=MESSAGES, stream=True
    )
    next(stream)
    assert time.monotonic() - began >= 0.06
    list(stream)
    assert time.monotonic() - began >= 0.06 + 4 * 0.02


async def test_async_clients(sim: Simulator) -> None:
    """The async clients work too, side by side, and their hang-ups are noticed."""
    async with (
        openai.AsyncOpenAI(base_url=sim.openai_base_url, api_key="k") as gpt,
        anthropic.AsyncAnthropic(base_url=sim.anthropic_base_url, api_key="k") as claude,
        genai.Client(api_key="k", http_options={"base_url": sim.google_base_url}).aio as gemini,
    ):

        async def ask_gpt() -> str:
            stream: Any = await gpt.chat.completions.create(model=GPT, messages=MESSAGES, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        async def ask_claude() -> str:
            async with claude.messages.stream(model=CLAUDE, max_tokens=9, messages=MESSAGES) as stream:
                return str(await stream.get_final_text())

        async def ask_gemini() -> str:
            stream = await gemini.models.generate_content_stream(model=GEMINI, contents="Why?")
            return "".join([chunk.text async for chunk in stream])

        assert set(await asyncio.gather(ask_gpt(), ask_claude(), ask_gemini())) == {Scenario().text()}
        sim.clear()
        stream: Any = await gpt.chat.completions.create(
            model=f"{GPT}+endless+delay=60000", messages=MESSAGES, stream=True
        )
        await anext(stream)
        await stream.close()
        assert await asyncio.to_thread(sim.requests[0].wait, 10)
        assert sim.requests[0].hung_up


def test_unknown_flags_are_explained(clients: Clients) -> None:
    """An unknown flag is a 400 that names all flags, from each provider."""
    for ask in APIS.values():
        with pytest.raises(Exception, match=r"(?s)Unknown flag 'chunk' .*\+chunks=N.*\+error-after=N") as caught:
            ask(clients, "+chunk=3", False)
        assert "400" in str(caught.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("m+chunks=x", "whole number"),
        ("m+chunks=-1", "whole number"),
        ("m+chunks=", "needs a value"),
        ("m+out", "needs a value"),
        ("m+empty=1", "takes no value"),
        ("m+error=200", "400 to 599"),
        ("m+choices=0", "above 0"),
    ],
)
def test_wrong_flags(model: str, message: str) -> None:
    """A flag with a wrong value is a ValueError that says what is wrong."""
    with pytest.raises(ValueError, match=message):
        Scenario.parse(model)


def test_scenario_of_a_name() -> None:
    """Flags, with and without values and under both names, are read from the model's name."""
    assert Scenario.parse("gpt-4o") == Scenario(model="gpt-4o")
    assert Scenario.parse("a/b:c+chunks=3+thinking+cut+tier=flex") == Scenario(
        model="a/b:c", chunks=3, reasoning_tokens=16, cut=3, tier="flex"
    )
    assert Scenario.parse("m+chunks=10").text() == "Falling water speeds up, so it gets thinner. Falling water"


def test_requests_are_kept(sim: Simulator, clients: Clients) -> None:
    """What arrived can be looked at: path, query, headers, body and scenario."""
    clients.openai.chat.completions.create(
        model=f"{GPT}+chunks=2", messages=MESSAGES, extra_query={"a": "1"}, extra_headers={"X-Mine": "yes"}
    )
    (request,) = sim.requests
    assert isinstance(request, ReceivedRequest)
    assert (request.method, request.path, request.query) == ("POST", "/v1/chat/completions", {"a": "1"})
    assert request.headers["x-mine"] == "yes"
    assert request.body == {"model": f"{GPT}+chunks=2", "messages": MESSAGES}
    assert request.scenario == Scenario(model=GPT, chunks=2)
    sim.clear()
    assert sim.requests == []


def send(sim: Simulator, data: bytes) -> bytes:
    """Send bytes, and return all that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", int(sim.url.rpartition(":")[2]))) as sock:
        sock.sendall(data)
        parts = []
        while part := sock.recv(65536):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(
    ("request_line", "body", "status"),
    [
        ("POST /v1/nowhere", b"{}", 404),
        ("GET /v1/chat/completions", b"", 405),
        ("POST /v1/messages", b"{nonsense", 400),
        ("POST /v1/messages", b"[]", 400),
        ("POST /v1/responses", b"{}", 400),
    ],
)
def test_wrong_requests(sim: Simulator, request_line: str, body: bytes, status: int) -> None:
    """A request that no endpoint understands gets an error in JSON."""
    head = f"{request_line} HTTP/1.1\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    head_back, _, body_back = send(sim, head.encode() + body).partition(b"\r\n\r\n")
    assert head_back.startswith(b"HTTP/1.1 %d " % status)
    assert json.loads(body_back)["error"]["message"]


def test_http_framing(sim: Simulator) -> None:
    """Requests may be chunked, pipelined and cut into packets anywhere; what is not HTTP gets a 400."""
    body = json.dumps({"model": GPT, "messages": MESSAGES}).encode()
    chunked = b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    chunked += b"".join(b"%x\r\n%b\r\n" % (len(body[i : i + 9]), body[i : i + 9]) for i in range(0, len(body), 9))
    chunked += b"0\r\n\r\n"
    last = b"POST /v1/chat/completions HTTP/1.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    back = send(sim, chunked + chunked + last)
    assert (back.count(b"HTTP/1.1 200 OK"), back.count(b"100 Continue")) == (3, 2)
    assert send(sim, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400")


def test_connections_are_reused(clients: Clients) -> None:
    """A client's requests one after another go over one connection, on one thread."""
    with Simulator() as simulator:
        with openai.OpenAI(base_url=simulator.openai_base_url, api_key="k") as client:
            for _ in range(5):
                client.chat.completions.create(model=GPT, messages=MESSAGES)
            assert len(simulator._connections) == 1
        assert len(simulator.requests) == 5


def test_many_connections_at_once() -> None:
    """Hundreds of endless streams at once are served, and stop() ends them and their threads at once."""
    before = set(threading.enumerate())
    body = json.dumps({"model": f"{GPT}+endless+delay=5000", "stream": True}).encode()
    data = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with ExitStack() as stack, Simulator() as simulator:
        port = int(simulator.url.rpartition(":")[2])
        socks = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(300)]
        for sock in socks:
            sock.sendall(data)
        for sock in socks:
            head = b""
            while b"chat.completion.chunk" not in head:
                head += sock.recv(4096)
        assert not simulator.wait_idle(0.01)
        began = time.monotonic()
        simulator.stop()
        assert time.monotonic() - began < 5
        assert simulator.wait_idle(0)
        assert {(r.completed, r.hung_up, r.events_sent) for r in simulator.requests} == {(False, False, 1)}
    assert set(threading.enumerate()) <= before


def test_client_that_does_not_read() -> None:
    """A server that is blocked in writing to a client that does not read can be stopped."""
    body = json.dumps({"model": f"{GPT}+endless", "stream": True}).encode()
    with Simulator() as simulator:
        with socket.create_connection(("127.0.0.1", int(simulator.url.rpartition(":")[2]))) as sock:
            sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            assert sock.recv(1)
            (request,) = simulator.requests
            sent = -1
            while sent != request.events_sent:
                sent = request.events_sent
                time.sleep(0.05)
            simulator.stop()
        assert request.wait(0)
        assert not request.hung_up


def test_life() -> None:
    """A simulator can be started again, not twice; it has no address before; its port can be chosen; stop is idempotent."""
    simulator = Simulator()
    with pytest.raises(RuntimeError, match="before start"):
        _ = simulator.url
    simulator.start()
    with pytest.raises(RuntimeError, match="is running"):
        simulator.start()
    port = int(simulator.url.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        Simulator(port).start()
    simulator.stop()
    simulator.stop()
    with Simulator(port) as again:
        assert again.url == f"http://127.0.0.1:{port}"
    with simulator:
        assert simulator.url


def test_environment(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment variables point clients without arguments at the simulator, past any proxy."""
    for name in ("GOOGLE_API_KEY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for name, value in sim.environment().items():
        monkeypatch.setenv(name, value)
    with openai.OpenAI() as gpt, anthropic.Anthropic() as claude, genai.Client() as gemini:
        gpt.chat.completions.create(model=GPT, messages=MESSAGES)
        claude.messages.create(model=CLAUDE, max_tokens=9, messages=MESSAGES)
        gemini.models.generate_content(model=GEMINI, contents="Why?")
    assert len(sim.requests) == 3


def test_azure_and_other_hosts(sim: Simulator) -> None:
    """Azure's paths, and endpoints below a prefix, are answered too."""
    azure: Any = openai.AzureOpenAI(azure_endpoint=sim.url, api_key="k", api_version="2026-01-01")
    with azure:
        assert azure.chat.completions.create(model=f"{GPT}+chunks=1", messages=MESSAGES).model == GPT
        chunks = list(azure.chat.completions.create(model=f"{GPT}+chunks=1", messages=MESSAGES, stream=True))
        assert [(chunk.model, len(chunk.choices)) for chunk in chunks] == [("", 0)] + [(GPT, 1)] * 3
    with openai.OpenAI(base_url=f"{sim.url}/openrouter/api/v1", api_key="k") as other:
        assert other.responses.create(model="vendor/model", input="Why?").model == "vendor/model"
    assert sim.requests[0].path.startswith("/openai/deployments/")


def test_free_counters(clients: Clients) -> None:
    """Counting tokens is answered with the input that would be reported."""
    count = clients.anthropic.messages.count_tokens(model=f"{CLAUDE}+in=7", messages=MESSAGES)
    assert count.input_tokens == 7
    assert clients.google.models.count_tokens(model=f"{GEMINI}+in=9", contents="Why?").total_tokens == 9


MODULE = [sys.executable, "-W", "error", "-m", "llm_toll_autopatch.simulator"]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import os, sys; sys.exit(7 if os.environ['OPENAI_BASE_URL'].startswith('http://127.0.0.1:') else 1)", 7),
        ("import os; os.environ.get('GOOGLE_API_KEY') and exit(3)", 0),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 128 + signal.SIGTERM),
    ],
)
def test_command_line_passes_the_exit_code(code: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command runs with the environment set, and its exit code is passed on, signals as 128 + N."""
    monkeypatch.setenv("GOOGLE_API_KEY", "another")
    done = subprocess.run([*MODULE, "--", sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (expected, "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--", "no-such-command-anywhere"], 127, "no-such-command-anywhere: No such file"),
        (["--"], 2, "no command after --"),
        (["--port", "x"], 2, "not a port"),
        (["serve"], 2, "unrecognized arguments"),
    ],
)
def test_command_line_errors(arguments: list[str], code: int, message: str) -> None:
    """Mistakes on the command line are explained in one line, without a traceback."""
    done = subprocess.run([*MODULE, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_line_serves_until_a_signal(number: signal.Signals) -> None:
    """Without a command it prints lines for a shell, serves, and ends cleanly on Ctrl-C or SIGTERM."""
    with subprocess.Popen(MODULE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(7)]
        url = lines[0].split()[1]
        assert f"export OPENAI_BASE_URL={url}/v1\n" in lines
        with openai.OpenAI(base_url=f"{url}/v1", api_key="k") as client:
            stream = client.chat.completions.create(model=f"{GPT}+endless+delay=60000", messages=MESSAGES, stream=True)
            next(stream)
            process.send_signal(number)
            _, errors = process.communicate(timeout=20)
            stream.close()
    assert (process.returncode, errors) == (0, "")
