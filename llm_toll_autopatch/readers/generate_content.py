"""Google's generate_content, whole or streamed.

Fields as in the SDK's `types.GenerateContentResponseUsageMetadata`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from llm_toll_autopatch.estimate import text_chars
from llm_toll_autopatch.readers import gemini_bounds
from llm_toll_autopatch.readers.bounds import REQUEST, TOOLS, structure
from llm_toll_autopatch.readers.ceiling import SPENT, Ceiling, Unbounded, bounded_output, only
from llm_toll_autopatch.readers.consistency import checked
from llm_toll_autopatch.readers.fields import as_mapping, count, figures, get, text
from llm_toll_autopatch.readers.reader import Reader, Reading
from llm_toll_autopatch.records import Usage

__all__ = ["GenerateContent", "GenerateContentBatch", "modalities", "snake_cased", "usage_of"]


class GenerateContent(Reader):
    """`models.generate_content` and its stream."""

    operation = "generate_content"
    says_all = ("prompt_token_count", "candidates_token_count")
    __slots__ = ("_finished", "_queries", "_tier_is_due", "_usage_is_final")

    def __init__(self) -> None:
        super().__init__()
        self._usage_is_final = False
        self._finished = False
        self._queries = 0
        self._tier_is_due = True

    def _texts(self, request: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the contents, the system instruction and the tools."""
        model = request.get("model")
        self.model = model if isinstance(model, str) else ""
        contents, config = request.get("contents"), request.get("config")
        if config is None:
            return (contents,)
        # The SDK drops the tier that the response names, so the one that was asked for stands in for it.
        self.service_tier = _name(get(config, "service_tier"))
        return contents, get(config, "system_instruction"), get(config, "tools"), get(config, "response_schema")

    def _ceiling(self, request: Mapping[str, Any]) -> Ceiling:
        only(request, ("config", "contents"))
        model = (text(request, "model") or "").lower()
        if any(word in model for word in ("audio", "image", "tts")):
            raise Unbounded(
                f"{model!r} writes more than text, without a known upper bound of tokens: use another model"
            )
        config = gemini_bounds.set_in(request.get("config"))
        only(config, _KNOWN, gemini_bounds.REFUSED)
        modalities = config.get("response_modalities") or ()
        if not {_name(each) for each in modalities} <= {"text", "modality_unspecified"}:
            raise Unbounded("response_modalities= asks for more than text, which has no known upper bound of tokens")
        given = REQUEST + gemini_bounds.contents(request.get("contents"))
        given += gemini_bounds.contents(config.get("system_instruction"))
        given += gemini_bounds.declared(config.get("tools"))
        formats = [config.get(part) for part in ("response_schema", "response_json_schema", "tool_config")]
        given += sum(structure(part) for part in formats)
        if config.get("tools") or any(formats):
            given += TOOLS
        # Thoughts were seen to count towards `max_output_tokens`, the documentation leaves it open: a budget of theirs
        # is added.
        written = bounded_output(config, "max_output_tokens", at="config ")
        written += count(gemini_bounds.set_in(config.get("thinking_config")), "thinking_budget") or 0
        written *= count(config, "candidate_count") or 1
        return Ceiling(Usage(input_tokens=given, output_tokens=written), tiers=(_name(config.get("service_tier")),))

    def feed(self, chunk: Any) -> None:
        """Take a `GenerateContentResponse`, a chunk of one or the whole: the SDK has one class for both."""
        for candidate in chunk.candidates or ():
            content = candidate.content
            for part in (content.parts or ()) if content is not None else ():
                if (written := part.text) is not None:
                    self.output_chars += len(written) if self.measure is len else self.measure(written)
                elif part.function_call is not None:
                    self.output_chars += text_chars(part.function_call.name, self.measure)
                    self.output_chars += text_chars(part.function_call.args, self.measure)
            if candidate.finish_reason is not None:
                self._finished = True
            if (grounding := candidate.grounding_metadata) is not None:
                self._grounded(grounding.web_search_queries)
        metadata = chunk.usage_metadata
        # The last one wins, also where it is lower; Vertex sends some that hold no counts at all.
        if metadata is not None and (
            metadata.prompt_token_count is not None
            or metadata.candidates_token_count is not None
            or metadata.thoughts_token_count is not None
        ):
            self._usage = metadata
            self._usage_is_final = self._finished
        if (version := chunk.model_version) is not None:
            self.response_model = version
        if (response_id := chunk.response_id) is not None:
            self.response_id = response_id
        if self._tier_is_due:
            self._tier_is_due = False
            self.service_tier = _tier_in_headers(chunk) or self.service_tier

    def _take(self, response: Any) -> None:
        """Take the whole `GenerateContentResponse`; one that the user wanted unparsed has a body in its place."""
        measure, self.measure = self.measure, _nothing
        try:
            self.feed(response)
        finally:
            self.measure = measure
        if (body := _unparsed(response)) is not None:
            self._read_json(body)

    def _written(self, response: Any) -> int:
        if (body := _unparsed(response)) is not None:
            return sum(text_chars(get(get(each, "content"), "parts"), self.measure) for each in _candidates(body))
        chars = 0
        for candidate in response.candidates or ():
            content = candidate.content
            for part in (content.parts or ()) if content is not None else ():
                called = part.function_call
                for each in (part.text,) if part.text is not None or called is None else (called.name, called.args):
                    chars += text_chars(each, self.measure)
        return chars

    def _read_json(self, response: Any) -> None:
        """Take the response's JSON, which is all that there is under `should_return_http_response`."""
        self._usage = snake_cased(get(response, "usageMetadata"))
        self.service_tier = _name(get(self._usage, "service_tier")) or self.service_tier
        self.response_model = text(response, "modelVersion") or self.response_model
        self.response_id = text(response, "responseId") or self.response_id
        for candidate in _candidates(response):
            self._grounded(get(get(candidate, "groundingMetadata"), "webSearchQueries"))

    def _grounded(self, queries: Any) -> None:
        if isinstance(queries, list | tuple):
            self._queries = max(self._queries, len(queries))

    def usage(self, *, ended: bool) -> Reading | None:
        """Return the running total that came last."""
        self.service_tier = _name(get(self._usage, "traffic_type")) or self.service_tier
        final = ended or self._usage_is_final
        return usage_of(self._usage, "candidates", final=final, web_searches=self._searches())

    def _searches(self) -> int:
        """Return the searches as they are billed: each query since Gemini 3, each grounded prompt before."""
        if not self._queries:
            return 0
        generation = re.search(r"gemini-(\d+)", self.response_model or self.model)
        by_prompt = generation is not None and int(generation[1]) < _BILLS_QUERIES
        return min(self._queries, 1) if by_prompt else self._queries


