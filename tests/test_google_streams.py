"""Google's streams above several requests: automatic function calling, continuation, and what users do in between."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from google import genai
from google.genai import types
from sources import GEMINI, PROMPT, async_clients_of, clients_of
from versions import needs

from llm_toll_autopatch import MemorySink, flush, patched
from llm_toll_autopatch.providers import google_sessions
from llm_toll_autopatch.simulator import Simulator

pytestmark = pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning")

SLOW = "+chunks=40+delay=10"


@pytest.fixture
def sink() -> Iterator[MemorySink]:
    """Where the records of a patched test go."""
    with patched() as sink:
        assert isinstance(sink, MemorySink)
        yield sink


@pytest.fixture
def client(sim: Simulator) -> Iterator[Any]:
    """A sync client."""
    with clients_of(sim) as clients:
        yield clients.google


@pytest.fixture
async def aclient(sim: Simulator) -> AsyncIterator[Any]:
    """An async client."""
    async with async_clients_of(sim) as clients:
        yield clients.google


def outcomes(sink: MemorySink) -> list[str]:
    """How the calls ended, in the order in which they did."""
    flush(5)
    return [record.outcome for record in sink]


def weather(city: str) -> str:
    """Tell the weather."""
    return f"sunny in {city}"


def with_tool(tool: Callable[..., Any]) -> types.GenerateContentConfig:
    # Old versions of the SDK do not understand annotations that are strings, as they are in this file.
    tool.__annotations__ = {"city": str, "return": str}
    return types.GenerateContentConfig(tools=[tool])


def hops(sink: MemorySink, sim: Simulator, outputs: list[int], stream: bool) -> None:
    """Assert one record for each request, each with its own figures and nothing else's."""
    flush(5)
    assert len(sim.requests) == len(outputs)
    seen = [(each.outcome, each.usage_source, each.usage.input_tokens, each.usage.output_tokens) for each in sink]
    assert seen == [("completed", "reported", 25, output) for output in outputs]
    assert {each.stream for each in sink} == {stream}
    assert len({each.response_id for each in sink}) == len(outputs)


# What sends several requests

ASK: dict[str, tuple[Callable[[Any, str, Any], Any], bool]] = {
    "generate": (lambda c, m, config: c.models.generate_content(model=m, contents=PROMPT, config=config), False),
    "chat": (lambda c, m, config: c.chats.create(model=m, config=config).send_message(PROMPT), False),
    "stream": (lambda c, m, config: c.models.generate_content_stream(model=m, contents=PROMPT, config=config), True),
    "chat stream": (lambda c, m, config: c.chats.create(model=m, config=config).send_message_stream(PROMPT), True),
}
SEVERAL = {"tools": ("+tools=2", with_tool(weather), [4, 4, 8]), "continuation": ("+continue=2", None, [8, 8, 8])}
EACH_WAY = pytest.mark.parametrize(
    "several",
    [
        "tools",
        pytest.param("continuation", marks=needs("google", "continuation")),
    ],
)


@EACH_WAY
@pytest.mark.parametrize("ask", ASK)
def test_each_request_is_one_record(ask: str, several: str, client: Any, sink: MemorySink, sim: Simulator) -> None:
    """Automatic function calling and continuation give one record a request, with the request's own figures."""
    send, stream = ASK[ask]
    flags, config, outputs = SEVERAL[several]
    answer = send(client, GEMINI + flags, config)
    if stream:
        assert list(answer)
    hops(sink, sim, outputs, stream)


@EACH_WAY
@pytest.mark.parametrize("ask", ASK)
async def test_each_async_request_is_one_record(
    ask: str, several: str, aclient: Any, sink: MemorySink, sim: Simulator
) -> None:
    """The same, async."""
    send, stream = ASK[ask]
    flags, config, outputs = SEVERAL[several]
    answer = await send(aclient, GEMINI + flags, config)
    if stream:
        assert [chunk async for chunk in answer]
    hops(sink, sim, outputs, stream)


