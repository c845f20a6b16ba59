"""OpenAI's Responses API.

Fields and events as in the SDK's `types/responses/response_usage.py`, `types/responses/response.py` (`ToolUsage`) and
`types/responses/response_stream_event.py`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.estimate import text_chars
from llm_toll_autopatch.readers.bounds import REQUEST, TOOLS, content, structure, tools
from llm_toll_autopatch.readers.ceiling import Ceiling, Unbounded, no_search, only, openai_tiers
from llm_toll_autopatch.readers.consistency import balanced, checked
from llm_toll_autopatch.readers.fields import as_mapping, count, figures, get, header, text
from llm_toll_autopatch.readers.reader import Reader, Reading
from llm_toll_autopatch.records import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Responses"]


class Responses(Reader):
    """`responses`."""

    operation = "responses"
    says_all = ("input_tokens", "output_tokens")
    __slots__ = ("_file_searches", "_final", "_tool_usage", "_web_searches")

    def __init__(self) -> None:
        super().__init__()
        self._tool_usage: Any = None
        self._web_searches = 0
        self._file_searches = 0
        self._final = False

    def _texts(self, request: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the input, the instructions, the tools and the text format."""
        model = request.get("model")
        self.model = model if isinstance(model, str) else ""
        return tuple(map(request.get, _PROMPT))

    def _ceiling(self, request: Mapping[str, Any]) -> Ceiling:
        only(request, _KNOWN, _REFUSED)
        no_search(text(request, "model") or "")
        given = REQUEST + sum(content(request.get(part), _TEXTS) for part in ("input", "instructions"))
        given += tools(request.get("tools"), _TOOLS)
        given += sum(structure(request.get(part)) for part in ("text", "text_format", "tool_choice"))
        given += TOOLS if any(request.get(part) for part in ("tools", "text", "text_format")) else 0
        if not (written := count(request, "max_output_tokens")):
            raise Unbounded("nothing bounds the output: pass max_output_tokens= (which compact does not take)")
        # Some models bill what they write into their cache, which may be all of it, without being asked to.
        usage = Usage(input_tokens=given, cache_write_tokens=given, output_tokens=written)
        return Ceiling(usage, tiers=openai_tiers(request))

    def feed(self, event: Any) -> None:
        """Take a `ResponseStreamEvent`: text comes in deltas, the usage on the terminal event."""
        kind = event.type
        if kind in _DELTAS:
            delta = event.delta
            if type(delta) is str:
                self.output_chars += len(delta) if self.measure is len else self.measure(delta)
        elif kind == "response.output_item.added":
            self.output_chars += self.measure(text(event.item, "name") or "")
        elif kind == "response.output_item.done":
            self._searched(event.item)
        elif (response := get(event, "response")) is not None:
            self._header(response)
            self._final = kind in _TERMINAL

    def _take(self, response: Any) -> None:
        """Take a `Response`."""
        self._header(response)
        output = get(response, "output")
        for item in output if isinstance(output, list | tuple) else ():
            self._searched(item)

    def _written(self, response: Any) -> int:
        output = get(response, "output")
        items = output if isinstance(output, list | tuple) else ()
        return sum(text_chars(get(item, part), self.measure) for item in items for part in _WRITTEN)

    def _header(self, response: Any) -> None:
        model, response_id, tier = header(response)
        self.response_model = model or self.response_model
        self.response_id = response_id or self.response_id
        self.service_tier = tier or self.service_tier
        if (usage := get(response, "usage")) is not None:
            self._usage = as_mapping(usage)
        if (tool_usage := get(response, "tool_usage")) is not None:
            self._tool_usage = tool_usage
        self.lasts = get(response, "background") is True
        self.unfinished = self.lasts and text(response, "status") in ("queued", "in_progress")

    def _searched(self, item: Any) -> None:
        kind = get(item, "type")
        if kind == "web_search_call":  # opening a page that was found is free
            self._web_searches += get(get(item, "action"), "type") in (None, "search")
        elif kind == "file_search_call":
            self._file_searches += 1

    def usage(self, *, ended: bool) -> Reading | None:
        """Return the response's `ResponseUsage`, with the searches and other tools that are billed beside it."""
        whole, (of_input, of_output), details = figures(self._usage, _KNOWN_COUNTS, _NESTED)
        given, written, total = whole.get("input_tokens"), whole.get("output_tokens"), whole.get("total_tokens")
        final = ended or self._final
        is_plain = not (of_input or of_output or self._tool_usage or self._web_searches or self._file_searches)
        if is_plain and given is not None and written is not None and (not total or total == given + written):
            return Reading(Usage(input_tokens=given, output_tokens=written, details=details), final)
        cache_read, cache_write = of_input.get("cached_tokens", 0), of_input.get("cache_write_tokens", 0)
        sums = balanced(
            given,
            written,
            total,
            reasoning=of_output.get("reasoning_tokens", 0),
            cached=cache_read + cache_write,
            silent=not self.output_chars,
        )
        web_searches = count(get(self._tool_usage, "web_search"), "num_requests")
        if web_searches is None:  # an older server, or a stream that was left early
            web_searches = self._web_searches
        details |= _of_tools(self._tool_usage)
        if self._file_searches:
            details["file_searches"] = self._file_searches
        if sums.given is None and sums.written is None and not web_searches and not self._file_searches:
            return None
        usage = Usage(
            input_tokens=sums.given or 0,
            output_tokens=sums.written or 0,
            cache_read_tokens=cache_read,
            cache_write_tokens=cache_write,
            reasoning_tokens=sums.reasoning,
            web_searches=web_searches,
            details=details,
        )
        return Reading(
            checked(usage, contradictory=sums.contradictory),
            final,
            has_input=sums.given is not None,
            has_output=sums.written is not None,
        )


