"""Every method that sends a billed request through the two Stainless SDKs, as rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from types import SimpleNamespace
from typing import Any

import anthropic
import openai
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
        raw: Whether it has `with_raw_response`.
        streaming: Whether it has `with_streaming_response`.
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
    streaming: bool = True
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

_FILE = ("speech.mp3", b"ID3", "audio/mpeg")
_PNG = ("pixel.png", b"PNG", "image/png")
_QUESTIONS = {"input": PROMPT, "questions": [{"type": "predicate", "question": "Is it blue?"}]}
_EIGHT = {"input_tokens": 25, "output_tokens": 8}


def _units(**details: int) -> dict[str, Any]:
    return {"input_tokens": 0, "output_tokens": 0, "details": details}


def _exists(road: Road) -> bool:
    """Whether this version of the SDK has the method."""
    client = {"openai": openai.OpenAI, "anthropic": anthropic.Anthropic}[road.provider](api_key="sim")
    with client, contextlib.suppress(AttributeError):
        road.on(SimpleNamespace(**{road.provider: client}))
        return True
    return False


_ALL = (
    Road("openai", "chat.completions.create", "chat", GPT, {"messages": MESSAGES}, True, extra=_INCLUDE),
    Road("openai", "responses.create", "responses", GPT, {"input": PROMPT}, True),
    Road("openai", "chat.completions.parse", "chat", GPT, {"messages": MESSAGES}),
    Road("openai", "responses.parse", "responses", GPT, {"input": PROMPT}, streaming=False),
    Road("openai", "responses.compact", "responses", GPT, {"input": PROMPT}),
    Road("openai", "beta.responses.create", "responses", GPT, {"input": PROMPT}, True),
    Road("openai", "beta.responses.compact", "responses", GPT, {"input": PROMPT}),
    Road(
        "openai",
        "completions.create",
        "completions",
        "gpt-3.5-turbo-instruct",
        {"prompt": PROMPT},
        True,
        extra=_INCLUDE,
    ),
    Road(
        "openai",
        "embeddings.create",
        "embeddings",
        "text-embedding-3-small",
        {"input": PROMPT, "encoding_format": "float"},
        usage={"input_tokens": 25, "output_tokens": 0},
    ),
    Road("openai", "decisions.create", "decisions", GPT, _QUESTIONS, usage={"input_tokens": 25, "output_tokens": 1}),
    Road(
        "openai",
        "images.generate",
        "images",
        "gpt-image-1",
        {"prompt": "a sky"},
        True,
        usage={**_EIGHT, "output_image_tokens": 8, "details": {"images": 1}},
    ),
    Road(
        "openai",
        "images.edit",
        "images",
        "gpt-image-1",
        {"prompt": "a sky", "image": _PNG},
        True,
        usage={**_EIGHT, "details": {"images": 1}},
    ),
    Road("openai", "images.create_variation", "images", "dall-e-2", {"image": _PNG, "n": 2}, usage=_units(images=2)),
    Road(
        "openai",
        "audio.transcriptions.create",
        "transcriptions",
        "gpt-4o-transcribe",
        {"file": _FILE},
        True,
        usage={**_EIGHT, "input_audio_tokens": 20},
    ),
    Road(
        "openai",
        "audio.translations.create",
        "translations",
        "whisper-1",
        {"file": _FILE, "response_format": "verbose_json"},
        usage=_units(seconds=4),
    ),
    Road(
        "openai",
        "audio.speech.create",
        "speech",
        "tts-1",
        {"input": PROMPT, "voice": "alloy"},
        usage=_units(input_characters=len(PROMPT)),
    ),
    Road("anthropic", "messages.create", "messages", CLAUDE, _CLAUDE, True),
    Road("anthropic", "messages.parse", "messages", CLAUDE, _CLAUDE, raw=False, streaming=False),
    Road("anthropic", "beta.messages.create", "messages", CLAUDE, _CLAUDE, True),
    Road("anthropic", "beta.messages.parse", "messages", CLAUDE, _CLAUDE, raw=False, streaming=False),
)
ROADS = tuple(road for road in _ALL if _exists(road))
"""Those that this version of the SDKs has: old ones are tested too. `test_versions.py` checks the others."""
ABSENT = tuple(road for road in _ALL if road not in ROADS)
RAW = [road for road in ROADS if road.raw]
STREAMING = [road for road in RAW if road.streaming]
STREAMS = [road for road in ROADS if road.streams]
RAW_STREAMS = [road for road in STREAMS if road.raw]
