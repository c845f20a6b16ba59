"""Google's interactions and decisions.

Fields follow the SDK's `_gaos/types/interactions` and `_gaos/types/decisions`.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.simulator.answer import Answer, Call, Event, compact, new_id
from llm_toll_autopatch.simulator.google import headers
from llm_toll_autopatch.simulator.reply import Reply, Tool, items, report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llm_toll_autopatch.simulator.scenario import Scenario

__all__ = ["cancel", "create", "decide", "fetch"]

_TOKEN = re.compile(r"continue-(\d+)")


def create(call: Call) -> Answer:
    """Answer `POST /v1beta/interactions`; with `background` it has only begun, and `fetch` has the rest."""
    interaction = _Interaction(call)
    if call.body.get("stream") is True:
        return Answer.stream(interaction.events(), call.scenario, headers(), error=_error_event)
    if call.body.get("background") is True:
        return Answer.unary(interaction.json("in_progress"), call.scenario, headers())
    return Answer.unary(interaction.whole(), call.scenario, headers())


def fetch(call: Call) -> Answer:
    """Answer `GET /v1beta/interactions/{id}`: the id of the simulator's interactions ends with the model's name."""
    interaction = _Interaction(call)
    if call.query.get("stream") == "true":
        return Answer.stream(interaction.events(), call.scenario, headers(), error=_error_event)
    return Answer.unary(interaction.whole(), call.scenario, headers())


def cancel(call: Call) -> Answer:
    """Answer `POST /v1beta/interactions/{id}/cancel`: what had been used by then."""
    return Answer.unary({**_Interaction(call).whole(), "status": "cancelled"}, call.scenario, headers())


def decide(call: Call) -> Answer:
    """Answer `POST /v1beta/decisions`: yes to each question."""
    questions = call.body.get("questions")
    answers = {
        name: {"type": "noul", "noul": 0.9, "confidence": 0.8}
        for name in (questions if isinstance(questions, dict) else {})
    }
    usage = _usage(call.scenario, output=len(answers))
    return Answer.unary({"answers": answers, **usage}, call.scenario, headers())


def _usage(scenario: Scenario, *, output: int) -> dict[str, Any]:
    counts = {
        "total_input_tokens": scenario.input_tokens,
        "total_output_tokens": output,
        "total_thought_tokens": scenario.reasoning_tokens,
        "total_cached_tokens": scenario.cached_tokens,
        "total_tool_use_tokens": 0,
        "total_tokens": scenario.input_tokens + output + scenario.reasoning_tokens,
        "input_tokens_by_modality": [{"modality": "text", "tokens": scenario.input_tokens}],
    }
    return report("usage", counts, scenario)


class _Interaction:
    """One answer."""

    def __init__(self, call: Call) -> None:
        declared = [tool for tool in items(call.body.get("tools")) if tool.get("type") == "function"]
        tool = Tool(name=str(declared[0].get("name")), parameters=declared[0].get("parameters")) if declared else None
        steps = items(call.body.get("input"))
        results = sum(step.get("type") == "function_result" for step in steps)
        self._reply = Reply.to(call.scenario, tool=tool, tool_results=results)
        self._scenario = call.scenario
        asked = call.params.get("model") or call.body.get("model") or call.body.get("agent")
        self._id = call.params.get("id") or f"v1_{new_id('', 12)}~{str(asked).replace('/', '|')}"
        token = _TOKEN.fullmatch(str(call.body.get("continuation_token")))
        self._sent = int(token[1]) if token else 0

    def json(self, status: str) -> dict[str, Any]:
        now = dt.datetime.now(dt.UTC).isoformat().replace("+00:00", "Z")
        tier = {"service_tier": self._scenario.tier} if self._scenario.tier else {}
        common = {"id": self._id, "object": "interaction", "status": status, "model": self._scenario.model}
        return {**common, "created": now, "updated": now, **tier}

    def ended(self) -> dict[str, Any]:
        usage = _usage(self._scenario, output=self._reply.output_tokens)
        if self._sent < self._scenario.continuations:
            token = {"continuation_token": f"continue-{self._sent + 1}"}
            return {**self.json("requires_continuation"), **token, **usage}
        status = "requires_action" if self._reply.tool else "incomplete" if self._scenario.incomplete else "completed"
        return {**self.json(status), **usage}

    def whole(self) -> dict[str, Any]:
        steps = [self._thought("".join(self._reply.reasoning))] if self._reply.reasoning else []
        if self._reply.tool:
            steps.append(self._call(self._reply.tool))
        elif self._reply.content:
            steps.append({"type": "model_output", "content": [{"type": "text", "text": self._reply.content}]})
        return {**self.ended(), "steps": steps}

    @staticmethod
    def _thought(text: str) -> dict[str, Any]:
        return {"type": "thought", "summary": [{"type": "text", "text": text}], "signature": "c2lnbmF0dXJl"}

    @staticmethod
    def _call(tool: Tool) -> dict[str, Any]:
        return {"type": "function_call", "id": new_id("", 8), "name": tool.name, "arguments": tool.arguments()}

    def events(self) -> Iterator[Event]:
        yield _event("interaction.created", {"interaction": self.json("in_progress")})
        index = 0
        if self._reply.reasoning:
            yield _event("step.start", {"index": index, "step": {"type": "thought"}})
            for piece in self._reply.reasoning:
                delta = {"type": "thought_summary", "content": {"type": "text", "text": piece}}
                yield _event("step.delta", {"index": index, "delta": delta}, content=True)
            yield _event("step.stop", {"index": index})
            index += 1
        if self._reply.tool:
            yield _event("step.start", {"index": index, "step": {**self._call(self._reply.tool), "arguments": {}}})
            for piece in self._reply.pieces:
                delta = {"type": "arguments_delta", "arguments": piece}
                yield _event("step.delta", {"index": index, "delta": delta}, content=True)
        else:
            yield _event("step.start", {"index": index, "step": {"type": "model_output"}})
            for piece in self._reply.streamed():
                yield _event("step.delta", {"index": index, "delta": {"type": "text", "text": piece}}, content=True)
        yield _event("step.stop", {"index": index})
        yield _event("interaction.completed", {"interaction": self.ended()})
        yield Event(b"event: done\ndata: [DONE]\n\n")


def _event(kind: str, value: dict[str, Any], *, content: bool = False) -> Event:
    data = compact({"event_type": kind, **value})
    return Event(b"event: %b\ndata: %b\n\n" % (kind.encode(), data), content=content)


def _error_event(_events: int) -> bytes:
    error = {"code": "unavailable", "message": "The model is overloaded. Please try again later."}
    return _event("error", {"error": error}).data
