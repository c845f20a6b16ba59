"""OpenAI's wire formats: what they share, and chat completions.

Fields and their order follow https://platform.openai.com/docs/api-reference/chat.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.simulator.answer import Answer, Call, Event, compact, new_id
from llm_toll_autopatch.simulator.reply import Reply, Tool, items, report

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from llm_toll_autopatch.simulator.scenario import Scenario

__all__ = ["chat", "chat_usage", "error", "error_event", "headers", "served_tier"]

_FINGERPRINT = "fp_51db84afab"
_UNAVAILABLE = "The server had an error while processing your request. Sorry about that!"
_ERRORS: Mapping[int, tuple[str, str | None]] = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}


def headers() -> dict[str, str]:
    """Return the headers of an answer."""
    return {
        "x-request-id": new_id("req_", 32),
        "openai-version": "2020-10-01",
        "openai-processing-ms": "12",
        "openai-organization": "simulated",
        "x-ratelimit-limit-requests": "10000",
        "x-ratelimit-remaining-requests": "9999",
    }


def error_object(status: int, message: str) -> dict[str, Any]:
    """Return the object that OpenAI sends as `error`."""
    kind, code = _ERRORS.get(status, ("server_error", None))
    return {"message": message or _UNAVAILABLE, "type": kind, "param": None, "code": code}


def error(status: int, message: str) -> Answer:
    """Answer with OpenAI's error JSON."""
    return Answer.error(status, {"error": error_object(status, message)}, headers())


def served_tier(scenario: Scenario, body: Mapping[str, Any]) -> str:
    """Return the tier that serves: the scenario's, the one that was asked for, or `default`."""
    asked = body.get("service_tier")
    return scenario.tier or (asked if isinstance(asked, str) and asked != "auto" else "default")


def chat(call: Call) -> Answer:
    """Answer `POST /v1/chat/completions`."""
    body, scenario = call.body, call.scenario
    reply = Reply.to(
        scenario,
        tool=_first_tool(body),
        tool_results=sum(message.get("role") in ("tool", "function") for message in items(body.get("messages"))),
        schema=_schema(body),
        choices=body.get("n"),
    )
    common = {
        "id": new_id("chatcmpl-", 29),
        "object": "chat.completion.chunk" if body.get("stream") else "chat.completion",
        "created": int(time.time()),
        "model": scenario.model,
        "service_tier": served_tier(scenario, body),
        "system_fingerprint": _FINGERPRINT,
    }
    if not body.get("stream"):
        choices = [_choice(index, reply) for index in range(reply.choices)]
        usage = report("usage", chat_usage(reply, reply.output_tokens), scenario)
        return Answer.unary({**common, "choices": choices, **usage}, scenario, headers())
    options = body.get("stream_options")
    options = options if isinstance(options, dict) else {}
    events = _Chunks(common, reply, options).events()
    if call.params.get("deployment"):
        events = itertools.chain([_azure_prelude()], events)
    return Answer.stream(events, scenario, headers(), error=error_event)


def _azure_prelude() -> Event:
    """Return what Azure begins a stream with: the prompt's filter results, in a chunk without choices or model."""
    safe = {"filtered": False, "severity": "safe"}
    results = {"hate": safe, "self_harm": safe, "sexual": safe, "violence": safe}
    filtered = [{"prompt_index": 0, "content_filter_results": results}]
    nameless = {"id": "", "object": "", "created": 0, "model": ""}
    return Event(_sse({**nameless, "choices": [], "prompt_filter_results": filtered}))


def _first_tool(body: Mapping[str, Any]) -> Tool | None:
    for tool in items(body.get("tools")):
        function = tool.get("function")
        if isinstance(function, dict):
            return Tool(name=str(function.get("name")), parameters=function.get("parameters"))
    return None


def _schema(body: Mapping[str, Any]) -> Any:
    """Return the schema of a structured output, None when the request wants none."""
    wanted = body.get("response_format")
    if not isinstance(wanted, dict):
        return None
    if wanted.get("type") == "json_object":
        return {"type": "object"}
    schema = wanted.get("json_schema")
    return schema.get("schema") if isinstance(schema, dict) else None


