"""OpenAI's legacy completions: the usage of chat completions, around plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.readers.bounds import REQUEST, prompts
from llm_toll_autopatch.readers.ceiling import Ceiling, bounded_output, no_search, only, openai_tiers
from llm_toll_autopatch.readers.chat import ChatCompletions
from llm_toll_autopatch.readers.fields import count, get, text
from llm_toll_autopatch.records import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Completions"]


class Completions(ChatCompletions):
    """`completions`. A streamed chunk and a whole answer have the same fields."""

    operation = "completions"
    __slots__ = ()

    def _texts(self, request: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the prompt and what comes behind the completion."""
        self.model = text(request, "model") or ""
        self._unfinished = count(request, "n") or 1
        return request.get("prompt"), request.get("suffix")

    def _ceiling(self, request: Mapping[str, Any]) -> Ceiling:
        only(request, _KNOWN)
        no_search(text(request, "model") or "")
        asked = prompts(request.get("prompt"))
        given = REQUEST + sum(asked) + sum(prompts(request.get("suffix")))
        each = max(count(request, "n") or 1, count(request, "best_of") or 1)
        written = bounded_output(request, "max_tokens") * each * max(1, len(asked))
        if request.get("echo"):
            written += given * each
        return Ceiling(
            Usage(input_tokens=given, cache_write_tokens=given, output_tokens=written), tiers=openai_tiers(request)
        )

    def feed(self, chunk: Any) -> bool:
        """Take a streamed `Completion`; hide what is there only because it was asked for in the user's place."""
        self._take(chunk)
        self.output_chars += self._written(chunk)
        if not self.asks_for_usage:
            return False
        if get(chunk, "usage") is not None:
            return not get(chunk, "choices")
        chunk.model_fields_set.discard("usage")
        return False

    def _take(self, response: Any) -> None:
        """Take a `Completion`."""
        self._unfinished -= sum(get(choice, "finish_reason") is not None for choice in _choices(response))
        super()._take(response)

    def _written(self, response: Any) -> int:
        return sum(self.measure(text(choice, "text") or "") for choice in _choices(response))


def _choices(response: Any) -> Sequence[Any]:
    choices = get(response, "choices")
    return choices if isinstance(choices, list | tuple) else ()


_KNOWN = frozenset(
    {
        "best_of", "echo", "frequency_penalty", "logit_bias", "logprobs", "max_tokens", "n", "presence_penalty",
        "prompt", "seed", "service_tier", "stop", "suffix", "temperature", "top_p", "user",
        "ignore_eos", "min_p", "min_tokens", "repetition_penalty", "top_a", "top_k",  # of compatible servers
    }
)  # fmt: skip
