"""Raw responses of the Stainless SDKs: metered as the user reads them, and exactly what the bare SDK gives."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from roads import RAW, RAW_STREAMS, STREAMING, Road
from sources import async_clients_of, clients_of
from test_identity import dumped, masked

from llm_toll_autopatch import MemorySink, flush, patched
from llm_toll_autopatch.records import CallRecord, Usage
from llm_toll_autopatch.simulator import Simulator

pytestmark = [
    pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # some of the methods are
]

Act = Callable[[Any], Any]

SLOW = "+chunks=40+delay=10"


def content(answer: Any) -> Any:
    """A comparable form of an answer; a recording is its bytes."""
    return answer.read() if hasattr(answer, "stream_to_file") else dumped(answer)


def the_record(sink: Any, road: Road) -> CallRecord:
    """The one record, checked for where it comes from."""
    flush(5)
    (record,) = sink.records
    assert isinstance(record, CallRecord)
    assert (record.provider, record.method, record.operation) == (road.provider, road.method, road.operation)
    return record


def check(sink: Any, road: Road) -> None:
    """Assert that there is one record and that it has the reported figures."""
    record = the_record(sink, road)
    assert (record.outcome, record.usage_source) == ("completed", "reported")
    assert {name: getattr(record.usage, name) for name in road.usage} == dict(road.usage)


# Plain answers

WHOLE: dict[str, Act] = {
    "parse": lambda raw: content(raw.parse()),
    "parse twice": lambda raw: raw.parse() is raw.parse(),
    "read": lambda raw: len(raw.read()) > 0,
    "text": lambda raw: len(raw.text()) > 0,
    "json": lambda raw: sorted(raw.json()),
    "iter_bytes": lambda raw: len(b"".join(raw.iter_bytes())) > 0,
    "iter_text": lambda raw: len("".join(raw.iter_text(7))) > 0,
    "iter_lines": lambda raw: len(list(raw.iter_lines())),
    "read, then parse": lambda raw: (len(raw.read()) > 0, dumped(raw.parse())),
    "read twice": lambda raw: raw.read() == raw.read(),
}


async def _gather(chunks: Any) -> list[Any]:
    return [chunk async for chunk in chunks]


async def _parse_twice(raw: Any) -> bool:
    return (await raw.parse()) is (await raw.parse())


async def _parse(raw: Any) -> Any:
    return content(await raw.parse())


ASYNC_WHOLE: dict[str, Act] = {
    "parse": _parse,
    "parse twice": _parse_twice,
    "read": lambda raw: raw.read(),
    "text": lambda raw: raw.text(),
    "json": lambda raw: raw.json(),
    "iter_bytes": lambda raw: _gather(raw.iter_bytes()),
    "iter_lines": lambda raw: _gather(raw.iter_lines()),
}


def ways(acts: dict[str, Act], roads: list[Road]) -> pytest.MarkDecorator:
    """Every way to read on the main roads, two of them on the others."""
    rows = [
        pytest.param(road, act, id=f"{road}-{act}")
        for road in roads
        for act in acts
        if act in ("parse", "iter_bytes") or (road.method in MAIN and (act != "json" or road.operation != "speech"))
    ]
    return pytest.mark.parametrize(("road", "act"), rows)


MAIN = ("chat.completions.create", "responses.create", "messages.create", "audio.speech.create")


@ways(WHOLE, STREAMING)
def test_streaming_response(road: Road, act: str, sim: Simulator) -> None:
    """However the user reads a streaming response, it is one record with the reported figures, and the same to him."""
    seen = []
    with clients_of(sim) as clients, road.on(clients, "with_streaming_response")(**road.arguments()) as raw:
        seen.append(WHOLE[act](raw))
    with patched() as sink, clients_of(sim) as clients:
        with road.on(clients, "with_streaming_response")(**road.arguments()) as raw:
            assert not raw.is_closed
            assert isinstance(sink, MemorySink)
            assert not sink.records
            seen.append(WHOLE[act](raw))
            assert len(sink.records) == 1
            assert raw.is_closed
    assert seen[0] == seen[1]
    check(sink, road)


@ways(ASYNC_WHOLE, STREAMING)
async def test_async_streaming_response(road: Road, act: str, sim: Simulator) -> None:
    """The same, async."""
    with patched() as sink:
        async with async_clients_of(sim) as clients:
            async with road.on(clients, "with_streaming_response")(**road.arguments()) as raw:
                assert not raw.is_closed
                assert await ASYNC_WHOLE[act](raw)
                assert raw.is_closed
    check(sink, road)


@pytest.mark.parametrize("road", RAW, ids=str)
def test_raw_response(road: Road, sim: Simulator) -> None:
    """with_raw_response is metered at once, parsed or not, and parses into what it parses into bare."""
    with clients_of(sim) as clients:
        bare = content(road.on(clients, "with_raw_response")(**road.arguments()).parse())
    with patched() as sink, clients_of(sim) as clients:
        raw = road.on(clients, "with_raw_response")(**road.arguments())
        assert isinstance(sink, MemorySink)
        assert len(sink.records) == 1
        assert content(raw.parse()) == bare
        assert raw.parse() is raw.parse()
    check(sink, road)


@pytest.mark.parametrize("road", RAW, ids=str)
async def test_async_raw_response(road: Road, sim: Simulator) -> None:
    """The same, async."""
    with patched() as sink:
        async with async_clients_of(sim) as clients:
            raw = await road.on(clients, "with_raw_response")(**road.arguments())
            parsed = raw.parse()
            assert dumped(await parsed if inspect.isawaitable(parsed) else parsed)
    check(sink, road)


@pytest.mark.parametrize("road", STREAMING, ids=str)
def test_a_streaming_response_that_nobody_reads(road: Road, sim: Simulator) -> None:
    """Leaving the context without reading closes the response, and that is one record without reported figures."""
    with patched() as sink, clients_of(sim) as clients:
        with road.on(clients, "with_streaming_response")(**road.arguments()) as raw:
            pass
        assert raw.is_closed
    record = the_record(sink, road)
    assert (record.outcome, record.usage_source, record.usage.output_tokens) == ("closed", "estimated", 0)


# Streams

EVENTS: dict[str, Act] = {
    "parse": lambda raw: [dumped(chunk) for chunk in raw.parse()],
    "parse twice": lambda raw: raw.parse() is raw.parse() and list(raw.parse()) != [],
    "iter_lines": lambda raw: len(list(raw.iter_lines())),
    "iter_bytes": lambda raw: masked(b"".join(raw.iter_bytes()).decode()).count("\n"),
    "iter_bytes, in small pieces": lambda raw: len(b"".join(raw.iter_bytes(3))) > 0,
    "read": lambda raw: len(raw.read()) > 0,
}


async def _parse_stream(raw: Any) -> Any:
    stream = await raw.parse()
    assert stream is await raw.parse()
    return [chunk async for chunk in stream]


ASYNC_EVENTS: dict[str, Act] = {
    "parse": _parse_stream,
    "iter_lines": lambda raw: _gather(raw.iter_lines()),
    "iter_bytes": lambda raw: _gather(raw.iter_bytes(5)),
    "read": lambda raw: raw.read(),
}


@ways(EVENTS, RAW_STREAMS)
def test_streaming_response_of_a_stream(road: Road, act: str, sim: Simulator) -> None:
    """A stream is metered as bytes, lines or events pass, in whatever form the user wants it."""
    seen = []
    with clients_of(sim) as clients, road.on(clients, "with_streaming_response")(**road.arguments(stream=True)) as raw:
        seen.append(EVENTS[act](raw))
    with patched() as sink, clients_of(sim) as clients:
        with road.on(clients, "with_streaming_response")(**road.arguments(stream=True)) as raw:
            seen.append(EVENTS[act](raw))
            assert isinstance(sink, MemorySink)
            assert len(sink.records) == 1
    assert seen[0] == seen[1]
    check(sink, road)
    assert sink.records[0].stream


@ways(ASYNC_EVENTS, RAW_STREAMS)
async def test_async_streaming_response_of_a_stream(road: Road, act: str, sim: Simulator) -> None:
    """The same, async."""
    with patched() as sink:
        async with async_clients_of(sim) as clients:
            async with road.on(clients, "with_streaming_response")(**road.arguments(stream=True)) as raw:
                assert await ASYNC_EVENTS[act](raw)
    check(sink, road)
    assert isinstance(sink, MemorySink)
    assert sink.records[0].stream


@pytest.mark.parametrize("road", RAW_STREAMS, ids=str)
def test_raw_response_of_a_stream(road: Road, sim: Simulator) -> None:
    """with_raw_response of a stream parses into the same metered stream each time, which closes on break."""
    with patched() as sink, clients_of(sim) as clients:
        raw = road.on(clients, "with_raw_response")(**road.arguments(SLOW, stream=True))
        stream = raw.parse()
        assert raw.parse() is stream
        for _ in stream:
            break
        assert raw.http_response.is_closed
    assert the_record(sink, road).outcome == "closed"


@pytest.mark.parametrize("road", RAW_STREAMS, ids=str)
async def test_async_raw_response_of_a_stream(road: Road, sim: Simulator) -> None:
    """The same, async, read to the end."""
    with patched() as sink:
        async with async_clients_of(sim) as clients:
            raw = await road.on(clients, "with_raw_response")(**road.arguments(stream=True))
            stream = raw.parse()
            stream = await stream if inspect.isawaitable(stream) else stream
            assert [chunk async for chunk in stream]
    check(sink, road)


def _three_lines(raw: Any) -> None:
    lines = raw.iter_lines()
    for _ in range(12):
        next(lines)


def _raise(raw: Any) -> None:
    for _ in raw.iter_bytes():
        raise KeyError


LEFT: dict[str, Act] = {
    "nothing read": lambda raw: None,
    "some lines": _three_lines,
    "an exception in the loop": _raise,
    "closed": lambda raw: raw.close(),
    "parsed, unread": lambda raw: raw.parse(),
    "parsed, broken off": lambda raw: next(raw.parse()),
}


@pytest.mark.parametrize("act", LEFT)
@pytest.mark.parametrize("road", [road for road in RAW_STREAMS if road.method in MAIN], ids=str)
def test_a_streaming_response_that_is_left_early(road: Road, act: str, sim: Simulator) -> None:
    """A streamed body that is not read to its end is one record, which counts what has passed."""
    with patched() as sink, clients_of(sim) as clients:
        try:
            with road.on(clients, "with_streaming_response")(**road.arguments(SLOW, stream=True)) as raw:
                LEFT[act](raw)
        except KeyError:
            assert act == "an exception in the loop"
        record = the_record(sink, road)
    assert record.outcome == "closed"
    if act == "some lines":
        assert record.chunks > 0
        assert record.usage.input_tokens > 0


@pytest.mark.parametrize("road", RAW_STREAMS, ids=str)
def test_a_raw_response_that_is_dropped(road: Road, sim: Simulator) -> None:
    """A raw response that is dropped unread is abandoned, as soon as nobody holds it."""
    with patched() as sink, clients_of(sim) as clients:
        raw = road.on(clients, "with_raw_response")(**road.arguments(SLOW, stream=True))
        raw.http_response.headers.get("x")
        del raw
        gc.collect()
        assert the_record(sink, road).outcome == "abandoned"


@pytest.mark.parametrize("flags", ["+error-after=2", "+cut=2"])
@pytest.mark.parametrize("road", RAW_STREAMS, ids=str)
def test_a_streamed_body_that_fails(road: Road, flags: str, sim: Simulator) -> None:
    """An error event, or a connection that breaks, is one record of an error; the user sees what he sees bare."""

    def run() -> str:
        arguments = road.arguments(flags, stream=True)
        with clients_of(sim) as clients, road.on(clients, "with_streaming_response")(**arguments) as raw:
            try:
                return str(len(list(raw.iter_lines())))
            except Exception as error:
                return type(error).__name__

    bare = run()
    with patched() as sink:
        assert run() == bare
    assert the_record(sink, road).outcome == "error"


def test_the_bytes_of_a_streaming_response_are_not_asked_for_usage(sim: Simulator) -> None:
    """include_usage=True asks in with_raw_response, whose chunks can be hidden, never where the user reads bytes."""
    road = RAW_STREAMS[0]
    arguments = {**road.arguments(stream=True)}
    del arguments["stream_options"]
    with patched(include_usage=True) as sink, clients_of(sim) as clients:
        with road.on(clients, "with_streaming_response")(**arguments) as raw:
            assert '"usage"' not in raw.read().decode()
        chunks = list(road.on(clients, "with_raw_response")(**arguments).parse())
        assert all("usage" not in chunk.model_fields_set for chunk in chunks)
    assert isinstance(sink, MemorySink)
    estimated, reported = sink.records
    assert [estimated.usage_source, reported.usage_source] == ["estimated", "reported"]
    assert estimated.usage != Usage()
