"""LlamaIndex's packages for the three providers."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from libraries.calls import GEMINI, GPT, PROMPT, REASON, Call, Check, listed, parametrized

openai = pytest.importorskip("llama_index.llms.openai", reason=REASON)
anthropic = pytest.importorskip("llama_index.llms.anthropic", reason=REASON)
google = pytest.importorskip("llama_index.llms.google_genai", reason=REASON)
core = pytest.importorskip("llama_index.core.llms", reason=REASON)


def gpt() -> Any:
    return openai.OpenAI(
        model=GPT, api_base=os.environ["OPENAI_BASE_URL"], additional_kwargs={"stream_options": {"include_usage": True}}
    )


def plain_gpt() -> Any:
    return openai.OpenAI(model=GPT, api_base=os.environ["OPENAI_BASE_URL"])


def responses() -> Any:
    return openai.OpenAIResponses(model=GPT, api_base=os.environ["OPENAI_BASE_URL"])


def claude() -> Any:
    # The library knows the windows of the models that it takes.
    return anthropic.Anthropic(model="claude-sonnet-4-5", max_tokens=100)


def gemini() -> Any:
    return google.GoogleGenAI(model=GEMINI, context_window=100_000, max_tokens=100)


def calls_of(name: str, stream_open: Callable[[], Any], open_: Callable[[], Any]) -> tuple[Call, ...]:
    """The calls that every model has."""
    messages = [core.ChatMessage(role="user", content=PROMPT)]

    async def acomplete() -> str:
        return str((await open_().acomplete(PROMPT)).text)

    async def astream_chat() -> list[str]:
        return [str(each.delta) for each in await listed(await stream_open().astream_chat(messages))]

    return (
        Call(f"{name}: complete", lambda: str(open_().complete(PROMPT).text)),
        Call(f"{name}: chat", lambda: str(open_().chat(messages).message.content)),
        Call(f"{name}: stream_chat", lambda: [str(each.delta) for each in stream_open().stream_chat(messages)]),
        Call(f"{name}: acomplete", acomplete),
        Call(f"{name}: astream_chat", astream_chat),
    )


CALLS = (
    *calls_of("OpenAI", gpt, plain_gpt),
    *calls_of("OpenAIResponses", responses, responses),
    *calls_of("Anthropic", claude, claude),
    *calls_of("GoogleGenAI", gemini, gemini),
)


@parametrized(CALLS)
def test_llama_index(call: Call, check: Check) -> None:
    """LlamaIndex answers as without the patches, and each of its requests is one record."""
    check(call)
