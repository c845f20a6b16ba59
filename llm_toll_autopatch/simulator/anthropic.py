"""Anthropic's Messages API.

Fields and events follow https://platform.claude.com/docs/en/build-with-claude/streaming.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.simulator import amazon_events
from llm_toll_autopatch.simulator.answer import Answer, Call, Event, compact, new_id
from llm_toll_autopatch.simulator.reply import Reply, Tool, items, report

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["count_tokens", "error", "headers", "invoke", "messages", "whole"]

_PLACEHOLDER_OUTPUT = 1
_ERRORS: Mapping[int, tuple[str, str]] = {
    400: ("invalid_request_error", "The request is not valid."),
    401: ("authentication_error", "invalid x-api-key"),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "The requested resource could not be found."),
    413: ("request_too_large", "Request exceeds the maximum allowed number of bytes."),
    429: ("rate_limit_error", "This request would exceed your organization's rate limit."),
    504: ("timeout_error", "The request timed out."),
    529: ("overloaded_error", "Overloaded"),
}


def headers() -> dict[str, str]:
    """Return the headers of an answer."""
    return {
        "request-id": new_id("req_01", 22),
        "anthropic-organization-id": "00000000-0000-0000-0000-000000000000",
        "anthropic-ratelimit-requests-limit": "4000",
        "anthropic-ratelimit-requests-remaining": "3999",
    }


def _error_object(status: int, message: str) -> dict[str, Any]:
    kind, usual = _ERRORS.get(status, ("api_error", "Internal server error"))
    return {"type": "error", "error": {"type": kind, "message": message or usual}, "request_id": new_id("req_01", 22)}


def error(status: int, message: str) -> Answer:
    """Answer with Anthropic's error JSON."""
    return Answer.error(status, _error_object(status, message), headers())


def count_tokens(call: Call) -> Answer:
    """Answer `POST /v1/messages/count_tokens`."""
    return Answer.unary({"input_tokens": call.scenario.input_tokens}, call.scenario, headers())


def messages(call: Call) -> Answer:
    """Answer `POST /v1/messages`."""
    reply, beta = _reply(call), "fallback-credit" in call.headers.get("anthropic-beta", "")
    if call.body.get("stream"):
        return Answer.stream(_events(reply, beta=beta), call.scenario, headers(), error=_error_event)
    return Answer.unary(_whole(reply, beta=beta), call.scenario, headers())


def invoke(call: Call) -> Answer:
    """Answer Bedrock's `POST /model/{model}/invoke-with-response-stream`."""
    return Answer.stream(
        amazon_events.events(_events(_reply(call), beta=False)),
        call.scenario,
        {**headers(), "content-type": amazon_events.CONTENT_TYPE},
        error=lambda sent: amazon_events.error(_error_event(sent)),
    )


def _reply(call: Call) -> Reply:
    body, scenario = call.body, call.scenario
    tool = next(iter(items(body.get("tools"))), None)
    turns = items(body.get("messages"))
    return Reply.to(
        scenario,
        tool=Tool(name=str(tool.get("name")), parameters=tool.get("input_schema")) if tool else None,
        tool_results=sum(part.get("type") == "tool_result" for turn in turns for part in items(turn.get("content"))),
        schema=_schema(body),
    )


def whole(call: Call) -> dict[str, Any]:
    """Return the message that answers nothing in particular."""
    return _whole(Reply.to(call.scenario, tool=None, tool_results=call.scenario.tools))


def _whole(reply: Reply, *, beta: bool = False) -> dict[str, Any]:
    usage = report("usage", _usage(reply, _output(reply, reply.output_tokens)), reply.scenario)
    content = [block for block, _deltas in _blocks(reply, whole=True)]
    return {**_message(reply), "content": content, **_stop(reply, beta=beta), **usage}


def _schema(body: Mapping[str, Any]) -> Any:
    """Return the schema of a structured output, None when the request wants none."""
    config = body.get("output_config")
    wanted = (config.get("format") if isinstance(config, dict) else None) or body.get("output_format")
    return wanted.get("schema") if isinstance(wanted, dict) else None


def _message(reply: Reply) -> dict[str, Any]:
    """Return a message without its content, end and usage."""
    return {
        "model": reply.scenario.model,
        "id": new_id("msg_01", 22),
        "type": "message",
        "role": "assistant",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
    }


def _stop(reply: Reply, *, beta: bool) -> dict[str, Any]:
    """Return why the message ends. With the beta a refusal grants a credit for sending the request to another model."""
    reason = "tool_use" if reply.kind == "tool" else "refusal" if reply.scenario.refusal else "end_turn"
    reason = "max_tokens" if reply.scenario.incomplete else reason
    credit = {"fallback_credit_token": new_id("credit_", 22), "fallback_has_prefill_claim": False} if beta else {}
    details = {"type": "refusal", "category": None, "explanation": None, **credit} if reason == "refusal" else None
    return {"stop_reason": reason, "stop_sequence": None, "stop_details": details}