@pytest.mark.parametrize("ask", ["stream", "chat stream"])
@EACH_WAY
def test_a_break_in_a_later_request_ends_that_one(
    ask: str, several: str, client: Any, sink: MemorySink, sim: Simulator
) -> None:
    """What was answered in full before a break is completed, what was under way is closed."""
    flags, config, _ = SEVERAL[several]
    flags = flags.removesuffix("=2")
    stream = ASK[ask][0](client, GEMINI + flags + SLOW, config)
    for _ in stream:
        if len(sim.requests) == 2:
            break
    assert outcomes(sink) == ["completed", "closed"]
    assert sim.requests[1].wait(5)
    assert sim.requests[1].hung_up
    assert list(stream) == []
    assert len(sim.requests) == 2


@pytest.mark.parametrize("ask", ["stream", "chat stream"])
@EACH_WAY
async def test_a_break_in_a_later_async_request_ends_that_one(
    ask: str, several: str, aclient: Any, sink: MemorySink, sim: Simulator
) -> None:
    """The same, async, and the connection is released without a collection."""
    gc.disable()
    try:
        flags, config, _ = SEVERAL[several]
        flags = flags.removesuffix("=2")
        stream = await ASK[ask][0](aclient, GEMINI + flags + SLOW, config)
        async for _ in stream:
            if len(sim.requests) == 2:
                break
        assert outcomes(sink) == ["completed", "closed"]
        await until(lambda: sim.requests[1].wait(0))
        assert sim.requests[1].hung_up
    finally:
        gc.enable()


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop turn until `condition` holds, for a while."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.01)


# What tools do


def test_a_stream_in_a_tool_is_its_own(client: Any, sink: MemorySink, sim: Simulator) -> None:
    """A stream that a tool opens, leaves by a break and keeps is closed at once, and the outer one goes on."""
    kept = []

    def tool(city: str) -> str:
        """Ask another model."""
        inner = client.models.generate_content_stream(model=GEMINI + SLOW, contents=city)
        kept.append(inner)
        for _ in inner:
            break
        assert [each.outcome for each in sink] == ["closed"]
        client.models.generate_content(model=GEMINI, contents=city)
        return "sunny"

    for ask in ("stream", "chat stream"):
        assert list(ASK[ask][0](client, GEMINI + "+tools", with_tool(tool)))
        assert outcomes(sink) == ["closed", "completed", "completed", "completed"]
        assert [each.stream for each in sink] == [True, False, True, True]
        assert len(sim.requests) == 4
        sim.clear()
        sink.clear()


def test_a_stream_in_a_tool_may_outlive_the_outer_one(client: Any, sink: MemorySink, sim: Simulator) -> None:
    """The end of the outer stream is not the end of one that its tool opened and left open."""
    kept: list[Any] = []

    def tool(city: str) -> str:
        """Ask another model."""
        inner = client.models.generate_content_stream(model=GEMINI, contents=city)
        next(inner)
        kept.append(inner)
        return "sunny"

    for number, _ in enumerate(
        client.models.generate_content_stream(model=GEMINI + "+tools", contents=PROMPT, config=with_tool(tool))
    ):
        if number == 2:
            break
    assert outcomes(sink) == ["completed", "closed"]
    assert list(kept[0])
    assert outcomes(sink) == ["completed", "closed", "completed"]
    assert sink.records[-1].usage_source == "reported"


