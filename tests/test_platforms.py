"""Clients of every kind: what the record says of who was called, and that copied methods are metered once."""

from __future__ import annotations

import copy
import importlib
import pickle
from collections.abc import Callable
from typing import Any

import anthropic
import openai
import pytest
from anthropic.lib.bedrock import _beta_messages as bedrock
from anthropic.lib.vertex import _beta_messages as vertex
from sources import CLAUDE, GPT, MESSAGES
from versions import INSTALLED, needs

from llm_toll_autopatch import patch_all, patched, unpatch_all
from llm_toll_autopatch.providers import load
from llm_toll_autopatch.providers.since import later_than
from llm_toll_autopatch.simulator import Simulator

Ask = Callable[[Any], Any]


def chat(client: Any) -> Any:
    return client.chat.completions.create(model=GPT, messages=MESSAGES)


def message(client: Any) -> Any:
    return client.messages.create(model=CLAUDE, max_tokens=10, messages=MESSAGES)


def beta(client: Any) -> Any:
    return client.beta.messages.create(model=CLAUDE, max_tokens=10, messages=MESSAGES)


class House(openai.OpenAI):  # type: ignore[misc]
    """A subclass of a user."""


def _vertex(sim: Simulator) -> Any:
    return anthropic.AnthropicVertex(region="eu", project_id="p", access_token="t", base_url=f"{sim.url}/v1")


def _module(sim: Simulator) -> Any:
    openai.api_key, openai.base_url = "sim", f"{sim.openai_base_url}/"
    return openai


CLIENTS: dict[str, tuple[str, Callable[[Simulator], Any], Ask]] = {
    "OpenAI": ("openai", lambda s: openai.OpenAI(base_url=s.openai_base_url, api_key="k"), chat),
    "with_options": ("openai", lambda s: openai.OpenAI(base_url=s.openai_base_url, api_key="k").with_options(timeout=9), chat),
    "subclass": ("openai", lambda s: House(base_url=s.openai_base_url, api_key="k"), chat),
    "module": ("openai", _module, chat),
    "Azure": ("azure", lambda s: openai.AzureOpenAI(azure_endpoint=s.url, api_key="k", api_version="2025-01-01"), chat),
    "BedrockOpenAI": ("bedrock", lambda s: openai.BedrockOpenAI(base_url=s.openai_base_url, api_key="k", aws_region="us-east-1"), chat),
    "Anthropic": ("anthropic", lambda s: anthropic.Anthropic(base_url=s.url, api_key="k"), message),
    "Foundry": ("azure", lambda s: anthropic.AnthropicFoundry(base_url=s.url, api_key="k"), message),
    "Foundry, beta": ("azure", lambda s: anthropic.AnthropicFoundry(base_url=s.url, api_key="k"), beta),
    "Bedrock": ("bedrock", lambda s: anthropic.AnthropicBedrock(base_url=s.url, api_key="k", aws_region="us-east-1"), message),
    "Bedrock, beta": ("bedrock", lambda s: anthropic.AnthropicBedrock(base_url=s.url, api_key="k", aws_region="us-east-1"), beta),
    "Mantle": ("bedrock", lambda s: anthropic.AnthropicBedrockMantle(base_url=s.url, skip_auth=True), message),
    "Mantle, beta": ("bedrock", lambda s: anthropic.AnthropicBedrockMantle(base_url=s.url, skip_auth=True), beta),
    "AWS": ("bedrock", lambda s: anthropic.AnthropicAWS(base_url=s.url, skip_auth=True), message),
    "AWS, beta": ("bedrock", lambda s: anthropic.AnthropicAWS(base_url=s.url, skip_auth=True), beta),
    "Google Cloud": ("vertex", lambda s: anthropic.AnthropicGoogleCloud(base_url=s.url, skip_auth=True), message),
    "Google Cloud, beta": ("vertex", lambda s: anthropic.AnthropicGoogleCloud(base_url=s.url, skip_auth=True), beta),
    "Vertex": ("vertex", _vertex, message),
    "Vertex, beta": ("vertex", _vertex, beta),
}  # fmt: skip


KEYED = needs("anthropic", "AnthropicBedrock(api_key)")
LATER = {
    "BedrockOpenAI": needs("openai", "BedrockOpenAI"),
    "Bedrock": KEYED,
    "Mantle": needs("anthropic", "AnthropicBedrockMantle"),
    "AWS": needs("anthropic", "AnthropicAWS"),
    "Google Cloud": needs("anthropic", "AnthropicGoogleCloud"),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=LATER.get(name.partition(",")[0], ())) for name in CLIENTS])
def test_the_label_and_the_host(name: str, sim: Simulator) -> None:
    """The record says whose platform was called and at which host, once, by whatever client."""
    label, make, ask = CLIENTS[name]
    with patched() as sink:
        client = make(sim)
        ask(client)
        if client is openai:
            forget_the_client_of_the_module()
        else:
            client.close()
    (record,) = sink.records  # type: ignore[attr-defined]
    assert (record.provider, record.endpoint) == (label, "127.0.0.1")
    assert record.usage_source == "reported"


