"""Chat completions: OpenAI's, and what compatible servers make of them.

Fields as in the OpenAI SDK's `types/completion_usage.py`; what compatible servers add is named where it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_toll_autopatch.estimate import text_chars
from llm_toll_autopatch.readers.fields import as_mapping, count, get, leftovers, text
from llm_toll_autopatch.readers.reader import Reader, Reading
from llm_toll_autopatch.records import Usage

__all__ = ["OWN_HOSTS", "ChatCompletions"]

OWN_HOSTS = ("api.openai.com",)
"""Ends of the names of OpenAI's own hosts (`eu.api.openai.com` is one), where `include_usage="auto"` asks for usage.

Compatible servers are not among them: some refuse `stream_options` with a 4xx.
"""


class ChatCompletions(Reader):
    """`chat.completions`, of OpenAI and of the many servers that speak its language."""

    operation = "chat"
    __slots__ = ("_asked", "_finished", "_usage", "_usage_is_final")

    def __init__(self) -> None:
        super().__init__()
        self._asked = False
        self._usage: Any = None
        self._usage_is_final = False
        self._finished = False

    def begin(self, request: Mapping[str, Any]) -> None:
        """Count the text of the messages, the tools and the response format."""
        self.model = text(request, "model") or ""
        self.input_chars = sum(
            text_chars(request.get(part)) for part in ("messages", "tools", "functions", "response_format")
        )

    def ask_for_usage(self, request: Mapping[str, Any], endpoint: str | None, *, always: bool) -> dict[str, Any] | None:
        """Add `stream_options.include_usage`, in a copy, unless the user has set it."""
        # What is not given is None, or one of the SDK's sentinels, which are false.
        if not request.get("stream") or not (always or (endpoint or "").endswith(OWN_HOSTS)):
            return None
        if get(request.get("extra_headers"), "X-Stainless-Raw-Response") == "stream":
            return None  # `with_streaming_response`: the bytes are the user's, nothing in them could be hidden
        extra = request.get("extra_body")
        in_extra = isinstance(extra, Mapping) and "stream_options" in extra  # which overrides the argument
        options = get(extra if in_extra else request, "stream_options") or {}
        if not isinstance(options, Mapping) or "include_usage" in options:
            return None
        self._asked = True
        asked = {"stream_options": {**options, "include_usage": True}}
        return {**request, "extra_body": {**as_mapping(extra), **asked}} if in_extra else {**request, **asked}

    def feed(self, chunk: Any) -> bool:
        """Take a `ChatCompletionChunk`; hide what is there only because it was asked for in the user's place."""
        # Runs for every chunk: reads the models' own dictionaries, which takes a third of the time of their attributes.
        fields = chunk.__dict__
        usage = fields.get("usage")
        if usage is not None:
            self._report(usage)
        for choice in fields.get("choices") or ():
            said = choice.__dict__
            delta = said.get("delta")
            if delta is not None:
                written = delta.__dict__
                content = written.get("content")
                if type(content) is str:
                    self.output_chars += len(content)
                if not content or written.get("tool_calls") or getattr(delta, "__pydantic_extra__", None):
                    self._wrote_besides(delta)
            if said.get("finish_reason") is not None:
                self._finished = True
        if self.response_id is None or usage is not None:
            self._header(chunk)
        if getattr(chunk, "__pydantic_extra__", None):
            self._report(get(get(chunk, "x_groq"), "usage"))  # Groq
        if not self._asked:
            return False
        if usage is not None:
            return not fields["choices"]  # the chunk that is nothing but usage; with a choice the server's own doing
        if "usage" in chunk.model_fields_set:  # `"usage": null`
            chunk.model_fields_set.discard("usage")
        return False

    def finish(self, response: Any) -> None:
        """Take a `ChatCompletion`."""
        self._header(response)
        self._report(get(response, "usage"))
        choices = get(response, "choices")
        for choice in choices if isinstance(choices, list | tuple) else ():
            message = get(choice, "message")
            self.output_chars += len(text(message, "content") or "")
            self._wrote_besides(message)

    def _header(self, response: Any) -> None:
        # A chunk may come before the model is known: Azure's first has an empty name.
        self.response_model = text(response, "model") or self.response_model
        self.response_id = text(response, "id") or self.response_id
        self.service_tier = text(response, "service_tier") or self.service_tier

    def _report(self, usage: Any) -> None:
        # The last one wins: compatible servers repeat growing figures on every chunk.
        if usage is not None and as_mapping(usage):
            self._usage = usage
            self._usage_is_final = self._finished

    def _wrote_besides(self, delta: Any) -> None:
        """Count what a delta or a message holds besides its text."""
        fields = as_mapping(delta)
        if not isinstance(content := fields.get("content"), str):
            self.output_chars += text_chars(content)  # Mistral's reasoning models send a list of parts
        # OpenRouter sends the same reasoning under both names.
        reasoning = fields.get("reasoning_content") or fields.get("reasoning")
        besides = (reasoning, fields.get("refusal"), fields.get("tool_calls"), fields.get("function_call"))
        self.output_chars += sum(text_chars(each) for each in besides)

    def usage(self, *, ended: bool) -> Reading | None:
        """Return the usage that came last: `CompletionUsage`, or what a compatible server made of it."""
        raw = as_mapping(self._usage)
        given = count(raw, "prompt_tokens")
        written = count(raw, "completion_tokens")
        if given is None and written is None:
            return None
        prompt, completion = (
            as_mapping(raw.get("prompt_tokens_details")),
            as_mapping(raw.get("completion_tokens_details")),
        )
        usage = Usage(
            input_tokens=given or 0,
            output_tokens=written or 0,
            # DeepSeek and Together name the cached part on the top level.
            cache_read_tokens=_first(
                count(prompt, "cached_tokens"), count(raw, "prompt_cache_hit_tokens", "cached_tokens")
            ),
            cache_write_tokens=count(prompt, "cache_write_tokens") or 0,
            reasoning_tokens=_first(count(completion, "reasoning_tokens"), count(raw, "reasoning_tokens")),
            input_audio_tokens=count(prompt, "audio_tokens") or 0,
            output_audio_tokens=count(completion, "audio_tokens") or 0,
            input_image_tokens=count(prompt, "image_tokens") or 0,
            output_image_tokens=count(completion, "image_tokens") or 0,
            details=leftovers(raw, _CHAT_USAGE, nested=("prompt_tokens_details", "completion_tokens_details")),
        )
        final = ended or self._usage_is_final
        return Reading(usage, final, has_input=given is not None, has_output=written is not None)


_CHAT_USAGE = frozenset(
    {
        "audio_tokens", "cache_write_tokens", "cached_tokens", "completion_tokens", "image_tokens",
        "prompt_cache_hit_tokens", "prompt_cache_miss_tokens", "prompt_tokens", "reasoning_tokens", "text_tokens",
        "total_tokens",
    }
)  # fmt: skip


def _first(*values: int | None) -> int:
    """Return the first of `values` that is known, else 0."""
    return next((value for value in values if value is not None), 0)