_BILLS_QUERIES = 3
_KNOWN = frozenset(
    {
        "automatic_continuation", "automatic_function_calling", "candidate_count", "enable_enhanced_civic_answers",
        "frequency_penalty", "http_options", "labels", "logprobs", "max_output_tokens", "media_resolution",
        "model_armor_config", "presence_penalty", "response_json_schema", "response_logprobs", "response_mime_type",
        "response_modalities", "response_schema", "safety_settings", "seed", "service_tier",
        "should_return_http_response", "stop_sequences", "store", "system_instruction", "temperature",
        "thinking_config", "tool_config", "tools", "top_k", "top_p",
    }
)  # fmt: skip


class GenerateContentBatch(GenerateContent):
    """One response in the results of a batch job."""

    operation = "batch"
    unbounded = SPENT
    __slots__ = ()

    def _take(self, response: Any) -> None:
        """Take the `GenerateContentResponse`; nothing but the job says that it is billed as a batch."""
        super()._take(response)
        self.service_tier = "batch"

    def usage(self, *, ended: bool) -> Reading | None:
        """Return the only total."""
        return usage_of(self._usage, "candidates", final=ended, web_searches=self._searches())


def usage_of(metadata: Any, written: str, *, final: bool, web_searches: int = 0) -> Reading | None:
    """Return what a usage metadata says: what is cached is in the prompt, thoughts and tools come on top.

    Args:
        metadata: The SDK's model, or a mapping with its field names.
        written: What the output is called: `candidates`, or `response` in live sessions.
        final: Whether these are the last figures.
        web_searches: What has been searched, which the metadata does not say.
    """
    raw = as_mapping(metadata)
    whole, _, details = figures(raw, _KNOWN_COUNTS)
    prompt, output = whole.get("prompt_token_count"), whole.get(f"{written}_token_count")
    thoughts, tools = whole.get("thoughts_token_count"), whole.get("tool_use_prompt_token_count", 0)
    if prompt is None and output is None and thoughts is None and not web_searches:
        return None
    total = whole.get("total_token_count")
    rest = 0
    if total:  # what is 0 may be left out, and what is left out follows from the total
        rest = total - (prompt or 0) - (output or 0) - (thoughts or 0) - tools
        if prompt is None and rest >= 0:
            prompt, rest = rest, 0
        elif output is None and rest >= 0:
            output, rest = rest, 0
    given = modalities(raw.get("prompt_tokens_details"), raw.get("tool_use_prompt_tokens_details"))
    drawn = modalities(raw.get(f"{written}_tokens_details"))
    cached = modalities(raw.get("cache_tokens_details"))
    heard = seen = spoken = painted = 0
    if given or drawn or cached:
        heard, seen = given.pop("audio", 0), given.pop("image", 0)
        spoken, painted = drawn.pop("audio", 0), drawn.pop("image", 0)
        for prefix, counted in (("input", given), ("output", drawn), ("cache_read", cached)):
            for kind, number in counted.items():
                details[f"{prefix}_{kind}_tokens"] = number
    usage = Usage(
        input_tokens=(prompt or 0) + tools,
        output_tokens=(output or 0) + (thoughts or 0),
        cache_read_tokens=whole.get("cached_content_token_count", 0),
        reasoning_tokens=thoughts or 0,
        tool_use_input_tokens=tools,
        input_audio_tokens=heard,
        input_image_tokens=seen,
        output_audio_tokens=spoken,
        output_image_tokens=painted,
        web_searches=web_searches,
        details=details,
    )
    return Reading(
        checked(usage, contradictory=rest != 0),
        final,
        has_input=prompt is not None,
        has_output=output is not None or thoughts is not None,
    )


