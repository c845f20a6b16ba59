"""Google's interactions and decisions, which report usage in the same shape.

Fields and events as in the SDK's `_gaos/types/interactions/usage.py` and `interactionsseevent.py`; up to 2.0 it had
other names for some, in `_interactions/types`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.estimate import text_chars
from llm_toll_autopatch.readers.bounds import REQUEST, TOOLS, content, structure, tools
from llm_toll_autopatch.readers.ceiling import Ceiling, Unbounded, bounded_output, only
from llm_toll_autopatch.readers.fields import as_mapping, count, get, leftovers, text
from llm_toll_autopatch.readers.generate_content import modalities
from llm_toll_autopatch.readers.reader import Reader, Reading
from llm_toll_autopatch.records import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Interaction", "InteractionDecision"]


class Interaction(Reader):
    """One request of `interactions.create`."""

    operation = "interactions"
    __slots__ = ("_final",)

    def __init__(self) -> None:
        super().__init__()
        self._final = False

    def _texts(self, request: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the input, the instructions, the tools and the format; an agent stands for its model."""
        whole = request.get("request")
        body = request if whole is None else get(whole, "body")
        self.model = text(body, "model") or text(body, "agent") or ""
        self.lasts = get(body, "background") is True
        return tuple([get(body, part) for part in ("input", "system_instruction", "tools", "response_format")])

    def _ceiling(self, request: Mapping[str, Any]) -> Ceiling:
        whole = request.get("request")
        body = request if whole is None else as_mapping(get(whole, "body"))
        only(body, _KNOWN, _REFUSED)
        config = as_mapping(body.get("generation_config"))
        only(config, _SETTINGS, _REFUSED)
        if set(body.get("response_modalities") or ()) - {"text"}:
            raise Unbounded("response_modalities= asks for more than text, which has no known upper bound of tokens")
        given = REQUEST + content(body.get("input"), _TEXTS) + content(body.get("system_instruction"), _TEXTS)
        given += tools(body.get("tools"), frozenset({"function"})) + structure(body.get("response_format"))
        given += TOOLS if body.get("tools") or body.get("response_format") else 0
        written = bounded_output(config, "max_output_tokens", at="generation_config ")
        return Ceiling(Usage(input_tokens=given, output_tokens=written), tiers=(text(body, "service_tier"),))

    def feed(self, event: Any) -> None:
        """Take an `InteractionSSEEvent`: text comes in deltas, the usage at the end of the interaction."""
        kind = event.event_type
        if kind in ("step.delta", "content.delta"):
            self.output_chars += text_chars(event.delta, self.measure)
            usage = get(get(event, "metadata"), "total_usage")
        elif kind == "step.start":
            self.output_chars += len(text(event.step, "name") or "")
            return
        elif kind in ("interaction.completed", "interaction.complete"):
            self._header(event.interaction)
            self._final = True
            return
        elif kind in ("interaction.created", "interaction.start"):
            self._header(event.interaction)
            return
        elif kind == "error":
            self.failed = True
            return
        else:
            usage = get(event, "usage") if kind == "interaction.status_update" else None
        if usage is not None:
            self._usage = usage

    def _take(self, response: Any) -> None:
        """Take an `Interaction`."""
        self.lasts = self.lasts or _is_at_work(response)
        self._header(response)

    def _written(self, response: Any) -> int:
        chars = text_chars(get(response, "outputs"), self.measure)
        steps = get(response, "steps")
        for step in steps if isinstance(steps, list | tuple) else ():
            if get(step, "type") in _WRITTEN:
                parts = ("content", "summary", "name", "arguments")
                chars += sum(text_chars(get(step, part), self.measure) for part in parts)
        return chars

    def _header(self, interaction: Any) -> None:
        self.response_model = text(interaction, "model") or self.response_model
        self.response_id = text(interaction, "id") or self.response_id
        self.service_tier = text(interaction, "service_tier") or self.service_tier
        self.unfinished = self.lasts and _is_at_work(interaction)
        if (usage := get(interaction, "usage")) is not None:
            self._usage = usage

    def usage(self, *, ended: bool) -> Reading | None:
        """Return the request's own usage: the SDK's sums over several requests are made above."""
        return _reading(self._usage, final=ended or self._final)