def chat_usage(reply: Reply, output: int) -> dict[str, Any]:
    """Return the usage of chat and legacy completions."""
    scenario = reply.scenario
    completion = output + scenario.reasoning_tokens
    return {
        "prompt_tokens": scenario.input_tokens,
        "completion_tokens": completion,
        "total_tokens": scenario.input_tokens + completion,
        "prompt_tokens_details": {
            "cached_tokens": scenario.cached_tokens,
            "audio_tokens": 0,
            # New in 2026, and missing where nothing was written.
            **({"cache_write_tokens": scenario.cache_write_tokens} if scenario.cache_write_tokens else {}),
        },
        "completion_tokens_details": {
            "reasoning_tokens": scenario.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _finish_reason(reply: Reply) -> str:
    if reply.scenario.incomplete:
        return "length"
    return "tool_calls" if reply.kind == "tool" else "stop"


def _choice(index: int, reply: Reply) -> dict[str, Any]:
    """Return one choice of a plain answer."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": reply.content if reply.kind in ("text", "empty") else None,
        "refusal": reply.content if reply.kind == "refusal" else None,
        "annotations": [],
    }
    if reply.reasoning:
        message["reasoning_content"] = "".join(reply.reasoning)
    if reply.tool:
        function = {"name": reply.tool.name, "arguments": reply.content}
        message["tool_calls"] = [{"id": new_id("call_"), "type": "function", "function": function}]
    return {"index": index, "message": message, "logprobs": None, "finish_reason": _finish_reason(reply)}


class _Chunks:
    """The chunks of one streamed chat completion."""

    def __init__(self, common: Mapping[str, Any], reply: Reply, options: Mapping[str, Any]) -> None:
        self._common = common
        self._reply = reply
        self._include_usage = bool(options.get("include_usage"))
        self._obfuscate = options.get("include_obfuscation") is not False
        self._sent = 0

    def events(self) -> Iterator[Event]:
        """Yield the chunks in order, then `[DONE]`."""
        reply = self._reply
        for delta, content in self._deltas():
            self._sent += content
            for index in range(reply.choices):
                yield self._chunk(index, delta, content=content)
        for index in range(reply.choices):
            yield self._chunk(index, {}, finish_reason=_finish_reason(reply), last=index == reply.choices - 1)
        if self._include_usage and not (reply.scenario.usage_last or reply.scenario.usage_every):
            usage = report("usage", chat_usage(reply, reply.output_tokens), reply.scenario)
            if usage:
                yield Event(_sse({**self._common, "choices": [], **usage, **self._padding()}))
        yield Event(b"data: [DONE]\n\n")

    def _deltas(self) -> Iterator[tuple[dict[str, Any], bool]]:
        """Yield what is new in each chunk, and whether it is content."""
        reply = self._reply
        role = {"role": "assistant", "content": None if reply.kind == "tool" else ""}
        if reply.tool:
            function = {"name": reply.tool.name, "arguments": ""}
            call = {"index": 0, "id": new_id("call_"), "type": "function", "function": function}
            yield {**role, "tool_calls": [call], "refusal": None}, False
        else:
            yield {**role, "refusal": None}, False
        for piece in reply.reasoning:
            yield {"reasoning_content": piece}, True
        for piece in reply.streamed():
            if reply.tool:
                yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}, True
            else:
                yield {"refusal" if reply.kind == "refusal" else "content": piece}, True

    def _chunk(
        self,
        index: int,
        delta: Mapping[str, Any],
        *,
        content: bool = False,
        finish_reason: str | None = None,
        last: bool = False,
    ) -> Event:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunk = {**self._common, "choices": [choice], **self._chunk_usage(last=last), **self._padding()}
        return Event(_sse(chunk), content=content)

    def _chunk_usage(self, *, last: bool) -> dict[str, Any]:
        """Return the `usage` of a chunk that has choices: only null by default, and only when usage was asked for."""
        reply, scenario = self._reply, self._reply.scenario
        if scenario.usage_every or (scenario.usage_last and last):
            seen = max(0, self._sent - len(reply.reasoning))
            output = reply.output_tokens if last else reply.share(seen)
            return report("usage", chat_usage(reply, output), scenario)
        if scenario.no_usage or not (self._include_usage or scenario.usage_null):
            return {}
        return {"usage": None}

    def _padding(self) -> dict[str, str]:
        # The service hides the length of a delta from those who only see the sizes of packets.
        return {"obfuscation": new_id("", 8)} if self._obfuscate else {}


def _sse(value: Any) -> bytes:
    return b"data: " + compact(value) + b"\n\n"


def error_event(_events: int) -> bytes:
    """Return the event with which a stream fails."""
    return _sse({"error": error_object(500, "")})
