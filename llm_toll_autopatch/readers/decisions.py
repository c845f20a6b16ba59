"""OpenAI's decisions: the usage of Responses, for answers that are no text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

    def _texts(self, request: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the input and the questions."""
        self.model = text(request, "model") or ""
        return request.get("input"), request.get("questions")

    def _take(self, response: Any) -> None:
        """Take a `Decision`."""
        self._header(response)

    def _written(self, response: Any) -> int:
        """Return that there is no text in a decision."""
        del response
        return 0
