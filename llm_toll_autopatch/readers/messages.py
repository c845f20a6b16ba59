"""Anthropic's messages.

Fields as in the SDK's `types/usage.py`, `types/message_delta_usage.py` and `types/beta/beta_usage.py`; the merge of
`message_start` with the cumulative `message_delta` as in its `lib/streaming/_messages.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from llm_toll_autopatch.estimate import text_chars
from llm_toll_autopatch.readers.bounds import REQUEST, TOOLS, content, structure, tools
from llm_toll_autopatch.readers.ceiling import Ceiling, bounded_output, only
from llm_toll_autopatch.readers.consistency import checked
from llm_toll_autopatch.readers.fields import as_mapping, count, counts, figures, get, header, text
from llm_toll_autopatch.readers.reader import Reader, Reading
from llm_toll_autopatch.records import USAGE_COUNTS, Usage

__all__ = ["Messages"]

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_DELTA_TEXTS = ("text", "partial_json", "thinking")


class Messages(Reader):
    """`messages`."""

    operation = "messages"
    says_all = ("input_tokens", "output_tokens")
    __slots__ = ("_final", "_web_searches")

    def __init__(self) -> None:
        super().__init__()
        self._usage = _NOTHING  # a dictionary of its own takes 64 bytes of each open stream
        self._final = False
        self._web_searches = 0

    def _texts(self, request: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the messages, the system prompt and the tools."""
        model = request.get("model")
        self.model = model if isinstance(model, str) else ""
        return tuple(map(request.get, _PROMPT))

    def _ceiling(self, request: Mapping[str, Any]) -> Ceiling:
        only(request, _KNOWN, _REFUSED)
        given = REQUEST + content(request.get("messages"), _TEXTS) + content(request.get("system"), _TEXTS)
        given += tools(request.get("tools"), _TOOLS, _BUILT_IN)
        formats = [request.get(part) for part in ("output_config", "output_format", "tool_choice")]
        given += sum(structure(part) for part in formats)
        if request.get("tools") or any(formats):
            given += TOOLS
        # A limit to thinking is within `max_tokens`.
        usage = Usage(input_tokens=given, output_tokens=bounded_output(request, "max_tokens"))
        # What is marked to be cached costs more when it is written, and that may be all of it.
        if (lasts := _longest_cache(request)) is not None:
            long = given if lasts == "1h" else 0
            usage = replace(
                usage, cache_write_tokens=given, cache_write_5m_tokens=given - long, cache_write_1h_tokens=long
            )
        return Ceiling(usage, tiers=("fast" if request.get("speed") == "fast" else None,))

    def feed(self, event: Any) -> None:
        """Take a `RawMessageStreamEvent`."""
        kind = event.type
        if kind == "content_block_delta":
            delta = event.delta.__dict__
            for name in _DELTA_TEXTS:
                if name in delta:
                    written = delta[name]
                    self.output_chars += len(written) if self.measure is len else self.measure(written)
        elif kind == "content_block_start":
            block = event.content_block
            name = text(block, "name") or ""
            self.output_chars += self.measure(name) + self.measure(text(block, "text") or "")
            if get(block, "type") == "fallback":  # another model goes on
                self.response_model = text(get(block, "to"), "model") or self.response_model
            self._web_searches += name == "web_search" and get(block, "type") == "server_tool_use"
        elif kind == "message_start":
            self._header(event.message)
            self._merge(get(event.message, "usage"))
        elif kind == "message_delta" and self._merge(get(event, "usage")):
            self._final = True

    def _take(self, response: Any) -> None:
        """Take a `Message`."""
        self._header(response)
        self._final = self._merge(get(response, "usage"))

    def _written(self, response: Any) -> int:
        content = get(response, "content")
        blocks = content if isinstance(content, list | tuple) else ()
        return sum(text_chars(get(block, part), self.measure) for block in blocks for part in _WRITTEN)

    def _header(self, message: Any) -> None:
        model, response_id, _ = header(message)
        self.response_model = model or self.response_model
        self.response_id = response_id or self.response_id

    def _merge(self, usage: Any) -> bool:
        """Overwrite what is known with what `usage` says: a delta's figures are totals. Return whether it says any."""
        said = {name: value for name, value in as_mapping(usage).items() if value is not None}
        self._usage = whole = {**self._usage, **said} if self._usage else said
        tier = whole.get("service_tier")
        if whole.get("speed") == "fast" and tier in (None, "", "standard"):
            tier = "fast"  # has prices of its own, as a tier has
        if isinstance(tier, str):
            self.service_tier = tier or self.service_tier
        return "output_tokens" in said and count(said, "output_tokens") is not None

    def usage(self, *, ended: bool) -> Reading | None:
        """Return the merged usage, with what the top level leaves out: compactions, and the advice of other models."""
        del ended  # a stream that ends without its `message_delta` has not told its figures, however it ends
        raw = self._usage
        whole, (of_tools, of_output), details = figures(raw, _KNOWN_COUNTS, _NESTED)
        plain, written = whole.get("input_tokens"), whole.get("output_tokens")
        if plain is None and written is None:
            return None
        web_searches = of_tools.get("web_search_requests", 0)
        split = _split_writes(raw.get("cache_creation"))
        own = _tokens(
            whole,
            split,
            reasoning_tokens=of_output.get("thinking_tokens", 0),
            # Those that were begun are all that a stream which was left early lets us know.
            web_searches=web_searches if self._final else max(web_searches, self._web_searches),
            details=details | _geography(raw) if "inference_geo" in raw else details,
        )
        elsewhere: list[tuple[str, Usage]] = []
        if iterations := raw.get("iterations"):
            own = _shared(own, iterations if isinstance(iterations, list | tuple) else (), elsewhere)
        return Reading(
            checked(own, contradictory=0 < whole.get("cache_creation_input_tokens", 0) < sum(split)),
            self._final,
            has_input=plain is not None,
            has_output=written is not None,
            elsewhere=tuple(elsewhere),
        )


