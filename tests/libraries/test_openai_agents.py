"""The OpenAI Agents SDK."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from libraries.calls import GPT, PROMPT, REASON, Call, Check, listed, parametrized

agents = pytest.importorskip("agents", reason=REASON)
openai = pytest.importorskip("openai", reason=REASON)


class Weather(BaseModel):
    """The weather of a city."""

    city: str


@pytest.fixture(autouse=True)
def no_tracing() -> None:
    """Traces would go to OpenAI's own host."""
    agents.set_tracing_disabled(True)


def calls_of(name: str, kind: str) -> tuple[Call, ...]:
    """The calls that the runner has on both of OpenAI's interfaces."""

    def agent(flags: str = "", **options: Any) -> Any:
        model = getattr(agents, kind)(model=GPT + flags, openai_client=openai.AsyncOpenAI(max_retries=0))
        return agents.Agent(name="assistant", model=model, **options)

    def weather() -> Any:
        def get_weather(city: str) -> str:
            """Say how the weather is."""
            return f"It rains in {city}."

        return agents.function_tool(get_weather)

    def structured() -> Any:
        return agents.Runner.run_sync(agent(output_type=Weather), PROMPT).final_output.model_dump()

    def with_tool() -> str:
        return str(agents.Runner.run_sync(agent("+tools", tools=[weather()]), PROMPT).final_output)

    def handed_over() -> str:
        first = agent("+tools", handoffs=[agent()])
        return str(agents.Runner.run_sync(first, PROMPT).final_output)

    async def run() -> str:
        return str((await agents.Runner.run(agent(), PROMPT)).final_output)

    # Without this, the Agents SDK asks for the usage of streams on OpenAI's own host only.
    with_usage = {"model_settings": agents.ModelSettings(include_usage=True)}

    async def streamed(flags: str = "", **options: Any) -> Any:
        answer = agents.Runner.run_streamed(agent(flags, **options), PROMPT)
        events = await listed(answer.stream_events())
        return [event.type for event in events], answer.final_output

    async def run_streamed() -> Any:
        return await streamed(**with_usage)

    async def run_streamed_as_it_is() -> Any:
        return await streamed()

    async def run_streamed_with_tool() -> Any:
        return await streamed("+tools", tools=[weather()], **with_usage)

    return (
        Call(f"{name}: run_sync", lambda: str(agents.Runner.run_sync(agent(), PROMPT).final_output)),
        Call(f"{name}: run_sync, a tool", with_tool, requests=2),
        Call(f"{name}: run_sync, a handoff", handed_over, requests=2),
        Call(f"{name}: run_sync, output_type", structured),
        Call(f"{name}: run", run),
        Call(f"{name}: run_streamed", run_streamed),
        Call(
            f"{name}: run_streamed, usage not asked for",
            run_streamed_as_it_is,
            source="estimated" if name == "chat completions" else "reported",
        ),
        Call(f"{name}: run_streamed, a tool", run_streamed_with_tool, requests=2),
    )


CALLS = (
    *calls_of("chat completions", "OpenAIChatCompletionsModel"),
    *calls_of("Responses", "OpenAIResponsesModel"),
)


@parametrized(CALLS)
def test_openai_agents(call: Call, check: Check) -> None:
    """The Agents SDK answers as without the patches, and each of its requests is one record."""
    check(call)
