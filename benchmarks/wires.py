"""The SDKs' own clients over a transport within the process, which answers as the services do.

Runs in every environment: it imports the SDKs, and neither us nor any of the others.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import anthropic
import openai
from google import genai

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    _Events = Callable[[int, bool], Iterator[dict[str, Any]]]

__all__ = ["APIS", "OUTPUT_TOKENS", "Api", "Clients"]

OUTPUT_TOKENS = 4321
"""What every answer says that it used: a figure that comes from nowhere else."""
_INPUT_TOKENS = 1234

_GPT, _CLAUDE, _GEMINI = "gpt-5-mini", "claude-sonnet-4-5", "gemini-2.5-flash"
_QUESTION: Any = [{"role": "user", "content": "Why is the sky blue?"}]

# The HTTP library is the SDK's, whichever that is.
_http: Any = sys.modules.get("httpx2") or sys.modules["httpx"]


def _chat(chunks: int, asked: bool) -> Iterator[dict[str, Any]]:
    same = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": _GPT, "service_tier": "default"}
    extra = {"usage": None} if asked else {}
    for number in range(chunks):
        end = "stop" if number == chunks - 1 else None
        choice = {"index": 0, "delta": {"content": "word "}, "finish_reason": end, "logprobs": None}
        yield {**same, "choices": [choice], **extra}
    if asked:
        yield {**same, "choices": [], "usage": _usage_of_chat()}


def _usage_of_chat() -> dict[str, int]:
    return {
        "prompt_tokens": _INPUT_TOKENS,
        "completion_tokens": OUTPUT_TOKENS,
        "total_tokens": _INPUT_TOKENS + OUTPUT_TOKENS,
    }


def _response(status: str) -> dict[str, Any]:
    text = {"type": "output_text", "text": "word", "annotations": []}
    said = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": [text]}
    done = status == "completed"
    return {
        "id": "r1", "object": "response", "created_at": 1, "model": _GPT, "status": status, "tools": [],
        "output": [said] if done else [], "parallel_tool_calls": True, "tool_choice": "auto", "service_tier": "default",
        "usage": {
            "input_tokens": _INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS,
            "total_tokens": _INPUT_TOKENS + OUTPUT_TOKENS, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        } if done else None,
    }  # fmt: skip


def _responses(chunks: int, _asked: bool) -> Iterator[dict[str, Any]]:
    yield {"type": "response.created", "sequence_number": 0, "response": _response("in_progress")}
    same = {"type": "response.output_text.delta", "item_id": "m1", "output_index": 0, "content_index": 0}
    for number in range(chunks):
        yield {**same, "sequence_number": number + 1, "delta": "word ", "logprobs": []}
    yield {"type": "response.completed", "sequence_number": chunks + 1, "response": _response("completed")}


def _message(**more: Any) -> dict[str, Any]:
    return {
        "id": "m1", "type": "message", "role": "assistant", "model": _CLAUDE, "content": [], "stop_reason": None,
        "stop_sequence": None, "usage": {"input_tokens": _INPUT_TOKENS, "output_tokens": 1}, **more,
    }  # fmt: skip


def _messages(chunks: int, _asked: bool) -> Iterator[dict[str, Any]]:
    yield {"type": "message_start", "message": _message()}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    for _ in range(chunks):
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "word "}}
    yield {"type": "content_block_stop", "index": 0}
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": ended, "usage": {"output_tokens": OUTPUT_TOKENS}}
    yield {"type": "message_stop"}


def _generated(end: str | None) -> dict[str, Any]:
    candidate = {"content": {"parts": [{"text": "word "}], "role": "model"}, "index": 0}
    used = {"promptTokenCount": _INPUT_TOKENS, "candidatesTokenCount": OUTPUT_TOKENS}
    return {
        "candidates": [candidate if end is None else {**candidate, "finishReason": end}],
        "usageMetadata": {**used, "totalTokenCount": _INPUT_TOKENS + OUTPUT_TOKENS},
        "modelVersion": _GEMINI,
        "responseId": "g1",
    }


def _generate(chunks: int, _asked: bool) -> Iterator[dict[str, Any]]:
    for number in range(chunks):
        yield _generated("STOP" if number == chunks - 1 else None)


_SPEAKERS: dict[str, _Events] = {
    "completions": _chat, "responses": _responses, "messages": _messages, "models": _generate,
}  # fmt: skip
"""Who says what is streamed, by the end of the path; Google's has the model in it."""


