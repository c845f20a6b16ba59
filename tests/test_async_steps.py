"""The steps of async streams: taken one by one, at once, by tasks, and given up half-way."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sources import ASYNC, GEMINI, PROMPT, Source, async_clients_of

from llm_toll_autopatch import MemorySink, flush, patched, settings, track_costs
from llm_toll_autopatch.metering import Call
from llm_toll_autopatch.providers import google_streams
from llm_toll_autopatch.providers.google_sessions import Session
from llm_toll_autopatch.readers.generate_content import GenerateContent
from llm_toll_autopatch.settings import Settings
from llm_toll_autopatch.simulator import Simulator

pytestmark = pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning")

LATE = "+first=100+chunks=5"
"""Time enough for a second step before the first has got its chunk."""
WORD = {"id": "c", "model": "gpt-5-mini", "choices": [{"index": 0, "delta": {"content": "word "}}]}
LIMITS: dict[str, dict[str, Any]] = {
    "no limits": {},
    "cut off at a budget": {"max_budget": "1000", "stop_streams": True},
}
EACH_SOURCE = pytest.mark.parametrize("source", ASYNC, ids=str)


async def two_steps_at_once(stream: Any) -> tuple[list[Any], BaseException | None]:
    """The chunks that a reader gets, and what a second one gets who comes while that one waits."""
    first = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.02)
    second = None
    try:
        await anext(stream)
    except RuntimeError as error:
        second = error
    return [await first, *[chunk async for chunk in stream]], second


@pytest.mark.parametrize("limits", LIMITS)
@EACH_SOURCE
async def test_a_step_while_another_is_taken_is_refused_as_it_is_bare(
    source: Source, limits: str, sim: Simulator
) -> None:
    """It gets the SDK's own exception; who came first reads on to the end, and there is one record that says so."""
    sink = MemorySink()
    async with async_clients_of(sim) as clients:
        chunks, refused = await two_steps_at_once(await source.open(clients, source.model + LATE))
    with patched(sink=sink, **LIMITS[limits]):
        async with async_clients_of(sim) as clients:
            ours, told = await two_steps_at_once(await source.open(clients, source.model + LATE))
    assert len(ours) == len(chunks)
    assert (type(told), str(told)) == (type(refused), str(refused))
    assert refused is not None
    (record,) = sink.records
    assert record.outcome == "completed"


@pytest.mark.parametrize("limits", LIMITS)
async def test_a_step_while_a_tracked_generator_takes_another_is_refused(limits: str) -> None:
    """The same for the generator of a tracked function."""
    sink = MemorySink()
    with patched(sink=sink):

        @track_costs(model="gpt-5-mini", **LIMITS[limits])
        async def told() -> AsyncIterator[Any]:
            await asyncio.sleep(0.1)
            yield WORD
            yield WORD

        chunks, refused = await two_steps_at_once(told())
    assert chunks == [WORD, WORD]
    assert refused is not None
    (record,) = sink.records
    assert record.outcome == "completed"


@EACH_SOURCE
async def test_a_step_is_a_coroutine_that_a_task_may_run(source: Source, sim: Simulator) -> None:
    """`create_task(stream.__anext__())` works, as it does on the bare stream, and the stream goes on from there."""
    sink = MemorySink()
    with patched(sink=sink):
        async with async_clients_of(sim) as clients:
            stream = await source.open(clients, source.model)
            await asyncio.create_task(stream.__anext__())
            async for _ in stream:
                pass
    (record,) = sink.records
    assert (record.outcome, record.usage_source) == ("completed", "reported")


@EACH_SOURCE
async def test_an_open_stream_leaves_nothing_with_the_event_loop(source: Source, sim: Simulator) -> None:
    """The loop keeps track of the SDK's own generators alone: ours would hold a frame and a weak reference each."""
    loop: Any = asyncio.get_running_loop()
    kept = loop._asyncgens

    async def watched(*, is_patched: bool) -> list[str]:
        with patched(sink=MemorySink()) if is_patched else contextlib.nullcontext():
            async with async_clients_of(sim) as clients:
                stream = await source.open(clients, source.model)
                iterator = aiter(stream)
                await anext(iterator)
                names = sorted(each.__qualname__ for each in kept)
                async for _ in iterator:
                    pass
        del stream, iterator
        await asyncio.sleep(0.01)
        gc.collect()
        return names

    bare = await watched(is_patched=False)
    assert await watched(is_patched=True) == bare


