"""OpenAI's images and audio.

Fields follow https://platform.openai.com/docs/api-reference/images and …/audio. Models called `dall-e-…` and
`whisper-…` report no tokens: they are billed by the image and by the second.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.simulator.answer import Answer, Call, Event, compact
from llm_toll_autopatch.simulator.openai import error_event, headers
from llm_toll_autopatch.simulator.reply import Reply, report

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["images", "speech", "transcriptions"]

_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGD4DwABBAEAX+XDSwAAAABJRU5ErkJggg=="
_SECONDS = 3.4


def images(call: Call) -> Answer:
    """Answer `POST /v1/images/generations`, `…/edits` and `…/variations`."""
    body, scenario = call.body, call.scenario
    number = int(body.get("n") or 1)
    output = 8 if scenario.output_tokens is None else scenario.output_tokens
    usage = {
        "input_tokens": scenario.input_tokens,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": scenario.input_tokens},
        "output_tokens": output,
        "total_tokens": scenario.input_tokens + output,
    }
    reported = {} if scenario.model.startswith("dall-e") else report("usage", usage, scenario)
    if _wants_stream(body):
        kind = "image_edit" if call.params.get("edits") else "image_generation"
        return Answer.stream(_image_events(kind, reported), scenario, headers(), error=error_event)
    details = {"output_tokens_details": {"image_tokens": output, "text_tokens": 0}}
    whole = {"usage": {**usage, **details}} if reported.get("usage") == usage else reported
    data = [{"b64_json": _PIXEL} for _ in range(number)]
    return Answer.unary({"created": int(time.time()), "data": data, **whole}, scenario, headers())


def _image_events(kind: str, usage: Mapping[str, Any]) -> Iterator[Event]:
    common = {
        "b64_json": _PIXEL, "background": "opaque", "created_at": int(time.time()), "output_format": "png",
        "quality": "low", "size": "1024x1024",
    }  # fmt: skip
    for index in range(2):
        yield _event({"type": f"{kind}.partial_image", **common, "partial_image_index": index}, content=True)
    yield _event({"type": f"{kind}.completed", **common, **usage})


def transcriptions(call: Call) -> Answer:
    """Answer `POST /v1/audio/transcriptions` and `…/translations`."""
    body, scenario = call.body, call.scenario
    reply = Reply.to(scenario, tool=None, tool_results=scenario.tools)
    form = body.get("response_format") or "json"
    if form in ("text", "srt", "vtt"):
        return Answer(headers={"content-type": "text/plain; charset=utf-8", **headers()}, body=reply.content.encode())
    usage: dict[str, Any] = {
        "type": "tokens",
        "input_tokens": scenario.input_tokens,
        "input_token_details": {"audio_tokens": scenario.input_tokens - 5, "text_tokens": 5},
        "output_tokens": reply.output_tokens,
        "total_tokens": scenario.input_tokens + reply.output_tokens,
    }
    if scenario.model.startswith("whisper"):
        usage = {"type": "duration", "seconds": _SECONDS}
    reported = {} if call.params.get("translations") else report("usage", usage, scenario)
    if _wants_stream(body):
        return Answer.stream(_transcript_events(reply, reported), scenario, headers(), error=error_event)
    verbose = {"task": "transcribe", "language": "english", "duration": _SECONDS, "segments": []}
    value = {**(verbose if form == "verbose_json" else {}), "text": reply.content, **reported}
    return Answer.unary(value, scenario, headers())


def _transcript_events(reply: Reply, usage: Mapping[str, Any]) -> Iterator[Event]:
    for piece in reply.streamed():
        yield _event({"type": "transcript.text.delta", "delta": piece}, content=True)
    yield _event({"type": "transcript.text.done", "text": reply.content, **usage})
    yield Event(b"data: [DONE]\n\n")


def speech(call: Call) -> Answer:
    """Answer `POST /v1/audio/speech` with bytes that stand for a recording."""
    spoken = str(call.body.get("input") or "").encode()
    return Answer(
        headers={"content-type": "audio/mpeg", **headers()}, body=b"ID3" + spoken, cut=bool(call.scenario.cut)
    )


def _wants_stream(body: Mapping[str, Any]) -> bool:
    return body.get("stream") in (True, "true")  # the latter in a form


def _event(value: Mapping[str, Any], *, content: bool = False) -> Event:
    return Event(f"event: {value['type']}\ndata: ".encode() + compact(value) + b"\n\n", content=content)
