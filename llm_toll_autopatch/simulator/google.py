"""The Gemini API, and its twin on Vertex AI.

Fields follow https://ai.google.dev/api/generate-content.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import re
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.simulator.answer import Answer, Call, Event, compact, new_id
from llm_toll_autopatch.simulator.reply import Reply, Tool, items, report

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["coded_error", "count_tokens", "error", "generate_content", "stream_generate_content"]

_CAPITAL = re.compile("[A-Z]")
_ERRORS: Mapping[int, tuple[str, str]] = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: ("UNAUTHENTICATED", "Request had invalid authentication credentials."),
    403: ("PERMISSION_DENIED", "The caller does not have permission"),
    404: ("NOT_FOUND", "Requested entity was not found."),
    429: ("RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
    500: ("INTERNAL", "An internal error has occurred. Please retry."),
    503: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
    504: ("DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
}


def headers() -> dict[str, str]:
    """Return the headers of an answer."""
    return {"vary": "Origin, X-Origin, Referer", "server": "scaffolding on HTTPServer2"}


def _error_object(status: int, message: str) -> dict[str, Any]:
    name, usual = _ERRORS.get(status, ("UNKNOWN", "Unknown error."))
    return {"error": {"code": status, "message": message or usual, "status": name}}


def error(status: int, message: str) -> Answer:
    """Answer with Google's error JSON."""
    return Answer.error(status, _error_object(status, message), headers())


def coded_error(status: int, message: str) -> Answer:
    """Answer with the error JSON of the interactions, whose code is a word."""
    told = _error_object(status, message)["error"]
    body = {"error": {"code": told["status"].lower(), "message": told["message"]}}
    return Answer.error(status, body, headers())


def count_tokens(call: Call) -> Answer:
    """Answer `POST /v1beta/models/{model}:countTokens`."""
    tokens = call.scenario.input_tokens
    details = _modalities("promptTokensDetails", tokens)
    return Answer.unary({"totalTokens": tokens, **details}, call.scenario, headers())


def generate_content(call: Call) -> Answer:
    """Answer `POST /v1beta/models/{model}:generateContent`."""
    reply, chunk = _reply(call), _Chunk(call)
    if reply.kind == "refusal":
        return Answer.unary(chunk.blocked(reply), call.scenario, headers())
    parts = [_thought("".join(reply.reasoning))] if reply.reasoning else []
    if reply.tool:
        parts.append(_function_call(reply.tool))
    elif reply.content:
        parts.append({"text": reply.content})
    usage = chunk.usage(reply, output=reply.output_tokens, thoughts=call.scenario.reasoning_tokens)
    return Answer.unary(chunk.json(reply, parts, usage, last=True), call.scenario, headers())


def stream_generate_content(call: Call) -> Answer:
    """Answer `POST /v1beta/models/{model}:streamGenerateContent?alt=sse`."""
    return Answer.stream(_events(_reply(call), _Chunk(call)), call.scenario, headers(), error=_error_event)


def _reply(call: Call) -> Reply:
    body = call.body
    declared = [function for tool in items(body.get("tools")) for function in items(_get(tool, "functionDeclarations"))]
    tool = None
    if declared:
        parameters = declared[0].get("parameters") or _get(declared[0], "parametersJsonSchema")
        tool = Tool(name=str(declared[0].get("name")), parameters=parameters)
    parts = [part for content in items(body.get("contents")) for part in items(content.get("parts"))]
    config = _get(body, "generationConfig")
    config = config if isinstance(config, dict) else {}
    schema = _get(config, "responseJsonSchema") or _get(config, "responseSchema")
    return Reply.to(
        call.scenario,
        tool=tool,
        tool_results=sum(_get(part, "functionResponse") is not None for part in parts),
        schema=schema or ({"type": "object"} if _get(config, "responseMimeType") == "application/json" else None),
        choices=_get(config, "candidateCount"),
    )


def _get(message: Mapping[str, Any], name: str) -> Any:
    """Return a field under either of the names that the service takes, `thisWay` and `this_way`: the SDK mixes them."""
    return message.get(name, message.get(_CAPITAL.sub(lambda letter: f"_{letter[0].lower()}", name)))


def _thought(text: str) -> dict[str, Any]:
    return {"text": text, "thought": True}


def _function_call(tool: Tool) -> dict[str, Any]:
    call = {"name": tool.name, "args": tool.arguments(), "id": new_id("", 8)}
    # The SDK wants base64 here.
    return {"functionCall": call, "thoughtSignature": new_id("", 64)}


def _modalities(key: str, tokens: int) -> dict[str, Any]:
    return {key: [{"modality": "TEXT", "tokenCount": tokens}]} if tokens else {}


def _hops(token: Any) -> int:
    """Return how many requests came before the one with this continuation token."""
    try:
        return int(base64.b64decode(str(token), altchars=b"-_")) if token else 0
    except (ValueError, binascii.Error):
        return 0


