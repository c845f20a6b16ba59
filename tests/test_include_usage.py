"""`include_usage`: usage is asked for in the user's place, and he sees exactly what he would have seen."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import openai
import pytest
from sources import GPT, MESSAGES, httpx_of_openai
from test_identity import dumped, told

import llm_toll_autopatch
from llm_toll_autopatch import MemorySink, Usage, patch_all, patched, status
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.hints import Hints, refused_option
from llm_toll_autopatch.readers.usage_option import with_usage
from llm_toll_autopatch.simulator import Simulator

pytestmark = pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning")

OPENAI = "https://api.openai.com/v1"
ELSEWHERE = "https://api.mistral.ai/v1"
ASK = {"include_usage": True}


http = httpx_of_openai()


def redirected(sim: Simulator, request: Any) -> Any:
    """The request as it goes to the simulator, whatever host it was meant for."""
    url = request.url.copy_with(scheme="http", host="127.0.0.1", port=int(sim.url.rpartition(":")[2]))
    extensions = {**request.extensions, "sni_hostname": "127.0.0.1"}
    return http.Request(request.method, url, headers=request.headers, stream=request.stream, extensions=extensions)


class Redirect(http.HTTPTransport):  # type: ignore[misc,name-defined]
    """Sends what is meant for any host to the simulator."""

    def __init__(self, sim: Simulator) -> None:
        super().__init__()
        self._sim = sim

    def handle_request(self, request: Any) -> Any:
        return super().handle_request(redirected(self._sim, request))


class AsyncRedirect(http.AsyncHTTPTransport):  # type: ignore[misc,name-defined]
    """The same, async."""

    def __init__(self, sim: Simulator) -> None:
        super().__init__()
        self._sim = sim

    async def handle_async_request(self, request: Any) -> Any:
        return await super().handle_async_request(redirected(self._sim, request))


@contextlib.contextmanager
def client_at(base_url: str, sim: Simulator) -> Iterator[Any]:
    """The real client, convinced that it talks to `base_url`."""
    through = http.Client(transport=Redirect(sim))
    with openai.OpenAI(base_url=base_url, api_key="sim", max_retries=0, http_client=through) as client:
        yield client


@contextlib.asynccontextmanager
async def async_client_at(base_url: str, sim: Simulator) -> AsyncIterator[Any]:
    """The same, async."""
    through = http.AsyncClient(transport=AsyncRedirect(sim))
    async with openai.AsyncOpenAI(base_url=base_url, api_key="sim", max_retries=0, http_client=through) as client:
        yield client


def asked_of(sim: Simulator) -> Any:
    """The `stream_options` of the last request."""
    body = sim.requests[-1].body
    assert isinstance(body, dict)
    return body.get("stream_options")


def seen(chunk: Any) -> Any:
    """All that a chunk shows: every field, the set ones, and its JSON, without what differs by itself."""
    shown = (chunk.model_dump(exclude_unset=True), chunk.to_dict(), json.loads(chunk.to_json()), chunk.model_dump())
    return dumped(chunk), chunk.model_fields_set, [dumped(each) for each in shown]


# How a user asks for a stream, and what he takes from it


def read_create(client: Any, model: str, **options: Any) -> Any:
    stream = client.chat.completions.create(model=model, messages=MESSAGES, stream=True, **options)
    return [seen(chunk) for chunk in stream]


def read_with_next(client: Any, model: str, **options: Any) -> Any:
    stream = client.chat.completions.create(model=model, messages=MESSAGES, stream=True, **options)
    chunks = []
    with stream, contextlib.suppress(StopIteration):
        while True:
            chunks.append(seen(next(stream)))
    return chunks


def read_raw(client: Any, model: str, **options: Any) -> Any:
    raw = client.chat.completions.with_raw_response.create(model=model, messages=MESSAGES, stream=True, **options)
    return [seen(chunk) for chunk in raw.parse()]


def read_helper(client: Any, model: str, **options: Any) -> Any:
    with client.chat.completions.stream(model=model, messages=MESSAGES, **options) as stream:
        events = [(type(event).__name__, dumped(event)) for event in stream]
        final = stream.get_final_completion()
        return events, dumped(final), final.usage, final.to_dict().keys()


async def async_read_create(client: Any, model: str, **options: Any) -> Any:
    stream = await client.chat.completions.create(model=model, messages=MESSAGES, stream=True, **options)
    return [seen(chunk) async for chunk in stream]


async def async_read_raw(client: Any, model: str, **options: Any) -> Any:
    raw = await client.chat.completions.with_raw_response.create(model=model, messages=MESSAGES, stream=True, **options)
    return [seen(chunk) async for chunk in raw.parse()]


async def async_read_helper(client: Any, model: str, **options: Any) -> Any:
    async with client.chat.completions.stream(model=model, messages=MESSAGES, **options) as stream:
        events = [(type(event).__name__, dumped(event)) async for event in stream]
        final = await stream.get_final_completion()
        return events, dumped(final), final.usage, final.to_dict().keys()


SCENARIOS = ["", "+tools", "+refusal", "+reasoning=9", "+choices=2", "+empty", "+error-after=2", "+usage-last", "+usage-every", "+error=400"]  # fmt: skip


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("read", [read_create, read_with_next, read_raw, read_helper])
def test_the_user_sees_no_trace(read: Callable[..., Any], scenario: str, sim: Simulator) -> None:
    """Chunks, their number, set fields and JSON, helpers' events and snapshots are those of a run without the option."""

    def run() -> Any:
        with client_at(OPENAI, sim) as client:
            try:
                return read(client, GPT + scenario)
            except openai.OpenAIError as error:
                return told(error)

    bare = run()
    assert asked_of(sim) is None
    with patched() as sink:
        ours = run()
    assert isinstance(sink, MemorySink)
    assert asked_of(sim) == ASK
    assert ours == bare
    (record,) = sink.records
    assert record.usage_source == ("reported" if "error" not in scenario else record.usage_source)


