"""What llm-toll's documentation shows of its decorator works with ours in its place, and comes to the same figures.

Each example is run by llm-toll's own decorator, by ours while nothing is patched, and by ours with the patches on.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sources import AsyncClients, Clients, async_clients_of, clients_of

import llm_toll_autopatch
from llm_toll_autopatch import MemorySink, TokenEstimateWarning, flush, patched, tracking
from llm_toll_autopatch.settings import Settings
from llm_toll_autopatch.simulator import Simulator

F = TypeVar("F", bound=Callable[..., Any])

Seen = list[tuple[str, int, int]]
"""Model, input and output tokens of each call."""

# Their documentation's models are old by now.
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated.*:DeprecationWarning")

MESSAGES: list[Any] = [{"role": "user", "content": "Hello"}]
GPT, CLAUDE, GEMINI = "gpt-4o", "claude-sonnet-4-20250514", "gemini-2.0-flash"
ASKED = {"stream": True, "stream_options": {"include_usage": True}}


class Decorator:
    """One of the two decorators, and what it has counted."""

    def __init__(self, track_costs: Callable[..., Any], seen: Any, *, ours: bool) -> None:
        self._track_costs = track_costs
        self._seen = seen
        self.ours = ours

    def track_costs(self, **arguments: Any) -> Callable[[F], F]:
        """The decorator."""
        decorate: Callable[[F], F] = self._track_costs(**arguments)
        return decorate

    def seen(self) -> Seen:
        """What was counted since the last time."""
        found: Seen = self._seen()
        return found


@pytest.fixture(params=["theirs", "unpatched", "patched"])
def decorator(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Decorator]:
    """llm-toll's decorator with a store of its own; ours, unpatched and patched."""
    if request.param == "theirs":
        theirs = pytest.importorskip("llm_toll")
        store = theirs.SQLiteStore(str(tmp_path / "theirs.db"))
        theirs.set_store(store)
        taken: list[Any] = []

        def seen() -> Seen:
            rows = list(reversed(store.get_usage_logs_filtered(limit=100)))[len(taken) :]
            taken.extend(rows)
            return [(row["model"], row["input_tokens"], row["output_tokens"]) for row in rows]

        yield Decorator(theirs.track_costs, seen, ours=False)
        theirs.set_store(None)
        store.close()
        return
    sink = MemorySink()

    def ours() -> Seen:
        flush(5)
        found = [(record.model, record.usage.input_tokens, record.usage.output_tokens) for record in sink]
        sink.clear()
        return found

    monkeypatch.setattr(tracking, "_configuration", Settings.resolve(sink=sink))
    with patched(sink=sink) if request.param == "patched" else contextlib.nullcontext():
        yield Decorator(llm_toll_autopatch.track_costs, ours, ours=True)


@pytest.fixture
def clients(sim: Simulator) -> Iterator[Clients]:
    with clients_of(sim) as made:
        yield made


@pytest.fixture
async def async_clients(sim: Simulator) -> AsyncIterator[AsyncClients]:
    async with async_clients_of(sim) as made:
        yield made


def test_a_function_that_returns_an_answer(decorator: Decorator, clients: Clients) -> None:
    """Usage is read off the response of each SDK that a function returns."""

    @decorator.track_costs(project="my_scraper", max_budget=5.00)
    def summarise(client: str) -> Any:
        if client == "openai":
            return clients.openai.chat.completions.create(model=GPT, messages=MESSAGES)
        if client == "anthropic":
            return clients.anthropic.messages.create(model=CLAUDE, max_tokens=9, messages=MESSAGES)
        return clients.google.models.generate_content(model=GEMINI, contents="Hello")

    for client in ("openai", "anthropic", "google"):
        summarise(client)
    counted = decorator.seen()
    assert counted[:2] == [(GPT, 25, 8), (CLAUDE, 25, 8)]
    assert counted[2][1:] == (25, 8)


def test_a_function_that_returns_a_stream(decorator: Decorator, clients: Clients) -> None:
    """The stream is read as ever, and its cost is there when it has been read."""

    @decorator.track_costs(project="my_app", max_budget=5.00)
    def stream_response(text: str) -> Any:
        return clients.openai.chat.completions.create(model=GPT, messages=[{"role": "user", "content": text}], **ASKED)

    written = ""
    for chunk in stream_response("Hello"):
        if chunk.choices:
            written += chunk.choices[0].delta.content or ""
    assert written == "Falling water speeds up, so it gets thinner."
    assert decorator.seen() == [(GPT, 25, 8)]


def test_the_chunks_of_each_provider(decorator: Decorator, clients: Clients) -> None:
    """The chunks of OpenAI, Anthropic and Gemini are told apart by their shape."""

    @decorator.track_costs()
    def openai_stream() -> Any:
        return clients.openai.chat.completions.create(model=GPT, messages=MESSAGES, **ASKED)

    @decorator.track_costs()
    def anthropic_stream() -> Any:
        return clients.anthropic.messages.create(model=CLAUDE, max_tokens=9, messages=MESSAGES, stream=True)

    @decorator.track_costs()
    def gemini_stream() -> Any:
        return clients.google.models.generate_content_stream(model=GEMINI, contents="Hello")

    for stream in (openai_stream, anthropic_stream, gemini_stream):
        assert len(list(stream())) > 5
    assert decorator.seen() == [(GPT, 25, 8), (CLAUDE, 25, 8), (GEMINI, 25, 8)]


