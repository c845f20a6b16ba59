"""One turn of a Gemini Live session.

Fields as in the SDK's `types.LiveServerMessage` and `types.UsageMetadata`. Each turn is billed for the whole context of
the session, so the figures of its last message are the turn's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.readers.fields import get, text
from llm_toll_autopatch.readers.generate_content import usage_of
from llm_toll_autopatch.readers.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llm_toll_autopatch.readers.reader import Reading

__all__ = ["LiveTurn"]


class LiveTurn(Reader):
    """One turn of the model."""

    operation = "live"
    unbounded = "a session goes on without a bound: open it without strict_budget"
    __slots__ = ()

    def _texts(self, request: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return nothing: what the user sends goes by other ways, and is not estimated."""
        self.model = text(request, "model") or ""
        return ()

    def feed(self, message: Any) -> None:
        """Take a `LiveServerMessage`: text, or the transcription of what is said."""
        if message.usage_metadata is not None:
            self._usage = message.usage_metadata
        content = message.server_content
        if content is None:
            return
        parts = content.model_turn.parts if content.model_turn is not None else None
        self.output_chars += sum(len(part.text) for part in parts or () if part.text is not None)
        if (said := content.output_transcription) is not None and said.text is not None:
            self.output_chars += len(said.text)

    def usage(self, *, ended: bool) -> Reading | None:
        """Return the figures that came last."""
        if (tier := get(self._usage, "service_tier") or get(self._usage, "traffic_type")) is not None:
            self.service_tier = str(getattr(tier, "value", tier))
        return usage_of(self._usage, "response", final=ended)
