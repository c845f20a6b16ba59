"""Which path is answered by what. A further endpoint is one more row, and the function that it names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.simulator import (
    anthropic,
    embeddings,
    google,
    google_interactions,
    google_media,
    media,
    openai,
    responses,
    stored,
)
from llm_toll_autopatch.simulator.answer import Answer, Call
from llm_toll_autopatch.simulator.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llm_toll_autopatch.simulator.received import ReceivedRequest

__all__ = ["ROUTES", "Route", "answer"]


@dataclass(frozen=True, slots=True)
class Route:
    """One row: a pattern for the whole path, what answers it, and what an error looks like there.

    The model's name is the pattern's group `model`, else the request's `model`.
    """

    pattern: re.Pattern[str]
    handle: Callable[[Call], Answer]
    error: Callable[[int, str], Answer]
    method: str


def _route(
    pattern: str, handle: Callable[[Call], Answer], error: Callable[[int, str], Answer], method: str = "POST"
) -> Route:
    # Compatible services put the same endpoints below a prefix of their own.
    return Route(re.compile(rf"/(?:.*?/)??{pattern}"), handle, error, method)


def _id(prefix: str) -> str:
    """Return the pattern of an id that names its model."""
    return rf"(?P<id>{prefix}_(?:stored_)?(?P<model>[^/~]+)~[^/]+)"


_GEMINI = r"(?:publishers/(?P<publisher>[^/]+)/)?(?:models|tunedModels)/(?P<model>[^/]+)"


def _decisions(call: Call) -> Answer:
    """Answer both services that have this path; Google's names its questions."""
    named = isinstance(call.body.get("questions"), dict)
    return google_interactions.decide(call) if named else embeddings.decisions(call)


ROUTES = (
    _route(r"(?:openai/deployments/(?P<deployment>[^/]+)/)?chat/completions", openai.chat, openai.error),
    _route(rf"chat/completions/{_id('chatcmpl')}", stored.chat, openai.error, "GET"),
    _route(r"completions", embeddings.completions, openai.error),
    _route(r"(?:openai/deployments/(?P<deployment>[^/]+)/)?embeddings", embeddings.embeddings, openai.error),
    _route(r"moderations", embeddings.moderations, openai.error),
    _route(r"decisions", _decisions, openai.error),
    _route(r"images/(?:generations|variations|(?P<edits>edits))", media.images, openai.error),
    _route(r"audio/(?:transcriptions|(?P<translations>translations))", media.transcriptions, openai.error),
    _route(r"audio/speech", media.speech, openai.error),
    _route(r"responses", responses.responses, openai.error),
    _route(r"responses/compact", responses.compact_response, openai.error),
    _route(rf"responses/{_id('resp')}", stored.response, openai.error, "GET"),
    _route(rf"responses/{_id('resp')}/cancel", stored.response, openai.error),
    _route(r"threads/(?:[^/]+/)?runs", stored.runs, openai.error),
    _route(rf"threads/[^/]+/runs/{_id('run')}", stored.runs, openai.error, "GET"),
    _route(rf"threads/[^/]+/runs/{_id('run')}/submit_tool_outputs", stored.runs, openai.error),
    _route(rf"threads/[^/]+/runs/{_id('run')}/cancel", stored.runs, openai.error),
    _route(rf"batches/{_id('batch')}", stored.batch, openai.error, "GET"),
    _route(rf"batches/{_id('batch')}/cancel", stored.batch, openai.error),
    _route(rf"evals/[^/]+/runs/{_id('evalrun')}", stored.eval_run, openai.error, "GET"),
    _route(r"messages", anthropic.messages, anthropic.error),
    _route(r"messages/count_tokens", anthropic.count_tokens, anthropic.error),
    _route(rf"messages/batches/{_id('msgbatch')}", stored.message_batch, anthropic.error, "GET"),
    _route(rf"messages/batches/{_id('msgbatch')}/results", stored.message_results, anthropic.error, "GET"),
    _route(r"model/(?P<model>[^/]+)/invoke", anthropic.messages, anthropic.error),
    _route(r"model/(?P<model>[^/]+)/invoke-with-response-stream", anthropic.invoke, anthropic.error),
    _route(
        r"publishers/anthropic/models/(?P<model>[^/]+):(?:rawPredict|streamRawPredict)",
        anthropic.messages,
        anthropic.error,
    ),
    _route(rf"{_GEMINI}:generateContent", google.generate_content, google.error),
    _route(rf"{_GEMINI}:streamGenerateContent", google.stream_generate_content, google.error),
    _route(rf"{_GEMINI}:countTokens", google.count_tokens, google.error),
    _route(rf"{_GEMINI}:embedContent", google_media.embed, google.error),
    _route(rf"{_GEMINI}:batchEmbedContents", google_media.batch_embed, google.error),
    _route(rf"{_GEMINI}:predict", google_media.predict, google.error),
    _route(rf"{_GEMINI}:predictLongRunning", google_media.predict_long_running, google.error),
    _route(r"interactions", google_interactions.create, google.coded_error),
    _route(r"interactions/(?P<id>[^/~]+~(?P<model>[^/]+))", google_interactions.fetch, google.coded_error, "GET"),
    _route(r"interactions/(?P<id>[^/~]+~(?P<model>[^/]+))/cancel", google_interactions.cancel, google.coded_error),
    _route(r"batches/(?P<model>[^/]+)", google_media.batch_job, google.error, "GET"),
)


def answer(request: ReceivedRequest) -> Answer:
    """Return the answer to a request, and note its scenario."""
    for route in ROUTES:
        match = route.pattern.fullmatch(request.path)
        if match:
            return _answer(route, match.groupdict(), request)
    return openai.error(404, f"The simulator has no {request.path}.")


def _answer(route: Route, params: Mapping[str, Any], request: ReceivedRequest) -> Answer:
    if request.method != route.method:
        return route.error(405, f"{request.path} wants {route.method}, not {request.method}.")
    body = request.body if route.method == "POST" and (request.body is not None or not params.get("model")) else {}
    if not isinstance(body, dict):
        return route.error(400, "The request's body is not a JSON object.")
    model = params.get("model") or body.get("model") or body.get("agent")
    if not isinstance(model, str) or not model:
        return route.error(400, "You must provide a model parameter.")
    try:
        scenario = Scenario.parse(model)
    except ValueError as unknown:
        return route.error(400, str(unknown))
    request.scenario = scenario
    if scenario.error is not None:
        return route.error(scenario.error, "")
    return route.handle(
        Call(
            body=body,
            params=params,
            scenario=scenario,
            query=request.query,
            headers=request.headers,
            url=f"http://{request.headers.get('host', '')}",
        )
    )
