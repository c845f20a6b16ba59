"""The streams that tests open: each kind that the three SDKs have, sync and async, by their real clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any

import anthropic
import openai
from google import genai

from llm_toll_autopatch.simulator import Simulator

PROMPT = "Why is the sky blue?"
MESSAGES: list[Any] = [{"role": "user", "content": PROMPT}]


def httpx_of_openai() -> Any:
    """The package whose clients and transports this version of OpenAI's SDK takes: httpx2 from 3 on."""
    return import_module("httpx" if int(openai.__version__.partition(".")[0]) < 3 else "httpx2")


def google_options(sim: Simulator) -> Any:
    """Options of Google's client: there, and without the retries of interactions, which take half a minute."""
    return {"base_url": sim.google_base_url, "retry_options": {"attempts": 1}}


@dataclass
class Clients:
    """The real clients, pointed at the simulator, and what has to be closed in the end."""

    sim: Simulator
    stack: ExitStack = field(default_factory=ExitStack)

    @cached_property
    def openai(self) -> Any:
        return self.stack.enter_context(openai.OpenAI(base_url=self.sim.openai_base_url, api_key="sim", max_retries=0))

    @cached_property
    def anthropic(self) -> Any:
        return self.stack.enter_context(
            anthropic.Anthropic(base_url=self.sim.anthropic_base_url, api_key="sim", max_retries=0)
        )

    @cached_property
    def google(self) -> Any:
        return self.stack.enter_context(genai.Client(api_key="sim", http_options=google_options(self.sim)))


@dataclass
class AsyncClients:
    """The same, async."""

    sim: Simulator
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @cached_property
    def openai(self) -> Any:
        client = openai.AsyncOpenAI(base_url=self.sim.openai_base_url, api_key="sim", max_retries=0)
        self.stack.push_async_callback(client.close)
        return client

    @cached_property
    def anthropic(self) -> Any:
        client = anthropic.AsyncAnthropic(base_url=self.sim.anthropic_base_url, api_key="sim", max_retries=0)
        self.stack.push_async_callback(client.close)
        return client

    @cached_property
    def google(self) -> Any:
        client = genai.Client(api_key="sim", http_options=google_options(self.sim))
        self.stack.push_async_callback(client.aio.aclose)
        self.stack.callback(client.close)
        return client.aio


@contextmanager
def clients_of(sim: Simulator) -> Iterator[Clients]:
    """Clients for the block."""
    clients = Clients(sim)
    with clients.stack:
        yield clients


@asynccontextmanager
async def async_clients_of(sim: Simulator) -> AsyncIterator[AsyncClients]:
    """Clients for the block."""
    clients = AsyncClients(sim)
    async with clients.stack:
        yield clients


@dataclass(frozen=True)
class Source:
    """A kind of stream.

    Attributes:
        name: How the test is called.
        provider: The record's.
        method: The record's.
        model: A model that has a price and is not deprecated.
        open: Opens one, given the clients and the name of the model; async ones are awaited.
        reports_early: Whether usage has come when the first chunks have.
        lazy: Whether nothing is sent before the first chunk is asked for.
        shows_errors: Whether an error event in the stream is handed out like any other, and not raised.
    """

    name: str
    provider: str
    method: str
    model: str
    open: Callable[[Any, str], Any]
    reports_early: bool = False
    lazy: bool = False
    shows_errors: bool = False

    def __str__(self) -> str:
        return self.name


def _chat(clients: Any, model: str) -> Any:
    return clients.openai.chat.completions.create(
        model=model, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )


def _responses(clients: Any, model: str) -> Any:
    return clients.openai.responses.create(model=model, input=PROMPT, stream=True)


def _messages(clients: Any, model: str) -> Any:
    return clients.anthropic.messages.create(model=model, max_tokens=100, messages=MESSAGES, stream=True)


def _helper(clients: Any, model: str) -> Any:
    return clients.stack.enter_context(
        clients.anthropic.messages.stream(model=model, max_tokens=100, messages=MESSAGES)
    )


async def _async_helper(clients: Any, model: str) -> Any:
    return await clients.stack.enter_async_context(
        clients.anthropic.messages.stream(model=model, max_tokens=100, messages=MESSAGES)
    )


def _generate(clients: Any, model: str) -> Any:
    return clients.google.models.generate_content_stream(model=model, contents=PROMPT)


def _talk(clients: Any, model: str) -> Any:
    return clients.google.chats.create(model=model).send_message_stream(PROMPT)


def _interact(clients: Any, model: str) -> Any:
    return clients.google.interactions.create(model=model, input=PROMPT, stream=True)


GPT, CLAUDE, GEMINI = "gpt-5-mini", "claude-sonnet-5-5", "gemini-3.8-flash"

_COMMON = (
    Source("openai chat", "openai", "chat.completions.create", GPT, _chat),
    Source("openai responses", "openai", "responses.create", GPT, _responses),
    Source("anthropic create", "anthropic", "messages.create", CLAUDE, _messages, reports_early=True),
)
_GOOGLE = (
    Source("google stream", "google", "models.generate_content_stream", GEMINI, _generate, True, True),
    Source("google chat", "google", "models.generate_content_stream", GEMINI, _talk, True, True),
    Source("google interaction", "google", "interactions.create", GEMINI, _interact, shows_errors=True),
)
SYNC = (
    *_COMMON,
    Source("anthropic stream", "anthropic", "messages.stream", CLAUDE, _helper, reports_early=True),
    *_GOOGLE,
)
ASYNC = (
    *_COMMON,
    Source("anthropic stream", "anthropic", "messages.stream", CLAUDE, _async_helper, reports_early=True),
    *_GOOGLE,
)
READABLE_SYNC = tuple(source for source in SYNC if source.name != "google interaction")
"""Those whose chunks are known by their shape."""
READABLE_ASYNC = tuple(source for source in ASYNC if source.name != "google interaction")
