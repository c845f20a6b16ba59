"""Whose response something is, told by its fields: an SDK's model, parsed JSON, or what looks like it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from llm_toll_autopatch.readers.chat import ChatCompletions
from llm_toll_autopatch.readers.completions import Completions
from llm_toll_autopatch.readers.embeddings import Embeddings
from llm_toll_autopatch.readers.fields import as_mapping, get, text
from llm_toll_autopatch.readers.generate_content import GenerateContent, snake_cased
from llm_toll_autopatch.readers.messages import Messages
from llm_toll_autopatch.readers.responses import Responses
from llm_toll_autopatch.sdks import SDKS

if TYPE_CHECKING:
    from llm_toll_autopatch.readers.reader import Reader

__all__ = ["Shape", "label_of_model", "label_of_sdk", "readable", "shape_of_answer", "shape_of_chunk", "unpacked"]

_MAX_DEPTH = 24


class Shape(NamedTuple):
    """The provider whose language it is, and the reader of that API."""

    provider: str
    reader: type[Reader]


_CHAT = Shape("openai", ChatCompletions)
_COMPLETIONS = Shape("openai", Completions)
_EMBEDDINGS = Shape("openai", Embeddings)
_RESPONSES = Shape("openai", Responses)
_MESSAGES = Shape("anthropic", Messages)
_GEMINI = Shape("google", GenerateContent)

# The field without which an event of the same name is somebody else's.
_MESSAGE_EVENTS = {
    "message_start": "message", "content_block_start": "content_block", "content_block_delta": "delta",
    "message_delta": "delta",
}  # fmt: skip


def shape_of_chunk(chunk: Any) -> Shape | None:
    """Return the shape of a stream's chunk or event; None when it is not known."""
    kind = text(chunk, "type")
    if kind is not None:
        if kind in _MESSAGE_EVENTS and get(chunk, _MESSAGE_EVENTS[kind]) is not None:
            return _MESSAGES
        if kind.startswith("response.") and (get(chunk, "response") is not None or get(chunk, "item_id") is not None):
            return _RESPONSES
    return _of_choices(chunk, ("delta",)) or _of_candidates(chunk)


def shape_of_answer(answer: Any) -> Shape | None:
    """Return the shape of a whole response; None when it is not known."""
    usage = get(answer, "usage")
    if get(answer, "type") == "message":
        return _MESSAGES if get(answer, "role") == "assistant" and usage is not None else None
    if get(answer, "object") == "response":
        return _RESPONSES
    if get(answer, "object") == "list" and get(usage, "prompt_tokens") is not None and text(answer, "model"):
        return _EMBEDDINGS
    return _of_choices(answer, ("message",)) or _of_candidates(answer)


def _of_choices(value: Any, parts: tuple[str, ...]) -> Shape | None:
    choices = get(value, "choices")
    named = isinstance(get(value, "model"), str) or str(get(value, "object")).startswith("chat.completion")
    if not named or not isinstance(choices, list | tuple):
        return None
    if not choices:  # nothing but usage, or Azure's content filter results
        return _CHAT if get(value, "id") is not None or get(value, "usage") is not None else None
    if any(get(choices[0], part) is not None for part in parts):
        return _CHAT
    return _COMPLETIONS if isinstance(get(choices[0], "text"), str) else None


def _of_candidates(value: Any) -> Shape | None:
    if get(value, "usage_metadata") is not None or get(value, "usageMetadata") is not None:
        return _GEMINI
    candidates = get(value, "candidates")
    first = candidates[0] if isinstance(candidates, list | tuple) and candidates else None
    told = any(get(first, name) is not None for name in ("content", "finish_reason", "finishReason"))
    return _GEMINI if told else None


def unpacked(event: Any) -> Any:
    """Return the chunk in an event of the OpenAI SDK's `chat.completions.stream` helper, or the event as it is."""
    return get(event, "chunk") if get(event, "type") == "chunk" else event


class _Fields:
    """Fields as attributes; those that are not there are None, as in an SDK's model."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.__dict__.update(fields)

    def __getattr__(self, _name: str) -> None:
        return None


_OWN_MODELS = tuple(f"{sdk.package}." for sdk in SDKS.values())


def readable(value: Any, shape: Shape) -> Any:
    """Return `value` as the readers want it: an SDK's model as it is, anything else as something that resembles one."""
    if type(value).__module__.startswith(_OWN_MODELS):
        return value
    if shape is _GEMINI and isinstance(value, Mapping):
        value = snake_cased(value)
    return _resembling(value, _MAX_DEPTH)


def _resembling(value: Any, depth: int) -> Any:
    if value is None or depth == 0 or isinstance(value, str | int | float | bytes | type):
        return value
    if isinstance(value, list | tuple):
        return [_resembling(each, depth - 1) for each in value]
    if dataclasses.is_dataclass(value):
        fields: Mapping[str, Any] = {
            field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)
        }
    else:
        fields = as_mapping(value)
    if not fields and not isinstance(value, Mapping):
        return value
    return _Fields({str(name): _resembling(each, depth - 1) for name, each in fields.items()})


_MAKERS = {
    "anthropic": "anthropic", "claude": "anthropic", "gemini": "google", "google": "google", "gpt": "openai",
    "chatgpt": "openai", "o1": "openai", "o3": "openai", "o4": "openai", "openai": "openai",
    "text-embedding": "openai",
}  # fmt: skip


def label_of_model(model: str) -> str | None:
    """Return the provider whose model has such a name; None when the name does not tell."""
    return next((label for prefix, label in _MAKERS.items() if model.startswith(prefix)), None)


def label_of_sdk(value: Any) -> str | None:
    """Return the provider whose SDK the object comes from; None when it comes from none."""
    module = f"{type(value).__module__}."
    return next((name for name, sdk in SDKS.items() if module.startswith(f"{sdk.package}.")), None)
