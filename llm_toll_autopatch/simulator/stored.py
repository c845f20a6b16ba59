"""Work that is begun, looked at and fetched: background responses, Assistants' runs, batches, evals.

Nothing is kept: the id of such work names its model, `resp_gpt-5-mini+out=9~x1`, and the model's name is the scenario.
Work is under way when it is looked at for the first time, and done at the second.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.simulator import anthropic, openai
from llm_toll_autopatch.simulator.answer import Answer, Call, Event, compact, new_id
from llm_toll_autopatch.simulator.reply import Reply, report
from llm_toll_autopatch.simulator.responses import ended, events, item_of, started

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["batch", "chat", "eval_run", "message_batch", "message_results", "response", "runs"]

_lock = threading.Lock()
_looked_at: set[str] = set()


def _done(work: str) -> bool:
    """Return whether this is not the first look at `work`."""
    with _lock:
        known = work in _looked_at
        _looked_at.add(work)
    return known


def response(call: Call) -> Answer:
    """Answer `GET /v1/responses/{id}` and `POST /v1/responses/{id}/cancel`."""
    work = call.params["id"]
    reply = Reply.to(call.scenario, tool=None, tool_results=call.scenario.tools)
    background = not work.startswith("resp_stored")
    begun = {**started({}, reply), "id": work, "background": background}
    if call.query.get("stream") == "true":
        return Answer.stream(events({}, reply, begun), call.scenario, openai.headers(), error=openai.error_event)
    if background and not _done(work):
        return Answer.unary(begun, call.scenario, openai.headers())
    return Answer.unary(ended(begun, reply, item_of(reply)), call.scenario, openai.headers())


def chat(call: Call) -> Answer:
    """Answer `GET /v1/chat/completions/{id}`: a completion that was stored, with the usage that it had."""
    return openai.chat(call)


def runs(call: Call) -> Answer:
    """Answer what begins a run, looks at it, or gives it the results of its tools."""
    body, scenario = call.body, call.scenario
    work = call.params.get("id") or f"run_{body['model']}~{new_id('', 8)}"
    submitted = "tool_outputs" in body
    reply = Reply.to(scenario, tool=None, tool_results=scenario.tools if submitted else 0)
    begun = {
        "id": work, "object": "thread.run", "created_at": int(time.time()), "thread_id": "thread_1",
        "assistant_id": "asst_1", "model": scenario.model, "instructions": "", "tools": [], "metadata": {},
        "parallel_tool_calls": True, "usage": None,
    }  # fmt: skip
    output = reply.output_tokens
    usage = {
        "prompt_tokens": scenario.input_tokens,
        "completion_tokens": output,
        "total_tokens": scenario.input_tokens + output,
    }
    waits = reply.kind == "tool"
    end: dict[str, Any] = {**begun, "status": "requires_action"}
    if not waits:
        end = {**begun, "status": "completed", **report("usage", usage, scenario)}
    if body.get("stream"):
        return Answer.stream(_run_events(begun, end, reply), scenario, openai.headers(), error=openai.error_event)
    # Nobody looks at a run that waits for its tools; its results set it going again.
    done = bool(call.params.get("id")) and not submitted and _done(work)
    return Answer.unary(end if done else {**begun, "status": "queued"}, scenario, openai.headers())


def _run_events(begun: Mapping[str, Any], end: Mapping[str, Any], reply: Reply) -> Iterator[Event]:
    yield _event("thread.run.created", {**begun, "status": "queued"})
    yield _event("thread.run.in_progress", {**begun, "status": "in_progress"})
    if end["status"] == "completed":
        begun_message = {"id": "msg_1", "object": "thread.message", "role": "assistant", "content": []}
        yield _event("thread.message.created", {**begun_message, "status": "in_progress", "run_id": begun["id"]})
        for piece in reply.streamed():
            content = [{"index": 0, "type": "text", "text": {"value": piece}}]
            message = {"id": "msg_1", "object": "thread.message.delta", "delta": {"content": content}}
            yield _event("thread.message.delta", message, content=True)
        step = {"id": "step_1", "object": "thread.run.step", "status": "completed", "usage": end.get("usage")}
        yield _event("thread.run.step.completed", step)
    yield _event(f"thread.run.{end['status']}", end)
    yield Event(b"event: done\ndata: [DONE]\n\n")


def _event(name: str, value: Mapping[str, Any], *, content: bool = False) -> Event:
    return Event(f"event: {name}\ndata: ".encode() + compact(value) + b"\n\n", content=content)


def batch(call: Call) -> Answer:
    """Answer `GET /v1/batches/{id}` and `POST /v1/batches/{id}/cancel`."""
    work, scenario = call.params["id"], call.scenario
    done = _done(work)
    output = 8 if scenario.output_tokens is None else scenario.output_tokens
    usage = {
        "input_tokens": scenario.input_tokens,
        "input_tokens_details": {"cached_tokens": scenario.cached_tokens},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": scenario.reasoning_tokens},
        "total_tokens": scenario.input_tokens + output,
    }
    value = {
        "id": work, "object": "batch", "completion_window": "24h", "created_at": int(time.time()),
        "endpoint": "/v1/responses", "input_file_id": "file_1", "model": scenario.model,
        "status": "completed" if done else "in_progress",
    }  # fmt: skip
    return Answer.unary({**value, **(report("usage", usage, scenario) if done else {})}, scenario, openai.headers())


def eval_run(call: Call) -> Answer:
    """Answer `GET /v1/evals/{id}/runs/{id}`: one figure for the model, and one for its judge."""
    work, scenario = call.params["id"], call.scenario
    used = [
        {
            "model_name": model, "invocation_count": 2, "cached_tokens": 3, "prompt_tokens": scenario.input_tokens,
            "completion_tokens": 8, "total_tokens": scenario.input_tokens + 8,
        }
        for model in (scenario.model, "gpt-5-nano")
    ]  # fmt: skip
    status = "completed" if _done(work) else "in_progress"
    value = {"id": work, "object": "eval.run", "eval_id": "eval_1", "status": status, "model": scenario.model}
    return Answer.unary({**value, "per_model_usage": used}, scenario, openai.headers())


def message_batch(call: Call) -> Answer:
    """Answer `GET /v1/messages/batches/{id}`."""
    work = call.params["id"]
    counts = {"processing": 0, "succeeded": 2, "errored": 1, "canceled": 0, "expired": 0}
    value = {
        "id": work, "type": "message_batch", "processing_status": "ended", "request_counts": counts,
        "results_url": f"{call.url}/v1/messages/batches/{work}/results",
    }  # fmt: skip
    return Answer.unary(value, call.scenario, anthropic.headers())


def message_results(call: Call) -> Answer:
    """Answer `GET /v1/messages/batches/{id}/results`: two messages, which are the same each time, and an error."""
    work = call.params["id"]
    lines: list[dict[str, Any]] = []
    for number in range(2):
        message = anthropic.whole(call)
        message.update(id=f"msg_{work}_{number}")
        if isinstance(message.get("usage"), dict):
            message["usage"]["service_tier"] = "batch"
        lines.append({"custom_id": f"request-{number}", "result": {"type": "succeeded", "message": message}})
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": "The request is not valid."}}
    lines.insert(1, {"custom_id": "request-x", "result": {"type": "errored", "error": error}})
    body = b"".join(compact(line) + b"\n" for line in lines)
    return Answer(headers={"content-type": "application/x-jsonl", **anthropic.headers()}, body=body)
