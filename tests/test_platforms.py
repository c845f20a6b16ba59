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

from llm_toll_autopatch import patch_all, patched, unpatch_all
from llm_toll_autopatch.providers import load
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
    "Vertex": ("vertex", _vertex, message),
    "Vertex, beta": ("vertex", _vertex, beta),
}  # fmt: skip


@pytest.mark.parametrize("name", CLIENTS)
def test_the_label_and_the_host(name: str, sim: Simulator) -> None:
    """The record says whose platform was called and at which host, once, by whatever client."""
    label, make, ask = CLIENTS[name]
    with patched() as sink:
        client = make(sim)
        ask(client)
        if client is not openai:
            client.close()
    (record,) = sink.records  # type: ignore[attr-defined]
    assert (record.provider, record.endpoint) == (label, "127.0.0.1")
    assert record.usage_source == "reported"
    openai._reset_client()


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


@pytest.mark.skipif(
    int(openai.__version__.partition(".")[0]) < 3 or int(anthropic.__version__.partition(".")[0]) < 2,
    reason="older versions lack some methods: status() says which",
)
def test_every_method_of_the_table_is_there_and_restored() -> None:
    """The newest SDKs have every method of our tables, and unpatch_all leaves the very objects."""
    rows = [row for name in ("openai", "anthropic") for row in load(name).targets if not row.optional]
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