def _output(reply: Reply, content: int) -> dict[str, Any]:
    """Return the output side of usage, which includes thinking."""
    thinking = reply.scenario.reasoning_tokens
    details = {"output_tokens_details": {"thinking_tokens": thinking}} if thinking else {}
    return {"output_tokens": content + thinking, **details}


def _usage(reply: Reply, output: Mapping[str, Any]) -> dict[str, Any]:
    """Return the usage of a message. Its three input figures have no token in common."""
    scenario = reply.scenario
    an_hour = scenario.cache_write_tokens // 2
    return {
        "input_tokens": scenario.input_tokens,
        "cache_creation_input_tokens": scenario.cache_write_tokens,
        "cache_read_input_tokens": scenario.cached_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": scenario.cache_write_tokens - an_hour,
            "ephemeral_1h_input_tokens": an_hour,
        },
        **output,
        "service_tier": scenario.tier or "standard",
        "inference_geo": "global",
    }


def _delta_usage(reply: Reply, content: int) -> dict[str, Any]:
    """Return the usage of a `message_delta`: cumulative, and without the cache's split, tier and place."""
    scenario = reply.scenario
    at_the_end = scenario.delta_input_tokens
    return {
        "input_tokens": scenario.input_tokens if at_the_end is None else at_the_end,
        "cache_creation_input_tokens": scenario.cache_write_tokens,
        "cache_read_input_tokens": scenario.cached_tokens,
        **_output(reply, content),
    }


def _blocks(reply: Reply, *, whole: bool = False) -> Iterator[tuple[dict[str, Any], Iterator[dict[str, Any]]]]:
    """Yield each content block with the deltas that fill it; with `whole`, blocks that are filled already."""
    if reply.reasoning:
        signature = new_id("", 120)
        thinking = "".join(reply.reasoning)
        filled = {"thinking": thinking, "signature": signature} if whole else {"thinking": "", "signature": ""}
        yield {"type": "thinking", **filled}, _thinking_deltas(reply, signature)
    if reply.tool:
        arguments = reply.tool.arguments() if whole else {}
        block = {"type": "tool_use", "id": new_id("toolu_01", 22), "name": reply.tool.name, "input": arguments}
        # The service begins a tool's input with an empty piece.
        pieces = ("", *reply.pieces)
        yield block, ({"type": "input_json_delta", "partial_json": piece} for piece in pieces)
    elif reply.kind != "empty":
        text = {"type": "text", "text": reply.content if whole else ""}
        yield text, ({"type": "text_delta", "text": piece} for piece in reply.streamed())


def _thinking_deltas(reply: Reply, signature: str) -> Iterator[dict[str, Any]]:
    for piece in reply.reasoning:
        yield {"type": "thinking_delta", "thinking": piece}
    yield {"type": "signature_delta", "signature": signature}


def _events(reply: Reply, *, beta: bool) -> Iterator[Event]:
    """Yield the events of a streamed message."""
    scenario = reply.scenario
    start = report("usage", _usage(reply, {"output_tokens": _PLACEHOLDER_OUTPUT}), scenario)
    yield _event("message_start", message={**_message(reply), **start})
    sent = 0
    for index, (block, deltas) in enumerate(_blocks(reply)):
        yield _event("content_block_start", index=index, content_block=block)
        if index == 0:
            yield _event("ping")
        for delta in deltas:
            content = delta["type"] != "signature_delta" and delta.get("partial_json") != ""
            yield _event("content_block_delta", content=content, index=index, delta=delta)
            sent += content and block["type"] != "thinking"
            if scenario.usage_every and content:
                usage = report("usage", _delta_usage(reply, reply.share(sent)), scenario)
                yield _event("message_delta", delta={"stop_reason": None, "stop_sequence": None}, **usage)
        yield _event("content_block_stop", index=index)
    usage = report("usage", _delta_usage(reply, reply.output_tokens), scenario)
    yield _event("message_delta", delta=_stop(reply, beta=beta), **usage)
    yield _event("message_stop")


def _event(kind: str, *, content: bool = False, **fields: Any) -> Event:
    return Event(_sse({"type": kind, **fields}), content=content)


def _sse(value: Mapping[str, Any]) -> bytes:
    return f"event: {value['type']}\ndata: ".encode() + compact(value) + b"\n\n"


def _error_event(_events: int) -> bytes:
    return _sse(_error_object(529, ""))
