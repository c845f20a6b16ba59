"""What a request can use at most, said before it is sent."""

from __future__ import annotations

import inspect
import io
import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import anthropic
import openai
import pytest
from google.genai import types
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from roads import ROADS, Road
from sources import CLAUDE, GEMINI, GPT, MESSAGES, PROMPT, clients_of
from versions import came_later

from llm_toll_autopatch import MemorySink, patched, status
from llm_toll_autopatch.pricing.prices import Prices
from llm_toll_autopatch.providers import load
from llm_toll_autopatch.readers import bounds, embed_content, gemini_bounds, generate_content, interactions
from llm_toll_autopatch.readers.ceiling import ABOUT_SENDING, Ceiling
from llm_toll_autopatch.readers.chat import ChatCompletions
from llm_toll_autopatch.readers.completions import Completions
from llm_toll_autopatch.readers.embed_content import EmbedContent
from llm_toll_autopatch.readers.embeddings import Embeddings
from llm_toll_autopatch.readers.generate_content import GenerateContent
from llm_toll_autopatch.readers.interactions import Interaction
from llm_toll_autopatch.readers.messages import Messages
from llm_toll_autopatch.readers.reader import Reader
from llm_toll_autopatch.readers.responses import Responses
from llm_toll_autopatch.records import CallRecord, Usage
from llm_toll_autopatch.simulator import Simulator

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # some of the methods are

LIMITS = {
    "chat": {"max_completion_tokens": 100},
    "completions": {"max_tokens": 100},
    "messages": {"max_tokens": 100},
    "responses": {"max_output_tokens": 100},
}
"""How the output of each kind of call is limited."""
TOOL = {
    "type": "function",
    "function": {"name": "look_up", "description": "Looks up.", "parameters": {"type": "object", "properties": {}}},
}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/sky.png"}}


class Sky(BaseModel):
    """What is asked about the sky."""

    colour: str
    reasons: list[str]


def look_up(word: str, *, at_most: int = 3) -> str:
    """Look up a word."""
    return word * at_most


def reader_of(provider: str, method: str) -> type[Reader]:
    """The reader of a method."""
    return next(row.reader for row in load(provider).targets if row.method == method and row.reader is not None)


def readers() -> set[type[Reader]]:
    """The readers of all metered methods, and of what websockets and results are read with."""
    found = {row.reader for name in ("openai", "anthropic", "google") for row in load(name).targets if row.reader}
    pending = list(Reader.__subclasses__())
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        found.add(kind)
    return found


def chat(**request: Any) -> dict[str, Any]:
    """A request of chat completions that is bounded, but for what is asked for."""
    return {"model": GPT, "messages": MESSAGES, "max_completion_tokens": 100, **request}


def claude(**request: Any) -> dict[str, Any]:
    """The same of messages."""
    return {"model": CLAUDE, "messages": MESSAGES, "max_tokens": 100, **request}


def responses(**request: Any) -> dict[str, Any]:
    """The same of responses."""
    return {"model": GPT, "input": PROMPT, "max_output_tokens": 100, **request}


def gemini(contents: Any = PROMPT, **config: Any) -> dict[str, Any]:
    """The same of generate_content."""
    return {"model": GEMINI, "contents": contents, "config": {"max_output_tokens": 100, **config}}


def interact(settings: Any = None, **request: Any) -> dict[str, Any]:
    """The same of interactions."""
    limits = {"max_output_tokens": 100} if settings is None else settings
    return {"model": GEMINI, "input": PROMPT, "generation_config": limits, **request}


def bounded(reader: type[Reader], request: Mapping[str, Any]) -> Usage:
    """The ceiling's figures."""
    ceiling = reader().ceiling(request)
    assert ceiling.usage is not None, ceiling.unbounded
    assert ceiling.unbounded is None
    return ceiling.usage


@pytest.mark.parametrize("reader", sorted(readers(), key=str))
def test_every_reader_has_decided(reader: type[Reader]) -> None:
    """No API that is metered leaves it open whether its requests are bounded."""
    ceiling = reader().ceiling({})
    assert (ceiling.usage is None) != (ceiling.unbounded is None)
    if ceiling.unbounded is not None:
        assert len(ceiling.unbounded.split()) > 5  # words, with what to do