@pytest.mark.parametrize("scenario", ["", "+tools", "+choices=2", "+error-after=2"])
@pytest.mark.parametrize("read", [async_read_create, async_read_raw, async_read_helper])
async def test_the_user_sees_no_trace_async(read: Callable[..., Any], scenario: str, sim: Simulator) -> None:
    """The same, async."""

    async def run() -> Any:
        async with async_client_at(OPENAI, sim) as client:
            try:
                return await read(client, GPT + scenario)
            except openai.OpenAIError as error:
                return told(error)

    bare = await run()
    with patched() as sink:
        ours = await run()
    assert isinstance(sink, MemorySink)
    assert asked_of(sim) == ASK
    assert ours == bare
    assert len(sink) == 1


def test_the_hidden_chunk_is_in_the_record(sim: Simulator) -> None:
    """The record has the provider's figures, and counts the chunks that reached the user."""
    with patched() as sink, client_at(OPENAI, sim) as client:
        chunks = read_create(client, GPT + "+in=77+out=5+cached=7+reasoning=3")
    assert isinstance(sink, MemorySink)
    (record,) = sink.records
    assert record.usage_source == "reported"
    assert (record.usage.input_tokens, record.usage.output_tokens) == (77, 8)
    assert (record.usage.cache_read_tokens, record.usage.reasoning_tokens) == (7, 3)
    assert record.chunks == len(chunks)


@pytest.mark.parametrize(
    ("base_url", "include_usage", "asked"),
    [
        (OPENAI, "auto", ASK),
        ("https://eu.api.openai.com/v1", "auto", ASK),
        ("https://notapi.openai.com.example.org/v1", "auto", None),
        ("https://fakeapi.openai.com/v1", "auto", None),
        (ELSEWHERE, "auto", None),
        ("http://127.0.0.1:1/v1", "auto", None),
        (ELSEWHERE, True, ASK),
        (OPENAI, True, ASK),
        (OPENAI, False, None),
        (ELSEWHERE, False, None),
    ],
)
def test_which_hosts_are_asked(base_url: str, include_usage: Any, asked: Any, sim: Simulator) -> None:
    """`"auto"` asks OpenAI's own hosts, True every host, False none; where nobody was asked the record is an estimate."""
    with patched(include_usage=include_usage) as sink, client_at(base_url, sim) as client:
        read_create(client, GPT)
    assert isinstance(sink, MemorySink)
    assert asked_of(sim) == asked
    assert sink.records[0].usage_source == ("reported" if asked else "estimated")


@pytest.mark.parametrize("given", [{"include_usage": False}, {"include_usage": True}, {"include_usage": True, "include_obfuscation": False}])  # fmt: skip
@pytest.mark.parametrize("in_extra_body", [True, False])
def test_an_explicit_choice_is_respected(given: Any, in_extra_body: bool, sim: Simulator) -> None:
    """Who has set the option gets what he has set, the usage chunk included, as without us."""
    options = {"extra_body": {"stream_options": given}} if in_extra_body else {"stream_options": given}
    before = copy.deepcopy(options)
    with client_at(OPENAI, sim) as client:
        bare = read_create(client, GPT, **options)
        with patched(include_usage=True):
            ours = read_create(client, GPT, **options)
    assert ours == bare
    assert asked_of(sim) == given
    assert options == before


@pytest.mark.parametrize(
    "options",
    [
        {"stream_options": None},
        pytest.param({"stream_options": openai.omit}, id="omit"),  # its repr has an address
        pytest.param({"stream_options": openai.NOT_GIVEN}, id="NOT_GIVEN"),
        {"stream_options": {"include_obfuscation": False}},
        {"extra_body": {"metadata": {"a": "b"}}},
        {"extra_body": {"stream_options": {"include_obfuscation": False}, "user": "u"}},
        {"extra_body": None},
    ],
    ids=str,
)
def test_other_options_stay(options: dict[str, Any], sim: Simulator) -> None:
    """What else the user gave is sent as he gave it, beside the option, and his own dicts are as they were."""
    kept = {name: dict(value) for name, value in options.items() if isinstance(value, dict)}
    with client_at(OPENAI, sim) as client:
        bare = read_create(client, GPT, **options)
        sent = sim.requests[-1].body
        with patched():
            ours = read_create(client, GPT, **options)
    assert ours == bare
    body = sim.requests[-1].body
    assert isinstance(sent, dict)
    assert isinstance(body, dict)
    assert body == {**sent, "stream_options": {**(sent.get("stream_options") or {}), **ASK}}
    assert kept == {name: value for name, value in options.items() if isinstance(value, dict)}