@pytest.mark.parametrize("ask", ["stream", "chat stream"])
@pytest.mark.parametrize("threaded", [False, True])
async def test_a_stream_in_an_async_tool_is_its_own(  # noqa: PLR0917 - fixtures and parameters
    ask: str, threaded: bool, aclient: Any, client: Any, sink: MemorySink, sim: Simulator
) -> None:
    """The same, async: with a coroutine function, and with a function that the SDK runs in a thread."""
    kept = []

    async def coroutine(city: str) -> str:
        """Ask another model."""
        inner = await aclient.models.generate_content_stream(model=GEMINI + SLOW, contents=city)
        kept.append(inner)
        async for _ in inner:
            break
        assert [each.outcome for each in sink] == ["closed"]
        return "sunny"

    def function(city: str) -> str:
        """Ask another model."""
        inner = client.models.generate_content_stream(model=GEMINI + SLOW, contents=city)
        kept.append(inner)
        for _ in inner:
            break
        assert [each.outcome for each in sink] == ["closed"]
        return "sunny"

    stream = await ASK[ask][0](aclient, GEMINI + "+tools" + SLOW, with_tool(function if threaded else coroutine))
    async for _ in stream:
        if len(sim.requests) == 3:
            break
    assert outcomes(sink) == ["closed", "completed", "closed"]
    await until(lambda: all(each.wait(0) for each in sim.requests))
    assert [each.hung_up for each in sim.requests] == [False, True, True]


async def test_a_task_that_a_tool_starts_has_streams_of_its_own(aclient: Any, sink: MemorySink, sim: Simulator) -> None:
    """A task inherits the context of the stream that it was started in, and is none of its requests."""
    tasks = []

    async def background() -> None:
        inner = await aclient.models.generate_content_stream(model=GEMINI + SLOW, contents=PROMPT)
        async for _ in inner:
            break
        assert "closed" in outcomes(sink)

    async def tool(city: str) -> str:
        """Start something."""
        tasks.append(asyncio.create_task(background()))
        return "sunny"

    stream = await aclient.models.generate_content_stream(
        model=GEMINI + "+tools", contents=PROMPT, config=with_tool(tool)
    )
    assert [chunk async for chunk in stream]
    await asyncio.gather(*tasks)
    assert sorted(outcomes(sink)) == ["closed", "completed", "completed"]


# What users do with several streams, threads and tasks


def test_streams_that_take_turns_do_not_mix(client: Any, sink: MemorySink) -> None:
    """Two streams read in turn in one thread keep their figures and ends apart."""
    one = client.models.generate_content_stream(model=GEMINI + "+in=11", contents=PROMPT)
    two = client.chats.create(model=GEMINI + "+in=22" + SLOW).send_message_stream(PROMPT)
    for _ in range(3):
        next(one)
        next(two)
    two.close()
    assert list(one)
    assert [(each.outcome, each.usage.input_tokens) for each in sink] == [("closed", 22), ("completed", 11)]


async def test_async_streams_that_take_turns_do_not_mix(aclient: Any, sink: MemorySink) -> None:
    """The same, in one task, in several, and in several that share a context."""
    one = await aclient.models.generate_content_stream(model=GEMINI + "+in=11", contents=PROMPT)
    two = await aclient.chats.create(model=GEMINI + "+in=22" + SLOW).send_message_stream(PROMPT)
    for _ in range(3):
        await anext(one)
        await anext(two)
    await two.aclose()
    assert [chunk async for chunk in one]
    assert [(each.outcome, each.usage.input_tokens) for each in sink] == [("closed", 22), ("completed", 11)]
    sink.clear()

    async def read(number: int) -> None:
        flags = f"+in={number}+tools+delay=2"
        stream = await aclient.models.generate_content_stream(
            model=GEMINI + flags, contents=PROMPT, config=with_tool(weather)
        )
        async for chunk in stream:
            if number % 2 and chunk.text:
                break

    for context in (None, contextvars.copy_context()):
        await asyncio.gather(*(asyncio.create_task(read(number), context=context) for number in range(100, 108)))
        seen = sorted((each.usage.input_tokens, each.outcome) for each in sink)
        assert seen == sorted(
            (number, outcome)
            for number in range(100, 108)
            for outcome in ("completed", "closed" if number % 2 else "completed")
        )
        sink.clear()
    assert google_sessions.current() is None


