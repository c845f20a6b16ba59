"""Anthropic's `BetaRefusalFallbackMiddleware`: every request that it sends is billed, and counted once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from importlib import import_module
from typing import Any

import anthropic
import pytest
from anthropic.types.beta import BetaMessage
from sources import MESSAGES
from test_usage import message, metered
from versions import came_later

from llm_toll_autopatch import BudgetExceededError, MemorySink, Sink, patched, status
from llm_toll_autopatch.readers.messages import Messages
from llm_toll_autopatch.records import Usage
from llm_toll_autopatch.simulator import Simulator

if came_later("anthropic", "BetaRefusalFallbackMiddleware"):
    pytest.skip("came with anthropic 0.108.0: BetaRefusalFallbackMiddleware", allow_module_level=True)
middleware = import_module("anthropic.lib.middleware")

FIRST, SECOND, THIRD = "claude-sonnet-5-5+refusal", "claude-haiku-5-5+refusal+in=7+out=2", "claude-opus-5-5+in=9+out=3"
PRICES = {
    "claude-sonnet-5-5*": {"input": 1, "output": 2},
    "claude-haiku-5-5*": {"input": 10, "output": 20},
    "claude-opus-5-5": {"input": 100, "output": 200},
    THIRD: {"input": 100, "output": 200},
}


def arguments(**more: Any) -> Any:
    """A request whose model refuses."""
    return {"model": FIRST, "max_tokens": 100, "messages": MESSAGES, **more}


def options(sim: Simulator, *fallbacks: str) -> Any:
    """A client that sends what is refused to other models."""
    chain = middleware.BetaRefusalFallbackMiddleware([{"model": model} for model in fallbacks])
    return {"base_url": sim.anthropic_base_url, "api_key": "sim", "max_retries": 0, "middleware": [chain]}


@contextmanager
def client(sim: Simulator, *fallbacks: str) -> Iterator[anthropic.Anthropic]:
    """The client, for the block."""
    with middleware.BetaFallbackState(), anthropic.Anthropic(**options(sim, *fallbacks)) as made:
        yield made


def figures(sink: Sink) -> list[tuple[str, str | None, int, int, str]]:
    """Who was asked, who answered, tokens in and out, and how it ended."""
    assert isinstance(sink, MemorySink)
    return [
        (each.model, each.response_model, each.usage.input_tokens, each.usage.output_tokens, each.outcome)
        for each in sink.records
    ]


REFUSED = [
    (FIRST, "claude-sonnet-5-5", 25, 8, "completed"),
    (SECOND, "claude-haiku-5-5", 7, 2, "completed"),
]


@pytest.mark.parametrize("method", ["create", "parse"])
def test_each_refused_request_is_a_record(method: str, sim: Simulator) -> None:
    """A plain call that two models refuse and a third answers is three records, and one answer as it is bare."""
    with client(sim, SECOND, THIRD) as bare:
        content = [block.type for block in getattr(bare.beta.messages, method)(**arguments()).content]
    sim.clear()
    with patched(prices=PRICES) as sink, client(sim, SECOND, THIRD) as clients:
        answer = getattr(clients.beta.messages, method)(**arguments())
        assert [block.type for block in answer.content] == content == ["fallback", "fallback", "text"]
        assert status().open_calls == 0
    assert figures(sink) == [*REFUSED, (FIRST, "claude-opus-5-5", 9, 3, "completed")]
    assert isinstance(sink, MemorySink)
    assert len(sim.requests) == len({record.response_id for record in sink.records}) == 3
    assert {(record.endpoint, record.provider) for record in sink.records} == {("127.0.0.1", "anthropic")}
    # (25 * 1 + 8 * 2) + (7 * 10 + 2 * 20) + (9 * 100 + 3 * 200) nano-USD, times 1,000
    assert sink.total_cost_usd == Decimal("0.001651")


async def test_async(sim: Simulator) -> None:
    """The same, async."""
    with patched() as sink, middleware.BetaFallbackState():
        async with anthropic.AsyncAnthropic(**options(sim, SECOND, THIRD)) as clients:
            await clients.beta.messages.create(**arguments())
    assert figures(sink) == [*REFUSED, (FIRST, "claude-opus-5-5", 9, 3, "completed")]


def test_raw_responses(sim: Simulator) -> None:
    """The same by a raw response."""
    with patched() as sink, client(sim, SECOND, THIRD) as clients:
        clients.beta.messages.with_raw_response.create(**arguments()).parse()
    assert figures(sink) == [*REFUSED, (FIRST, "claude-opus-5-5", 9, 3, "completed")]


def test_a_chain_that_nobody_answers(sim: Simulator) -> None:
    """The last refusal is the answer, and is counted as such; a model that fails is passed over and not billed."""
    with patched() as sink, client(sim, SECOND) as clients:
        assert clients.beta.messages.create(**arguments()).stop_reason == "refusal"
    assert figures(sink) == [REFUSED[0], (FIRST, "claude-haiku-5-5", 7, 2, "completed")]
    with patched() as sink, client(sim, SECOND, "claude-opus-5-5+error=529") as clients:
        with pytest.raises(anthropic.APIStatusError):
            clients.beta.messages.create(**arguments())
    assert figures(sink) == [*REFUSED, (FIRST, None, 0, 0, "error")]


def test_an_answer_at_once(sim: Simulator) -> None:
    """Where nothing is refused, one call is one record; requests that the middleware passes through are too."""
    with patched() as sink, client(sim, SECOND) as clients:
        clients.beta.messages.create(**arguments(model=THIRD))
        clients.messages.create(**arguments())
    assert [model for model, *_ in figures(sink)] == [THIRD, FIRST]


@pytest.mark.parametrize("empty", [False, True])
def test_a_stream_is_one_record_with_the_price_of_each_model(empty: bool, sim: Simulator) -> None:
    """A spliced stream tells of all its requests: one record, of which each model's part has its own price."""
    first = FIRST + "+empty" * empty
    with patched(prices=PRICES) as sink, client(sim, SECOND, THIRD) as clients:
        for _ in clients.beta.messages.create(**arguments(model=first), stream=True):
            pass
    written = 0 if empty else 8
    assert figures(sink) == [(first, THIRD, 25 + 7 + 9, written + 2 + 3, "completed")]
    assert isinstance(sink, MemorySink)
    (record,) = sink.records
    assert record.usage_source == "reported"
    assert dict(record.usage.details) == {"declined_input_tokens": 32, "declined_output_tokens": written + 2}
    assert record.cost_usd == Decimal("0.001651") - Decimal("0.000016") * empty


