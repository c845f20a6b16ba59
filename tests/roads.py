"""Every method that sends a billed request through the two Stainless SDKs, as rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from sources import CLAUDE, GPT, MESSAGES, PROMPT


@dataclass(frozen=True)
class Road:
    """A method.

    Attributes:
        provider: The record's; also which client.
        method: The record's, and where the method is on the client.
        operation: The record's.
        model: A model that has a price and is not deprecated.
        request: Its other arguments.
        streams: Whether it takes `stream=True`.
        raw: Whether it has raw forms.
        usage: What the simulator reports, as fields of `Usage`.
        extra: More arguments of the streamed form.
    """

    provider: str
    method: str
    operation: str
    model: str
    request: Mapping[str, Any]
    streams: bool = False
    raw: bool = True
    usage: Mapping[str, Any] = field(default_factory=lambda: {"input_tokens": 25, "output_tokens": 8})
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.provider} {self.method}"

    def on(self, clients: Any, form: str | None = None) -> Callable[..., Any]:
        """The method on the client, or on its raw form."""
        client = getattr(clients, self.provider)
        *resource, name = self.method.split(".")
        return reduce(getattr, [*resource, *([form] if form else []), name], client)  # type: ignore[no-any-return]

    def arguments(self, flags: str = "", *, stream: bool = False) -> dict[str, Any]:
        """The arguments of one request."""
        model = {"model": self.model + flags} if self.model else {}
        return {**model, **self.request, **({"stream": True, **self.extra} if stream else {})}


_INCLUDE = {"stream_options": {"include_usage": True}}
_CLAUDE = {"max_tokens": 100, "messages": MESSAGES}

ROADS = (
    Road("openai", "chat.completions.create", "chat", GPT, {"messages": MESSAGES}, True, extra=_INCLUDE),
    Road("openai", "responses.create", "responses", GPT, {"input": PROMPT}, True),
    Road("anthropic", "messages.create", "messages", CLAUDE, _CLAUDE, True),
)
RAW = [road for road in ROADS if road.raw]
STREAMS = [road for road in ROADS if road.streams]
RAW_STREAMS = [road for road in STREAMS if road.raw]
