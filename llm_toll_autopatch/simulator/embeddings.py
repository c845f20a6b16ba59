"""OpenAI's small endpoints that answer with one JSON object: embeddings, moderations, decisions, legacy completions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.simulator.answer import Answer, Call, Event, compact, new_id
from llm_toll_autopatch.simulator.openai import chat_usage, error_event, headers
from llm_toll_autopatch.simulator.reply import Reply, items, report

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["completions", "decisions", "embeddings", "moderations"]


def embeddings(call: Call) -> Answer:
    """Answer `POST /v1/embeddings`."""
    given = call.body.get("input")
    data = [
        {"object": "embedding", "index": index, "embedding": [0.5, -0.25, 0.125]}
        for index in range(len(given) if isinstance(given, list) else 1)
    ]
    tokens = call.scenario.input_tokens
    usage = report("usage", {"prompt_tokens": tokens, "total_tokens": tokens}, call.scenario)
    value = {"object": "list", "data": data, "model": call.scenario.model, **usage}
    return Answer.unary(value, call.scenario, headers())


def moderations(call: Call) -> Answer:
    """Answer `POST /v1/moderations`, which is free."""
    result = {"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}
    value = {"id": new_id("modr-", 20), "model": call.scenario.model, "results": [result]}
    return Answer.unary(value, call.scenario, headers())


def decisions(call: Call) -> Answer:
    """Answer `POST /v1/decisions`: every question with a predicate."""
    scenario = call.scenario
    answers = [{"type": "predicate", "probability": 0.75} for _ in items(call.body.get("questions"))]
    output = len(answers) if scenario.output_tokens is None else scenario.output_tokens
    total = output + scenario.reasoning_tokens
    usage = {
        "input_tokens": scenario.input_tokens,
        "input_tokens_details": {
            "cached_tokens": scenario.cached_tokens, "cache_write_tokens": scenario.cache_write_tokens,
        },
        "output_tokens": total,
        "output_tokens_details": {"reasoning_tokens": scenario.reasoning_tokens},
        "total_tokens": scenario.input_tokens + total,
    }  # fmt: skip
    value = {"id": new_id("dec_"), "object": "decision", "created_at": int(time.time()), "model": scenario.model}
    return Answer.unary({**value, "answers": answers, **report("usage", usage, scenario)}, scenario, headers())


def completions(call: Call) -> Answer:
    """Answer `POST /v1/completions`."""
    body, scenario = call.body, call.scenario
    reply = Reply.to(scenario, tool=None, tool_results=scenario.tools, choices=body.get("n"))
    common = {
        "id": new_id("cmpl-", 29), "object": "text_completion", "created": int(time.time()), "model": scenario.model,
    }  # fmt: skip
    if body.get("stream"):
        options = body.get("stream_options")
        asked = isinstance(options, dict) and bool(options.get("include_usage"))
        return Answer.stream(_chunks(common, reply, asked=asked), scenario, headers(), error=error_event)
    choices = [_choice(index, reply.content, "stop") for index in range(reply.choices)]
    usage = report("usage", chat_usage(reply, reply.output_tokens), scenario)
    return Answer.unary({**common, "choices": choices, **usage}, scenario, headers())


def _choice(index: int, text: str, reason: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}


def _chunks(common: Mapping[str, Any], reply: Reply, *, asked: bool) -> Iterator[Event]:
    null: dict[str, Any] = {"usage": None} if asked else {}
    for piece in reply.streamed():
        for index in range(reply.choices):
            yield _event({**common, "choices": [_choice(index, piece, None)], **null}, content=True)
    for index in range(reply.choices):
        yield _event({**common, "choices": [_choice(index, "", "stop")], **null})
    if asked and (usage := report("usage", chat_usage(reply, reply.output_tokens), reply.scenario)):
        yield _event({**common, "choices": [], **usage})
    yield Event(b"data: [DONE]\n\n")


def _event(value: Mapping[str, Any], *, content: bool = False) -> Event:
    return Event(b"data: " + compact(value) + b"\n\n", content=content)
