"""How many tokens the parts of a request can be at most.

No tokenizer that is in use makes more tokens of a text than it has bytes: byte-level BPE begins with the bytes, and
SentencePiece falls back to them. So the UTF-8 bytes of a text bound its tokens, of whichever form (as it is, or NFKC)
has more of them: some tokenizers normalise. What is put around the text is not in the request; the allowances below
are for that, and are a multiple of what the providers document.

What is not text has no bound here. Nothing is consumed, changed or kept.
"""

from __future__ import annotations

import enum
import json
import sys
import typing
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from llm_toll_autopatch.readers.ceiling import Unbounded
from llm_toll_autopatch.readers.fields import as_mapping

__all__ = [
    "ITEM",
    "REQUEST",
    "TOOL",
    "TOOLS",
    "content",
    "function",
    "plain",
    "prompts",
    "structure",
    "tools",
    "unseen",
]

REQUEST = 128
"""For a request: what begins and ends it, and the instructions that come with some models' format."""
ITEM = 16
"""For each message and part: the role and the marks around it (OpenAI documents 3 or 4)."""
TOOLS = 1_024
"""For a request with tools or a response format: the provider's own prompt about them, of some hundred tokens."""
TOOL = 64
"""For each tool: the marks around it."""
_NODE = 8
"""For each value in JSON: quotes, commas, white space."""
_SCHEMA = 2
"""Times the text of a class's JSON schema: the SDKs add to it (`additionalProperties`, `required`)."""
_DEEPEST = 48

_UNSEEN: Mapping[str, str] = MappingProxyType(
    {
        "audio": "a recording",
        "base64": "a file",
        "compaction": "a compaction whose text is not in the request",
        "container_upload": "a file",
        "document": "a document",
        "encrypted_content": "encrypted content",
        "file": "a file",
        "file_data": "a file",
        "image": "an image",
        "image_url": "an image",
        "inline_data": "data that is not text",
        "input_audio": "a recording",
        "input_file": "a file",
        "input_image": "an image",
        "item_reference": "an item that the provider keeps",
        "reasoning": "reasoning whose text is not in the request",
        "redacted_thinking": "thinking whose text is not in the request",
        "thinking": "thinking of which only a summary is in the request",
        "thought": "a thought whose text is not in the request",
        "thought_signature": "a signature that stands for thoughts",
        "url": "what is fetched from an address",
        "video": "a video",
    }
)
_ENCRYPTED = frozenset({"encrypted_content", "thought_signature", "thoughtSignature", "reasoning_details"})
_NESTED = frozenset({"content", "output", "result", "source", "summary"})
_UNCOUNTED = frozenset({"cache_control", "prompt_cache_breakpoint"})


def unseen(kind: str) -> Unbounded:
    """Return the exception for a part of a kind that has no bound."""
    what = _UNSEEN.get(kind, f"a part of the kind {kind!r}")
    return Unbounded(f"{what} has no known upper bound of tokens: leave it out, or make the call without strict_budget")


def plain(text: str) -> int:
    """Return the most tokens that a text can be."""
    if text.isascii():
        return len(text)
    from unicodedata import normalize

    return max(len(form.encode("utf-8", "surrogatepass")) for form in (text, normalize("NFKC", text)))


def content(value: Any, kinds: frozenset[str], depth: int = _DEEPEST) -> int:
    """Return the most tokens of messages, or of the parts of one, in the manner of OpenAI and Anthropic.

    Args:
        value: A text, a message or a part, or a list of them; mappings and models alike.
        kinds: The values of `type` whose text is all that there is to them.
        depth: How many levels may be below.

    Raises:
        Unbounded: Something in it is not text.
    """
    if not value:
        return 0
    if isinstance(value, str):
        return plain(value) + ITEM
    if isinstance(value, list | tuple):
        return sum(content(each, kinds, _below(depth)) for each in value)
    fields = _fields(value)
    kind = fields.get("type")
    if not isinstance(kind, str):
        if "role" not in fields:
            raise unseen("item_reference")  # `{"id": …}` is enough for one
        kind = "message"
    if kind not in kinds:
        raise unseen(kind)
    total = ITEM
    for name, part in fields.items():
        if not part or name in _UNCOUNTED:
            continue
        if name in _ENCRYPTED or name == "audio":
            raise unseen(name)
        if name == "citations" and as_mapping(part).get("enabled"):
            raise Unbounded("citations cut a document into chunks, whose number is not known: leave them out")
        total += content(part, kinds, _below(depth)) if name in _NESTED else structure(part, _below(depth))
    return total