def _tier_in_headers(response: Any) -> str | None:
    """Return the tier that the Gemini API served, see https://ai.google.dev/gemini-api/docs/priority-inference."""
    headers = as_mapping(get(get(response, "sdk_http_response"), "headers"))
    if _TIER not in "\n".join(headers).lower():
        return None
    return next((str(headers[name]) for name in headers if name.lower() == _TIER), None)


def _nothing(_text: str) -> int:
    return 0


def _unparsed(response: Any) -> Any:
    """Return the JSON of a response that the user wanted unparsed; None of any other."""
    body = None if response.candidates else text(get(response, "sdk_http_response"), "body")
    return None if body is None else json.loads(body)


def _candidates(body: Any) -> list[Any]:
    candidates = get(body, "candidates")
    return candidates if isinstance(candidates, list) else []


_TIER = "x-gemini-service-tier"
_KNOWN_COUNTS = frozenset(
    {
        "cached_content_token_count", "candidates_token_count", "prompt_token_count", "response_token_count",
        "thoughts_token_count", "tool_use_prompt_token_count", "total_token_count",
    }
)  # fmt: skip


def _name(value: Any) -> str | None:
    """Return the lower-case name of a member of one of the SDK's enums, or of the string in its place."""
    name = getattr(value, "value", value)
    return name.lower() if isinstance(name, str) and name else None


def modalities(*lists: Any) -> dict[str, int]:
    """Return the tokens of each modality but text, lower-case, in lists of `ModalityTokenCount` or `ModalityTokens`."""
    found: dict[str, int] = {}
    for entries in lists:
        for entry in entries if isinstance(entries, list | tuple) else ():
            kind = _name(get(entry, "modality"))
            if kind is None or kind in ("text", "modality_unspecified"):
                continue
            if number := count(entry, "token_count", "tokenCount", "tokens"):
                found[kind] = found.get(kind, 0) + number
    return found


def snake_cased(value: Any) -> Any:
    """Return JSON as the SDK's models name it: `promptTokenCount` becomes `prompt_token_count`."""
    if isinstance(value, Mapping):
        return {re.sub(r"(?<!^)([A-Z])", r"_\1", key).lower(): snake_cased(each) for key, each in value.items()}
    return [snake_cased(each) for each in value] if isinstance(value, list) else value
