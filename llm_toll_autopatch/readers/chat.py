"""Chat completions: OpenAI's, and what compatible servers make of them.

Fields as in the OpenAI SDK's `types/completion_usage.py`; what compatible servers add is named where it is read.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.estimate import text_chars
from llm_toll_autopatch.readers.bounds import REQUEST, TOOLS, content, structure, tools
from llm_toll_autopatch.readers.ceiling import Ceiling, Unbounded, bounded_output, no_search, only, openai_tiers
from llm_toll_autopatch.readers.consistency import balanced, checked
from llm_toll_autopatch.readers.fields import as_mapping, count, counts, figures, get, header, text
from llm_toll_autopatch.readers.reader import Reader, Reading
from llm_toll_autopatch.readers.usage_option import with_usage
from llm_toll_autopatch.records import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ChatCompletions"]


class ChatCompletions(Reader):
    """`chat.completions`, of OpenAI and of the many servers that speak its language."""

    operation = "chat"
    says_all = ("prompt_tokens", "completion_tokens")
    __slots__ = ("_unfinished", "_usage_is_final")

    def __init__(self) -> None:
        super().__init__()
        self._usage_is_final = False
        self._unfinished = 1

    def _texts(self, request: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the messages, the tools and the response format."""
        model = request.get("model")
        self.model = model if isinstance(model, str) else ""
        if request.get("n"):
            self._unfinished = count(request, "n") or 1
        return tuple(map(request.get, _PROMPT))

    def _ceiling(self, request: Mapping[str, Any]) -> Ceiling:
        only(request, _KNOWN, _REFUSED)
        no_search(text(request, "model") or "")
        if set(request.get("modalities") or ()) - {"text"}:
            raise Unbounded("modalities= asks for speech, whose tokens have no known upper bound: ask for text alone")
        of_tools = tools(request.get("tools"), _TOOLS) + structure(request.get("functions"))
        given = REQUEST + content(request.get("messages"), _TEXTS) + of_tools
        given += sum(structure(request.get(part)) for part in ("response_format", "tool_choice", "function_call"))
        if any(request.get(part) for part in ("tools", "functions", "response_format")):
            given += TOOLS
        written = bounded_output(request, "max_completion_tokens", "max_tokens") * (count(request, "n") or 1)
        # Some models bill what they write into their cache, which may be all of it, without being asked to.
        usage = Usage(input_tokens=given, cache_write_tokens=given, output_tokens=written)
        return Ceiling(usage, tiers=openai_tiers(request))

    def ask_for_usage(self, request: Mapping[str, Any], endpoint: str | None, *, always: bool) -> dict[str, Any] | None:
        """Add `stream_options.include_usage`, in a copy, unless the user has set it."""
        asking = with_usage(request, endpoint, always=always)
        self.asks_for_usage = asking is not None
        return asking

    def feed(self, chunk: Any) -> bool:
        """Take a `ChatCompletionChunk`; hide what is there only because it was asked for in the user's place."""
        # Runs for every chunk. To ask a model of pydantic's for a field takes three look-ups in its class, and so does
        # its dictionary of them all. What a server may leave out is tried for.
        fields = chunk.__dict__
        try:
            usage, choices = fields["usage"], fields["choices"]
        except KeyError:
            usage, choices = fields.get("usage"), fields.get("choices")
        for choice in choices or ():
            fields = choice.__dict__
            try:
                delta, finished = fields["delta"], fields["finish_reason"]
            except KeyError:
                delta, finished = fields.get("delta"), fields.get("finish_reason")
            if delta is not None:
                fields = delta.__dict__
                content = fields.get("content")
                if content and type(content) is str:
                    measure = self.measure
                    self.output_chars += measure(content)
                    if fields.get("tool_calls") or getattr(delta, "__pydantic_extra__", None):
                        self.output_chars += self._besides(delta)
                else:
                    self.output_chars += self._besides(delta)
            if finished is not None:
                self._unfinished -= 1
                self._report(get(get(chunk, "x_groq"), "usage"))  # Groq
        if usage is not None:
            self._report(usage)
            self._header(chunk)
            # The chunk that is nothing but usage; with a choice the server's own doing.
            return self.asks_for_usage and not choices
        if self.response_id is None:
            self._header(chunk)
        if self.asks_for_usage:  # `"usage": null`
            try:
                chunk.__pydantic_fields_set__.discard("usage")
            except AttributeError:  # pydantic 1, whose property takes twice the time
                chunk.model_fields_set.discard("usage")
        return False

    def _take(self, response: Any) -> None:
        """Take a `ChatCompletion`."""
        self._header(response)
        self._report(get(response, "usage"))

    def _written(self, response: Any) -> int:
        chars = 0
        choices = get(response, "choices")
        for choice in choices if isinstance(choices, list | tuple) else ():
            message = get(choice, "message")
            chars += self.measure(text(message, "content") or "") + self._besides(message)
        return chars

    def _header(self, response: Any) -> None:
        model, response_id, tier = header(response)
        # A chunk may come before the model is known: Azure's first has an empty name.
        self.response_model = model or self.response_model
        self.response_id = response_id or self.response_id
        self.service_tier = tier or self.service_tier

    def _report(self, usage: Any) -> None:
        # The last one wins: compatible servers repeat growing figures on every chunk, up to that of the last choice's
        # end.
        if usage is not None and (fields := as_mapping(usage)):
            self._usage = fields
            self._usage_is_final = self._unfinished <= 0

    def _besides(self, delta: Any) -> int:
        """Return the characters that a delta or a message holds besides its text."""
        fields = as_mapping(delta)
        measure, chars = self.measure, 0
        if not isinstance(content := fields.get("content"), str):
            chars = text_chars(content, measure)  # Mistral's reasoning models send a list of parts
        # OpenRouter sends the same reasoning under both names.
        reasoning = fields.get("reasoning_content") or fields.get("reasoning")
        spoken = get(fields.get("audio"), "transcript")
        besides = (reasoning, spoken, fields.get("refusal"), fields.get("tool_calls"), fields.get("function_call"))
        for each in besides:
            if each is not None:
                chars += text_chars(each, measure)
        return chars

    def usage(self, *, ended: bool) -> Reading | None:
        """Return the usage that came last: `CompletionUsage`, or what a compatible server made of it."""
        raw = self._usage
        if raw is None:
            return None
        whole, (of_input, of_output), details = figures(raw, _KNOWN_COUNTS, _NESTED)
        given, written, total = whole.get("prompt_tokens"), whole.get("completion_tokens"), whole.get("total_tokens")
        final = ended or self._usage_is_final
        is_plain = whole.keys() <= _PLAIN and not of_input and not of_output and "server_tool_use" not in raw
        if is_plain and given is not None and written is not None and (not total or total == given + written):
            return Reading(Usage(input_tokens=given, output_tokens=written, details=details), final)
        # A zero there stands before what has another name.
        of_input = of_input or counts(raw.get("prompt_tokens_details"))
        of_output = of_output or counts(raw.get("completion_tokens_details"))
        # DeepSeek and Together name the cached part on the top level, LiteLLM's proxy as Anthropic does.
        cache_read = _first(
            (of_input, "cached_tokens"), (whole, "prompt_cache_hit_tokens"), (whole, "cached_tokens"),
            (whole, "cache_read_input_tokens"),
        )  # fmt: skip
        cache_write = _first(
            (of_input, "cache_write_tokens"), (of_input, "cache_creation_tokens"),
            (whole, "cache_creation_input_tokens"),
        )  # fmt: skip
        sums = balanced(
            given,
            written,
            total,
            reasoning=_first((of_output, "reasoning_tokens"), (whole, "reasoning_tokens")),
            cached=cache_read + cache_write,
            silent=not self.output_chars,
        )
        if sums.given is None and sums.written is None:
            return None
        usage = Usage(
            input_tokens=sums.given or 0,
            output_tokens=sums.written or 0,
            cache_read_tokens=cache_read,
            cache_write_tokens=cache_write,
            reasoning_tokens=sums.reasoning,
            input_audio_tokens=of_input.get("audio_tokens", 0),
            output_audio_tokens=of_output.get("audio_tokens", 0),
            input_image_tokens=of_input.get("image_tokens", 0),
            output_image_tokens=of_output.get("image_tokens", 0),
            web_searches=count(raw.get("server_tool_use"), "web_search_requests") or 0,  # OpenRouter
            details=details,
        )
        return Reading(
            checked(usage, contradictory=sums.contradictory),
            final,
            has_input=sums.given is not None,
            has_output=sums.written is not None,
        )