def forget_the_client_of_the_module() -> None:
    """Close it, and leave OpenAI's module as it is when it is imported."""
    http: Any = openai.http_client
    http.close()
    openai.api_key = openai.base_url = openai.http_client = None
    openai._reset_client()


def _bedrock(sim: Simulator) -> Any:
    return anthropic.AnthropicBedrock(base_url=sim.url, aws_region="us-east-1", api_key="k", max_retries=0)


STREAMED: Any = {"model": CLAUDE, "max_tokens": 10, "messages": MESSAGES, "stream": True}


@KEYED
@pytest.mark.parametrize("api", ["messages", "beta.messages"])
def test_bedrocks_streams(api: str, sim: Simulator) -> None:
    """Amazon's binary events are metered as others are: as a stream, raw, and where the user reads the bytes himself."""
    with patched() as sink, _bedrock(sim) as client:
        messages = client.beta.messages if api == "beta.messages" else client.messages
        assert len(list(messages.create(**STREAMED))) > 8
        assert len(list(messages.with_raw_response.create(**STREAMED).parse())) > 8
        with messages.with_streaming_response.create(**STREAMED) as raw:
            assert len(list(raw.parse())) > 8
        with messages.with_streaming_response.create(**STREAMED) as raw:
            assert b"message_stop" not in b"".join(raw.iter_bytes())  # it is there in base64
    records = sink.records  # type: ignore[attr-defined]
    assert [(each.usage_source, each.usage.input_tokens, each.usage.output_tokens) for each in records] == [
        ("reported", 25, 8)
    ] * 4
    assert {(each.provider, each.stream, each.outcome) for each in records} == {("bedrock", True, "completed")}


@KEYED
@pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning")
def test_bedrocks_streams_that_end_early(sim: Simulator) -> None:
    """One that is left, unread or half-read, and one that fails are one record each, with what had been told."""
    with patched() as sink, _bedrock(sim) as client:
        for _ in client.messages.create(**STREAMED):
            break
        with client.messages.with_streaming_response.create(**STREAMED) as raw:
            assert next(raw.iter_bytes(64))
        with pytest.raises((anthropic.APIStatusError, ValueError)):  # the latter by botocore, in versions 0.x
            list(client.messages.create(**{**STREAMED, "model": f"{CLAUDE}+error-after=2"}))
    records = sink.records  # type: ignore[attr-defined]
    assert [(each.outcome, each.usage_source) for each in records[::2]] == [("closed", "partial"), ("error", "partial")]
    assert records[1].outcome == "closed"


@KEYED
async def test_bedrocks_async_streams(sim: Simulator) -> None:
    """The same, async."""
    with patched() as sink:
        async with anthropic.AsyncAnthropicBedrock(base_url=sim.url, aws_region="us-east-1", api_key="k") as client:
            assert [event async for event in await client.messages.create(**STREAMED)]
            async with client.messages.with_streaming_response.create(**STREAMED) as raw:
                assert [data async for data in raw.iter_bytes()]
    records = sink.records  # type: ignore[attr-defined]
    assert [(each.usage_source, each.usage.output_tokens) for each in records] == [("reported", 8)] * 2


def test_a_copy_of_a_patched_method_is_wrapped_once(sim: Simulator) -> None:
    """A class that copied a method of ours is patched, once, and has the plain function afterwards."""
    before = [vars(module.Messages)["create"] for module in (bedrock, vertex)]
    patch_all(sink="memory")
    try:
        vertex.Messages.create = anthropic.resources.beta.messages.Messages.create
        with patched() as sink:
            client = _vertex(sim)
            beta(client)
            client.close()
    finally:
        unpatch_all()
        copied = vars(vertex.Messages)["create"]
        vertex.Messages.create = before[1]
    assert len(sink.records) == 1  # type: ignore[attr-defined]
    assert copied is before[1]
    assert vars(bedrock.Messages)["create"] is before[0]


def test_every_method_of_the_table_is_there_and_restored() -> None:
    """Every method of our tables is there that did not come later, and unpatch_all leaves the very objects."""
    providers = ("openai", "anthropic")
    rows = [row for name in providers for row in load(name).targets if not row.optional]
    rows = [row for row in rows if not later_than(INSTALLED[row.module.partition(".")[0]], row)]
    classes = [getattr(importlib.import_module(row.module), row.path.partition(".")[0]) for row in rows]
    names = [row.path.partition(".")[2] for row in rows]
    before = [vars(cls)[name] for cls, name in zip(classes, names, strict=True)]
    now = patch_all(sink="memory")
    assert [now.providers[name].missing for name in ("openai", "anthropic")] == [(), ()]
    assert all(vars(cls)[name] is not old for cls, name, old in zip(classes, names, before, strict=True))
    # Copied and pickled as the function is bare, by its name.
    create = openai.resources.chat.completions.AsyncCompletions.create
    assert copy.copy(create) is create
    assert copy.deepcopy(create) is create
    dump = pickle.dumps(create)
    unpatch_all()
    assert [vars(cls)[name] for cls, name in zip(classes, names, strict=True)] == before
    assert pickle.loads(dump) is openai.resources.chat.completions.AsyncCompletions.create
