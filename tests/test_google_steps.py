"""Which stream of Google's a request belongs to, however the stream is advanced: the call stack tells."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sources import GEMINI, PROMPT, async_clients_of
from test_google_streams import (
    ASK,
    EACH_WAY,
    SEVERAL,
    SLOW,
    aclient,
    client,
    hops,
    outcomes,
    sink,
    until,
    weather,
    with_tool,
)  # fmt: skip

from llm_toll_autopatch import MemorySink, scope
from llm_toll_autopatch.providers import google_sessions
from llm_toll_autopatch.simulator import Simulator

__all__ = ["aclient", "client", "sink"]  # fixtures

pytestmark = pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning")
STREAMS = pytest.mark.parametrize("ask", ["stream", "chat stream"])


def ours() -> list[str]:
    """The names of our variables of Google's streams that are set in this context."""
    return [name for each in contextvars.copy_context() if (name := each.name).startswith("llm_toll_google")]


@EACH_WAY
@STREAMS
async def test_each_step_in_a_task_of_its_own(
    ask: str, several: str, aclient: Any, sink: MemorySink, sim: Simulator
) -> None:
    """A stream that two tasks advance in turn, each in a context of its own, is one record for each request."""
    flags, config, outputs = SEVERAL[several]
    stream = await ASK[ask][0](aclient, GEMINI + flags, config)
    contexts = [contextvars.copy_context(), contextvars.Context()]

    async def step() -> bool:
        return await anext(stream, None) is not None

    for number in range(500):
        if not await asyncio.create_task(step(), context=contexts[number % 2]):
            break
    hops(sink, sim, outputs, stream=True)
    assert [context.run(ours) for context in contexts] == [[], []]


@STREAMS
def test_each_step_in_a_thread_of_its_own(ask: str, client: Any, sink: MemorySink, sim: Simulator) -> None:
    """The same in threads, and a break after it ends the request that is under way."""
    stream = ASK[ask][0](client, GEMINI + "+tools", with_tool(weather))
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as two:
        for number in range(500):
            (one, two)[number % 2].submit(next, stream).result()
            if len(sim.requests) == 2:
                break
        for _ in stream:
            break
        assert outcomes(sink) == ["completed", "closed"]
        assert [pool.submit(ours).result() for pool in (one, two)] == [[], []]


