"""Google's generate_content, whole or streamed.

Fields as in the SDK's `types.GenerateContentResponseUsageMetadata`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.estimate import text_chars
from llm_toll_autopatch.readers.fields import as_mapping, count, get, leftovers, text
from llm_toll_autopatch.readers.reader import Reader, Reading
from llm_toll_autopatch.records import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GenerateContent", "GenerateContentBatch", "modalities", "usage_of"]


class GenerateContent(Reader):
    """`models.generate_content` and its stream."""

    operation = "generate_content"
    __slots__ = ("_finished", "_tier_is_due", "_usage")

    def __init__(self) -> None:
        super().__init__()
        self._usage: Any = None
        self._finished = False
        self._tier_is_due = True

    def begin(self, request: Mapping[str, Any]) -> None:
        """Count the text of the contents, the system instruction and the tools."""
        self.model = text(request, "model") or ""
        config = request.get("config")
        self.input_chars = text_chars(request.get("contents")) + sum(
            text_chars(get(config, part)) for part in ("system_instruction", "tools", "response_schema")
        )

    def feed(self, chunk: Any) -> None:
        """Take a `GenerateContentResponse`, a chunk of one or the whole: the SDK has one class for both."""
        metadata = chunk.usage_metadata
        # The last one wins, also where it is lower; Vertex sends some that hold no counts at all.
        if metadata is not None and (
            metadata.prompt_token_count is not None or metadata.candidates_token_count is not None
        ):
            self._usage = metadata
        for candidate in chunk.candidates or ():
            content = candidate.content
            for part in (content.parts or ()) if content is not None else ():
                if part.text is not None:
                    self.output_chars += len(part.text)
                elif part.function_call is not None:
                    self.output_chars += text_chars(part.function_call.name) + text_chars(part.function_call.args)
            if candidate.finish_reason is not None:
                self._finished = True
        if chunk.model_version is not None:
            self.response_model = chunk.model_version
        if chunk.response_id is not None:
            self.response_id = chunk.response_id
        if self._tier_is_due:
            self._tier_is_due = False
            self.service_tier = _tier_in_headers(chunk)

    def finish(self, response: Any) -> None:
        """Take the whole `GenerateContentResponse`; one that the user wanted unparsed has a body in its place."""
        body = None if response.candidates else text(get(response, "sdk_http_response"), "body")
        if body is None:
            self.feed(response)
        else:
            self._read_json(json.loads(body))

    def _read_json(self, response: Any) -> None:
        usage = as_mapping(get(response, "usageMetadata"))
        if usage:
            self._usage = {_CAPITAL.sub(lambda letter: f"_{letter[0].lower()}", name): usage[name] for name in usage}
        candidates = get(response, "candidates")
        for candidate in candidates if isinstance(candidates, list) else ():
            self.output_chars += text_chars(get(candidate, "content"))
        self.response_model = text(response, "modelVersion")
        self.response_id = text(response, "responseId")

    def usage(self, *, ended: bool) -> Reading | None:
        """Return the running total that came last."""
        if (traffic := get(self._usage, "traffic_type")) is not None:
            self.service_tier = str(getattr(traffic, "value", traffic))
        return usage_of(self._usage, "candidates", final=ended or self._finished)


class GenerateContentBatch(GenerateContent):
    """One response in the results of a batch job."""

    operation = "batch"
    __slots__ = ()

    def finish(self, response: Any) -> None:
        """Take the `GenerateContentResponse`; nothing but the job says that it is billed as a batch."""
        super().finish(response)
        self.service_tier = "batch"

    def usage(self, *, ended: bool) -> Reading | None:
        """Return the only total."""
        return usage_of(self._usage, "candidates", final=ended)


def usage_of(metadata: Any, written: str, *, final: bool) -> Reading | None:
    """Return what a usage metadata says: what is cached is in the prompt, thoughts and tools come on top.

    Args:
        metadata: The SDK's model, or a mapping with its field names.
        written: What the output is called: `candidates`, or `response` in live sessions.
        final: Whether these are the last figures.
    """
    raw = as_mapping(metadata)
    prompt, output = count(raw, "prompt_token_count"), count(raw, f"{written}_token_count")
    thoughts = count(raw, "thoughts_token_count")
    tools = count(raw, "tool_use_prompt_token_count") or 0
    if prompt is None and output is None and thoughts is None:
        return None
    given = modalities(raw, "prompt_tokens_details")
    drawn = modalities(raw, f"{written}_tokens_details")
    cached = modalities(raw, "cache_tokens_details")
    details = leftovers(raw, _USAGE)
    for kind in ("AUDIO", "IMAGE"):
        if cached.get(kind):
            details[f"cache_read_{kind.lower()}_tokens"] = cached[kind]
    usage = Usage(
        input_tokens=(prompt or 0) + tools,
        output_tokens=(output or 0) + (thoughts or 0),
        cache_read_tokens=count(raw, "cached_content_token_count") or 0,
        reasoning_tokens=thoughts or 0,
        tool_use_input_tokens=tools,
        input_audio_tokens=given.get("AUDIO", 0),
        input_image_tokens=given.get("IMAGE", 0),
        output_audio_tokens=drawn.get("AUDIO", 0),
        output_image_tokens=drawn.get("IMAGE", 0),
        details=details,
    )
    has_output = output is not None or thoughts is not None
    return Reading(usage, final, has_input=prompt is not None, has_output=has_output)


def _tier_in_headers(response: Any) -> str | None:
    """Return the tier that the Gemini API served, see https://ai.google.dev/gemini-api/docs/priority-inference."""
    headers = as_mapping(get(get(response, "sdk_http_response"), "headers"))
    return next((str(headers[name]) for name in headers if name.lower() == "x-gemini-service-tier"), None)


_CAPITAL = re.compile("[A-Z]")
_USAGE = frozenset(
    {
        "cached_content_token_count", "candidates_token_count", "prompt_token_count", "response_token_count",
        "thoughts_token_count", "tool_use_prompt_token_count", "total_token_count",
    }
)  # fmt: skip


def modalities(usage: Any, name: str) -> dict[str, int]:
    """Return the tokens of each modality in a list of `ModalityTokenCount`."""
    entries = get(usage, name)
    found: dict[str, int] = {}
    for entry in entries if isinstance(entries, list | tuple) else ():
        modality = get(entry, "modality")
        kind = str(getattr(modality, "value", modality))
        found[kind] = found.get(kind, 0) + (count(entry, "token_count", "tokenCount") or 0)
    return found
