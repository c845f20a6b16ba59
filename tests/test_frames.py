"""What the user sees of our frames: warnings point where they point bare, coroutines are named as they are bare."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import pytest
from roads import ROADS, Road
from sources import MESSAGES, async_clients_of, clients_of
from versions import needs

from llm_toll_autopatch import patched
from llm_toll_autopatch.simulator import Simulator

PNG = ("pixel.png", b"PNG", "image/png")
OLD = "claude-3-opus-20240229"


def told(caught: list[warnings.WarningMessage]) -> list[tuple[Any, ...]]:
    """What each DeprecationWarning says, and where."""
    found = [(each.category.__name__, str(each.message), each.filename, each.lineno) for each in caught]
    return [each for each in found if each[0] == "DeprecationWarning"]


def deprecated(clients: Any) -> list[tuple[Any, ...]]:
    """Call what is deprecated."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clients.openai.images.create_variation(image=PNG, model="dall-e-2")
        clients.openai.beta.threads.runs.retrieve("run_gpt-5-mini~w", thread_id="t")
        clients.openai.beta.threads.runs.stream(thread_id="t", assistant_id="a")
        clients.anthropic.messages.create(model=OLD, max_tokens=9, messages=MESSAGES)
    return told(caught)


@pytest.mark.parametrize("model", ["gpt-5-mini+no-usage", "no-such-model", "gpt-5-mini"])
def test_warnings_of_ours_point_at_the_call(sim: Simulator, model: str) -> None:
    """A warning of ours names the line that called the SDK's method, and not the one that called its function."""
    with patched(max_budget="0.00000001"), clients_of(sim) as clients, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")

        def ask() -> None:
            clients.openai.chat.completions.create(model=model, messages=MESSAGES)

        ask()
    assert caught
    assert {(each.filename, each.lineno) for each in caught} == {(__file__, ask.__code__.co_firstlineno + 1)}


async def deprecated_async(clients: Any) -> list[tuple[Any, ...]]:
    """The same, async."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await clients.openai.images.create_variation(image=PNG, model="dall-e-2")
        await clients.openai.beta.threads.runs.retrieve("run_gpt-5-mini~w", thread_id="t")
        await clients.anthropic.messages.create(model=OLD, max_tokens=9, messages=MESSAGES)
    return told(caught)


def test_a_deprecation_points_at_the_same_line(sim: Simulator) -> None:
    """The SDKs' DeprecationWarnings point at the line at which they point bare."""
    with clients_of(sim) as clients:
        bare = deprecated(clients)
        with patched():
            ours = deprecated(clients)
    assert ours == bare
    assert len(bare) >= 3


@needs("anthropic", "warnings of a coroutine that runs")
async def test_a_deprecation_points_at_the_same_line_async(sim: Simulator) -> None:
    """The same, async."""
    async with async_clients_of(sim) as clients:
        bare = await deprecated_async(clients)
        with patched():
            ours = await deprecated_async(clients)
    assert ours == bare
    assert len(bare) >= 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("road", ROADS, ids=str)
async def test_a_coroutine_that_nobody_awaits(road: Road, sim: Simulator) -> None:
    """A coroutine that is never awaited warns under the SDK's name, sends nothing and is no record."""

    def drop(clients: Any) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            coroutine = road.on(clients)(**road.arguments())
            assert inspect.iscoroutine(coroutine)
            del coroutine
        return [str(each.message) for each in caught if "never awaited" in str(each.message)]

    async with async_clients_of(sim) as clients:
        bare = drop(clients)
        with patched() as sink:
            ours = drop(clients)
    assert ours == bare
    assert not sink.records  # type: ignore[attr-defined]
    assert not sim.requests
