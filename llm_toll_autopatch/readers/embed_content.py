"""Google's embed_content.

The Gemini API reports usage of the whole request; Vertex AI a number of tokens for each content, or the characters that
it bills. Fields as in the SDK's `types.EmbedContentResponse`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.readers import gemini_bounds
from llm_toll_autopatch.readers.ceiling import SPENT, Ceiling, only
from llm_toll_autopatch.readers.fields import count, get, text
from llm_toll_autopatch.readers.generate_content import modalities
from llm_toll_autopatch.readers.reader import Reader, Reading
from llm_toll_autopatch.records import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EmbedContent", "EmbedContentBatch"]


_SETTINGS = frozenset(
    {"auto_truncate", "http_options", "mime_type", "output_dimensionality", "task_type", "title"},
)


class EmbedContent(Reader):
    """`models.embed_content`."""

    operation = "embeddings"
    __slots__ = ("_characters", "_details", "_tokens")

    def __init__(self) -> None:
        super().__init__()
        self._tokens: int | None = None
        self._characters: int | None = None
        self._details: dict[str, int] = {}

    def _texts(self, request: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the contents, whichever way they go."""
        self.model = text(request, "model") or ""
        return request.get("contents"), request.get("content"), request.get("batch_contents")

    def _ceiling(self, request: Mapping[str, Any]) -> Ceiling:
        parts = ("batch_contents", "content", "contents")
        only(request, ("config", "embedding_api_type", *parts))
        config = gemini_bounds.set_in(request.get("config"))
        only(config, _SETTINGS, gemini_bounds.REFUSED)
        given = sum(gemini_bounds.contents(request.get(part)) for part in parts)
        given += gemini_bounds.contents(config.get("title"))
        return Ceiling(Usage(input_tokens=given, details={"input_characters": given}))

    def _take(self, response: Any) -> None:
        """Take the `EmbedContentResponse`, without its vectors."""
        usage = get(response, "usage_metadata")
        self._tokens = count(usage, "prompt_token_count")
        self._details = modalities(get(usage, "prompt_tokens_details"))
        if self._tokens is None:
            embeddings = get(response, "embeddings")
            counts = [count(get(each, "statistics"), "token_count") for each in embeddings or ()]
            known = [each for each in counts if each is not None]
            self._tokens = sum(known) if known else None
        self._characters = count(get(response, "metadata"), "billable_character_count")

    def usage(self, *, ended: bool) -> Reading | None:
        """Return the tokens of the input: there are no others."""
        if self._tokens is None and self._characters is None:
            return None
        usage = Usage(
            input_tokens=self._tokens or 0,
            input_audio_tokens=self._details.get("audio", 0),
            input_image_tokens=self._details.get("image", 0),
            details={"input_characters": self._characters} if self._characters else {},
        )
        return Reading(usage, ended, has_input=self._tokens is not None)


class EmbedContentBatch(EmbedContent):
    """One embedding in the results of a batch job."""

    operation = "batch"
    unbounded = SPENT
    __slots__ = ()

    def _take(self, response: Any) -> None:
        """Take the `SingleEmbedContentResponse`; nothing but the job says that it is billed as a batch."""
        self._tokens = count(response, "token_count")
        self.service_tier = "batch"
