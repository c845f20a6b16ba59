"""OpenAI's Responses API.

Fields and events follow https://platform.openai.com/docs/api-reference/responses-streaming.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.simulator.answer import Answer, Call, Event, compact, new_id
from llm_toll_autopatch.simulator.openai import error_object, headers, served_tier
from llm_toll_autopatch.simulator.reply import Reply, Tool, items, report

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["compact_response", "ended", "events", "item_of", "responses", "started"]

_FAILED = {"code": "server_error", "message": "The model failed to generate a response."}


def responses(call: Call) -> Answer:
    """Answer `POST /v1/responses`."""
    body, scenario = call.body, call.scenario
    function = next((tool for tool in items(body.get("tools")) if tool.get("type") == "function"), None)
    text = body.get("text")
    wanted = text.get("format") if isinstance(text, dict) else None
    reply = Reply.to(
        scenario,
        tool=Tool(name=str(function.get("name")), parameters=function.get("parameters")) if function else None,
        tool_results=sum(item.get("type") == "function_call_output" for item in items(body.get("input"))),
        schema=wanted.get("schema") if isinstance(wanted, dict) else None,
    )
    if body.get("stream"):
        return Answer.stream(_Events(body, reply).events(), scenario, headers(), error=_error_event)
    if body.get("background"):
        begun = {**started(body, reply), "id": f"resp_{body['model']}~{new_id('', 8)}", "background": True}
        return Answer.unary({**begun, "status": "queued"}, scenario, headers())
    return Answer.unary(ended(started(body, reply), reply, item_of(reply)), scenario, headers())


def item_of(reply: Reply) -> list[dict[str, Any]]:
    """Return the items of a response's output."""
    return [item.final for item in _items(reply)]


def events(body: Mapping[str, Any], reply: Reply, begun: Mapping[str, Any]) -> Iterator[Event]:
    """Return the events of a response that has begun before."""
    stream = _Events(body, reply)
    stream.response = dict(begun)
    return stream.events()


def compact_response(call: Call) -> Answer:
    """Answer `POST /v1/responses/compact`, which names no model."""
    reply = Reply.to(call.scenario, tool=None, tool_results=call.scenario.tools)
    whole = ended(started(call.body, reply), reply, item_of(reply))
    kept = {name: whole[name] for name in ("id", "created_at", "output", "usage") if name in whole}
    return Answer.unary({**kept, "object": "response.compaction"}, call.scenario, headers())


