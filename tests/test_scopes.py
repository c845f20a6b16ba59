"""Scopes say who pays, for their context only, and show what it cost."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from sources import ASYNC, GPT, MESSAGES, SYNC, Source, async_clients_of, clients_of

from llm_toll_autopatch import MemorySink, Spend, flush, patched, scope
from llm_toll_autopatch.records import Usage
from llm_toll_autopatch.simulator import Simulator

pytestmark = pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning")


def ask(clients: Any) -> None:
    clients.openai.chat.completions.create(model=GPT, messages=MESSAGES)


def test_scopes_nest(sim: Simulator) -> None:
    """What the inner scope says wins, tags are merged, and all is as before when a scope ends."""
    sink = MemorySink()
    with patched(sink=sink, project="base", tags={"a": "1"}), clients_of(sim) as clients:
        with scope("outer", tags={"b": "2"}) as outer:
            ask(clients)
            with scope(tags={"b": "3", "c": "4"}) as inner:
                ask(clients)
                with scope("innermost"):
                    ask(clients)
            ask(clients)
        ask(clients)
    assert [(record.project, dict(record.tags)) for record in sink] == [
        ("outer", {"a": "1", "b": "2"}),
        ("outer", {"a": "1", "b": "3", "c": "4"}),
        ("innermost", {"a": "1", "b": "3", "c": "4"}),
        ("outer", {"a": "1", "b": "2"}),
        ("base", {"a": "1"}),
    ]
    assert (outer.calls, inner.calls) == (4, 2)


def test_a_spend_shows_what_it_cost(sim: Simulator) -> None:
    """A spend counts calls, tokens, what is known of the cost, and what is not; and prints itself."""
    with patched(), clients_of(sim) as clients, scope() as spend:
        assert str(spend) == "0 calls, 0 input and 0 output tokens, $0"
        ask(clients)
        assert spend.usage == Usage(input_tokens=25, output_tokens=8)
        # gpt-5-mini: 0.25 USD per million input tokens, 2 per million output tokens
        assert spend.cost_usd == Decimal("0.00002225")
        assert str(spend) == "1 call, 25 input and 8 output tokens, $0.00002225"
        with pytest.warns(UserWarning, match="no price is known"):
            clients.openai.chat.completions.create(model="nobody-knows-1", messages=MESSAGES)
        assert (spend.calls, spend.unknown_costs, spend.cost_usd) == (2, 1, Decimal("0.00002225"))
        assert str(spend).endswith("$0.00002225 and 1 unknown")
        with scope() as unknown:
            clients.openai.chat.completions.create(model="nobody-knows-1", messages=MESSAGES)
        assert unknown.cost_usd is None
        assert "unknown cost" in str(unknown)


@pytest.mark.parametrize("source", SYNC, ids=str)
def test_a_stream_belongs_to_its_opener(source: Source, sim: Simulator) -> None:
    """A stream that is read in another scope, or after its own has ended, is the opener's, also where it is broken off."""
    sink = MemorySink()
    with patched(sink=sink), clients_of(sim) as clients:
        with scope("opener") as spend:
            read_elsewhere, read_later = (source.open(clients, source.model) for _ in range(2))
        with scope("reader", enabled=False):
            assert list(read_elsewhere)
        for _ in read_later:
            break
    assert [record.project for record in sink] == ["opener", "opener"]
    assert spend.calls == 2


@pytest.mark.parametrize("source", ASYNC, ids=str)
async def test_an_async_stream_belongs_to_its_opener(source: Source, sim: Simulator) -> None:
    """What counts is where the method is called, not where its coroutine is awaited or its stream is read."""
    sink = MemorySink()
    with patched(sink=sink):
        async with async_clients_of(sim) as clients:
            with scope("opener"):
                opening = source.open(clients, source.model)
                if source.name == "anthropic stream":
                    opening = asyncio.create_task(
                        opening
                    )  # a helper's request is sent when its `async with` is entered
            with scope("reader"):
                stream = await opening
                assert [chunk async for chunk in stream]
    assert [record.project for record in sink] == ["opener"]


def test_a_scope_can_switch_metering_off_and_on(sim: Simulator) -> None:
    """enabled=False leaves the calls of a block alone; enabled=True within it meters again."""
    sink = MemorySink()
    with patched(sink=sink), clients_of(sim) as clients, scope(enabled=False) as spend:
        ask(clients)
        stream = clients.openai.responses.create(model=GPT, input="hi", stream=True)
        assert not hasattr(stream, "__wrapped__")
        assert list(stream)
        assert not sink.records
        with scope(enabled=True):
            ask(clients)
        assert len(sink) == spend.calls == 1


