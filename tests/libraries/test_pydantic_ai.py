"""pydantic-ai on the three SDKs."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from libraries.calls import CLAUDE, GEMINI, GPT, PROMPT, REASON, Call, Check, listed, parametrized

pydantic_ai = pytest.importorskip("pydantic_ai", reason=REASON)


class Weather(BaseModel):
    """The weather of a city."""

    city: str


def weather(city: str) -> str:
    """Say how the weather is."""
    return f"It rains in {city}."


def calls_of(kind: str, model: str) -> tuple[Call, ...]:
    """The calls that an agent has on every model."""

    def agent(flags: str = "", **options: Any) -> Any:
        return pydantic_ai.Agent(f"{kind}:{model}{flags}", **options)

    def structured() -> Any:
        # Where a model takes a schema for its answer, no tool is called.
        flags = "" if kind == "anthropic" else "+tools"
        return agent(flags, output_type=Weather).run_sync(PROMPT).output.model_dump()

    async def run() -> str:
        return str((await agent().run(PROMPT)).output)

    async def run_stream() -> list[str]:
        async with agent().run_stream(PROMPT) as answer:
            return await listed(answer.stream_text(delta=True, debounce_by=None))

    async def run_stream_with_tool() -> list[str]:
        async with agent("+tools", tools=[weather]).run_stream(PROMPT) as answer:
            return await listed(answer.stream_text(delta=True, debounce_by=None))

    async def iterated() -> int:
        async with agent("+tools", tools=[weather]).iter(PROMPT) as steps:
            return len(await listed(steps))

    return (
        Call(f"{kind}: run_sync", lambda: str(agent().run_sync(PROMPT).output)),
        Call(f"{kind}: run_sync, a tool", lambda: agent("+tools", tools=[weather]).run_sync(PROMPT).output, requests=2),
        Call(f"{kind}: run_sync, output_type", structured),
        Call(f"{kind}: run", run),
        Call(f"{kind}: run_stream", run_stream),
        Call(f"{kind}: run_stream, a tool", run_stream_with_tool, requests=2),
        Call(f"{kind}: iter, a tool", iterated, requests=2),
    )


CALLS = (
    *calls_of("openai-chat", GPT),
    *calls_of("openai-responses", GPT),
    *calls_of("anthropic", CLAUDE),
    *calls_of("google", GEMINI),
)


@parametrized(CALLS)
def test_pydantic_ai(call: Call, check: Check) -> None:
    """pydantic-ai answers as without the patches, and each of its requests is one record."""
    check(call)
