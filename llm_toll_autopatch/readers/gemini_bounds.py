"""How many tokens the parts of a request to Gemini can be at most: contents, tools and configuration."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from llm_toll_autopatch.readers.bounds import ITEM, TOOL, function, plain, structure, unseen
from llm_toll_autopatch.readers.ceiling import Unbounded
from llm_toll_autopatch.readers.fields import as_mapping

__all__ = ["REFUSED", "contents", "declared", "set_in", "snake_cased"]

_NOT_TOKENS = frozenset({"media_resolution", "part_metadata", "thought"})
_CALLS = frozenset({"function_call", "function_response"})


def snake_cased(name: str) -> str:
    """Return the name of a field as the SDK's models have it; a mapping may have that of the JSON."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def set_in(value: Any) -> Mapping[str, Any]:
    """Return what is set in one of the SDK's models, or in the mapping in its place, by the models' names."""
    return {snake_cased(str(name)): each for name, each in as_mapping(value).items() if each}


def contents(value: Any, depth: int = 24) -> int:
    """Return the most tokens of contents or parts: texts, models, mappings, and lists of them.

    Raises:
        Unbounded: Something in it is not text.
    """
    if not value:
        return 0
    if depth == 0:
        raise Unbounded("the contents refer to themselves, or are nested too deep to be counted: make them flatter")
    if isinstance(value, str):
        return plain(value) + ITEM
    if isinstance(value, list | tuple):
        return sum(contents(each, depth - 1) for each in value)
    fields = as_mapping(value) if isinstance(value, Mapping) or hasattr(value, "__pydantic_fields_set__") else None
    if fields is None:
        kind = type(value).__name__
        how = "pass a list" if hasattr(value, "__next__") else "leave it out, or make the call without strict_budget"
        raise Unbounded(f"an object of {kind} in contents= has no known upper bound of tokens: {how}")
    total = ITEM
    for name, part in fields.items():
        field = snake_cased(str(name))
        if not part or field in _NOT_TOKENS:
            continue
        if field in ("parts", "text"):
            total += contents(part, depth - 1)
        elif field == "role" or (field in _CALLS and not as_mapping(part).get("parts")):
            total += structure(part)
        else:
            raise unseen(field)
    return total


def declared(tools: Any) -> int:
    """Return the most tokens of tools that the caller runs himself: declarations, and functions of Python.

    Raises:
        Unbounded: One is run by the provider, which adds what comes out to the input.
    """
    if not tools:
        return 0
    if not isinstance(tools, list | tuple):
        raise Unbounded(f"tools= is an object of {type(tools).__name__}: pass a list")
    total = 0
    for tool in tools:
        if callable(tool) and not isinstance(tool, type):
            total += TOOL + function(tool)
            continue
        for name, part in as_mapping(tool).items():
            if snake_cased(str(name)) == "function_declarations":
                total += sum(TOOL + structure(each) for each in part or ())
            elif part is not None:
                raise Unbounded(
                    f"the tool {name!r} is the provider's, and adds what comes out to the input, without a bound: "
                    "leave it out"
                )
        if not as_mapping(tool):
            raise Unbounded(
                f"a tool of {type(tool).__name__} is not known to be bounded: pass declarations of functions"
            )
    return total


_SPOKEN = "is about speech, which has no known upper bound of tokens: leave it out"
REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "audio_timestamp": _SPOKEN,
        "audio_track_extraction": _SPOKEN,
        "audio_transcription_config": _SPOKEN,
        "cached_content": "adds input that is not in this request: pass the contents themselves",
        "continuation_token": "resumes what is not in this request: pass automatic_continuation=False",
        "document_ocr": "is about documents, which have no known upper bound of tokens: leave it out",
        "generation_output_config": "is about more than text, which has no known upper bound of tokens: leave it out",
        "image_config": "is about images, which have no known upper bound of tokens: leave it out",
        "model_selection_config": "lets another model answer, at another price: leave it out",
        "routing_config": "lets another model answer, at another price: leave it out",
        "speech_config": _SPOKEN,
    }
)
"""Settings that make a request unbounded, with the reason."""