def prompts(value: Any) -> list[int]:
    """Return the most tokens of each of the texts, or lists of tokens, that one request may have; tokens count exactly.

    Raises:
        Unbounded: There is something else.
    """
    if not value:
        return []
    if isinstance(value, str):
        return [plain(value) + ITEM]
    if not isinstance(value, list | tuple):
        _fields(value)
        raise unseen(type(value).__name__)
    if all(type(each) is int for each in value):
        return [len(value)]
    return [number for each in value for number in prompts(each)]


def tools(given: Any, kinds: frozenset[str], built_in: tuple[str, ...] = ()) -> int:
    """Return the most tokens of a list of tools that the caller runs himself.

    Args:
        given: The tools.
        kinds: The values of `type` of those that are described in full.
        built_in: How the values of `type` begin whose description is the provider's own, as `TOOLS` allows for.

    Raises:
        Unbounded: One is run by the provider, which adds what comes out to the input.
    """
    if not given:
        return 0
    if not isinstance(given, list | tuple):
        _fields(given)
        raise unseen("tools")
    total = 0
    for tool in given:
        kind = _fields(tool).get("type") or "custom"
        if kind not in kinds and not (built_in and str(kind).startswith(built_in)):
            raise Unbounded(
                f"the tool {kind!r} is the provider's, and adds what comes out to the input, without a bound: "
                "leave it out"
            )
        total += structure(tool) + (TOOL if kind in kinds else TOOLS)
    return total


def structure(value: Any, depth: int = _DEEPEST, definitions: Mapping[str, Any] | None = None) -> int:
    """Return the most tokens of what becomes JSON, or something shorter: tools, schemas, arguments.

    Args:
        value: JSON, in mappings and lists or in models; or a class that stands for its schema.
        depth: How many levels may be below.
        definitions: What `$ref` stands for, if it is to be counted in its place.

    Raises:
        Unbounded: Something in it is not text.
    """
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, str):
        return max(plain(value), len(json.dumps(value))) + _NODE
    if value is None or isinstance(value, int | float):
        return len(repr(value)) + _NODE
    if isinstance(value, list | tuple | set | frozenset):
        return _NODE + sum(structure(each, _below(depth), definitions) for each in value)
    if isinstance(value, type) or typing.get_origin(value) is not None:
        return _of_class(value, _below(depth))
    total = _NODE
    for name, each in _fields(value).items():
        if name in _UNCOUNTED:
            continue
        if each and name in _ENCRYPTED:
            raise unseen(name if name in _UNSEEN else "encrypted_content")
        if name == "$ref" and definitions is not None:
            total += structure(definitions.get(str(each).rpartition("/")[2]), _below(depth), definitions)
        total += structure(str(name)) + structure(each, _below(depth), definitions)
    return total


def function(tool: Any) -> int:
    """Return the most tokens of a Python function that is given as a tool: its name, its docstring, its parameters.

    Raises:
        Unbounded: A parameter's type has no schema.
    """
    import inspect

    signature = inspect.signature(tool)
    try:
        hints = typing.get_type_hints(tool)
    except Exception:  # names that exist elsewhere only
        hints = {}
    total = TOOL + structure(getattr(tool, "__name__", "")) + structure(inspect.getdoc(tool) or "")
    for name, parameter in signature.parameters.items():
        kind = hints.get(name, parameter.annotation)
        total += TOOL + structure(name)
        total += 0 if kind is parameter.empty else _of_class(kind, _DEEPEST)
        total += 0 if parameter.default is parameter.empty else structure(repr(parameter.default))
    returned = hints.get("return", signature.return_annotation)
    return total if returned in (None, type(None), signature.empty) else total + _of_class(returned, _DEEPEST)


def _of_class(kind: Any, depth: int) -> int:
    try:
        if (make := getattr(kind, "model_json_schema", None)) is not None:
            schema = make()
        else:  # the SDKs have imported it
            schema = sys.modules["pydantic"].TypeAdapter(kind).json_schema()
    except Exception as error:
        raise Unbounded(f"{kind!r} has no JSON schema that could be counted: pass the schema itself") from error
    return TOOL + _SCHEMA * structure(schema, depth, schema.get("$defs", {}))


def _fields(value: Any) -> Mapping[str, Any]:
    """Return the fields of a mapping or a model.

    Raises:
        Unbounded: It is neither.
    """
    if isinstance(value, Mapping):
        return value
    if hasattr(value, "__pydantic_fields_set__") or hasattr(value, "__fields_set__"):
        return as_mapping(value)
    kind = type(value).__name__
    if hasattr(value, "__next__") or hasattr(value, "__iter__"):
        raise Unbounded(f"{kind} objects in the request cannot be looked at without being used up: pass a list")
    raise Unbounded(f"{kind} objects in the request have no known upper bound of tokens: leave them out")


def _below(depth: int) -> int:
    if depth == 0:
        raise Unbounded("the request refers to itself, or is nested too deep to be counted: make it flatter")
    return depth - 1