@pytest.mark.parametrize("road", ROADS, ids=str)
def test_every_parameter_is_decided(road: Road, sim: Simulator) -> None:
    """No parameter that the SDK's method takes is one about which it is not known whether it leaves the bound."""
    reader = reader_of(road.provider, road.method)
    if reader.unbounded:
        return
    module = inspect.getmodule(reader)
    known = getattr(module, "_KNOWN", None)
    if known is None:  # a model's name decides
        assert road.operation == "images"
        return
    decided = known | getattr(module, "_REFUSED", {}).keys() | ABOUT_SENDING
    with clients_of(sim) as clients:
        assert set(inspect.signature(road.on(clients)).parameters) <= decided


def test_every_setting_of_gemini_is_decided() -> None:
    """The same for what Google's SDK takes in `config=` and in the body of an interaction."""
    refused = gemini_bounds.REFUSED.keys()
    assert set(types.GenerateContentConfig.model_fields) <= generate_content._KNOWN | refused
    assert set(types.EmbedContentConfig.model_fields) <= embed_content._SETTINGS | refused
    if came_later("google", "continued interactions"):
        return  # the earlier ones have no types of what is sent
    body = import_module("google.genai._gaos.types.interactions.createmodelinteraction")
    settings = import_module("google.genai._gaos.types.interactions.generationconfig")
    refused = interactions._REFUSED.keys()
    assert set(body.CreateModelInteractionParam.__annotations__) <= interactions._KNOWN | refused | ABOUT_SENDING
    assert set(settings.GenerationConfigParam.__annotations__) <= interactions._SETTINGS | refused


@pytest.mark.parametrize("road", ROADS, ids=str)
def test_what_is_reported_stays_below(road: Road, sim: Simulator) -> None:
    """What a real client's call is billed for is never more than the ceiling that its arguments had."""
    arguments = road.arguments() | LIMITS.get(road.operation, {})
    if road.method.endswith("compact"):
        arguments = road.arguments()
    ceiling = reader_of(road.provider, road.method)().ceiling(arguments)
    if ceiling.usage is None:
        assert road.operation in ("decisions", "images", "transcriptions", "translations") or "compact" in road.method
        return
    with patched() as sink, clients_of(sim) as clients:
        road.on(clients)(**arguments)
    assert isinstance(sink, MemorySink)
    (record,) = sink.records
    assert below(record.usage, ceiling.usage)
    assert costs_no_more(record, ceiling)


def costs_no_more(record: CallRecord, ceiling: Ceiling) -> bool:
    """Whether a call cost no more than its ceiling; both are unknown where its model has no price."""
    assert ceiling.usage is not None
    most = Prices().most(
        ceiling.usage,
        provider=record.provider,
        model=record.response_model or record.model,
        endpoint=record.endpoint,
        tiers=ceiling.tiers,
        at=record.started_at,
    )
    if record.cost_usd is None or most is None:
        return record.cost_usd is None and most is None
    return record.cost_usd * 10**9 <= most


def below(usage: Usage, ceiling: Usage) -> bool:
    """Whether no figure is above the ceiling's; parts are bounded by their whole."""
    units = all(usage.details[name] <= ceiling.details.get(name, 0) for name in usage.details)
    return (
        usage.input_tokens <= ceiling.input_tokens
        and usage.output_tokens <= ceiling.output_tokens
        and usage.web_searches <= ceiling.web_searches
        and units
    )


TEXTS = st.text(max_size=200)


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_a_text_has_no_more_tokens_than_bytes(text: str) -> None:
    """The bound is that of byte-level tokenizers, which can make a token of every byte, normalised or not."""
    forms = [text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFKC"))]
    assert bounds.plain(text) >= max(len(form.encode("utf-8", "surrogatepass")) for form in forms)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_json_has_no_more_tokens_than_bytes(value: Any) -> None:
    """Nor have arguments and schemas, however they are written down: with escapes or without, dense or spaced."""
    most = bounds.structure(value)
    assert most >= len(json.dumps(value).encode())
    assert most >= len(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=5), st.integers(1, 10_000), st.integers(1, 4))