def _shared(own: Usage, entries: Sequence[Any], elsewhere: list[tuple[str, Usage]]) -> Usage:
    """Return the message's own usage as its iterations make it; add to `elsewhere` what other models used."""
    declined = _declined(entries)
    if declined and _has_all(own, entries):
        own = _without(own, [usage for _, usage in declined])
    elsewhere += [(model, _named(usage, "declined")) for model, usage in declined]
    for entry in entries:
        kind = get(entry, "type")
        if kind == "compaction":
            own += _named(_tokens_of(entry), "compaction")
        elif kind == "advisor_message":
            elsewhere.append((text(entry, "model") or "", _named(_tokens_of(entry), "advisor")))
    return own


def _longest_cache(value: Any, depth: int = 12) -> str | None:
    """Return how long the longest-lived cache lasts that a part of a request asks for; None when none is asked for."""
    if isinstance(value, list | tuple):
        found = [_longest_cache(each, depth - 1) for each in value] if depth else []
    elif depth and (isinstance(value, Mapping) or hasattr(value, "__pydantic_fields_set__")):
        fields = as_mapping(value)
        found = [_longest_cache(each, depth - 1) for each in fields.values()]
        if mark := fields.get("cache_control"):
            found.append(text(mark, "ttl") or "5m")
    else:
        return None
    return "1h" if "1h" in found else next((each for each in found if each), None)


def _tokens_of(iteration: Any) -> Usage:
    return _tokens(counts(iteration), _split_writes(get(iteration, "cache_creation")))


def _tokens(whole: Mapping[str, int], split: tuple[int, int], **more: Any) -> Usage:
    """Return the tokens of a usage or of an iteration. Input, cache reads and writes are disjoint, and are added up."""
    short, long = split
    cache_read, cache_write = whole.get("cache_read_input_tokens", 0), whole.get("cache_creation_input_tokens", 0)
    cache_write = max(cache_write, short + long)
    return Usage(
        input_tokens=whole.get("input_tokens", 0) + cache_read + cache_write,
        output_tokens=whole.get("output_tokens", 0),
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        # A delta can raise the total above the split of the start; what is not split is at the 5-minute rate.
        cache_write_5m_tokens=cache_write - long,
        cache_write_1h_tokens=long,
        **more,
    )