_PROMPT = ("messages", "tools", "functions", "response_format")
_NESTED = MappingProxyType({"prompt_tokens_details": "input_", "completion_tokens_details": "output_"})
_PLAIN = frozenset({"completion_tokens", "prompt_tokens", "total_tokens"})
_KNOWN_COUNTS = frozenset(
    {
        "audio_tokens", "cache_creation_input_tokens", "cache_creation_tokens", "cache_read_input_tokens",
        "cache_write_tokens", "cached_tokens", "image_tokens", "prompt_cache_hit_tokens", "prompt_cache_miss_tokens",
        "reasoning_tokens", "server_tool_use", "text_tokens", *_NESTED, *_PLAIN,
    }
)  # fmt: skip


def _first(*places: tuple[Mapping[str, int], str]) -> int:
    """Return the first count that is there, else 0."""
    for counted, name in places:
        if name in counted:
            return counted[name]
    return 0


_TEXTS = frozenset({"message", "refusal", "text"})
_TOOLS = frozenset({"custom", "function"})
_KNOWN = frozenset(
    {
        "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
        "max_tokens", "messages", "metadata", "modalities", "moderation", "n", "parallel_tool_calls",
        "presence_penalty", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "reasoning_effort",
        "response_format", "safety_identifier", "seed", "service_tier", "stop", "store", "temperature", "tool_choice",
        "tools", "top_logprobs", "top_p", "user", "verbosity",
        "ignore_eos", "min_p", "min_tokens", "repetition_penalty", "top_a", "top_k",  # of compatible servers
    }
)  # fmt: skip
_REFUSED = MappingProxyType(
    {
        "audio": "asks for speech, whose tokens have no known upper bound: ask for text alone",
        "models": "lets other models answer, at other prices: leave it out",
        "plugins": "may add what a plug-in finds to the input: leave it out",
        "prediction": "is billed, as far as it is rejected, beside max_completion_tokens: leave it out",
        "search_parameters": "adds what is found on the web to the input, without a bound: leave it out",
        "web_search_options": "adds what is found on the web to the input, without a bound: leave it out",
    }
)
