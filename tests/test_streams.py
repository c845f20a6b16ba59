"""Every stream of the three SDKs, by their real clients, through every way in which a stream can end."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from sources import ASYNC, SYNC, Source, async_clients_of, clients_of

from llm_toll_autopatch import MemorySink, flush, patched
from llm_toll_autopatch.records import CallRecord, Outcome
from llm_toll_autopatch.simulator import Simulator

pytestmark = pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning")

SLOW = "+chunks=40+delay=10"
"""Takes long enough that the simulator sees the client hang up before all is sent."""


class UserError(Exception):
    """What the user's own code raises."""


@dataclass(frozen=True)
class Ending:
    """A way in which a stream ends.

    Attributes:
        act: What the user does with the stream that lies in the box, and nowhere else.
        outcome: The record's.
        flags: What the simulator is to do.
        hung_up: Whether the simulator sees the client go before the end; None where that is the simulator's doing.
        raises: Whether the user gets an exception.
        at_once: Whether the record is there when the user's code goes on.
    """

    name: str
    act: Callable[[list[Any]], Any]
    outcome: Outcome
    flags: str = SLOW
    hung_up: bool | None = True
    raises: bool = False
    at_once: bool = True

    def __str__(self) -> str:
        return self.name


def raises(source: Source, ending: Ending) -> bool:
    """Whether the user gets an exception."""
    return ending.raises and not (source.shows_errors and "error" in ending.flags)


def check(source: Source, ending: Ending, sink: MemorySink, sim: Simulator, *, sent: bool = True) -> None:
    """Assert that there is exactly one record, that it is true, and what the server saw."""
    flush(5)
    if not sent:
        assert not sink.records
        assert not sim.requests
        return
    (record,) = sink.records
    assert record.outcome == ending.outcome
    assert (record.provider, record.method, record.model) == (
        source.provider,
        source.method,
        source.model + ending.flags,
    )
    assert record.stream
    assert record.endpoint == "127.0.0.1"
    check_numbers(source, ending, record)
    (request,) = sim.requests
    assert request.wait(5)
    if ending.hung_up is not None:
        assert request.hung_up is ending.hung_up
        assert request.completed is not ending.hung_up


def check_numbers(source: Source, ending: Ending, record: CallRecord) -> None:
    """Assert where the figures come from, and that they are not below what was said or seen."""
    if ending.outcome == "completed":
        assert record.usage_source == "reported"
        assert record.usage.input_tokens == 25
        assert record.cost_usd is not None
        return
    if record.chunks == 0:
        assert record.usage_source in ("estimated", "missing")
        assert record.usage.output_tokens == 0
        return
    assert record.usage_source == ("partial" if source.reports_early else "estimated")
    assert record.usage.input_tokens > 0
    assert record.cost_usd


# Sync


def read_with_for(box: list[Any]) -> None:
    for _ in box.pop():
        pass


def read_with_next(box: list[Any]) -> None:
    stream = box.pop()
    with contextlib.suppress(StopIteration):
        while True:
            next(stream)


def read_with_list(box: list[Any]) -> None:
    assert list(box.pop())


def next_then_for(box: list[Any]) -> None:
    stream = box[0]
    next(stream)
    next(stream)
    for _ in stream:
        pass
    assert list(stream) == []


def break_and_keep(box: list[Any]) -> None:
    for number, _ in enumerate(box[0]):
        if number == 2:
            break


def break_without_a_variable(box: list[Any]) -> None:
    for number, _ in enumerate(box.pop()):
        if number == 2:
            break


def raise_in_the_body(box: list[Any]) -> None:
    for number, _ in enumerate(box[0]):
        if number == 2:
            raise UserError


def return_from_the_body(box: list[Any]) -> int:
    for number, _ in enumerate(box[0]):
        if number == 2:
            return number
    return 0


def close(box: list[Any]) -> None:
    next(box[0])
    box[0].close()


def close_twice(box: list[Any]) -> None:
    next(box[0])
    box[0].close()
    box[0].close()


def leave_with(box: list[Any]) -> None:
    stream = box[0]
    with stream if hasattr(type(stream.__wrapped__), "__enter__") else contextlib.closing(stream):
        next(stream)


def raise_out_of_with(box: list[Any]) -> None:
    stream = box[0]
    with stream if hasattr(type(stream.__wrapped__), "__enter__") else contextlib.closing(stream):
        next(stream)
        raise UserError


def drop_half_read(box: list[Any]) -> None:
    next(box[0])
    box.clear()


def drop_unread(box: list[Any]) -> None:
    box.clear()