def started(body: Mapping[str, Any], reply: Reply) -> dict[str, Any]:
    """Return the response object as it is at the start."""
    return {
        "id": new_id("resp_", 48),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": None,
        "model": reply.scenario.model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": body.get("previous_response_id"),
        "prompt_cache_key": None,
        "reasoning": {"effort": "medium" if reply.reasoning else None, "summary": None},
        "safety_identifier": None,
        "service_tier": body.get("service_tier") or "auto",
        "store": True,
        "temperature": 1.0,
        "text": body.get("text") or {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": body.get("tools") or [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        **({} if reply.scenario.no_usage else {"usage": None}),
        "user": None,
        "metadata": body.get("metadata") or {},
    }


def ended(response: Mapping[str, Any], reply: Reply, output: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the response object as it is at the end."""
    scenario = reply.scenario
    status = "failed" if scenario.failed else "incomplete" if scenario.incomplete else "completed"
    total = reply.output_tokens + scenario.reasoning_tokens
    usage = {
        "input_tokens": scenario.input_tokens,
        "input_tokens_details": {
            "cached_tokens": scenario.cached_tokens,
            "cache_write_tokens": scenario.cache_write_tokens,
        },
        "output_tokens": total,
        "output_tokens_details": {"reasoning_tokens": scenario.reasoning_tokens},
        "total_tokens": scenario.input_tokens + total,
    }
    return {
        **response,
        "status": status,
        "completed_at": int(time.time()) if status == "completed" else None,
        "error": _FAILED if scenario.failed else None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "output": output,
        "service_tier": served_tier(scenario, response),
        **report("usage", usage, scenario),
    }


class _Item:
    """One item of a response's output: how it begins, what comes, how it ends."""

    def __init__(self, reply: Reply, kind: str) -> None:
        self.kind = kind
        self.pieces = reply.reasoning if kind == "reasoning" else reply.pieces
        self.content = "".join(self.pieces)
        self.started: dict[str, Any]
        self.final: dict[str, Any]
        status = "incomplete" if reply.scenario.incomplete else "completed"
        if kind == "reasoning":
            self.started = {"id": new_id("rs_", 48), "type": "reasoning", "summary": []}
            self.final = {**self.started, "summary": [self.part(self.content)]}
        elif kind == "tool":
            assert reply.tool is not None
            common = {"id": new_id("fc_", 48), "type": "function_call", "name": reply.tool.name}
            self.started = {**common, "status": "in_progress", "arguments": "", "call_id": new_id("call_")}
            self.final = {**self.started, "status": status, "arguments": self.content}
        else:
            common = {"id": new_id("msg_", 48), "type": "message", "role": "assistant"}
            self.started = {**common, "status": "in_progress", "content": []}
            parts = [] if kind == "empty" else [self.part(self.content)]
            self.final = {**common, "status": status, "content": parts}

    def part(self, content: str) -> dict[str, Any]:
        """Return the item's only part, holding `content`."""
        if self.kind == "reasoning":
            return {"type": "summary_text", "text": content}
        if self.kind == "refusal":
            return {"type": "refusal", "refusal": content}
        return {"type": "output_text", "annotations": [], "logprobs": [], "text": content}


def _items(reply: Reply) -> list[_Item]:
    return [_Item(reply, kind) for kind in (["reasoning"] if reply.reasoning else []) + [reply.kind]]


_FIELDS: Mapping[str, tuple[str, str, str]] = {
    # kind of item: the prefix of its events, the field of its done event, the prefix of its part's events
    "text": ("output_text", "text", "content_part"),
    "refusal": ("refusal", "refusal", "content_part"),
    "reasoning": ("reasoning_summary_text", "text", "reasoning_summary_part"),
    "tool": ("function_call_arguments", "arguments", ""),
}


class _Events:
    """The events of one streamed response."""

    def __init__(self, body: Mapping[str, Any], reply: Reply) -> None:
        self._reply = reply
        self.response = started(body, reply)
        options = body.get("stream_options")
        self._obfuscate = not isinstance(options, dict) or options.get("include_obfuscation") is not False
        self._sequence = 0

    def events(self) -> Iterator[Event]:
        """Yield the events in order, the terminal one last."""
        yield self._event("response.created", response=self.response)
        yield self._event("response.in_progress", response=self.response)
        items_ = _items(self._reply)
        for index, item in enumerate(items_):
            yield self._event("response.output_item.added", output_index=index, item=item.started)
            if item.kind in _FIELDS:
                yield from self._content(index, item)
            yield self._event("response.output_item.done", output_index=index, item=item.final)
        response = ended(self.response, self._reply, [item.final for item in items_])
        yield self._event(f"response.{response['status']}", response=response)

    def _content(self, index: int, item: _Item) -> Iterator[Event]:
        """Yield the events between an item's beginning and its end."""
        name, key, part = _FIELDS[item.kind]
        where: dict[str, Any] = {"item_id": item.started["id"], "output_index": index}
        if part:
            where["summary_index" if item.kind == "reasoning" else "content_index"] = 0
            yield self._event(f"response.{part}.added", **where, part=item.part(""))
        extra: dict[str, Any] = {"logprobs": []} if item.kind == "text" else {}
        pieces = item.pieces if item.kind == "reasoning" else self._reply.streamed()
        for piece in pieces:
            padding: dict[str, Any] = {"obfuscation": new_id("", 8)} if self._obfuscate else {}
            yield self._event(f"response.{name}.delta", content=True, **where, delta=piece, **extra, **padding)
        whole: dict[str, Any] = {key: item.content}
        yield self._event(f"response.{name}.done", **where, **whole, **extra)
        if part:
            yield self._event(f"response.{part}.done", **where, part=item.part(item.content))

    def _event(self, kind: str, *, content: bool = False, **fields: Any) -> Event:
        event = _sse({"type": kind, "sequence_number": self._sequence, **fields})
        self._sequence += 1
        return Event(event, content=content)


def _sse(value: Mapping[str, Any]) -> bytes:
    return f"event: {value['type']}\ndata: ".encode() + compact(value) + b"\n\n"


def _error_event(events: int) -> bytes:
    return _sse({"type": "error", "sequence_number": events, "error": error_object(500, "")})
