"""OpenAI's Responses API.

Fields and events as in the SDK's `types/responses/response_usage.py` and `types/responses/response_stream_event.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.estimate import text_chars
from llm_toll_autopatch.readers.fields import as_mapping, count, get, leftovers, text
from llm_toll_autopatch.readers.reader import Reader, Reading
from llm_toll_autopatch.records import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Responses"]


class Responses(Reader):
    """`responses`."""

    operation = "responses"
    __slots__ = ("_final", "_usage")

    def __init__(self) -> None:
        super().__init__()
        self._usage: Any = None
        self._final = False

    def begin(self, request: Mapping[str, Any]) -> None:
        """Count the text of the input, the instructions, the tools and the text format."""
        self.model = text(request, "model") or ""
        self.input_chars = sum(text_chars(request.get(part)) for part in ("input", "instructions", "tools", "text"))

    def feed(self, event: Any) -> None:
        """Take a `ResponseStreamEvent`: text comes in deltas, the usage on the terminal event."""
        kind = event.type
        if kind in _DELTAS:
            delta = event.delta
            if type(delta) is str:
                self.output_chars += len(delta)
        elif kind == "response.output_item.added":
            self.output_chars += len(text(event.item, "name") or "")
        elif (response := get(event, "response")) is not None:
            self._header(response)
            self._final = kind in _TERMINAL

    def finish(self, response: Any) -> None:
        """Take a `Response`."""
        self._header(response)
        output = get(response, "output")
        for item in output if isinstance(output, list | tuple) else ():
            self.output_chars += sum(
                text_chars(get(item, part)) for part in ("content", "summary", "name", "arguments", "input")
            )

    def _header(self, response: Any) -> None:
        self.response_model = text(response, "model") or self.response_model
        self.response_id = text(response, "id") or self.response_id
        self.service_tier = text(response, "service_tier") or self.service_tier
        if (usage := get(response, "usage")) is not None:
            self._usage = usage
        self.lasts = get(response, "background") is True
        self.unfinished = self.lasts and text(response, "status") in ("queued", "in_progress")

    def usage(self, *, ended: bool) -> Reading | None:
        """Return the response's `ResponseUsage`, with the web searches that are billed beside it."""
        raw = as_mapping(self._usage)
        given, written = count(raw, "input_tokens"), count(raw, "output_tokens")
        if given is None and written is None:
            return None
        of_input, of_output = as_mapping(raw.get("input_tokens_details")), as_mapping(raw.get("output_tokens_details"))
        usage = Usage(
            input_tokens=given or 0,
            output_tokens=written or 0,
            cache_read_tokens=count(of_input, "cached_tokens") or 0,
            cache_write_tokens=count(of_input, "cache_write_tokens") or 0,
            reasoning_tokens=count(of_output, "reasoning_tokens") or 0,
            details=leftovers(raw, _RESPONSE_USAGE, nested=("input_tokens_details", "output_tokens_details")),
        )
        final = ended or self._final
        return Reading(usage, final, has_input=given is not None, has_output=written is not None)


_RESPONSE_USAGE = frozenset(
    {"cache_write_tokens", "cached_tokens", "input_tokens", "output_tokens", "reasoning_tokens", "total_tokens"}
)
_TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})
_DELTAS = frozenset(
    {
        "response.output_text.delta", "response.refusal.delta", "response.function_call_arguments.delta",
        "response.custom_tool_call_input.delta", "response.mcp_call_arguments.delta",
        "response.reasoning_text.delta", "response.reasoning_summary_text.delta",
        "response.code_interpreter_call_code.delta", "response.audio.transcript.delta",
    }
)  # fmt: skip