def in_a_thread(work: Callable[[list[Any]], Any]) -> Callable[[list[Any]], None]:
    def act(box: list[Any]) -> None:
        next(box[0])
        thread = threading.Thread(target=work, args=(box,))
        thread.start()
        thread.join()

    return act


SYNC_ENDINGS = (
    Ending("read with for", read_with_for, "completed", "", hung_up=False),
    Ending("read with next", read_with_next, "completed", "", hung_up=False),
    Ending("read with list", read_with_list, "completed", "", hung_up=False),
    Ending("next, then for", next_then_for, "completed", "", hung_up=False),
    Ending("break, stream kept", break_and_keep, "closed"),
    Ending("break, no variable", break_without_a_variable, "closed"),
    Ending("raise in the body", raise_in_the_body, "closed", raises=True),
    Ending("return from the body", return_from_the_body, "closed"),
    Ending("close", close, "closed"),
    Ending("close twice", close_twice, "closed"),
    Ending("leave with", leave_with, "closed"),
    Ending("raise out of with", raise_out_of_with, "closed", raises=True),
    Ending("drop half-read", drop_half_read, "abandoned", at_once=False),
    Ending("drop unread", drop_unread, "abandoned", at_once=False),
    Ending("error in mid-stream", read_with_for, "error", "+error-after=3", hung_up=None, raises=True),
    Ending("connection cut", read_with_for, "error", "+cut=3", hung_up=None, raises=True),
    Ending("error at next", read_with_next, "error", "+error-after=3", hung_up=None, raises=True),
    Ending("read in another thread", in_a_thread(read_with_for), "completed", "", hung_up=False),
    Ending("closed by another thread", in_a_thread(lambda box: box[0].close()), "closed"),
)


@pytest.mark.parametrize("ending", SYNC_ENDINGS, ids=str)
@pytest.mark.parametrize("source", SYNC, ids=str)
def test_sync_stream_gives_exactly_one_record(source: Source, ending: Ending, sim: Simulator) -> None:
    """However a sync stream ends there is one record that says so, and the connection is released."""
    with patched() as sink, clients_of(sim) as clients:
        assert isinstance(sink, MemorySink)
        box = [source.open(clients, source.model + ending.flags)]
        sent = not (source.lazy and ending.act is drop_unread)
        if raises(source, ending):
            with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is compared with the bare SDK's elsewhere
                ending.act(box)
            assert (type(caught.value) is UserError) == (ending.outcome == "closed")
            caught = None  # type: ignore[assignment]
        else:
            ending.act(box)
        if ending.at_once:
            assert len(sink) == 1
        check(source, ending, sink, sim, sent=sent)


# Async


async def async_read(box: list[Any]) -> None:
    async for _ in box.pop():
        pass


async def async_read_with_anext(box: list[Any]) -> None:
    stream = box.pop()
    with contextlib.suppress(StopAsyncIteration):
        while True:
            await anext(stream)


async def anext_then_for(box: list[Any]) -> None:
    stream = box[0]
    await anext(stream)
    await anext(stream)
    async for _ in stream:
        pass
    assert [chunk async for chunk in stream] == []


async def async_break_and_keep(box: list[Any]) -> None:
    number = 0
    async for _ in box[0]:
        number += 1
        if number == 3:
            break


async def async_break_without_a_variable(box: list[Any]) -> None:
    number = 0
    async for _ in box.pop():
        number += 1
        if number == 3:
            break


async def async_raise_in_the_body(box: list[Any]) -> None:
    async for _ in box[0]:
        raise UserError


async def async_return_from_the_body(box: list[Any]) -> None:
    async for _ in box[0]:
        return


async def async_close(box: list[Any]) -> None:
    await anext(box[0])
    await box[0].close()


async def async_aclose_twice(box: list[Any]) -> None:
    await anext(box[0])
    await box[0].aclose()
    await box[0].aclose()


async def async_leave_with(box: list[Any]) -> None:
    stream = box[0]
    async with stream if hasattr(type(stream.__wrapped__), "__aenter__") else contextlib.aclosing(stream):
        await anext(stream)


async def async_drop_half_read(box: list[Any]) -> None:
    await anext(box[0])
    box.clear()


async def async_drop_unread(box: list[Any]) -> None:
    box.clear()


async def cancel(box: list[Any]) -> None:
    started = asyncio.Event()

    async def consume() -> None:
        async for _ in box[0]:
            started.set()

    task = asyncio.create_task(consume())
    await started.wait()
    await asyncio.sleep(0.015)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def time_out(box: list[Any]) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(async_read(box), 0.1)


