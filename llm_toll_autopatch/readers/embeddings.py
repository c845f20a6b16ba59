"""OpenAI's embeddings. Fields as in the SDK's `types/create_embedding_response.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.readers.bounds import prompts
from llm_toll_autopatch.readers.ceiling import Ceiling, only
from llm_toll_autopatch.readers.fields import as_mapping, count, get, leftovers, text
from llm_toll_autopatch.readers.reader import Reader, Reading
from llm_toll_autopatch.records import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Embeddings"]

_KNOWN = frozenset({"dimensions", "encoding_format", "input", "user"})
_USAGE = frozenset({"prompt_tokens", "total_tokens"})


class Embeddings(Reader):
    """`embeddings`: input tokens, and no output that could be billed."""

    operation = "embeddings"
    says_all = ("prompt_tokens",)
    __slots__ = ()

    def _texts(self, request: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the input."""
        self.model = text(request, "model") or ""
        return (request.get("input"),)

    def _ceiling(self, request: Mapping[str, Any]) -> Ceiling:
        only(request, _KNOWN)
        return Ceiling(Usage(input_tokens=sum(prompts(request.get("input")))))

    def _take(self, response: Any) -> None:
        """Take a `CreateEmbeddingResponse`."""
        self.response_model = text(response, "model")
        self._usage = get(response, "usage")

    def usage(self, *, ended: bool) -> Reading | None:
        """Return the tokens of the input."""
        raw = as_mapping(self._usage)
        given = count(raw, "prompt_tokens", "total_tokens")
        if given is None:
            return None
        return Reading(Usage(input_tokens=given, details=leftovers(raw, _USAGE)), final=ended)
