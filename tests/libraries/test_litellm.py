"""LiteLLM, where it uses the OpenAI SDK and where it does not."""

from __future__ import annotations

import os
from typing import Any

import pytest

from libraries.calls import CLAUDE, GEMINI, GPT, MESSAGES, PROMPT, REASON, Call, Check, listed, parametrized
from llm_toll_autopatch.simulator import Simulator

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else the import downloads a table of prices
litellm = pytest.importorskip("litellm", reason=REASON)


@pytest.fixture(autouse=True)
def gemini(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteLLM has a variable of its own for Gemini."""
    monkeypatch.setenv("GEMINI_API_BASE", sim.google_base_url)


def text(answer: Any) -> str:
    return str(answer.choices[0].message.content)


def delta(chunk: Any) -> str:
    return str(chunk.choices[0].delta.content or "") if chunk.choices else ""


def calls_of(model: str, *, metered: bool, name: str) -> tuple[Call, ...]:
    """The calls of `completion`, which every provider has."""

    async def acompletion() -> str:
        return text(await litellm.acompletion(model=model, messages=MESSAGES))

    async def astream() -> list[str]:
        stream = await litellm.acompletion(
            model=model, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        return [delta(chunk) for chunk in await listed(stream)]

    def stream() -> list[str]:
        stream = litellm.completion(model=model, messages=MESSAGES, stream=True, stream_options={"include_usage": True})
        return [delta(chunk) for chunk in stream]

    return (
        Call(f"{name}: completion", lambda: text(litellm.completion(model=model, messages=MESSAGES)), metered=metered),
        Call(f"{name}: completion, streamed", stream, metered=metered),
        Call(f"{name}: acompletion", acompletion, metered=metered),
        Call(f"{name}: acompletion, streamed", astream, metered=metered),
    )


def embedding() -> Any:
    # The client that LiteLLM keeps from the bare run holds the bare `with_raw_response` for good. Patch first.
    litellm.in_memory_llm_clients_cache.flush_cache()
    return litellm.embedding(model="openai/text-embedding-3-small", input=[PROMPT]).data[0]["embedding"]


def responses() -> str:
    return str(litellm.responses(model=f"openai/{GPT}", input=PROMPT).output[0].content[0].text)


def bare_stream() -> list[str]:
    return [delta(chunk) for chunk in litellm.completion(model=f"openai/{GPT}", messages=MESSAGES, stream=True)]


def routed() -> str:
    router = litellm.Router(model_list=[{"model_name": "small", "litellm_params": {"model": f"openai/{GPT}"}}])
    return text(router.completion(model="small", messages=MESSAGES))


CALLS = (
    *calls_of(f"openai/{GPT}", metered=True, name="openai"),
    Call("openai: completion, streamed, usage not asked for", bare_stream, source="estimated"),
    Call("openai: Router.completion", routed),
    Call("openai: embedding", embedding),
    Call("openai: responses", responses, metered=False),
    *calls_of(f"anthropic/{CLAUDE}", metered=False, name="anthropic"),
    *calls_of(f"gemini/{GEMINI}", metered=False, name="gemini"),
)


@parametrized(CALLS)
def test_litellm(call: Call, check: Check) -> None:
    """LiteLLM answers as without the patches; each request is one record where the SDK sends it, else there is none."""
    check(call)