@STREAMS
async def test_a_step_that_is_cancelled(ask: str, aclient: Any, sink: MemorySink, sim: Simulator) -> None:
    """Cancelling the wait for a later request's chunk cancels that request, and leaves nothing in the context."""
    stream = await ASK[ask][0](aclient, GEMINI + "+tools+chunks=20+delay=50", with_tool(weather))

    async def read() -> None:
        try:
            async for _ in stream:
                pass
        finally:
            left.extend(ours())

    left: list[str] = []
    task = asyncio.create_task(read())
    await until(lambda: len(sim.requests) == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert outcomes(sink) == ["completed", "cancelled"]
    assert not left
    await until(lambda: sim.requests[1].wait(0))
    assert sim.requests[1].hung_up


@STREAMS
@pytest.mark.parametrize("way", ["athrow", "aclose"])
async def test_a_stream_that_another_task_ends(
    ask: str, way: str, aclient: Any, sink: MemorySink, sim: Simulator
) -> None:
    """A stream that one task reads into its second request is ended by another task, in an empty context."""
    stream = await ASK[ask][0](aclient, GEMINI + "+tools+chunks=20+delay=5", with_tool(weather))
    async for _ in stream if way == "aclose" else aiter_by_hand(stream):
        if len(sim.requests) == 2:
            break
    if way == "athrow":

        async def end() -> None:
            with pytest.raises(ZeroDivisionError):
                await stream.athrow(ZeroDivisionError())

    else:
        end = stream.aclose
    await asyncio.create_task(end(), context=contextvars.Context())
    assert outcomes(sink) == ["completed", "error" if way == "athrow" else "closed"]
    await until(lambda: sim.requests[1].wait(0))
    assert sim.requests[1].hung_up


async def aiter_by_hand(stream: Any) -> Any:
    """Advance a stream by `asend`, which is no loop that a break could end."""
    while True:
        yield await stream.asend(None)


@STREAMS
async def test_a_time_limit_for_each_step(ask: str, aclient: Any, sink: MemorySink, sim: Simulator) -> None:
    """`asyncio.wait_for`, which makes a task of each step on some versions, changes nothing."""
    stream = await asyncio.wait_for(ASK[ask][0](aclient, GEMINI + "+tools=2", with_tool(weather)), 5)
    while await asyncio.wait_for(anext(stream, None), 5) is not None:
        pass
    hops(sink, sim, [4, 4, 8], stream=True)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
@STREAMS
async def test_eager_tasks(ask: str, aclient: Any, sink: MemorySink, sim: Simulator) -> None:
    """A task that runs at once, on the stack of the one that made it, has a stream of its own."""
    tasks = []

    async def inner() -> None:
        stream = await aclient.models.generate_content_stream(model=GEMINI + "+in=11" + SLOW, contents=PROMPT)
        async for _ in stream:
            break

    async def tool(city: str) -> str:
        """Start something."""
        tasks.append(asyncio.create_task(inner()))
        return "sunny"

    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
    try:
        stream = await ASK[ask][0](aclient, GEMINI + "+tools+in=22", with_tool(tool))
        assert [chunk async for chunk in stream]
        await asyncio.gather(*tasks)
    finally:
        asyncio.get_running_loop().set_task_factory(None)
    assert len(sim.requests) == 3
    seen = sorted((each.usage.input_tokens, each.outcome) for each in sink)
    assert seen[-2:] == [(22, "completed")] * 2
    assert seen[0][1] == "closed"


@STREAMS
def test_an_event_loop_in_a_tool(ask: str, client: Any, sink: MemorySink, sim: Simulator) -> None:
    """A tool that runs an event loop inside a step has streams of its own there, with tools and a break."""

    async def read() -> None:
        async with async_clients_of(sim) as clients:
            inner = await ASK[ask][0](clients.google, GEMINI + "+in=11+tools" + SLOW, with_tool(weather))
            seen = len(sim.requests)
            async for _ in inner:
                if len(sim.requests) > seen + 1:
                    break

    def tool(city: str) -> str:
        """Ask in an event loop."""
        asyncio.run(read())
        return "sunny"

    assert list(ASK[ask][0](client, GEMINI + "+in=22+tools", with_tool(tool)))
    inputs = [(each.outcome, each.usage_source) for each in sink if each.usage.input_tokens == 22]
    assert inputs == [("completed", "reported")] * 2
    assert sorted(outcomes(sink)) == ["closed", "completed", "completed", "completed"]


@STREAMS
def test_whose_configuration_counts(ask: str, client: Any, sink: MemorySink) -> None:
    """Each request of a stream belongs to the scope that it was opened in, what a tool asks to the tool's."""

    def tool(city: str) -> str:
        """Ask another model, once in a scope and once in none."""
        with scope("tool"):
            client.models.generate_content(model=GEMINI, contents=city)
            list(client.models.generate_content_stream(model=GEMINI, contents=city))
        client.models.generate_content(model=GEMINI, contents=city)
        return "sunny"

    with scope("stream"):
        stream = ASK[ask][0](client, GEMINI + "+tools", with_tool(tool))
    with scope("reader"):
        assert list(stream)
    assert outcomes(sink) == ["completed"] * 5
    assert [each.project for each in sink] == ["tool", "tool", "reader", "stream", "stream"]


async def test_tools_see_nothing_of_ours(aclient: Any, sink: MemorySink) -> None:
    """Neither a tool nor a task, a thread or a callback that it starts inherits anything of the stream."""
    seen: list[list[str]] = []
    called = asyncio.Event()

    def note() -> None:
        seen.append(ours())
        called.set()

    async def task() -> None:
        note()
        assert google_sessions.current() is None

    async def tool(city: str) -> str:
        """Look around."""
        note()
        await asyncio.create_task(task())
        await asyncio.to_thread(note)
        asyncio.get_running_loop().call_soon(note)
        return "sunny"

    stream = await aclient.models.generate_content_stream(
        model=GEMINI + "+tools", contents=PROMPT, config=with_tool(tool)
    )
    async for _ in stream:
        note()
        assert google_sessions.current() is None
    assert len(seen) > 4
    assert not any(seen)


def test_nobody_else_s_stream_is_on_the_stack(client: Any, sink: MemorySink, sim: Simulator) -> None:
    """A request in one thread is not taken for the stream's that another thread waits in."""
    stream = client.models.generate_content_stream(model=GEMINI + "+in=11+first=300", contents=PROMPT)
    reading = threading.Thread(target=functools.partial(list, stream))
    reading.start()
    while not stream.gi_running:
        pass
    for _ in client.models.generate_content_stream(model=GEMINI + "+in=22", contents=PROMPT):
        break
    reading.join()
    assert [(each.outcome, each.usage.input_tokens) for each in sink] == [("closed", 22), ("completed", 11)]


@pytest.fixture(autouse=True)
def _nothing_is_left(sink: MemorySink) -> Iterator[None]:
    yield
    assert google_sessions.current() is None
    assert not ours()


def test_a_loop_that_has_not_begun_lends_its_name_to_nobody(client: Any, sink: MemorySink) -> None:
    """A request that is sent while a loop stands ready is not taken for the loop's own, nor is the one after it."""
    with scope(project="looped"):
        stream = client.models.generate_content_stream(model=GEMINI, contents=PROMPT)
    loop = iter(stream)
    with scope(project="other"):
        assert list(client.models._generate_content_stream(model=GEMINI, contents=PROMPT))
    assert next(loop)
    with scope(project="other"):
        assert list(client.models._generate_content_stream(model=GEMINI, contents=PROMPT))
    assert list(loop)
    assert [record.project for record in sink.records] == ["other", "other", "looped"]
    assert outcomes(sink) == ["completed"] * 3


async def test_an_async_loop_that_has_not_begun_lends_its_name_to_nobody(aclient: Any, sink: MemorySink) -> None:
    """The same, async; a loop that was ready and is dropped is known to nobody either."""
    with scope(project="looped"):
        stream = await aclient.models.generate_content_stream(model=GEMINI + "+first=50", contents=PROMPT)
    loop = aiter(stream)

    async def other() -> None:
        with scope(project="other"):
            async for _ in await aclient.models._generate_content_stream(model=GEMINI, contents=PROMPT):
                pass

    await other()
    step = asyncio.ensure_future(anext(loop))
    await asyncio.sleep(0.01)
    await other()  # while the loop waits for its first chunk
    assert await step
    assert [chunk async for chunk in loop]
    assert [record.project for record in sink.records] == ["other", "other", "looped"]
    assert outcomes(sink) == ["completed"] * 3
    dropped = aiter(await aclient.models.generate_content_stream(model=GEMINI, contents=PROMPT))
    del dropped
    assert google_sessions._beginning.session is None


async def test_a_loop_that_goes_on_lends_its_name_to_nobody(aclient: Any, sink: MemorySink) -> None:
    """A loop over a stream whose request has been sent begins none: one that is sent while it waits is another's."""
    with scope(project="looped"):
        stream = await aclient.models.generate_content_stream(model=GEMINI + "+chunks=3+delay=50", contents=PROMPT)
    assert await anext(stream)
    loop = aiter(stream)
    step = asyncio.ensure_future(anext(loop))
    await asyncio.sleep(0.01)
    with scope(project="other"):
        assert [chunk async for chunk in await aclient.models._generate_content_stream(model=GEMINI, contents=PROMPT)]
    assert await step
    async for _ in loop:
        pass
    assert [record.project for record in sink.records] == ["other", "looped"]


def test_a_loop_that_fails_before_its_request_leaves_nothing(client: Any, sink: MemorySink) -> None:
    """The SDK refuses the arguments when the loop begins; a request after that is its own."""
    stream = client.models.generate_content_stream(model=GEMINI, contents=PROMPT, config={"temperature": "warm"})
    with pytest.raises(ValueError, match="temperature"):
        list(stream)
    assert google_sessions._beginning.session is None
    with scope(project="other"):
        assert list(client.models._generate_content_stream(model=GEMINI, contents=PROMPT))
    assert [record.project for record in sink.records] == ["other"]