async def read_in_another_task(box: list[Any]) -> None:
    await anext(box[0])
    await asyncio.create_task(async_read(box))


ASYNC_ENDINGS = (
    Ending("read with async for", async_read, "completed", "", hung_up=False),
    Ending("read with anext", async_read_with_anext, "completed", "", hung_up=False),
    Ending("anext, then async for", anext_then_for, "completed", "", hung_up=False),
    Ending("break, stream kept", async_break_and_keep, "closed"),
    Ending("break, no variable", async_break_without_a_variable, "closed"),
    Ending("raise in the body", async_raise_in_the_body, "closed", raises=True),
    Ending("return from the body", async_return_from_the_body, "closed"),
    Ending("close", async_close, "closed"),
    Ending("aclose twice", async_aclose_twice, "closed"),
    Ending("leave async with", async_leave_with, "closed"),
    Ending("drop half-read", async_drop_half_read, "abandoned", at_once=False),
    Ending("drop unread", async_drop_unread, "abandoned", at_once=False),
    Ending("error in mid-stream", async_read, "error", "+error-after=3", hung_up=None, raises=True),
    Ending("connection cut", async_read, "error", "+cut=3", hung_up=None, raises=True),
    Ending("task cancelled", cancel, "cancelled"),
    Ending("timed out", time_out, "cancelled"),
    Ending("read in another task", read_in_another_task, "completed", "", hung_up=False),
)


@pytest.mark.parametrize("ending", ASYNC_ENDINGS, ids=str)
@pytest.mark.parametrize("source", ASYNC, ids=str)
async def test_async_stream_gives_exactly_one_record(source: Source, ending: Ending, sim: Simulator) -> None:
    """However an async stream ends there is one record that says so, and the connection is released."""
    with patched() as sink:
        assert isinstance(sink, MemorySink)
        async with async_clients_of(sim) as clients:
            box = [await source.open(clients, source.model + ending.flags)]
            sent = not (source.lazy and ending.act is async_drop_unread)
            if raises(source, ending):
                with pytest.raises(Exception) as caught:  # noqa: PT011 - compared with the bare SDK's elsewhere
                    await ending.act(box)
                assert (type(caught.value) is UserError) == (ending.outcome == "closed")
                caught = None  # type: ignore[assignment]
            else:
                await ending.act(box)
            if ending.at_once:
                assert len(sink) == 1
            # Nothing but the event loop's own turns may be needed to release the connection.
            await until(lambda: all(request.wait(0) for request in sim.requests))
            check(source, ending, sink, sim, sent=sent)


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop turn until `condition` holds, for a while."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.01)


class OneByOne:
    """What LiteLLM does: an iterator that begins a loop for each chunk, and returns from inside it."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __iter__(self) -> OneByOne:
        return self

    def __next__(self) -> Any:
        for chunk in self.stream:
            return chunk
        raise StopIteration

    def __aiter__(self) -> OneByOne:
        return self

    async def __anext__(self) -> Any:
        async for chunk in self.stream:
            return chunk
        raise StopAsyncIteration


# A generator cannot be looped over again, and so Google's streams are none that this is done with.
RESUMABLE = SYNC[:3]


@pytest.mark.parametrize("source", RESUMABLE, ids=str)
def test_an_iterator_over_a_stream_may_take_chunks_one_by_one(source: Source, sim: Simulator) -> None:
    """A loop in somebody's `__next__` that is left with each chunk is no break: the stream goes on, to its end."""
    with patched() as sink, clients_of(sim) as clients:
        stream = source.open(clients, source.model)
        whole = len(list(source.open(clients, source.model)))
        assert len(list(OneByOne(stream))) == whole
    assert isinstance(sink, MemorySink)
    assert [record.outcome for record in sink.records] == ["completed", "completed"]


@pytest.mark.parametrize("source", RESUMABLE, ids=str)
async def test_an_async_iterator_over_a_stream_may_take_chunks_one_by_one(source: Source, sim: Simulator) -> None:
    """The same, async, also when the event loop turns between two chunks."""
    with patched() as sink:
        async with async_clients_of(sim) as clients:
            whole = len([chunk async for chunk in await source.open(clients, source.model)])
            taken = 0
            async for _ in OneByOne(await source.open(clients, f"{source.model}+delay=5")):
                taken += 1
                await asyncio.sleep(0.001)
            assert taken == whole
    assert isinstance(sink, MemorySink)
    assert [record.outcome for record in sink.records] == ["completed", "completed"]
