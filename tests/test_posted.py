"""`client.post`, the SDKs' way to an endpoint without a method."""

from __future__ import annotations

from types import MethodType
from typing import Any

import anthropic
import pytest
from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent
from openai import AsyncOpenAI, AsyncStream, OpenAI, Stream
from openai._base_client import SyncAPIClient
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from sources import CLAUDE, GPT, MESSAGES, PROMPT, async_clients_of, clients_of
from wrapt import BoundFunctionWrapper

from llm_toll_autopatch import MemorySink, patched
from llm_toll_autopatch.simulator import Simulator

BODY: Any = {"model": GPT, "messages": MESSAGES}
RAW: Any = {"headers": {"X-Stainless-Raw-Response": "true"}}


def chat(client: OpenAI, **options: Any) -> Any:
    return client.post("/chat/completions", cast_to=ChatCompletion, body=BODY, **options)


def stream(client: Any, cls: Any = Stream, **options: Any) -> Any:
    body = {**BODY, "stream": True}
    return client.post(
        "/chat/completions",
        cast_to=ChatCompletion,
        body=body,
        stream=True,
        stream_cls=cls[ChatCompletionChunk],
        **options,
    )


@pytest.mark.parametrize("raw", [False, True])
def test_plain(raw: bool, sim: Simulator) -> None:
    """A posted chat completion is one record, also when the raw response is asked for."""
    with patched() as sink, clients_of(sim) as clients:
        answer = chat(clients.openai, **({"options": RAW} if raw else {}))
        answer = answer.parse() if raw else answer
        assert answer.choices[0].message.content
    assert isinstance(sink, MemorySink)
    (record,) = sink.records
    assert (record.method, record.operation, record.model) == ("post", "chat", GPT)
    assert (record.usage_source, record.usage.input_tokens, record.usage.output_tokens) == ("reported", 25, 8)
    assert record.endpoint == "127.0.0.1"
    assert record.cost_usd


@pytest.mark.parametrize("raw", [False, True])
def test_streamed(raw: bool, sim: Simulator) -> None:
    """A posted stream reports usage when that is asked for in its place, and shows the user nothing of it."""
    with clients_of(sim) as clients:
        bare = [chunk.choices[0].delta.content for chunk in stream(clients.openai)]
    with patched(include_usage=True) as sink, clients_of(sim) as clients:
        answer = stream(clients.openai, **({"options": RAW} if raw else {}))
        answer = answer.parse() if raw else answer
        assert [chunk.choices[0].delta.content for chunk in answer] == bare
    assert isinstance(sink, MemorySink)
    (record,) = sink.records
    assert (record.stream, record.usage_source, record.usage.output_tokens) == (True, "reported", 8)


async def test_async(sim: Simulator) -> None:
    """The same, async."""
    with patched() as sink:
        async with async_clients_of(sim) as clients:
            await clients.openai.post("/chat/completions", cast_to=ChatCompletion, body=BODY)
            assert [chunk async for chunk in await stream(clients.openai, AsyncStream)]
    assert isinstance(sink, MemorySink)
    assert [record.usage_source for record in sink.records] == ["reported", "estimated"]


MESSAGE: Any = {"model": CLAUDE, "max_tokens": 10, "messages": MESSAGES}


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages?beta=true"])
def test_anthropics(path: str, sim: Simulator) -> None:
    """What is posted to Anthropic's messages is one record, plain and streamed; counting tokens is free."""
    with patched() as sink, clients_of(sim) as clients:
        client = clients.anthropic
        assert client.post(path, cast_to=Message, body=MESSAGE).content
        events = client.post(
            path,
            cast_to=Message,
            body={**MESSAGE, "stream": True},
            stream=True,
            stream_cls=anthropic.Stream[RawMessageStreamEvent],
        )
        assert len(list(events)) > 8
        client.post("/v1/messages/count_tokens", cast_to=MessageTokensCount, body=MESSAGE)
        client.messages.create(**MESSAGE)
        with client.messages.stream(**MESSAGE) as stream:
            stream.until_done()
    assert isinstance(sink, MemorySink)
    assert [(record.method, record.stream, record.usage.output_tokens) for record in sink] == [
        ("post", False, 8), ("post", True, 8), ("messages.create", False, 8), ("messages.stream", True, 8),
    ]  # fmt: skip


async def test_anthropics_async(sim: Simulator) -> None:
    """The same, async."""
    with patched() as sink:
        async with async_clients_of(sim) as clients:
            await clients.anthropic.post("/v1/messages", cast_to=Message, body=MESSAGE)
    assert isinstance(sink, MemorySink)
    assert [(record.method, record.provider) for record in sink] == [("post", "anthropic")]


def test_methods_are_counted_once(sim: Simulator) -> None:
    """What a method of the SDK sends through `post` is the method's record alone, and free paths give none."""
    with patched() as sink, clients_of(sim) as clients:
        clients.openai.chat.completions.create(**BODY)
        clients.openai.post("/moderations", cast_to=object, body={"model": "omni-moderation-latest", "input": PROMPT})
        clients.openai.post(
            "/embeddings", cast_to=CreateEmbeddingResponse, body={"model": "text-embedding-3-small", "input": PROMPT}
        )
    assert isinstance(sink, MemorySink)
    assert [record.method for record in sink.records] == ["chat.completions.create", "post"]


def test_methods_are_counted_once_below_another_tool(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another tool's closure around `post` does not make a method's own request look like somebody else's."""
    with patched() as sink:
        inner = SyncAPIClient.post

        def closure(*args: Any, **kwargs: Any) -> Any:
            return inner(*args, **kwargs)

        monkeypatch.setattr(SyncAPIClient, "post", closure)
        with clients_of(sim) as clients:
            clients.openai.chat.completions.create(model=GPT, messages=MESSAGES)
            chat(clients.openai)
        monkeypatch.undo()
    assert isinstance(sink, MemorySink)
    assert [record.method for record in sink] == ["chat.completions.create", "post"]


@pytest.mark.parametrize(
    "client", [OpenAI(api_key="none"), AsyncOpenAI(api_key="none"), anthropic.Anthropic(api_key="none")]
)
def test_the_sdk_itself_has_the_method(client: Any) -> None:
    """What a resource of the SDK calls is no wrapper, at no cost; what anybody else gets is one, and counts."""
    with patched():
        resource = client.with_options(max_retries=1).models
        assert type(resource._post) is MethodType
        assert isinstance(client.post, BoundFunctionWrapper)
        assert isinstance(type(client).post, BoundFunctionWrapper)
    assert not isinstance(client.post, BoundFunctionWrapper)