def test_a_scope_can_have_its_own_sink(sim: Simulator) -> None:
    """sink= takes the calls of a block, and of the scopes in it, elsewhere."""
    everywhere, here = MemorySink(), MemorySink()
    with patched(sink=everywhere), clients_of(sim) as clients:
        with scope(sink=here), scope("inner"):
            ask(clients)
        ask(clients)
    assert [record.project for record in here] == ["inner"]
    assert [record.project for record in everywhere] == ["default"]


def test_a_scope_outlives_reconfiguration(sim: Simulator) -> None:
    """What a scope does not say comes from the configuration that is in force when the call begins."""
    with scope("mine"), clients_of(sim) as clients:
        ask(clients)
        with patched(tags={"first": "1"}) as first:
            ask(clients)
            with patched(tags={"second": "2"}) as second:
                ask(clients)
    for sink, tags in ((first, {"first": "1"}), (second, {"second": "2"})):
        assert isinstance(sink, MemorySink)
        assert [(record.project, dict(record.tags)) for record in sink] == [("mine", tags)]


def test_threads_have_their_own_scopes(sim: Simulator) -> None:
    """A scope holds for its thread; a context that is copied into another thread takes it along."""
    sink = MemorySink()
    with patched(sink=sink), clients_of(sim) as clients, scope("mine"):
        thread = threading.Thread(target=ask, args=(clients,))
        thread.start()
        thread.join()
        with ThreadPoolExecutor() as pool:
            pool.submit(contextvars.copy_context().run, ask, clients).result()
    assert [record.project for record in sink] == ["default", "mine"]


async def test_tasks_have_their_own_scopes(sim: Simulator) -> None:
    """Scopes of tasks that run at the same time do not mix."""
    sink = MemorySink()
    with patched(sink=sink):
        async with async_clients_of(sim) as clients:

            async def one(name: str) -> Spend:
                with scope(name) as spend:
                    await clients.openai.chat.completions.create(model=GPT + "+first=5", messages=MESSAGES)
                    await asyncio.sleep(0)
                    await clients.openai.chat.completions.create(model=GPT + "+first=5", messages=MESSAGES)
                return spend

            spends = await asyncio.gather(*(one(f"task {number}") for number in range(10)))
    assert [spend.calls for spend in spends] == [2] * 10
    assert sorted(record.project for record in sink) == sorted(f"task {number}" for number in range(10) for _ in "ab")


def test_a_spend_is_exact_under_threads(sim: Simulator) -> None:
    """Calls of many threads in one scope are all counted."""
    with patched(), clients_of(sim) as clients, scope() as spend:
        contexts = [contextvars.copy_context() for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(context.run, ask, clients) for context in contexts for _ in range(1)]:
                done.result()
        flush(5)
    assert (spend.calls, spend.usage.input_tokens) == (8, 8 * 25)


@pytest.mark.parametrize(
    ("options", "error"),
    [({"project": ""}, TypeError), ({"tags": {1: "a"}}, TypeError), ({"sink": "nonsense"}, ValueError), ({"enabled": 1}, TypeError)],
)  # fmt: skip
def test_bad_arguments_are_refused(options: Any, error: type[Exception]) -> None:
    """A bad argument raises when the scope is entered, and nothing is changed."""
    with pytest.raises(error), scope(**options):
        pass


def test_a_scope_that_ends_in_another_context(sim: Simulator) -> None:
    """A scope in a generator that is closed by another context raises nothing there, and a warning says what it means."""

    def dependency() -> Generator[None]:
        with scope("asked"):
            yield

    with patched() as sink, clients_of(sim) as clients:
        opened = dependency()
        contextvars.copy_context().run(next, opened)
        with pytest.warns(UserWarning, match="another context"):
            contextvars.copy_context().run(opened.close)
        ask(clients)
    assert isinstance(sink, MemorySink)
    assert [record.project for record in sink] == ["default"]


@pytest.mark.filterwarnings("error")
def test_an_async_generator_with_a_scope_that_another_task_closes() -> None:
    """Where warnings are errors such an end raises nothing either."""

    async def dependency() -> AsyncGenerator[None]:
        with scope("asked"):
            yield

    async def main() -> None:
        opened = dependency()
        await anext(opened)
        await asyncio.create_task(opened.aclose())

    asyncio.run(main())


@pytest.mark.parametrize("configure", [patched, scope])
def test_a_project_that_cannot_be_written(configure: Any) -> None:
    """A project's name with half a character is an error where it is configured: no ledger could keep its budget."""
    with pytest.raises(ValueError, match=r"project= .* 'caf\\udce9'"), configure(project="caf\udce9", max_budget=1):
        pass
