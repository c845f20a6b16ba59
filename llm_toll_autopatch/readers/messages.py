"""Anthropic's messages.

Fields as in the SDK's `types/usage.py` and `types/message_delta_usage.py`; the merge of `message_start` with the
cumulative `message_delta` as in its `lib/streaming/_messages.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.estimate import text_chars
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
    __slots__ = ("_final", "_usage")

    def __init__(self) -> None:
        super().__init__()
        self._usage: dict[str, Any] = {}
        self._final = False

    def begin(self, request: Mapping[str, Any]) -> None:
        """Count the text of the messages, the system prompt and the tools."""
        self.model = text(request, "model") or ""
        self.input_chars = sum(text_chars(request.get(part)) for part in ("messages", "system", "tools"))

    def feed(self, event: Any) -> None:
        """Take a `RawMessageStreamEvent`."""
        kind = event.type
        if kind == "content_block_delta":
            delta = event.delta.__dict__
            for name in _DELTA_TEXTS:
                if name in delta:
                    self.output_chars += len(delta[name])
        elif kind == "content_block_start":
            block = event.content_block
            self.output_chars += len(text(block, "name") or "") + len(text(block, "text") or "")
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
            self.output_chars += sum(text_chars(get(block, part)) for part in ("text", "thinking", "name", "input"))

    def _header(self, message: Any) -> None:
        self.response_model = text(message, "model") or self.response_model
        self.response_id = text(message, "id") or self.response_id

    def _merge(self, usage: Any) -> bool:
        """Overwrite what is known with what `usage` says: a delta's figures are totals. Return whether it says any."""
        said = {name: value for name, value in as_mapping(usage).items() if value is not None}
        self._usage.update(said)
        self.service_tier = text(self._usage, "service_tier") or self.service_tier
        return count(said, "output_tokens") is not None

    def usage(self, *, ended: bool) -> Reading | None:
        """Return the merged usage. Input, cache reads and cache writes are disjoint here, and are added up."""
        del ended  # a stream that ends without its `message_delta` has not told its figures, however it ends
        raw = self._usage
        plain, written = count(raw, "input_tokens"), count(raw, "output_tokens")
        if plain is None and written is None:
            return None
        cache_read = count(raw, "cache_read_input_tokens") or 0
        split = get(raw, "cache_creation")
        short, long = count(split, "ephemeral_5m_input_tokens") or 0, count(split, "ephemeral_1h_input_tokens") or 0
        cache_write = max(count(raw, "cache_creation_input_tokens") or 0, short + long)
        tools = get(raw, "server_tool_use")
        usage = Usage(
            input_tokens=(plain or 0) + cache_read + cache_write,
            output_tokens=written or 0,
            cache_read_tokens=cache_read,
            cache_write_tokens=cache_write,
            # A delta can raise the total above the split of the start; what is not split is at the 5-minute rate.
            cache_write_5m_tokens=cache_write - long,
            cache_write_1h_tokens=long,
            reasoning_tokens=count(get(raw, "output_tokens_details"), "thinking_tokens") or 0,
            web_searches=count(tools, "web_search_requests") or 0,
            details=leftovers(raw, _USAGE, nested=("server_tool_use",)),
        )
        return Reading(usage, self._final, has_input=plain is not None, has_output=written is not None)


_USAGE = frozenset(
    {"cache_creation_input_tokens", "cache_read_input_tokens", "input_tokens", "output_tokens", "web_search_requests"}
)