def test_more_text_is_a_higher_ceiling(texts: list[str], limit: int, number: int) -> None:
    """Every message counts, in every API, and what may be written is the limit, as often as it may be."""
    size = sum(len(text.encode()) for text in texts)
    messages = [{"role": "user", "content": text} for text in texts]
    for reader, request in (
        (ChatCompletions, chat(messages=messages, max_completion_tokens=limit, n=number)),
        (Messages, claude(messages=messages, max_tokens=limit * number)),
        (Responses, responses(input=messages, max_output_tokens=limit * number)),
        (GenerateContent, gemini(texts, max_output_tokens=limit, candidate_count=number)),
        (Interaction, interact({"max_output_tokens": limit * number}, input=messages)),
        (Completions, {"model": GPT, "prompt": "".join(texts), "max_tokens": limit, "best_of": number}),
    ):
        usage = bounded(reader, request)
        assert usage.input_tokens > size
        assert usage.output_tokens == limit * number


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(TEXTS, st.integers(1, 50), st.integers(1, 3), st.sampled_from(["", "+tier=priority", "+tier=default"]))
def test_random_requests_stay_below(sim: Simulator, text: str, limit: int, number: int, tier: str) -> None:
    """The worst tokenizer that there can be, and answers that use up their limits, do not cost more than the ceiling."""
    size, written = len(text.encode()), limit * number
    flags = f"+in={size}+out={written}"
    messages = [{"role": "user", "content": text}]
    cached = [{"type": "text", "text": text or "-", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    requests = (
        chat(model=GPT + flags + tier, messages=messages, max_completion_tokens=limit, n=number),
        claude(model=f"{CLAUDE}+in=0+cache-write={size}+out={written}", messages=messages, max_tokens=written)
        | {"system": cached},
        gemini([text or "-"], max_output_tokens=limit, candidate_count=number) | {"model": GEMINI + flags},
    )
    with patched() as sink, clients_of(sim) as clients:
        clients.openai.chat.completions.create(**requests[0])
        clients.anthropic.messages.create(**requests[1])
        clients.google.models.generate_content(**requests[2])
    assert isinstance(sink, MemorySink)
    ceilings = [reader().ceiling(each) for reader, each in zip(READERS, requests, strict=True)]
    for record, ceiling in zip(sink.records, ceilings, strict=True):
        assert ceiling.usage is not None
        assert record.usage_source == "reported"
        assert record.usage.total_tokens >= size
        assert below(record.usage, ceiling.usage)
        assert costs_no_more(record, ceiling)


READERS = (ChatCompletions, Messages, GenerateContent)


BOUNDED: tuple[tuple[type[Reader], dict[str, Any], int, int], ...] = (
    # What is in the request beside the prompt, by what it has to be more than; and the output.
    (ChatCompletions, chat(n=3), len(PROMPT), 300),
    (ChatCompletions, chat(max_tokens=200), len(PROMPT), 200),
    (ChatCompletions, chat(extra_body={"max_completion_tokens": 900}), len(PROMPT), 900),
    (ChatCompletions, chat(tools=[TOOL]), len(json.dumps(TOOL)), 100),
    (ChatCompletions, chat(response_format=Sky), len(json.dumps(Sky.model_json_schema())), 100),
    (ChatCompletions, chat(messages=[{"role": "assistant", "content": None, "tool_calls": [TOOL]}]), 100, 100),
    (ChatCompletions, chat(messages=[{"role": "user", "content": [{"type": "text", "text": "ü" * 50}]}]), 100, 100),
    (Completions, {"model": GPT, "prompt": ["a", "b"], "max_tokens": 10, "n": 2, "best_of": 3}, 2, 60),
    (Completions, {"model": GPT, "prompt": [[1, 2], [3]], "max_tokens": 10}, 3, 20),
    (Responses, responses(instructions="x" * 90), len(PROMPT) + 90, 100),
    (Responses, responses(text_format=Sky), len(json.dumps(Sky.model_json_schema())), 100),
    (Responses, responses(input=[{"type": "function_call_output", "call_id": "1", "output": "y" * 70}]), 70, 100),
    (Messages, claude(thinking={"type": "enabled", "budget_tokens": 50}), len(PROMPT), 100),
    (Messages, claude(system=[{"type": "text", "text": "z" * 80}]), len(PROMPT) + 80, 100),
    (Messages, claude(tools=[{"type": "bash_20250124", "name": "bash"}]), 1_000, 100),
    (
        Messages,
        claude(messages=[{"role": "user", "content": [{
            "type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d" * 60},
        }]}]),
        60,
        100,
    ),
    (GenerateContent, gemini(candidate_count=2), len(PROMPT), 200),
    (GenerateContent, {**gemini(), "config": {"maxOutputTokens": 70, "candidateCount": 2}}, len(PROMPT), 140),
    (GenerateContent, {**gemini(), "config": types.GenerateContentConfig(max_output_tokens=60)}, len(PROMPT), 60),
    (GenerateContent, gemini(thinking_config={"thinking_budget": 50}), len(PROMPT), 150),
    (GenerateContent, gemini(thinking_config={"thinkingBudget": -1}), len(PROMPT), 100),
    (GenerateContent, gemini(tools=[look_up]), len(PROMPT) + len("Look up a word."), 100),
    (GenerateContent, gemini(response_schema=list[Sky]), len(json.dumps(Sky.model_json_schema())), 100),
    (GenerateContent, gemini(types.Content(role="user", parts=[types.Part(text="p" * 40)])), 40, 100),
    (GenerateContent, gemini([{"role": "user", "parts": [{"functionResponse": {"response": {"a": "r" * 40}}}]}]), 40, 100),
    (EmbedContent, {"model": GEMINI, "contents": ["a" * 30, "b" * 30]}, 60, 0),
    (Interaction, interact(system_instruction="s" * 40), len(PROMPT) + 40, 100),
    (Interaction, {"request": {"body": interact()}}, len(PROMPT), 100),
)  # fmt: skip


@pytest.mark.parametrize(("reader", "request_", "least", "written"), BOUNDED)
def test_what_is_bounded(reader: type[Reader], request_: dict[str, Any], least: int, written: int) -> None:
    """Text, tools and formats of every shape are counted in full, and the output is what the limits allow."""
    usage = bounded(reader, request_)
    assert usage.input_tokens > least
    assert usage.output_tokens == written


UNBOUNDED: tuple[tuple[type[Reader], dict[str, Any], str], ...] = (
    (ChatCompletions, {"model": GPT, "messages": MESSAGES}, "pass max_completion_tokens="),
    (ChatCompletions, chat(max_completion_tokens=0), "pass max_completion_tokens="),
    (ChatCompletions, chat(messages=[{"role": "user", "content": [IMAGE]}]), "an image has no known upper bound"),
    (ChatCompletions, chat(messages=[{"role": "assistant", "audio": {"id": "a"}}]), "a recording"),
    (ChatCompletions, chat(messages=iter(MESSAGES)), "pass a list"),
    (ChatCompletions, chat(modalities=["text", "audio"]), "speech"),
    (ChatCompletions, chat(prediction={"type": "content", "content": "x"}), "prediction= is billed"),
    (ChatCompletions, chat(web_search_options={"search_context_size": "low"}), "web_search_options="),
    (ChatCompletions, chat(tools=[{"type": "web_search"}]), "the tool 'web_search' is the provider's"),
    (ChatCompletions, chat(model="gpt-4o-search-preview"), "use another model"),
    (ChatCompletions, chat(extra_body={"model": "gpt-5"}), "pass it as model="),
    (ChatCompletions, chat(extra_body={"enable_search": True}), "enable_search= is not known"),
    (Completions, {"model": GPT, "prompt": "x"}, "pass max_tokens="),
    (Completions, {"model": GPT, "prompt": iter(["x"]), "max_tokens": 1}, "pass a list"),
    (Responses, {"model": GPT, "input": PROMPT}, "pass max_output_tokens="),
    (Responses, responses(previous_response_id="resp_1"), "input that is not in this request"),
    (Responses, responses(conversation="conv_1"), "input that is not in this request"),
    (Responses, responses(prompt={"id": "pmpt_1"}), "stored prompt"),
    (Responses, responses(tools=[{"type": "code_interpreter"}]), "the tool 'code_interpreter'"),
    (Responses, responses(input=[{"id": "msg_1"}]), "an item that the provider keeps"),
    (Responses, responses(input=[{"type": "reasoning", "encrypted_content": "x"}]), "reasoning whose text"),
    (Messages, {"model": CLAUDE, "messages": MESSAGES}, "pass max_tokens="),
    (Messages, claude(tools=[{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}]), "web_search"),
    (Messages, claude(mcp_servers=[{"type": "url"}]), "mcp_servers="),
    (Messages, claude(container="c"), "container="),
    (Messages, claude(fallbacks=[{"model": "x"}]), "other models"),
    (Messages, claude(messages=[{"role": "user", "content": [{"type": "image", "source": {}}]}]), "an image"),
    (
        Messages,
        claude(messages=[{"role": "user", "content": [{"type": "document", "source": {"type": "url", "url": "u"}}]}]),
        "what is fetched from an address",
    ),
    (
        Messages,
        claude(messages=[{"role": "assistant", "content": [{"type": "thinking", "thinking": "x"}]}]),
        "thinking",
    ),
    (GenerateContent, {"model": GEMINI, "contents": PROMPT}, "pass config max_output_tokens="),
    (GenerateContent, gemini(cached_content="c"), "pass the contents themselves"),
    (GenerateContent, gemini(tools=[{"google_search": {}}]), "the tool 'google_search'"),
    (GenerateContent, gemini(tools=[types.Tool(code_execution=types.ToolCodeExecution())]), "'code_execution'"),
    (GenerateContent, gemini(types.Part.from_bytes(data=b"PNG", mime_type="image/png")), "data that is not text"),
    (GenerateContent, gemini([PROMPT, io.BytesIO(b"PNG")]), "BytesIO"),
    (GenerateContent, gemini([{"parts": [{"thoughtSignature": b"x"}]}]), "a signature"),
    (GenerateContent, gemini(response_modalities=["AUDIO"]), "more than text"),
    (GenerateContent, {**gemini(), "model": "gemini-3.1-flash-image"}, "more than text"),
    (Embeddings, {"model": GPT, "input": iter(["x"])}, "pass a list"),
    (Interaction, interact({}), "pass generation_config max_output_tokens="),
    (Interaction, interact(previous_interaction_id="i"), "pass the turns"),
    (Interaction, interact(agent="deep-research"), "use a model"),
    (Interaction, interact(tools=[{"type": "google_search"}]), "google_search"),
)


@pytest.mark.parametrize(("reader", "request_", "reason"), UNBOUNDED)
def test_what_is_unbounded(reader: type[Reader], request_: dict[str, Any], reason: str) -> None:
    """What no figure bounds is told in words: which part it is, and what to do."""
    ceiling = reader().ceiling(request_)
    assert ceiling.usage is None
    assert ceiling.unbounded is not None
    assert reason in ceiling.unbounded


def test_nothing_is_consumed_or_changed() -> None:
    """Iterators in a request are left alone, and so is the request."""

    def messages() -> Iterator[Any]:
        yield from MESSAGES

    given_ = messages()
    request = chat(messages=given_, extra_body={"n": 2})
    before = dict(request)
    assert ChatCompletions().ceiling(request).usage is None
    assert request == before
    assert list(given_) == MESSAGES


def test_tokens_count_exactly() -> None:
    """Lists of tokens are what they are; texts are bounded by their bytes."""
    assert bounded(Embeddings, {"model": "m", "input": [1, 2, 3]}).input_tokens == 3
    assert bounded(Embeddings, {"model": "m", "input": [[1, 2], [3, 4]]}).input_tokens == 4
    assert bounded(Embeddings, {"model": "m", "input": ["ab", "c"]}).input_tokens >= 3


def test_arguments_of_the_sdk_that_are_not_given() -> None:
    """The SDKs' sentinels for what is not given are not given."""
    assert bounded(ChatCompletions, chat(tools=openai.NOT_GIVEN, n=openai.NOT_GIVEN, max_tokens=None)) == bounded(
        ChatCompletions, chat()
    )
    assert bounded(Messages, claude(system=anthropic.NOT_GIVEN, tools=anthropic.omit)) == bounded(Messages, claude())


@pytest.fixture
def ceilings(monkeypatch: pytest.MonkeyPatch) -> list[Ceiling]:
    """The ceiling of every request, from the arguments with which the SDK's method is really called."""
    found: list[Ceiling] = []

    def begins(original: Callable[..., None]) -> Callable[..., None]:
        def begin(self: Reader, request: Mapping[str, Any], *, later: bool) -> None:
            found.append(self.ceiling(request))
            original(self, request, later=later)

        return begin

    reader: Any
    for reader in (ChatCompletions, Messages, Responses, GenerateContent, Interaction):
        monkeypatch.setattr(reader, "begin", begins(reader.begin))
    return found


def helpers(clients: Any) -> None:
    """Calls through the SDKs' own helpers, each of which sends a request that is bounded."""
    gpt = clients.openai.chat.completions
    with gpt.stream(model=GPT, messages=MESSAGES, max_completion_tokens=9, response_format=Sky) as stream:
        stream.close()
    gpt.with_raw_response.create(**chat())
    with clients.openai.responses.stream(**responses(text_format=Sky)) as stream:
        stream.close()
    answer = gpt.create(**chat(model=f"{GPT}+tools", tools=[TOOL]))
    called = {"role": "tool", "tool_call_id": "1", "content": "x"}
    gpt.create(**chat(messages=[*MESSAGES, answer.choices[0].message, called]))
    with clients.anthropic.messages.stream(**claude()) as stream:
        stream.close()
    run = clients.anthropic.beta.messages.tool_runner
    whole = {"thread": False} if "thread" in inspect.signature(run).parameters else {}
    tools = [anthropic.beta_tool(look_up)]
    runner = run(model=f"{CLAUDE}+tools", max_tokens=9, messages=MESSAGES, tools=tools, **whole)
    assert len(list(runner)) == 2
    clients.google.models.generate_content(**gemini(tools=[look_up]) | {"model": f"{GEMINI}+tools"})
    talk = clients.google.chats.create(model=GEMINI, config={"max_output_tokens": 9})
    talk.send_message(PROMPT)
    talk.send_message(PROMPT)
    clients.google.interactions.create(**interact())


@pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_helpers_of_the_sdks_send(ceilings: list[Ceiling], sim: Simulator) -> None:
    """What the SDKs' helpers hand to the methods is bounded as what users do: sentinels, models, history."""
    with patched(), clients_of(sim) as clients:
        helpers(clients)
    reasons = [ceiling.unbounded for ceiling in ceilings if ceiling.unbounded is not None]
    assert len(ceilings) == 13
    assert len(reasons) == 1  # the second hop of Gemini's function calling, which hands back a thought's signature
    assert "a signature that stands for thoughts" in reasons[0]


def test_what_is_written_into_a_cache_costs_more() -> None:
    """All of the input may be written into a cache: at the rate of an hour where any of it is to last so long."""
    marked = {"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}
    longer = {**marked, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    assert bounded(Messages, claude()).cache_write_tokens == 0
    short = bounded(Messages, claude(system=[marked]))
    assert short.cache_write_5m_tokens == short.cache_write_tokens == short.input_tokens
    long = bounded(Messages, claude(system=[marked, longer]))
    assert long.cache_write_1h_tokens == long.cache_write_tokens == long.input_tokens


def test_the_dearest_tier_counts() -> None:
    """A tier that is asked for has to have a price; one that may serve counts where it has one and is dearer."""
    assert ChatCompletions().ceiling(chat()).tiers == (None, "priority")
    assert ChatCompletions().ceiling(chat(service_tier="auto")).tiers == (None, "priority")
    assert ChatCompletions().ceiling(chat(service_tier="default")).tiers == ("default",)
    assert Messages().ceiling(claude(speed="fast")).tiers == ("fast",)
    assert GenerateContent().ceiling(gemini(service_tier="FLEX")).tiers == ("flex",)

    def most(model: str, *tiers: str | None) -> int | None:
        usage = Usage(input_tokens=1_000, output_tokens=1_000)
        now = datetime(2026, 11, 25, tzinfo=UTC)
        return Prices().most(usage, provider="openai", model=model, endpoint=None, tiers=tiers, at=now)

    standard, priority = most(GPT, None), most(GPT, "priority")
    assert standard is not None
    assert priority is not None
    assert standard < priority == most(GPT, None, "priority")
    assert most(GPT, "scale") is None
    assert most("nobody-knows-this") is None
    assert most("gpt-3.5-turbo-instruct", None, "priority") == most("gpt-3.5-turbo-instruct", None)


def test_a_tier_without_a_price_is_no_unknown_price(sim: Simulator) -> None:
    """Asking what a model would cost at a tier that it does not have warns nobody, and is no unknown price."""
    with patched(max_budget=1, strict_budget=True), clients_of(sim) as clients:
        clients.openai.completions.create(model="gpt-3.5-turbo-instruct", prompt=PROMPT, max_tokens=9)
        assert not status().unknown_prices
    assert len(sim.requests) == 1


def test_the_dearest_form_counts() -> None:
    """Output may turn out to be speech, reasoning or images, and input to be written into a cache."""
    prices = Prices({"m": {"input": 1, "output": 2, "cache_write": 3, "output_audio": 9, "reasoning": 4}})
    usage = Usage(input_tokens=1_000, cache_write_tokens=1_000, output_tokens=1_000)
    now = datetime(2026, 11, 25, tzinfo=UTC)
    assert prices.most(usage, provider="openai", model="m", endpoint=None, tiers=(None,), at=now) == 12_000_000
    cheaper = Prices({"m": {"input": 1, "output": 2, "cache_write": 0.5}})
    assert cheaper.most(usage, provider="openai", model="m", endpoint=None, tiers=(None,), at=now) == 3_000_000
    assert not prices.unknown
