"""Work that is handed in and fetched later: OpenAI's batches and evals, and Anthropic's message batches.

Fields as in OpenAI's `types/batch.py` and `types/evals/run_retrieve_response.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.readers.ceiling import SPENT
from llm_toll_autopatch.readers.chat import ChatCompletions
from llm_toll_autopatch.readers.fields import as_mapping, get, text
from llm_toll_autopatch.readers.messages import Messages
from llm_toll_autopatch.readers.responses import Responses

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["BatchedMessages", "Batches", "EvalRuns"]

_ENDED = frozenset({"completed", "failed", "expired", "cancelled", "canceled"})


class Batches(Responses):
    """OpenAI's `batches`: one figure for all requests of a batch, which grows until the batch has ended."""

    operation = "batch"
    unbounded = SPENT
    __slots__ = ()

    def _texts(self, request: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return nothing: fetching a batch says nothing about it."""
        del request
        return ()

    def _take(self, response: Any) -> None:
        """Take a `Batch`."""
        self._header(response)
        self.lasts = True
        self.model = self.response_model or ""
        self.service_tier = "batch"
        self.unfinished = text(response, "status") not in _ENDED


class EvalRuns(ChatCompletions):
    """OpenAI's `evals.runs`: one figure for each model that took part."""

    operation = "evals"
    unbounded = SPENT
    __slots__ = ()

    @classmethod
    def parts(cls, answer: Any) -> Iterable[Any]:
        """Return the usage of each model as if it were a response of its own."""
        used = get(answer, "per_model_usage")
        run, status = text(answer, "id"), text(answer, "status")
        for each in used if isinstance(used, list | tuple) else ():
            model = text(each, "run_model_name") or text(each, "model_name")
            if run and model:
                yield {"id": f"{run}/{model}", "model": model, "status": status, "usage": _without_names(each)}

    def _texts(self, request: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return nothing: fetching a run says nothing about it."""
        del request
        return ()

    def _take(self, response: Any) -> None:
        """Take the usage of one model."""
        self._header(response)
        self.lasts = True
        self.model = self.response_model or ""
        self._report(get(response, "usage"))
        self.unfinished = text(response, "status") not in _ENDED


def _without_names(usage: Any) -> dict[str, Any]:
    return {name: value for name, value in as_mapping(usage).items() if name != "invocation_count"}


class BatchedMessages(Messages):
    """Anthropic's `messages.batches.results`: one message for each request that succeeded."""

    operation = "batch"
    unbounded = SPENT
    __slots__ = ()

    @classmethod
    def parts(cls, answer: Any) -> Iterable[Any]:
        """Return the message in a line of the results, if there is one: what failed is not billed."""
        result = get(answer, "result")
        message = get(result, "message")
        return () if message is None or text(result, "type") != "succeeded" else (message,)

    def _texts(self, request: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return nothing: fetching results says nothing about them."""
        del request
        return ()

    def _take(self, response: Any) -> None:
        """Take a `Message`."""
        super()._take(response)
        self.lasts = True
        self.model = self.response_model or ""
