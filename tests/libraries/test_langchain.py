"""LangChain's packages for the three providers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from libraries.calls import CLAUDE, GEMINI, GPT, PROMPT, REASON, Call, Check, listed, parametrized

langchain_openai = pytest.importorskip("langchain_openai", reason=REASON)
langchain_anthropic = pytest.importorskip("langchain_anthropic", reason=REASON)
langchain_google = pytest.importorskip("langchain_google_genai", reason=REASON)


class Weather(BaseModel):
    """The weather of a city."""

    city: str


def chat(**options: Any) -> Any:
    # LangChain asks for usage by itself on OpenAI's own host only.
    return langchain_openai.ChatOpenAI(**{"model": GPT, "stream_usage": True, **options})


def responses(**options: Any) -> Any:
    return langchain_openai.ChatOpenAI(**{"model": GPT, "use_responses_api": True, **options})


def claude(**options: Any) -> Any:
    return langchain_anthropic.ChatAnthropic(**{"model": CLAUDE, "max_tokens": 100, **options})


def gemini(**options: Any) -> Any:
    return langchain_google.ChatGoogleGenerativeAI(**{"model": GEMINI, **options})


def calls_of(name: str, open_: Callable[..., Any], model: str) -> tuple[Call, ...]:
    """The calls that every chat model of LangChain has."""

    def break_off() -> str:
        for chunk in open_(model=f"{model}+delay=20").stream(PROMPT):
            if chunk.text:
                return str(chunk.text)
        return ""

    async def ainvoke() -> str:
        return str((await open_().ainvoke(PROMPT)).text)

    async def astream() -> list[str]:
        return [str(chunk.text) for chunk in await listed(open_().astream(PROMPT))]

    async def abatch() -> list[str]:
        return [str(answer.text) for answer in await open_().abatch([PROMPT, PROMPT])]

    def with_tool() -> Any:
        answer = open_(model=f"{model}+tools").bind_tools([Weather]).invoke(PROMPT)
        return [(each["name"], each["args"]) for each in answer.tool_calls]

    return (
        Call(f"{name}: invoke", lambda: str(open_().invoke(PROMPT).text)),
        Call(f"{name}: stream", lambda: [str(chunk.text) for chunk in open_().stream(PROMPT)]),
        Call(
            f"{name}: stream, broken off",
            break_off,
            outcome="closed",
            source="estimated" if model == GPT else "partial",
        ),
        Call(f"{name}: batch", lambda: [str(each.text) for each in open_().batch([PROMPT, PROMPT])], requests=2),
        Call(f"{name}: bind_tools", with_tool),
        Call(f"{name}: ainvoke", ainvoke),
        Call(f"{name}: astream", astream),
        Call(f"{name}: abatch", abatch, requests=2),
    )


def structured(model: Any, method: str) -> Any:
    return model.with_structured_output(Weather, method=method).invoke(PROMPT).model_dump()


async def embed() -> Any:
    return await embeddings().aembed_query(PROMPT)


def embeddings() -> Any:
    # The check would download an encoding.
    return langchain_openai.OpenAIEmbeddings(model="text-embedding-3-small", check_embedding_ctx_length=False)


def google_embeddings() -> Any:
    return langchain_google.GoogleGenerativeAIEmbeddings(model="gemini-embedding-001")


CALLS = (
    *calls_of("ChatOpenAI", chat, GPT),
    *calls_of("ChatOpenAI, Responses", responses, GPT),
    *calls_of("ChatAnthropic", claude, CLAUDE),
    *calls_of("ChatGoogleGenerativeAI", gemini, GEMINI),
    Call("ChatOpenAI: with_structured_output, json_schema", lambda: structured(chat(), "json_schema")),
    Call(
        "ChatOpenAI: with_structured_output, tools", lambda: structured(chat(model=f"{GPT}+tools"), "function_calling")
    ),
    Call("ChatOpenAI, Responses: with_structured_output", lambda: structured(responses(), "json_schema")),
    Call("ChatAnthropic: with_structured_output", lambda: structured(claude(), "json_schema")),
    Call("ChatGoogleGenerativeAI: with_structured_output", lambda: structured(gemini(), "json_schema")),
    Call(
        "ChatOpenAI: stream, usage not asked for",
        lambda: [str(chunk.text) for chunk in chat(stream_usage=False).stream(PROMPT)],
        source="estimated",
    ),
    Call(
        "ChatOpenAI: stream, include_usage=True",
        lambda: [str(chunk.text) for chunk in chat(stream_usage=False).stream(PROMPT)],
        settings={"include_usage": True},
    ),
    Call("OpenAIEmbeddings: embed_query", lambda: embeddings().embed_query(PROMPT)),
    Call("OpenAIEmbeddings: aembed_query", embed),
    Call("GoogleGenerativeAIEmbeddings: embed_query", lambda: google_embeddings().embed_query(PROMPT)),
)


@parametrized(CALLS)
def test_langchain(call: Call, check: Check) -> None:
    """LangChain answers as without the patches, and each of its requests is one record."""
    check(call)
