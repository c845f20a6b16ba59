"""OpenAI's Realtime API: the responses of a session, and the transcriptions of what is said to it.

Fields and events as in the SDK's `types/realtime/realtime_response_usage.py` and
`types/realtime/conversation_item_input_audio_transcription_completed_event.py`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.readers.audio import Transcriptions
from llm_toll_autopatch.readers.consistency import balanced, checked
from llm_toll_autopatch.readers.fields import as_mapping, count, get, leftovers, text
from llm_toll_autopatch.readers.reader import Reader, Reading
from llm_toll_autopatch.records import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["InputTranscriptions", "RealtimeResponses"]


class RealtimeResponses(Reader):
    """One response of a session. It is billed for the whole conversation each time."""

    operation = "realtime"
    unbounded = "a session goes on without a bound: open it without strict_budget"
    __slots__ = ("_final",)

    def __init__(self) -> None:
        super().__init__()
        self._final = False

    def _texts(self, request: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return nothing: the conversation is not seen here. The model is as asked for, and as the session names it."""
        self.model = text(request, "model") or ""
        self.response_model = text(request, "served")
        return ()

    def feed(self, event: Any) -> None:
        """Take a `RealtimeServerEvent` of this response: text or what is spoken, at last the usage."""
        if event.type in _DELTAS:
            self.output_chars += self.measure(text(event, "delta") or "")
        elif (response := get(event, "response")) is not None:
            self.response_id = text(response, "id") or self.response_id
            self._usage = get(response, "usage") or self._usage
            self._final = event.type == "response.done"

    def usage(self, *, ended: bool) -> Reading | None:
        """Return the response's `RealtimeResponseUsage`."""
        raw = as_mapping(self._usage)
        of_input, of_output = as_mapping(raw.get("input_token_details")), as_mapping(raw.get("output_token_details"))
        cache_read = count(of_input, "cached_tokens") or 0
        sums = balanced(
            count(raw, "input_tokens"),
            count(raw, "output_tokens"),
            count(raw, "total_tokens"),
            reasoning=count(of_output, "reasoning_tokens") or 0,
            cached=cache_read,
            silent=not self.output_chars,
        )
        if sums.given is None and sums.written is None:
            return None
        details = leftovers(raw, _USAGE, nested=_NESTED)
        of_cache = get(of_input, "cached_tokens_details")
        for kind in ("audio", "image"):  # the prices ask for these by this name
            if number := count(of_cache, f"{kind}_tokens"):
                details[f"cache_read_{kind}_tokens"] = number
        usage = Usage(
            input_tokens=sums.given or 0,
            output_tokens=sums.written or 0,
            cache_read_tokens=cache_read,
            reasoning_tokens=sums.reasoning,
            input_audio_tokens=count(of_input, "audio_tokens") or 0,
            output_audio_tokens=count(of_output, "audio_tokens") or 0,
            input_image_tokens=count(of_input, "image_tokens") or 0,
            output_image_tokens=count(of_output, "image_tokens") or 0,
            details=details,
        )
        return Reading(
            checked(usage, contradictory=sums.contradictory),
            ended or self._final,
            has_input=sums.given is not None,
            has_output=sums.written is not None,
        )


class InputTranscriptions(Transcriptions):
    """The transcription of one part of what is said to a session: another model's work, and billed as such."""

    __slots__ = ()

    def feed(self, event: Any) -> None:
        """Take an event of `conversation.item.input_audio_transcription`."""
        self.response_id = text(event, "item_id")
        if event.type.endswith(".delta"):
            self.output_chars += self.measure(text(event, "delta") or "")
        elif event.type.endswith(".completed"):
            self.output_chars = self.measure(text(event, "transcript") or "")
            self._usage = get(event, "usage")
            self._final = True


_NESTED = MappingProxyType({"input_token_details": "input_", "output_token_details": "output_"})
_USAGE = frozenset(
    {
        "audio_tokens", "cached_tokens", "cached_tokens_details", "image_tokens", "input_tokens", "output_tokens",
        "reasoning_tokens", "text_tokens", "total_tokens",
    }
)  # fmt: skip
_DELTAS = frozenset(
    {
        "response.output_text.delta", "response.output_audio_transcript.delta",
        "response.function_call_arguments.delta", "response.mcp_call_arguments.delta",
        "response.text.delta", "response.audio_transcript.delta",  # of the beta
    }
)  # fmt: skip
