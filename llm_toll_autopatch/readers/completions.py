"""OpenAI's legacy completions: the usage of chat completions, around plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.estimate import text_chars
from llm_toll_autopatch.readers.chat import ChatCompletions
from llm_toll_autopatch.readers.fields import count, get, text

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Completions"]


class Completions(ChatCompletions):
    """`completions`. A streamed chunk and a whole answer have the same fields."""

    operation = "completions"
    __slots__ = ()

    def begin(self, request: Mapping[str, Any]) -> None:
        """Count the text of the prompt and of what comes behind the completion."""
        self.model = text(request, "model") or ""
        self._unfinished = count(request, "n") or 1
        self.input_chars = sum(text_chars(request.get(part), self.measure) for part in ("prompt", "suffix"))

    def feed(self, chunk: Any) -> bool:
        """Take a streamed `Completion`; hide what is there only because it was asked for in the user's place."""
        self.finish(chunk)
        if not self.asks_for_usage:
            return False
        if get(chunk, "usage") is not None:
            return not get(chunk, "choices")
        chunk.model_fields_set.discard("usage")
        return False

    def finish(self, response: Any) -> None:
        """Take a `Completion`."""
        choices = get(response, "choices")
        for choice in choices if isinstance(choices, list | tuple) else ():
            self.output_chars += self.measure(text(choice, "text") or "")
            self._unfinished -= get(choice, "finish_reason") is not None
        self._header(response)
        self._report(get(response, "usage"))
