"""instructor on the three SDKs."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from libraries.calls import CLAUDE, GEMINI, GPT, MESSAGES, REASON, Call, Check, listed, parametrized

instructor = pytest.importorskip("instructor", reason=REASON)


class Weather(BaseModel):
    """The weather of a city."""

    city: str


class Rome(BaseModel):
    """Never what the simulator says."""

    city: str

    @field_validator("city")
    @classmethod
    def is_rome(cls, city: str) -> str:
        if city != "Rome":
            raise ValueError("not Rome")
        return city


def refused(client: Any, model: str) -> str:
    """Ask again once, because the answer does not validate; the name of what is raised in the end."""
    try:
        client.create(response_model=Rome, messages=MESSAGES, model=f"{model}+tools=9", max_retries=1)
    except Exception as error:
        return type(error).__name__
    return "answered"


def calls_of(name: str, model: str) -> tuple[Call, ...]:
    """The calls that instructor has for every provider."""
    tools = f"{model}+tools=9"
    # Anthropic wants to be told how long an answer may be.
    options: dict[str, Any] = {"max_tokens": 100} if name == "anthropic" else {}

    def client(**more: Any) -> Any:
        return instructor.from_provider(f"{name}/{tools}", **options, **more)

    def create() -> Any:
        return client().create(response_model=Weather, messages=MESSAGES).model_dump()

    def with_completion() -> Any:
        return client().create_with_completion(response_model=Weather, messages=MESSAGES)[0].model_dump()

    def partial() -> Any:
        return [each.model_dump() for each in client().create_partial(response_model=Weather, messages=MESSAGES)]

    async def acreate() -> Any:
        return (await client(async_client=True).create(response_model=Weather, messages=MESSAGES)).model_dump()

    async def apartial() -> Any:
        stream = client(async_client=True).create_partial(response_model=Weather, messages=MESSAGES)
        return [each.model_dump() for each in await listed(stream)]

    return (
        Call(f"{name}: create", create),
        Call(f"{name}: create_with_completion", with_completion),
        Call(f"{name}: create, asked again", lambda: refused(client(), model), requests=2),
        Call(f"{name}: create_partial", partial, source="estimated" if name == "openai" else "reported"),
        Call(f"{name}: create, async", acreate),
        Call(f"{name}: create_partial, async", apartial, source="estimated" if name == "openai" else "reported"),
    )


CALLS = (*calls_of("openai", GPT), *calls_of("anthropic", CLAUDE), *calls_of("google", GEMINI))


@parametrized(CALLS)
def test_instructor(call: Call, check: Check) -> None:
    """Instructor answers as without the patches, and each of its requests is one record."""
    check(call)