class Clients:
    """Clients of the three SDKs that reach nothing outside of this process.

    Args:
        chunks: How many chunks of text a stream has.
    """

    def __init__(self, chunks: int) -> None:
        # What was made once is sent again and again: only the SDK's work and that of who follows it is to be measured.
        self._bodies: dict[tuple[_Events, bool], bytes] = {
            (events, asked): _streamed(events, chunks, asked=asked)
            for events in _SPEAKERS.values()
            for asked in (False, True)
        }
        sync = _http.Client(transport=_http.MockTransport(self._answer))
        asynchronous = _http.AsyncClient(transport=_http.MockTransport(self._answer_async))
        self.openai = openai.OpenAI(api_key="none", http_client=sync)
        self.openai_async = openai.AsyncOpenAI(api_key="none", http_client=asynchronous)
        self.anthropic = anthropic.Anthropic(api_key="none", http_client=sync)
        self.anthropic_async = anthropic.AsyncAnthropic(api_key="none", http_client=asynchronous)
        options = genai.types.HttpOptions(httpx_client=sync, httpx_async_client=asynchronous)
        self.google = genai.Client(api_key="none", http_options=options)

    async def _answer_async(self, request: Any) -> Any:
        await asyncio.sleep(0)  # no answer is there at once: other tasks get their turn
        return self._answer(request)

    def _answer(self, request: Any) -> Any:
        path = request.url.path
        asked = json.loads(request.content)
        if not (asked.get("stream") or "stream" in path):
            return _http.Response(200, json=_plain(path))
        body = self._bodies[_speaker(path), bool((asked.get("stream_options") or {}).get("include_usage"))]
        return _http.Response(200, headers={"content-type": "text/event-stream"}, content=body)


def _plain(path: str) -> dict[str, Any]:
    if path.endswith("/chat/completions"):
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "word"}}
        return {
            "id": "c1", "object": "chat.completion", "created": 1, "model": _GPT, "service_tier": "default",
            "choices": [choice], "usage": _usage_of_chat(),
        }  # fmt: skip
    if path.endswith("/responses"):
        return _response("completed")
    if path.endswith("/messages"):
        used = {"input_tokens": _INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS}
        return _message(content=[{"type": "text", "text": "word"}], stop_reason="end_turn", usage=used)
    return _generated("STOP")


def _speaker(path: str) -> _Events:
    return _SPEAKERS.get(path.rpartition("/")[2], _generate)


def _streamed(events: _Events, chunks: int, *, asked: bool) -> bytes:
    named = events in (_responses, _messages)
    lines = [
        f"{'event: ' + event['type'] + chr(10) if named else ''}data: {json.dumps(event)}\n\n"
        for event in events(chunks, asked)
    ]
    return ("".join(lines) + ("data: [DONE]\n\n" if events is _chat else "")).encode()


class Api(NamedTuple):
    """One API of an SDK: how to read a stream, and how to make a plain call."""

    name: str
    stream: Callable[[Clients], Iterator[Any]]
    stream_async: Callable[[Clients], AsyncIterator[Any]]
    plain: Callable[[Clients], Any] | None = None
    plain_async: Callable[[Clients], Any] | None = None


_CHAT: Any = {"model": _GPT, "messages": _QUESTION}
_RESPONSES: Any = {"model": _GPT, "input": "Why is the sky blue?"}
_MESSAGES: Any = {"model": _CLAUDE, "messages": _QUESTION, "max_tokens": 1000}
_GENERATE: Any = {"model": _GEMINI, "contents": "Why is the sky blue?"}


async def _awaited(coroutine: Any) -> AsyncIterator[Any]:
    async for chunk in await coroutine:
        yield chunk


def _in_with(manager: Any) -> Iterator[Any]:
    with manager as stream:
        yield from stream


async def _in_async_with(manager: Any) -> AsyncIterator[Any]:
    async with manager as stream:
        async for chunk in stream:
            yield chunk


APIS = (
    Api(
        "openai chat",
        lambda clients: clients.openai.chat.completions.create(**_CHAT, stream=True),
        lambda clients: _awaited(clients.openai_async.chat.completions.create(**_CHAT, stream=True)),
        lambda clients: clients.openai.chat.completions.create(**_CHAT),
        lambda clients: clients.openai_async.chat.completions.create(**_CHAT),
    ),
    Api(
        "openai responses",
        lambda clients: clients.openai.responses.create(**_RESPONSES, stream=True),
        lambda clients: _awaited(clients.openai_async.responses.create(**_RESPONSES, stream=True)),
        lambda clients: clients.openai.responses.create(**_RESPONSES),
        lambda clients: clients.openai_async.responses.create(**_RESPONSES),
    ),
    Api(
        "anthropic",
        lambda clients: clients.anthropic.messages.create(**_MESSAGES, stream=True),
        lambda clients: _awaited(clients.anthropic_async.messages.create(**_MESSAGES, stream=True)),
        lambda clients: clients.anthropic.messages.create(**_MESSAGES),
        lambda clients: clients.anthropic_async.messages.create(**_MESSAGES),
    ),
    Api(
        "google",
        lambda clients: clients.google.models.generate_content_stream(**_GENERATE),
        lambda clients: _awaited(clients.google.aio.models.generate_content_stream(**_GENERATE)),
        lambda clients: clients.google.models.generate_content(**_GENERATE),
        lambda clients: clients.google.aio.models.generate_content(**_GENERATE),
    ),
    Api(
        "openai chat, helper",
        lambda clients: _in_with(clients.openai.chat.completions.stream(**_CHAT)),
        lambda clients: _in_async_with(clients.openai_async.chat.completions.stream(**_CHAT)),
    ),
    Api(
        "anthropic, helper",
        lambda clients: _in_with(clients.anthropic.messages.stream(**_MESSAGES)),
        lambda clients: _in_async_with(clients.anthropic_async.messages.stream(**_MESSAGES)),
    ),
)
"""What is measured."""