async def test_a_request_that_nobody_holds_is_recorded_when_it_is_dropped(sim: Simulator) -> None:
    """Google's private method gives a stream that no proxy stands above: dropped half-read, it was abandoned."""
    sink = MemorySink()
    with patched(sink=sink):
        async with async_clients_of(sim) as clients:
            chunks = await clients.google.models._generate_content_stream(
                model=GEMINI + "+chunks=40+delay=10", contents=PROMPT
            )
            await anext(chunks)
            del chunks
            flush(5)
            (record,) = sink.records
            (request,) = sim.requests
            await asyncio.to_thread(request.wait, 5)
    assert (record.outcome, record.chunks) == ("abandoned", 1)
    assert request.hung_up


async def test_a_request_that_nobody_holds_may_be_closed(sim: Simulator) -> None:
    """`aclose` ends the call at once, and closes the connection; while a step is taken, it and another are refused."""
    sink = MemorySink()
    with patched(sink=sink):
        async with async_clients_of(sim) as clients:
            chunks = await clients.google.models._generate_content_stream(
                model=GEMINI + "+first=100+chunks=40+delay=10", contents=PROMPT
            )
            step = asyncio.ensure_future(anext(chunks))
            await asyncio.sleep(0.02)
            for refused in (anext, lambda stream: stream.aclose()):
                with pytest.raises(RuntimeError, match="already running"):
                    await refused(chunks)
            await step
            assert not sink.records
            await chunks.aclose()
            (record,) = sink.records
            (request,) = sim.requests
            await asyncio.to_thread(request.wait, 5)
    assert (record.outcome, record.chunks) == ("closed", 1)
    assert request.hung_up


@pytest.mark.parametrize("source", [each for each in ASYNC if each.name != "anthropic stream"], ids=str)
def test_a_stream_that_outlives_its_event_loop(source: Source, sim: Simulator) -> None:
    """Kept half-read until its loop has shut down, and then dropped, it was abandoned; a `with` would have closed it."""
    sink, kept = MemorySink(), []

    async def read_one() -> None:
        async with async_clients_of(sim) as clients:
            kept.append(await source.open(clients, source.model + "+chunks=40+delay=10"))
            await anext(kept[0])

    with patched(sink=sink):
        asyncio.run(read_one())
        kept.clear()
        gc.collect()
        flush(5)
    assert [record.outcome for record in sink.records] == ["abandoned"]


async def test_a_request_that_the_sdk_drops_and_goes_on(sim: Simulator) -> None:
    """Of a stream that goes on after that the request was closed: a turn of the event loop later, and once."""
    sink = MemorySink()
    with patched(sink=sink):
        async with async_clients_of(sim) as clients:

            async def several() -> AsyncIterator[Any]:
                for flags in ("+chunks=40+delay=10", ""):
                    async for chunk in await clients.google.models._generate_content_stream(
                        model=GEMINI + flags, contents=PROMPT
                    ):
                        yield chunk
                        if flags:
                            break
                await asyncio.sleep(0.05)

            active = settings.active()
            assert active is not None
            stream = google_streams._handed_out_async(several(), Session(active))
            assert len([chunk async for chunk in stream]) > 1
            flush(5)
    assert sorted(record.outcome for record in sink.records) == ["closed", "completed"]


async def test_a_stream_that_is_left_with_two_requests_open_ends_both() -> None:
    """The first was dropped and has not ended yet when the second is sent."""
    sink = MemorySink()
    active = Settings.resolve(sink=sink)
    session = Session(active)
    for model in ("first", "second", "third"):
        reader = GenerateContent()
        reader.begin({"model": model, "contents": PROMPT})
        session.sent(Call(reader, active, provider="google", method="benchmark", endpoint=None))
    assert session.end("closed")
    assert not session.end("abandoned")
    await session.written()
    assert sorted((record.model, record.outcome) for record in sink.records) == [
        ("first", "closed"),
        ("second", "closed"),
        ("third", "closed"),
    ]