def test_nothing_stays_behind_in_the_context(client: Any, sink: MemorySink) -> None:
    """Between two chunks, and after a break, an error or a drop, the context is as it was before."""
    for flags in ("", "+error-after=1", "+error=500"):
        stream = client.models.generate_content_stream(model=GEMINI + flags, contents=PROMPT)
        with contextlib.suppress(Exception):
            for _ in stream:
                assert google_sessions.current() is None
                break
        assert google_sessions.current() is None
        del stream
    assert google_sessions.current() is None


async def test_nothing_stays_behind_in_the_async_context(aclient: Any, sink: MemorySink) -> None:
    """The same, async, with a cancelled wait as well."""
    for flags in ("", "+error-after=1", "+error=500", "+first=5000"):
        stream = await aclient.models.generate_content_stream(model=GEMINI + flags, contents=PROMPT)
        with contextlib.suppress(Exception):
            async with asyncio.timeout(0.3):
                async for _ in stream:
                    assert google_sessions.current() is None
                    break
        assert google_sessions.current() is None


def test_closing_a_stream_that_another_thread_reads_leaves_it_to_that(
    client: Any, sink: MemorySink, sim: Simulator
) -> None:
    """The SDK's own ValueError comes, and the reader gets and is billed for the whole."""
    stream = client.models.generate_content_stream(model=GEMINI + "+delay=30", contents=PROMPT)
    next(stream)
    chunks: list[Any] = []
    thread = threading.Thread(target=lambda: chunks.extend(stream))
    thread.start()
    while not stream.gi_running:
        pass
    with pytest.raises(ValueError, match="already executing"):
        stream.close()
    thread.join()
    assert len(chunks) == 7
    assert outcomes(sink) == ["completed"]


async def test_closing_a_stream_that_another_task_reads_leaves_it_to_that(aclient: Any, sink: MemorySink) -> None:
    """The same, async: the SDK's own RuntimeError."""
    stream = await aclient.models.generate_content_stream(model=GEMINI + "+delay=30", contents=PROMPT)
    await anext(stream)

    async def read() -> list[Any]:
        return [chunk async for chunk in stream]

    task = asyncio.create_task(read())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="already running"):
        await stream.aclose()
    assert len(await task) == 7
    assert outcomes(sink) == ["completed"]


def test_unstarted_streams_are_free(client: Any, sink: MemorySink, sim: Simulator) -> None:
    """Closing a stream that was never read sends and records nothing, and it is empty then."""
    for ask in ("stream", "chat stream"):
        stream = ASK[ask][0](client, GEMINI, None)
        stream.close()
        assert list(stream) == []
    assert not sim.requests
    assert outcomes(sink) == []


async def test_unstarted_async_streams_are_free(aclient: Any, sink: MemorySink, sim: Simulator) -> None:
    """The same, async."""
    for ask in ("stream", "chat stream"):
        stream = await ASK[ask][0](aclient, GEMINI, None)
        await stream.aclose()
        assert [chunk async for chunk in stream] == []
    assert not sim.requests
    assert outcomes(sink) == []


@pytest.mark.parametrize("ask", ["stream", "chat stream"])
def test_an_error_in_a_later_request_is_that_one_s(ask: str, client: Any, sink: MemorySink, sim: Simulator) -> None:
    """The first request stays completed, the SDK's own exception comes through."""
    config = with_tool(weather)
    with pytest.raises(genai.errors.APIError):
        list(ASK[ask][0](client, GEMINI + "+tools+error-after=2", config))
    assert outcomes(sink) == ["completed", "error"]


def test_a_stream_that_resumes_is_two_records(client: Any, sink: MemorySink, sim: Simulator) -> None:
    """A tool that raises is the SDK's business: the model is told, and both requests are records."""

    def tool(city: str) -> str:
        """Fail."""
        raise LookupError(city)

    assert list(client.models.generate_content_stream(model=GEMINI + "+tools", contents=PROMPT, config=with_tool(tool)))
    assert outcomes(sink) == ["completed", "completed"]


