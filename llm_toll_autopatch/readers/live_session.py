"""OpenAI's Live sessions, which are billed by the second.

Fields as in the SDK's `types/live/session_usage.py`: the seconds grow with the session, so the last figure is the
session's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.readers.audio import whole_seconds
from llm_toll_autopatch.readers.fields import as_mapping, get, leftovers, text
from llm_toll_autopatch.readers.reader import Reader, Reading
from llm_toll_autopatch.records import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LiveSessions"]


class LiveSessions(Reader):
    """One session."""

    operation = "live"
    unbounded = "a session is billed by the second, and goes on without a bound: open it without strict_budget"
    __slots__ = ("_final",)

    def __init__(self) -> None:
        super().__init__()
        self._final = False

    def _texts(self, request: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return nothing, and note the session's model and id."""
        self.model = text(request, "model") or ""
        self.response_model = text(request, "served")
        self.response_id = text(request, "session")
        return ()

    def feed(self, event: Any) -> None:
        """Take an event that tells of the session's usage so far."""
        self._usage = get(event, "usage") or self._usage
        self._final = event.type == "session.closed"

    def usage(self, *, ended: bool) -> Reading | None:
        """Return the seconds: in whole, and as the session was active or paused where that is told."""
        del ended  # a connection that is closed does not close the session
        raw = as_mapping(self._usage)
        seconds = whole_seconds(raw.get("seconds"))
        if seconds is None:
            return None
        return Reading(Usage(details={"seconds": seconds, **leftovers(raw, frozenset({"seconds"}))}), self._final)