def test_declined_parts_that_the_whole_has_are_not_counted_twice() -> None:
    """Whether or not the message's own figures hold those of the models that declined, each is counted once."""
    served = {"type": "fallback_message", "model": "expensive", "input_tokens": 10, "output_tokens": 1}
    declined = {"type": "message", "model": "adviser", "input_tokens": 100, "output_tokens": 50}
    iterations = [declined, {**served, "type": "message", "input_tokens": 5}, served]
    alone = {"input_tokens": 15, "output_tokens": 2, "iterations": iterations}
    whole = {"input_tokens": 115, "output_tokens": 52, "iterations": iterations}
    details = {"declined_input_tokens": 100, "declined_output_tokens": 50}
    records = [metered(Messages(), response=message(each, BetaMessage)) for each in (alone, whole)]
    assert [record.usage for record in records] == [Usage(input_tokens=115, output_tokens=52, details=details)] * 2
    assert records[0].cost_usd == records[1].cost_usd


@pytest.mark.filterwarnings("ignore::llm_toll_autopatch.BudgetOverrunWarning")
def test_refused_requests_count_against_a_budget(sim: Simulator) -> None:
    """What a call's refused requests cost is spent: the answer alone would leave room for another call."""
    with patched(prices=PRICES, max_budget=0.0016) as sink, client(sim, SECOND, THIRD) as clients:
        clients.beta.messages.create(**arguments())
        with pytest.raises(BudgetExceededError) as refusal:
            clients.messages.create(**arguments())
    assert refusal.value.current_cost == Decimal("0.001651")
    assert len(figures(sink)) == len(sim.requests) == 3


def test_nothing_is_counted_without_patches(sim: Simulator) -> None:
    """The middleware is the SDK's own again afterwards."""
    with patched() as sink:
        pass
    with client(sim, SECOND, THIRD) as clients:
        clients.beta.messages.create(**arguments())
    assert figures(sink) == []