def _of_tools(tool_usage: Any) -> dict[str, int]:
    """Return what hosted tools used: `image_gen_input_tokens`, `image_gen_output_image_tokens` …."""
    found: dict[str, int] = {}
    for tool, used in as_mapping(tool_usage).items():
        fields = as_mapping(used)
        for name in fields:
            if number := count(fields, name):
                found[f"{tool}_{name}"] = number
            part = name.removesuffix("tokens_details")
            inner = as_mapping(fields[name])
            for key in inner:
                if number := count(inner, key):
                    found[f"{tool}_{part}{key.removeprefix(part)}"] = number
    found.pop("web_search_num_requests", None)
    return found


_PROMPT = ("input", "instructions", "tools", "text")
_WRITTEN = ("content", "summary", "name", "arguments", "input")
_NESTED = MappingProxyType({"input_tokens_details": "input_", "output_tokens_details": "output_"})
_KNOWN_COUNTS = frozenset(
    {
        "cache_write_tokens", "cached_tokens", "input_tokens", "output_tokens", "reasoning_tokens", "total_tokens",
        *_NESTED,
    }
)  # fmt: skip
_TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})
_DELTAS = frozenset(
    {
        "response.output_text.delta", "response.refusal.delta", "response.function_call_arguments.delta",
        "response.custom_tool_call_input.delta", "response.mcp_call_arguments.delta",
        "response.reasoning_text.delta", "response.reasoning_summary_text.delta",
        "response.code_interpreter_call_code.delta", "response.audio.transcript.delta",
    }
)  # fmt: skip
_TEXTS = frozenset(
    {
        "custom_tool_call", "custom_tool_call_output", "function_call", "function_call_output", "input_text", "message",
        "output_text", "refusal", "text",
    }
)  # fmt: skip
_TOOLS = frozenset({"custom", "function"})
_KNOWN = frozenset(
    {
        "access_programs", "background", "background_options", "betas", "include", "input", "instructions",
        "max_output_tokens", "max_tool_calls", "metadata", "moderation", "parallel_tool_calls", "parse_as",
        "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "reasoning", "safety_identifier",
        "service_tier", "store", "temperature", "text", "text_format", "tool_choice", "tools", "top_logprobs", "top_p",
        "truncation", "user", "verbosity",
    }
)  # fmt: skip
_REFUSED = MappingProxyType(
    {
        "context_management": "may compact the conversation, which is billed beside max_output_tokens: leave it out",
        "conversation": "adds input that is not in this request: pass the items in input=",
        "image": "is about images, which have no known upper bound of tokens: leave it out",
        "models": "lets other models answer, at other prices: leave it out",
        "multi_agent": "lets several agents write, of which max_output_tokens bounds one: leave it out",
        "previous_response_id": "adds input that is not in this request: pass the items in input=",
        "prompt": "adds a stored prompt that is not in this request: pass its text in input= or instructions=",
    }
)