class _Chunk:
    """What all chunks of one answer have in common."""

    def __init__(self, call: Call) -> None:
        self._vertex = "publisher" in call.params and call.params["publisher"] is not None
        self._common: dict[str, Any] = {"modelVersion": call.scenario.model}
        if self._vertex:
            now = dt.datetime.now(dt.UTC)
            self._common["createTime"] = now.isoformat().replace("+00:00", "Z")
        self._common["responseId"] = new_id("", 22)
        self._end = self._ending(call)

    @staticmethod
    def _ending(call: Call) -> dict[str, Any]:
        """Return how the answer ends: its reason, and the token with which the next request goes on."""
        sent = _hops(_get(call.body, "continuationToken"))
        if sent < call.scenario.continuations:
            token = base64.b64encode(str(sent + 1).encode()).decode()
            return {"finishReason": "CONTINUATION", "continuationToken": token}
        return {"finishReason": "MAX_TOKENS" if call.scenario.incomplete else "STOP"}

    def usage(self, reply: Reply, *, output: int, thoughts: int) -> dict[str, Any]:
        """Return the totals so far. Thoughts are not among the candidates' tokens, cached ones are in the prompt's."""
        scenario = reply.scenario
        counts = {"candidatesTokenCount": output, "cachedContentTokenCount": scenario.cached_tokens}
        if self._vertex:
            tier = {"trafficType": "ON_DEMAND" + (f"_{scenario.tier.upper()}" if scenario.tier else "")}
        else:
            tier = {"serviceTier": scenario.tier or "standard"}
        return {
            "promptTokenCount": scenario.input_tokens,
            # A count of 0 is left out, as protocol buffers do.
            **{name: count for name, count in counts.items() if count},
            "totalTokenCount": scenario.input_tokens + output + thoughts,
            **_modalities("promptTokensDetails", scenario.input_tokens),
            **_modalities("cacheTokensDetails", scenario.cached_tokens),
            **({"thoughtsTokenCount": thoughts} if thoughts else {}),
            **tier,
        }

    def json(
        self, reply: Reply, parts: list[dict[str, Any]], usage: Mapping[str, Any], *, last: bool
    ) -> dict[str, Any]:
        """Return one chunk; the same candidate as often as there are choices."""
        content = {"parts": parts, "role": "model"} if parts else {"role": "model"}
        end = self._end if last else {}
        candidates = [{"content": content, **end, "index": index} for index in range(reply.choices)]
        return {"candidates": candidates, **self._report(usage, reply, last=last), **self._common}

    def blocked(self, reply: Reply) -> dict[str, Any]:
        """Return the only chunk of an answer to a prompt that was blocked."""
        usage = self._report(self.usage(reply, output=0, thoughts=0), reply, last=True)
        return {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, **usage, **self._common}

    def _report(self, usage: Mapping[str, Any], reply: Reply, *, last: bool) -> dict[str, Any]:
        scenario = reply.scenario
        if not last and not scenario.usage_every:
            if scenario.usage_last:
                return {}
            if self._vertex:
                usage = {"trafficType": usage["trafficType"]}
        if scenario.bad_usage:
            # Anything worse makes the SDK itself fail: it validates what it receives.
            usage = {name: count for name, count in usage.items() if name.endswith("Count")}
        return report("usageMetadata", usage, scenario, wrong=("7", -1, None))


def _events(reply: Reply, chunk: _Chunk) -> Iterator[Event]:
    """Yield the chunks of a stream. Each says the totals so far; the last one says why the answer ended."""
    scenario = reply.scenario
    if reply.kind == "refusal":
        yield _event(chunk.blocked(reply))
        return
    thoughts = scenario.reasoning_tokens
    shown = reply.reasoning
    for number, piece in enumerate(shown, start=1):
        usage = chunk.usage(reply, output=0, thoughts=thoughts * number // len(shown))
        yield _event(chunk.json(reply, [_thought(piece)], usage, last=False), content=True)
    pieces: Iterator[dict[str, Any]] = ({"text": piece} for piece in reply.streamed())
    length = len(reply.pieces)
    if reply.tool:
        pieces, length = iter([_function_call(reply.tool)]), 1
    if not length:
        usage = chunk.usage(reply, output=reply.output_tokens, thoughts=thoughts)
        yield _event(chunk.json(reply, [], usage, last=True))
    for number, part in enumerate(pieces, start=1):
        last = number == length and not reply.endless
        output = reply.output_tokens if last else reply.share(number)
        usage = chunk.usage(reply, output=output, thoughts=thoughts)
        yield _event(chunk.json(reply, [part], usage, last=last), content=True)


def _event(value: Any, *, content: bool = False) -> Event:
    return Event(b"data: " + compact(value) + b"\r\n\r\n", content=content)


def _error_event(_events: int) -> bytes:
    return b"data: " + compact(_error_object(503, "")) + b"\r\n\r\n"