def test_send_and_throw_are_part_of_the_stream(client: Any, sink: MemorySink, sim: Simulator) -> None:
    """A stream that is advanced by `send` alone still belongs to the user who drops or breaks it."""
    stream = client.models.generate_content_stream(model=GEMINI + SLOW, contents=PROMPT)
    stream.send(None)
    del stream
    assert outcomes(sink) == ["abandoned"]
    assert sim.requests[0].wait(5)
    assert sim.requests[0].hung_up


async def test_asend_is_part_of_the_stream(aclient: Any, sink: MemorySink, sim: Simulator) -> None:
    """The same, async, and `athrow` ends it as an error."""
    stream = await aclient.models.generate_content_stream(model=GEMINI + SLOW, contents=PROMPT)
    await stream.asend(None)
    async for _ in stream:
        break
    assert outcomes(sink) == ["closed"]
    await until(lambda: sim.requests[0].wait(0))
    assert sim.requests[0].hung_up
    stream = await aclient.models.generate_content_stream(model=GEMINI + SLOW, contents=PROMPT)
    await anext(stream)
    with pytest.raises(ZeroDivisionError):
        await stream.athrow(ZeroDivisionError())
    assert outcomes(sink) == ["closed", "error"]
    await until(lambda: sim.requests[1].wait(0))
    assert sim.requests[1].hung_up


async def test_a_read_in_flight_survives_the_stream(aclient: Any, sink: MemorySink) -> None:
    """Dropping the stream while a task waits for its next chunk does not take that chunk away."""
    stream = await aclient.models.generate_content_stream(
        model=GEMINI + "+first=100+chunks=20+delay=10", contents=PROMPT
    )
    task = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.02)
    del stream
    assert (await task).text
    del task
    await until(lambda: bool(sink.records))
    assert outcomes(sink) == ["abandoned"]


# What clients there are


def test_vertex_says_so(sim: Simulator, sink: MemorySink) -> None:
    """A client in Vertex's express mode is labelled vertex, plain and streamed."""
    with genai.Client(vertexai=True, api_key="sim", http_options={"base_url": sim.google_base_url}) as client:
        client.models.generate_content(model=GEMINI, contents=PROMPT)
        list(client.models.generate_content_stream(model=f"publishers/google/models/{GEMINI}", contents=PROMPT))
    assert [(each.provider, each.usage_source) for each in sink] == [("vertex", "reported"), ("vertex", "reported")]
    assert all(each.cost_usd for each in sink)


def test_a_model_s_resource_name_is_kept_and_priced(client: Any, sink: MemorySink) -> None:
    """`models/x` stays the model that was asked for, and has a price."""
    client.models.generate_content(model=f"models/{GEMINI}", contents=PROMPT)
    (record,) = sink
    assert (record.model, record.response_model) == (f"models/{GEMINI}", GEMINI)
    assert record.cost_usd


def test_a_raw_answer_is_read_from_its_body(client: Any, sink: MemorySink) -> None:
    """With should_return_http_response the SDK parses nothing: the figures are in the body."""
    config = types.GenerateContentConfig(should_return_http_response=True)
    answer = client.models.generate_content(model=GEMINI + "+reasoning=5+cached=10", contents=PROMPT, config=config)
    assert answer.usage_metadata is None
    (record,) = sink
    assert record.usage_source == "reported"
    assert (record.usage.input_tokens, record.usage.output_tokens, record.usage.cache_read_tokens) == (25, 13, 10)
    assert record.response_model == GEMINI
    assert record.response_id


def test_counting_tokens_is_free(client: Any, sink: MemorySink, sim: Simulator) -> None:
    """count_tokens bills nothing and records nothing."""
    client.models.count_tokens(model=GEMINI, contents=PROMPT)
    assert len(sim.requests) == 1
    assert outcomes(sink) == []