def test_a_generator(decorator: Decorator, clients: Clients) -> None:
    """A generator that passes the chunks on is a stream like any other."""

    @decorator.track_costs(project="my_app")
    def generate() -> Iterator[Any]:
        yield from clients.openai.chat.completions.create(model=GPT, messages=MESSAGES, **ASKED)

    assert list(generate())
    assert decorator.seen() == [(GPT, 25, 8)]


def test_leaving_early(decorator: Decorator, clients: Clients) -> None:
    """A stream that is left half-read is counted too."""

    @decorator.track_costs()
    def stream_response() -> Any:
        return clients.anthropic.messages.create(model=CLAUDE, max_tokens=9, messages=MESSAGES, stream=True)

    with pytest.warns(TokenEstimateWarning) if decorator.ours else contextlib.nullcontext():
        for number, _ in enumerate(stream_response()):
            if number == 5:
                break
    ((model, given, written),) = decorator.seen()
    assert (model, given) == (CLAUDE, 25)
    assert (written > 0) is decorator.ours, "what had been written by then is not free"


def test_a_stream_without_usage_is_estimated(decorator: Decorator, clients: Clients) -> None:
    """Where the provider reports no usage there is an estimate of the output, at four characters a token, and a warning."""

    @decorator.track_costs()
    def stream_response() -> Any:
        return clients.openai.chat.completions.create(model=GPT, messages=MESSAGES, stream=True)

    with pytest.warns(UserWarning, match="estimate"):
        assert list(stream_response())
    ((model, given, written),) = decorator.seen()
    assert (model, written) == (GPT, 11)
    assert given in (0, 1)  # the patches see the request, whose text is "Hello"


def test_plain_iterators_are_no_streams(decorator: Decorator) -> None:
    """`map`, `filter` and `zip` are returned as they are."""
    for iterator in (map(str, [1]), filter(None, [1]), zip([1], [2], strict=True)):
        assert decorator.track_costs()(lambda iterator=iterator: iterator)() is iterator
    assert decorator.seen() == []


async def test_a_coroutine_function(decorator: Decorator, async_clients: AsyncClients) -> None:
    """A coroutine function is awaited as ever, many at once too."""

    @decorator.track_costs(project="my_app", max_budget=5.00)
    async def async_chat(text: str) -> Any:
        return await async_clients.openai.chat.completions.create(
            model=GPT, messages=[{"role": "user", "content": text}]
        )

    assert inspect.iscoroutinefunction(async_chat)
    await asyncio.gather(*(async_chat(f"item {number}") for number in range(5)))
    assert decorator.seen() == [(GPT, 25, 8)] * 5


async def test_an_async_generator(decorator: Decorator, async_clients: AsyncClients) -> None:
    """An async generator that passes the chunks on is counted at its end."""

    @decorator.track_costs(project="my_app")
    async def async_stream(text: str) -> AsyncIterator[Any]:
        stream = await async_clients.openai.chat.completions.create(
            model=GPT, messages=[{"role": "user", "content": text}], **ASKED
        )
        async for chunk in stream:
            yield chunk

    assert inspect.isasyncgenfunction(async_stream)
    assert len([chunk async for chunk in async_stream("Hello")]) > 5
    assert decorator.seen() == [(GPT, 25, 8)]


async def test_a_coroutine_function_that_returns_a_stream(decorator: Decorator, async_clients: AsyncClients) -> None:
    """An async stream is known by `__aiter__` and `__anext__`, as the documentation says."""

    @decorator.track_costs(project="my_app")
    async def get_stream(text: str) -> Any:
        return await async_clients.openai.chat.completions.create(
            model=GPT, messages=[{"role": "user", "content": text}], **ASKED
        )

    assert len([chunk async for chunk in await get_stream("Hello")]) > 5
    assert decorator.seen() == [(GPT, 25, 8)]


def test_usage_that_the_user_extracts(decorator: Decorator) -> None:
    """extract_usage reads a result of the user's own; model= names another model."""

    @decorator.track_costs(model=CLAUDE, extract_usage=lambda result: (result["model"], result["in"], result["out"]))
    def custom_call(_prompt: str) -> Any:
        return {"model": "raw", "in": 12, "out": 7}

    assert custom_call("Hello")["in"] == 12
    assert decorator.seen() == [(CLAUDE, 12, 7)]


def test_an_extractor_that_fails(decorator: Decorator) -> None:
    """It is a warning, and the result is returned; ours says in a record that the cost is not known."""

    @decorator.track_costs(extract_usage=lambda result: result["nothing"])
    def custom_call() -> Any:
        return {"in": 12}

    with pytest.warns(UserWarning, match="extract_usage"):
        assert custom_call() == {"in": 12}
    assert decorator.seen() == ([("", 0, 0)] if decorator.ours else [])


def test_a_budget_that_is_used_up(decorator: Decorator, clients: Clients) -> None:
    """The call that crosses the budget is delivered, and the next one is refused before the function runs."""
    if not decorator.ours:
        pytest.skip("llm-toll 0.13 throws the answer away that crosses the budget")
    ran = []

    @decorator.track_costs(project="poor", max_budget=0.00001)
    def ask() -> Any:
        ran.append(True)
        return clients.openai.chat.completions.create(model=GPT, messages=MESSAGES)

    with pytest.warns(UserWarning, match="budget"):
        assert ask().choices
    refused: Any = vars(llm_toll_autopatch)["__getattr__"]("BudgetExceededError")
    with pytest.raises(refused):
        ask()
    assert decorator.seen() == [(GPT, 25, 8)]
