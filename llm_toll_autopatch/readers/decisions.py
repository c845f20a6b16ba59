"""OpenAI's decisions: the usage of Responses, for answers that are no text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.estimate import text_chars
from llm_toll_autopatch.readers.fields import text
from llm_toll_autopatch.readers.responses import Responses

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Decisions"]


class Decisions(Responses):
    """`decisions`."""

    operation = "decisions"
    unbounded = "a decision takes no limit to its output: make the call without strict_budget"
    __slots__ = ()

    def begin(self, request: Mapping[str, Any]) -> None:
        """Count the text of the input and of the questions."""
        self.model = text(request, "model") or ""
        self.input_chars = sum(text_chars(request.get(part), self.measure) for part in ("input", "questions"))

    def finish(self, response: Any) -> None:
        """Take a `Decision`."""
        self._header(response)