def _declined(entries: Sequence[Any]) -> list[tuple[str, Usage]]:
    """Return what other models used that declined before a fallback served, with their names.

    The entry of the model that served is the only one with a type of its own; its earlier turns have its name.
    """
    served = [text(entry, "model") for entry in entries if get(entry, "type") == "fallback_message"]
    return [
        (model, _tokens_of(entry))
        for entry in entries
        if served and get(entry, "type") == "message" and (model := text(entry, "model")) and model not in served
    ]


def _has_all(own: Usage, entries: Sequence[Any]) -> bool:
    """Return whether the message's own figures are those of all models together, and not of the one that served."""
    parts = [_tokens_of(entry) for entry in entries if get(entry, "type") in ("message", "fallback_message")]
    return (own.input_tokens, own.output_tokens) == (
        sum(part.input_tokens for part in parts),
        sum(part.output_tokens for part in parts),
    )


def _without(own: Usage, parts: Sequence[Usage]) -> Usage:
    names = [name for name in USAGE_COUNTS if any(getattr(part, name) for part in parts)]
    rest = {name: max(0, getattr(own, name) - sum(getattr(part, name) for part in parts)) for name in names}
    return replace(own, **rest)


def _split_writes(split: Any) -> tuple[int, int]:
    """Return the tokens that were written to the caches of 5 minutes and of 1 hour, where that is told."""
    if split is None:
        return 0, 0
    found = counts(split)
    return found.get("ephemeral_5m_input_tokens", 0), found.get("ephemeral_1h_input_tokens", 0)


def _named(usage: Usage, what: str) -> Usage:
    """Return `usage` with its sums in the details too: they are not in the message's own figures."""
    sums = {f"{what}_input_tokens": usage.input_tokens, f"{what}_output_tokens": usage.output_tokens}
    return replace(usage, details={name: value for name, value in sums.items() if value})


def _geography(raw: Any) -> dict[str, int]:
    """Return a mark for where the inference was bound to: some places have a surcharge."""
    place = text(raw, "inference_geo")
    return {} if place in (None, "global", "not_available") else {f"inference_geo_{place[:20]}": 1}


_PROMPT = ("messages", "system", "tools")
_WRITTEN = ("text", "thinking", "name", "input")
_NESTED = MappingProxyType({"server_tool_use": "", "output_tokens_details": "output_"})
_KNOWN_COUNTS = frozenset(
    {
        "cache_creation", "cache_creation_input_tokens", "cache_read_input_tokens", "input_tokens", "output_tokens",
        "thinking_tokens", "web_search_requests", *_NESTED,
    }
)  # fmt: skip
_TEXTS = frozenset({"content", "document", "message", "search_result", "text", "tool_result", "tool_use"})
_TOOLS = frozenset({"custom"})
_BUILT_IN = ("bash_", "memory_", "text_editor_")
_KNOWN = frozenset(
    {
        "betas", "billing_policy", "cache_control", "diagnostics", "fallback_credit_token", "inference_geo",
        "max_tokens", "messages", "metadata", "output_config", "output_format", "service_tier", "speed",
        "stop_sequences", "system", "temperature", "thinking", "tool_choice", "tools", "top_k", "top_p",
        "user_profile_id", "workspace_id",
    }
)  # fmt: skip
_REFUSED = MappingProxyType(
    {
        "compaction": "is billed beside max_tokens: leave it out",
        "container": "adds what it holds to the input, without a bound: leave it out",
        "context_management": "may compact the conversation, which is billed beside max_tokens: leave it out",
        "fallbacks": "lets other models answer, at other prices: leave it out",
        "mcp_servers": "adds what the servers answer to the input, without a bound: leave it out",
        "thread": "lets the server add what is not in the request: pass all messages (thread=False to tool_runner)",
    }
)
