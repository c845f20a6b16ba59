"""The SDKs' helpers above their own methods: managers of streams, tool runners, threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import openai
import pytest
from sources import CLAUDE, GPT, MESSAGES, PROMPT, async_clients_of, clients_of

from llm_toll_autopatch import MemorySink, flush, patched
from llm_toll_autopatch.records import CallRecord
from llm_toll_autopatch.simulator import Simulator

pytestmark = [
    pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Assistants are
]

Open = Callable[[Any, str], Any]

_RUN = {"thread_id": "thread_1", "assistant_id": "asst_1"}
_CLAUDE = {"max_tokens": 100, "messages": MESSAGES}

MANAGERS: dict[str, tuple[str, Open]] = {
    "chat.completions.create": (
        "openai chat", lambda c, f: c.openai.chat.completions.stream(model=GPT + f, messages=MESSAGES, stream_options={"include_usage": True}),
    ),
    "responses.create": ("openai responses", lambda c, f: c.openai.responses.stream(model=GPT + f, input=PROMPT)),
    "beta.threads.runs.stream": (
        "openai run", lambda c, f: c.openai.beta.threads.runs.stream(model=GPT + f, **_RUN),
    ),
    "beta.threads.create_and_run_stream": (
        "openai thread", lambda c, f: c.openai.beta.threads.create_and_run_stream(model=GPT + f, assistant_id="asst_1"),
    ),
    "messages.stream": ("anthropic", lambda c, f: c.anthropic.messages.stream(model=CLAUDE + f, **_CLAUDE)),
    "beta.messages.stream": ("anthropic beta", lambda c, f: c.anthropic.beta.messages.stream(model=CLAUDE + f, **_CLAUDE)),
}  # fmt: skip
every_manager = pytest.mark.parametrize("method", MANAGERS)


def only(sink: Any) -> CallRecord:
    """The one record."""
    flush(5)
    (record,) = sink.records
    assert isinstance(record, CallRecord)
    return record


@every_manager
def test_a_manager_read_to_the_end(method: str, sim: Simulator) -> None:
    """A helper's stream that is read to its end is one record with the reported figures, made before `with` ends."""
    with patched() as sink, clients_of(sim) as clients:
        with MANAGERS[method][1](clients, "") as stream:
            assert list(stream)
            record = only(sink)
    assert only(sink) is record
    assert (record.method, record.outcome, record.usage_source) == (method, "completed", "reported")
    assert (record.usage.input_tokens, record.usage.output_tokens, record.stream) == (25, 8, True)


@every_manager
def test_a_break_out_of_a_manager(method: str, sim: Simulator) -> None:
    """A break out of a helper's `for` records and closes at once, within the `with`."""
    with patched() as sink, clients_of(sim) as clients:
        with MANAGERS[method][1](clients, "+chunks=40+delay=10") as stream:
            for _ in stream:
                break
            if "threads" not in method:  # a run goes on without its stream: it is recorded when that is known
                assert only(sink).outcome == "closed"
            (request,) = sim.requests
            assert request.wait(5)
            assert request.hung_up
    assert len(sink.records) == ("threads" not in method)  # type: ignore[attr-defined]


@every_manager
def test_leaving_a_manager(method: str, sim: Simulator) -> None:
    """Leaving the `with` without reading closes the stream and is one record."""
    with patched() as sink, clients_of(sim) as clients:
        with MANAGERS[method][1](clients, "+chunks=40+delay=10") as stream:
            assert stream is not None
        (request,) = sim.requests
        assert request.wait(5)
        assert request.hung_up
        # What has not said yet that it is a run is a stream like others.
        assert only(sink).outcome == "closed"


@every_manager
async def test_async_managers(method: str, sim: Simulator) -> None:
    """Async helpers, read to the end."""
    with patched() as sink:
        async with async_clients_of(sim) as clients:
            async with MANAGERS[method][1](clients, "") as stream:
                assert [event async for event in stream]
                assert only(sink).usage.output_tokens == 8
    assert only(sink).method == method


@pytest.mark.parametrize("method", [method for method in MANAGERS if "threads" not in method])
async def test_a_break_out_of_an_async_manager(method: str, sim: Simulator) -> None:
    """A break out of an async helper's loop records at once."""
    with patched() as sink:
        async with async_clients_of(sim) as clients:
            async with MANAGERS[method][1](clients, "+chunks=40+delay=10") as stream:
                async for _ in stream:
                    break
                assert only(sink).outcome == "closed"


def test_managers_keep_their_helpers(sim: Simulator) -> None:
    """The helpers' own ways of reading are metered, and give what they give bare."""
    with patched() as sink, clients_of(sim) as clients:
        with MANAGERS["chat.completions.create"][1](clients, "") as chat:
            assert chat.get_final_completion().choices[0].message.content
            assert chat.current_completion_snapshot
        with MANAGERS["responses.create"][1](clients, "") as response:
            assert response.get_final_response().output_text
        with MANAGERS["beta.messages.stream"][1](clients, "") as message:
            assert "".join(message.text_stream) == message.get_final_text()
        with MANAGERS["beta.threads.runs.stream"][1](clients, "") as run:
            run.until_done()
            assert run.get_final_run().usage.completion_tokens == 8
    assert isinstance(sink, MemorySink)
    assert [record.usage_source for record in sink] == ["reported"] * 4
    assert isinstance(chat, openai.lib.streaming.chat.ChatCompletionStream)


def test_an_error_on_entering(sim: Simulator) -> None:
    """A manager whose request is refused raises the SDK's error and is one record of it."""
    for _, enter in MANAGERS.values():
        with patched() as sink, clients_of(sim) as clients:
            with pytest.raises((openai.RateLimitError, anthropic.RateLimitError)):
                with enter(clients, "+error=429"):
                    pass
        assert only(sink).outcome == "error"


def get_weather(city: str) -> str:
    """Tell the weather.

    Args:
        city: Where.
    """
    return f"Rain in {city}."


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_runner_is_one_record_a_request(stream: bool, sim: Simulator) -> None:
    """A tool runner sends several requests, each of which is one record."""
    with patched() as sink, clients_of(sim) as clients:
        runner = clients.anthropic.beta.messages.tool_runner(
            model=f"{CLAUDE}+tools",
            tools=[anthropic.beta_tool(get_weather)],
            stream=stream,
            max_iterations=4,
            **_CLAUDE,
        )
        runner.until_done()
    assert isinstance(sink, MemorySink)
    assert len(sim.requests) == 2
    assert [record.usage.input_tokens for record in sink] == [25, 25]
    assert {record.usage_source for record in sink} == {"reported"}


async def test_an_async_tool_runner(sim: Simulator) -> None:
    """The same, async."""

    async def get_weather(city: str) -> str:
        """Tell the weather.

        Args:
            city: Where.
        """
        return f"Rain in {city}."

    with patched() as sink:
        async with async_clients_of(sim) as clients:
            runner = clients.anthropic.beta.messages.tool_runner(
                model=f"{CLAUDE}+tools", tools=[anthropic.beta_async_tool(get_weather)], max_iterations=4, **_CLAUDE
            )
            await runner.until_done()
    assert isinstance(sink, MemorySink)
    assert [record.usage_source for record in sink] == ["reported", "reported"]
