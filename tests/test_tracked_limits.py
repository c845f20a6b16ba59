"""The limits of `track_costs` where nothing is patched: they are asked before the function's own code runs."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sources import CLAUDE, GPT, MESSAGES, async_clients_of, clients_of
from test_tracking import chat_chunk, last_chunk

from llm_toll_autopatch import (
    BudgetExceededError,
    BudgetOverrunWarning,
    LocalRateLimitError,
    MemorySink,
    SQLiteLedger,
    UnboundedCostError,
    flush,
    patched,
    scope,
    status,
    track_costs,
    tracking,
)
from llm_toll_autopatch.settings import Settings
from llm_toll_autopatch.simulator import Simulator

pytestmark = pytest.mark.filterwarnings(
    "ignore::llm_toll_autopatch.TokenEstimateWarning", "ignore::llm_toll_autopatch.BudgetOverrunWarning"
)


@pytest.fixture(params=["memory", "ledger"])
def sink(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Where the records go, which is also who keeps the limits."""
    kept: Any = MemorySink() if request.param == "memory" else SQLiteLedger(tmp_path / "ledger.db")
    monkeypatch.setattr(tracking, "_configuration", Settings.resolve(sink=kept))
    yield kept
    if request.param == "ledger":
        kept.close()


def dear() -> dict[str, Any]:
    """A chunk that costs a quarter of a dollar."""
    return last_chunk(1_000_000, 0)


async def test_a_budget_refuses_before_the_function_runs(sink: Any) -> None:
    """Functions of every kind: the call that crosses the budget is delivered, the next one does not begin."""
    ran = []

    def plain() -> Any:
        ran.append("plain")
        return {**dear(), "object": "chat.completion", "choices": [{"message": {"content": "hi"}}]}

    async def coroutine() -> Any:
        return plain()

    def generator() -> Iterator[Any]:
        ran.append("generator")
        yield dear()

    async def async_generator() -> AsyncIterator[Any]:
        ran.append("async generator")
        yield dear()

    async def call(tracked: Any) -> Any:
        result = tracked()
        if hasattr(result, "__await__"):
            return await result
        if hasattr(result, "__aiter__"):
            return [chunk async for chunk in result]
        return list(result)

    for number, function in enumerate((plain, coroutine, generator, async_generator)):
        tracked = track_costs(project=f"project {number}", max_budget=0.2)(function)
        ran.clear()
        assert await call(tracked)
        with pytest.raises(BudgetExceededError):
            await call(tracked)
        assert len(ran) == 1, function
    assert status().open_calls == 0


def test_an_overrun_is_warned_of(sink: Any) -> None:
    """As for metered calls."""

    @track_costs(project="acme", max_budget=0.2)
    def generator() -> Iterator[Any]:
        yield dear()

    with pytest.warns(BudgetOverrunWarning):
        list(generator())


def test_a_rate_limit_counts_calls_of_models_only(sink: Any) -> None:
    """A result that is no response, and a function that raises, give back what they were admitted with."""

    @track_costs(project="acme", rate_limit=2)
    def say(what: Any) -> Any:
        if what is None:
            raise KeyError
        return what

    @track_costs(project="acme", rate_limit=2)
    def never_read() -> Iterator[Any]:
        yield dear()

    answer = {**dear(), "object": "chat.completion", "choices": [{"message": {"content": "hi"}}]}
    for _ in range(5):
        say("text")
        say({"of": "mine"})
        with pytest.raises(KeyError):
            say(None)
        never_read()
        gc.collect()
        flush(5)
    say(answer)
    say(dict(answer, id="chatcmpl-2"))
    with pytest.raises(LocalRateLimitError):
        say(answer)


def test_limits_without_a_project_are_those_of_the_project_in_force(sink: Any) -> None:
    """Calls of one function, and of several, share the budget of who pays."""

    @track_costs(max_budget=0.2)
    def one() -> Iterator[Any]:
        yield dear()

    @track_costs(max_budget=0.2)
    def other() -> Iterator[Any]:
        yield dear()

    with scope("acme"):
        assert list(one())
        with pytest.raises(BudgetExceededError) as refused:
            other()
        assert refused.value.project == "acme"
    with scope("else"):
        assert list(other())


def test_a_strict_budget_needs_the_request(sink: Any) -> None:
    """What cannot be bounded is refused, with a message that says what to do."""

    @track_costs(project="acme", max_budget=1, strict_budget=True)
    def ask() -> Any:
        raise AssertionError

    with pytest.raises(UnboundedCostError, match=r"patch_all\(\) does"):
        ask()


LONG = "word " * 2_000


async def test_a_stream_is_cut_off(sim: Simulator, sink: Any) -> None:
    """stop_streams=True: what has come is delivered, then the loop gets the error, sync and async."""
    limits: Any = {"max_budget": 0.05, "stop_streams": True, "model": CLAUDE}  # 10 USD per million output tokens

    def generator() -> Iterator[Any]:
        for _ in range(100):
            yield chat_chunk(LONG)

    async def async_generator() -> AsyncIterator[Any]:
        for _ in range(100):
            yield chat_chunk(LONG)

    seen = []
    with pytest.raises(BudgetExceededError):  # noqa: PT012
        for chunk in track_costs(project="sync", **limits)(generator)():
            seen.append(chunk)  # noqa: PERF402
    assert 1 < len(seen) < 10
    seen.clear()
    with pytest.raises(BudgetExceededError):  # noqa: PT012
        async for chunk in track_costs(project="async", **limits)(async_generator)():
            seen.append(chunk)  # noqa: PERF401
    assert 1 < len(seen) < 10
    await asyncio.sleep(0)
    flush(5)
    with clients_of(sim) as clients:

        @track_costs(project="sdk", max_budget="0.0005", stop_streams=True)
        def stream() -> Any:
            return clients.openai.chat.completions.create(model=GPT + "+chunks=4000", messages=MESSAGES, stream=True)

        seen.clear()
        with pytest.raises(BudgetExceededError):  # noqa: PT012
            for chunk in stream():
                seen.append(chunk)  # noqa: PERF402
    assert 100 < len(seen) < 4000


async def test_with_the_patches_on_each_request_is_asked_about(sim: Simulator, sink: Any) -> None:
    """The function runs; its request is refused before it is sent. A response from elsewhere counts too."""
    with patched(sink=sink):
        async with async_clients_of(sim) as clients:

            @track_costs(project="acme", rate_limit=2)
            async def ask() -> Any:
                return await clients.openai.chat.completions.create(model=GPT, messages=MESSAGES)

            @track_costs(project="acme", rate_limit=2)
            def elsewhere() -> Iterator[Any]:
                yield last_chunk(7, 7)

            await ask()
            assert list(elsewhere())
            with pytest.raises(LocalRateLimitError):
                await ask()
    assert len(sim.requests) == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"max_budget": -1}, ValueError),
        ({"max_budget": "much"}, (TypeError, ValueError)),
        ({"max_budget": 1, "reset": "yearly"}, ValueError),
        ({"rate_limit": 0}, ValueError),
        ({"tpm_limit": "many"}, TypeError),
        ({"strict_budget": 1}, TypeError),
        ({"stop_streams": "yes"}, TypeError),
    ],
)
def test_bad_limits_are_refused_when_decorating(arguments: Any, error: Any) -> None:
    """As a scope refuses them, where the function is decorated."""
    with pytest.raises(error):
        track_costs(**arguments)