def _is_at_work(interaction: Any) -> bool:
    return text(interaction, "status") in ("in_progress", "queued")


class InteractionDecision(Reader):
    """`decisions.create`."""

    operation = "decisions"
    unbounded = "a decision takes no limit to its output: make the call without strict_budget"
    __slots__ = ()

    def _texts(self, request: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the input and the questions."""
        self.model = text(request, "model") or ""
        return request.get("input"), request.get("questions")

    def _take(self, response: Any) -> None:
        """Take a `CreateDecisionResponse`, which does not name its model."""
        self._usage = get(response, "usage")

    def _written(self, response: Any) -> int:
        return text_chars(get(response, "answers"), self.measure)

    def usage(self, *, ended: bool) -> Reading | None:
        """Return the request's usage."""
        return _reading(self._usage, final=ended)


def _reading(usage: Any, *, final: bool) -> Reading | None:
    """Return what a usage says: what is cached is in the input, thoughts and tools come on top."""
    raw = as_mapping(usage)
    given, written = count(raw, "total_input_tokens"), count(raw, "total_output_tokens")
    thoughts = count(raw, "total_thought_tokens")
    tools = count(raw, "total_tool_use_tokens") or 0
    if given is None and written is None and thoughts is None:
        return None
    of_input = modalities(raw.get("input_tokens_by_modality"))
    of_output = modalities(raw.get("output_tokens_by_modality"))
    searches = 0
    details = leftovers(raw, _USAGE)
    tool_counts = raw.get("grounding_tool_count")
    for each in tool_counts if isinstance(tool_counts, list | tuple) else ():
        if (number := count(each, "count")) and (kind := text(each, "type")):
            if kind == "google_search":
                searches += number
            else:
                details[kind] = details.get(kind, 0) + number
    result = Usage(
        input_tokens=(given or 0) + tools,
        output_tokens=(written or 0) + (thoughts or 0),
        cache_read_tokens=count(raw, "total_cached_tokens") or 0,
        reasoning_tokens=thoughts or 0,
        tool_use_input_tokens=tools,
        input_audio_tokens=of_input.get("audio", 0),
        input_image_tokens=of_input.get("image", 0),
        output_audio_tokens=of_output.get("audio", 0),
        output_image_tokens=of_output.get("image", 0),
        web_searches=searches,
        details=details,
    )
    has_output = written is not None or thoughts is not None
    return Reading(result, final, has_input=given is not None, has_output=has_output)


_WRITTEN = frozenset({"function_call", "model_output", "thought"})
_USAGE = frozenset(
    {
        # Not billed beside the total: how many of the input's tokens the first request had.
        "initial_input_tokens",
        "total_cached_tokens", "total_input_tokens", "total_output_tokens", "total_thought_tokens", "total_tokens",
        "total_tool_use_tokens",
    }
)  # fmt: skip
_TEXTS = frozenset(
    {"function_call", "function_result", "message", "model_output", "text", "user_input"},
)
_KNOWN = frozenset(
    {
        "api_version", "background", "generation_config", "input", "labels", "request", "response_format",
        "response_mime_type", "response_modalities", "safety_settings", "service_tier", "store", "system_instruction",
        "tools", "webhook_config",
    }
)  # fmt: skip
_SETTINGS = frozenset(
    {
        "max_output_tokens", "seed", "stop_sequences", "temperature", "thinking_level", "thinking_summaries",
        "tool_choice", "top_p",
    }
)  # fmt: skip
_REFUSED = MappingProxyType(
    {
        "agent": "works with tools and models of its own, without a bound: use a model",
        "agent_config": "belongs to an agent, which works without a bound: use a model",
        "cached_content": "adds input that is not in this request: pass the contents themselves",
        "continuation_token": "resumes what is not in this request: leave it out",
        "environment": "adds what it holds to the input, without a bound: leave it out",
        "image_config": "is about images, which have no known upper bound of tokens: leave it out",
        "previous_interaction_id": "adds input that is not in this request: pass the turns in input=",
        "speech_config": "is about speech, which has no known upper bound of tokens: leave it out",
        "transcription_config": "is about speech, which has no known upper bound of tokens: leave it out",
        "video_config": "is about videos, which have no known upper bound of tokens: leave it out",
    }
)