def test_a_plain_call_is_sent_as_it_is(sim: Simulator) -> None:
    """Without `stream=True` the option would be refused, and the usage comes anyway."""
    with patched(include_usage=True), client_at(OPENAI, sim) as client:
        for stream in (False, None, openai.omit):
            client.chat.completions.create(model=GPT, messages=MESSAGES, stream=stream)
            assert asked_of(sim) is None


def test_the_bytes_of_a_streaming_response_are_the_users(sim: Simulator) -> None:
    """`with_streaming_response` gets what the user asked for and no more: nothing could be hidden in its bytes."""
    with patched(include_usage=True), client_at(OPENAI, sim) as client:
        create = client.chat.completions.with_streaming_response.create
        with create(model=GPT, messages=MESSAGES, stream=True) as raw:
            assert b'"usage"' not in b"".join(raw.iter_bytes())
    assert asked_of(sim) is None
    failures.reset()  # how such an answer is metered is not the question here


def test_with_usage_leaves_odd_requests_alone() -> None:
    """Options of a wrong type are the SDK's to refuse."""
    for options in ("yes", 3, ["include_usage"]):
        assert with_usage({"stream": True, "stream_options": options}, "api.openai.com", always=True) is None
    assert with_usage({"stream": True}, None, always=False) is None
    request = {"stream": True, "extra_headers": {"X-Stainless-Raw-Response": "true"}}
    assert with_usage(request, None, always=True) == {**request, "stream_options": ASK}


# Servers that refuse the option

MISTRAL = '{"detail":[{"type":"extra_forbidden","loc":["body","stream_options","include_usage"],"msg":"Extra inputs"}]}'
AZURE = '{"error":{"message":"Validation error at #/stream_options: Extra inputs are not permitted","code":null}}'


def refusing(status_code: int, body: str) -> Any:
    """A server that refuses every request in these words."""
    return http.MockTransport(lambda _: http.Response(status_code, text=body, headers={"content-type": "application/json"}))  # fmt: skip


@pytest.mark.parametrize(("code", "body"), [(422, MISTRAL), (400, AZURE)])
def test_a_refusal_is_a_hint_and_the_users_own_exception(code: int, body: str) -> None:
    """The exception is the SDK's, there was one request, and status() says what to do about it."""
    sink = MemorySink()
    client = openai.OpenAI(base_url=ELSEWHERE, api_key="k", max_retries=0, http_client=http.Client(transport=refusing(code, body)))  # fmt: skip
    with client:
        with pytest.raises(openai.APIStatusError) as bare:
            read_create(client, GPT)
        patch_all(sink=sink, include_usage=True)
        for _ in range(2):
            with pytest.raises(openai.APIStatusError) as ours:
                read_create(client, GPT)
            assert told(ours.value) == told(bare.value)
    (hint,) = status().hints
    assert "api.mistral.ai refuses stream_options.include_usage" in hint
    assert "include_usage='auto'" in hint
    assert f"hint       {hint}" in str(status())
    assert [(record.outcome, record.usage) for record in sink] == [("error", Usage())] * 2
    llm_toll_autopatch.unpatch_all()
    assert status().hints == ()


async def test_a_refusal_is_a_hint_async() -> None:
    """The same, async."""
    through = http.AsyncClient(transport=refusing(422, MISTRAL))
    async with openai.AsyncOpenAI(base_url=OPENAI, api_key="k", max_retries=0, http_client=through) as client:
        with patched(), pytest.raises(openai.UnprocessableEntityError):
            await async_read_create(client, GPT)
        with patched(), contextlib.suppress(openai.UnprocessableEntityError):
            await async_read_create(client, GPT)
            raise AssertionError
        with patched():
            with pytest.raises(openai.UnprocessableEntityError):
                await async_read_create(client, GPT)
            assert "include_usage=False" in status().hints[0]


@pytest.mark.parametrize("code", [401, 429, 500])
def test_other_failures_are_no_hint(code: int) -> None:
    """A failure that does not speak of the option says nothing about it, nor does one without it."""
    client = openai.OpenAI(base_url=OPENAI, api_key="k", max_retries=0, http_client=http.Client(transport=refusing(code, "{}")))  # fmt: skip
    with client, patched():
        with pytest.raises(openai.APIStatusError):
            read_create(client, GPT)
        assert status().hints == ()
    assert refused_option(ConnectionError("stream_options"), None, True) is None


def test_hints_are_few(caplog: pytest.LogCaptureFixture) -> None:
    """A hint is kept and logged once, and there is a bound on how many."""
    hints = Hints()
    for number in range(200):
        hints.add(f"hint {number % 150}")
    assert len(list(hints)) == 100
    assert len(caplog.records) == 100
