"""Google's streams and automatic function calling: one record for each HTTP request, whatever the SDK makes of them."""

from __future__ import annotations

import contextvars
from typing import Any

import pytest
from sources import GEMINI, async_clients_of, clients_of

from llm_toll_autopatch import MemorySink, patched
from llm_toll_autopatch.simulator import Simulator

pytestmark = pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning")


def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"sunny in {city}"


CONFIG: dict[str, Any] = {"tools": [get_weather]}


def check(sink: MemorySink, sim: Simulator, requests: int) -> None:
    """Assert that there is one record for each request, each with its own figures."""
    assert len(sim.requests) == requests
    assert len(sink) == requests
    for record in sink:
        assert (record.outcome, record.usage_source, record.usage.input_tokens) == ("completed", "reported", 25)
        assert record.usage.output_tokens > 0
        assert record.cost_usd


@pytest.mark.parametrize("rounds", [1, 2])
def test_automatic_function_calling(rounds: int, sim: Simulator) -> None:
    """A call that the SDK answers with several requests gives one record for each."""
    model = f"{GEMINI}+tools={rounds}"
    sink = MemorySink()
    with patched(sink=sink), clients_of(sim) as clients:
        answer = clients.google.models.generate_content(model=model, contents="weather?", config=CONFIG)
    assert answer.text
    check(sink, sim, rounds + 1)


def test_automatic_function_calling_streamed(sim: Simulator) -> None:
    """The same for a stream."""
    sink = MemorySink()
    with patched(sink=sink), clients_of(sim) as clients:
        chunks = clients.google.models.generate_content_stream(
            model=GEMINI + "+tools=2", contents="weather?", config=CONFIG
        )
        assert list(chunks)
    check(sink, sim, 3)
    assert all(record.stream for record in sink)


def test_automatic_function_calling_in_a_chat(sim: Simulator) -> None:
    """The same for a chat, plain and streamed."""
    sink = MemorySink()
    with patched(sink=sink), clients_of(sim) as clients:
        chat = clients.google.chats.create(model=GEMINI + "+tools=1", config=CONFIG)
        assert chat.send_message("weather?").text
        check(sink, sim, 2)
        assert list(clients.google.chats.create(model=GEMINI, config=CONFIG).send_message_stream("weather?"))
        check(sink, sim, 3)


async def test_automatic_function_calling_async(sim: Simulator) -> None:
    """The same, async."""
    sink = MemorySink()
    with patched(sink=sink):
        async with async_clients_of(sim) as clients:
            answer = await clients.google.models.generate_content(
                model=GEMINI + "+tools=1", contents="weather?", config=CONFIG
            )
            assert answer.text
            check(sink, sim, 2)
            chunks = await clients.google.models.generate_content_stream(
                model=GEMINI + "+tools=1", contents="weather?", config=CONFIG
            )
            assert [chunk async for chunk in chunks]
            check(sink, sim, 4)


def test_a_break_in_the_second_request(sim: Simulator) -> None:
    """A break after a function call closes the request that is under way; the one before is complete."""
    sink = MemorySink()
    with patched(sink=sink), clients_of(sim) as clients:
        for chunk in clients.google.models.generate_content_stream(
            model=GEMINI + "+tools=1+chunks=40+delay=5", contents="weather?", config=CONFIG
        ):
            if chunk.text:
                break
        assert [record.outcome for record in sink] == ["completed", "closed"]
        first, second = sim.requests
        assert second.wait(5)
        assert (first.completed, second.hung_up) == (True, True)


def test_streams_side_by_side(sim: Simulator) -> None:
    """Two streams read in turn on one thread do not get in each other's way; a break of one leaves the other alone."""
    sink = MemorySink()
    with patched(sink=sink), clients_of(sim) as clients:
        one, two = (
            clients.google.models.generate_content_stream(model=GEMINI + flags, contents="hi")
            for flags in ("", "+chunks=3")
        )
        next(one)
        next(two)
        for _ in one:
            break
        assert [record.outcome for record in sink] == ["closed"]
        assert list(two)
        assert [record.outcome for record in sink] == ["closed", "completed"]


async def test_no_context_leaks_to_the_user(sim: Simulator) -> None:
    """Between two chunks the user's context is as it was."""
    with patched():
        async with async_clients_of(sim) as clients:
            before = dict(contextvars.copy_context())
            async for _ in await clients.google.models.generate_content_stream(model=GEMINI, contents="hi"):
                now = dict(contextvars.copy_context())
                assert {var.name for var in now if var.name.startswith("llm_toll")} == {
                    var.name for var in before if var.name.startswith("llm_toll")
                } or all(now[var] is None for var in now if var.name.startswith("llm_toll"))
