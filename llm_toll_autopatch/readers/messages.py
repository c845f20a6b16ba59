"""Anthropic's messages.

Fields as in the SDK's `types/usage.py`, `types/message_delta_usage.py` and `types/beta/beta_usage.py`; the merge of
`message_start` with the cumulative `message_delta` as in its `lib/streaming/_messages.py`.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.estimate import text_chars
from llm_toll_autopatch.readers.consistency import checked
from llm_toll_autopatch.readers.fields import as_mapping, count, get, leftovers, text
from llm_toll_autopatch.readers.reader import Reader, Reading
from llm_toll_autopatch.records import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Messages"]

_DELTA_TEXTS = ("text", "partial_json", "thinking")


class Messages(Reader):
    """`messages`."""

    operation = "messages"
    __slots__ = ("_final", "_usage", "_web_searches")

    def __init__(self) -> None:
        super().__init__()
        self._usage: dict[str, Any] = {}
        self._final = False
        self._web_searches = 0

    def begin(self, request: Mapping[str, Any]) -> None:
        """Count the text of the messages, the system prompt and the tools."""
        self.model = text(request, "model") or ""
        self.input_chars = sum(text_chars(request.get(part), self.measure) for part in ("messages", "system", "tools"))

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
            self._web_searches += name == "web_search" and get(block, "type") == "server_tool_use"
        elif kind == "message_start":
            self._header(event.message)
            self._merge(get(event.message, "usage"))
        elif kind == "message_delta" and self._merge(get(event, "usage")):
            self._final = True

    def finish(self, response: Any) -> None:
        """Take a `Message`."""
        self._header(response)
        self._final = self._merge(get(response, "usage"))
        content = get(response, "content")
        for block in content if isinstance(content, list | tuple) else ():
            self.output_chars += sum(
                text_chars(get(block, part), self.measure) for part in ("text", "thinking", "name", "input")
            )

    def _header(self, message: Any) -> None:
        self.response_model = text(message, "model") or self.response_model
        self.response_id = text(message, "id") or self.response_id

    def _merge(self, usage: Any) -> bool:
        """Overwrite what is known with what `usage` says: a delta's figures are totals. Return whether it says any."""
        said = {name: value for name, value in as_mapping(usage).items() if value is not None}
        self._usage.update(said)
        tier = text(self._usage, "service_tier")
        if text(self._usage, "speed") == "fast" and tier in (None, "standard"):
            tier = "fast"  # has prices of its own, as a tier has
        self.service_tier = tier or self.service_tier
        return count(said, "output_tokens") is not None

    def usage(self, *, ended: bool) -> Reading | None:
        """Return the merged usage, with what the top level leaves out: compactions, and the advice of other models."""
        del ended  # a stream that ends without its `message_delta` has not told its figures, however it ends
        raw = self._usage
        plain, written = count(raw, "input_tokens"), count(raw, "output_tokens")
        if plain is None and written is None:
            return None
        web_searches = count(raw.get("server_tool_use"), "web_search_requests") or 0
        own = replace(
            _tokens(raw),
            reasoning_tokens=count(raw.get("output_tokens_details"), "thinking_tokens") or 0,
            # Those that were begun are all that a stream which was left early lets us know.
            web_searches=web_searches if self._final else max(web_searches, self._web_searches),
            details=leftovers(raw, _USAGE, nested=_NESTED) | _geography(raw),
        )
        split = own.cache_write_5m_tokens + own.cache_write_1h_tokens
        contradictory = split > own.cache_write_tokens or (
            0 < (count(raw, "cache_creation_input_tokens") or 0) < _split_writes(raw)
        )
        elsewhere: list[tuple[str, Usage]] = []
        iterations = raw.get("iterations")
        for entry in iterations if isinstance(iterations, list | tuple) else ():
            kind = get(entry, "type")
            if kind == "compaction":
                own += _named(_tokens(entry), "compaction")
            elif kind == "advisor_message":
                elsewhere.append((text(entry, "model") or "", _named(_tokens(entry), "advisor")))
        return Reading(
            checked(own, contradictory=contradictory),
            self._final,
            has_input=plain is not None,
            has_output=written is not None,
            elsewhere=tuple(elsewhere),
        )


def _tokens(raw: Any) -> Usage:
    """Return the tokens of a usage or of an iteration. Input, cache reads and writes are disjoint, and are added up."""
    cache_read = count(raw, "cache_read_input_tokens") or 0
    long = count(get(raw, "cache_creation"), "ephemeral_1h_input_tokens") or 0
    cache_write = max(count(raw, "cache_creation_input_tokens") or 0, _split_writes(raw))
    return Usage(
        input_tokens=(count(raw, "input_tokens") or 0) + cache_read + cache_write,
        output_tokens=count(raw, "output_tokens") or 0,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        # A delta can raise the total above the split of the start; what is not split is at the 5-minute rate.
        cache_write_5m_tokens=cache_write - long,
        cache_write_1h_tokens=long,
    )


def _split_writes(raw: Any) -> int:
    split = get(raw, "cache_creation")
    return (count(split, "ephemeral_5m_input_tokens") or 0) + (count(split, "ephemeral_1h_input_tokens") or 0)


def _named(usage: Usage, what: str) -> Usage:
    """Return `usage` with its sums in the details too: they are not in the message's own figures."""
    sums = {f"{what}_input_tokens": usage.input_tokens, f"{what}_output_tokens": usage.output_tokens}
    return replace(usage, details={name: value for name, value in sums.items() if value})


def _geography(raw: Any) -> dict[str, int]:
    """Return a mark for where the inference was bound to: some places have a surcharge."""
    place = text(raw, "inference_geo")
    return {} if place in (None, "global", "not_available") else {f"inference_geo_{place[:20]}": 1}


_NESTED = MappingProxyType({"server_tool_use": "", "output_tokens_details": "output_"})
_USAGE = frozenset(
    {
        "cache_creation", "cache_creation_input_tokens", "cache_read_input_tokens", "input_tokens", "output_tokens",
        "thinking_tokens", "web_search_requests",
    }
)  # fmt: skip
