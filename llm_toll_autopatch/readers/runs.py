"""Runs of OpenAI's Assistants: fields as in the SDK's `types/beta/threads/run.py`, usage as of chat completions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.estimate import text_chars
from llm_toll_autopatch.readers.chat import ChatCompletions
from llm_toll_autopatch.readers.fields import get, text

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Runs"]

_AT_WORK = frozenset({"queued", "in_progress", "requires_action", "cancelling"})
_INPUT = ("instructions", "additional_instructions", "additional_messages", "thread", "tools", "tool_outputs")


class Runs(ChatCompletions):
    """`beta.threads.runs`: a run goes on in the background, through several requests, and tells its usage last."""

    operation = "runs"
    # `max_prompt_tokens` and `max_completion_tokens` are kept "on a best effort".
    unbounded = "a run reads its thread and its assistant, which are not in this request: use responses"
    __slots__ = ()

    def _texts(self, request: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return what this request adds; the thread's own messages are not seen."""
        self.model = text(request, "model") or ""
        return tuple(map(request.get, _INPUT))

    def ask_for_usage(self, request: Mapping[str, Any], endpoint: str | None, *, always: bool) -> dict[str, Any] | None:
        """Runs report their usage unasked."""
        del request, endpoint, always
        return None

    def feed(self, event: Any) -> bool:
        """Take an `AssistantStreamEvent`. Only the run's own events count: its steps repeat parts of its usage."""
        kind = text(event, "event") or ""
        data = get(event, "data")
        if kind.startswith("thread.run.") and not kind.startswith("thread.run.step."):
            self._take(data)
        elif kind == "thread.message.delta":
            self.output_chars += text_chars(get(get(data, "delta"), "content"), self.measure)
        return False

    def _take(self, response: Any) -> None:
        """Take a `Run`."""
        self._header(response)
        self.lasts = True
        self.unfinished = text(response, "status") in _AT_WORK
        self._unfinished = int(self.unfinished)
        self._report(get(response, "usage"))
