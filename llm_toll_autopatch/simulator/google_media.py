"""Embeddings, images, videos and batch jobs of the Gemini API and of Vertex AI.

Fields follow https://ai.google.dev/api/embeddings and batch-mode beside it, and the references of Vertex AI.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.simulator.answer import Answer, Call, new_id
from llm_toll_autopatch.simulator.google import generate_content, headers
from llm_toll_autopatch.simulator.reply import items, report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llm_toll_autopatch.simulator.scenario import Scenario

__all__ = ["batch_embed", "batch_job", "embed", "predict", "predict_long_running"]

_VECTOR = [0.25, -0.5, 0.75]
_PIXEL = "iVBORw0KGgo="


def _usage(scenario: Scenario) -> dict[str, Any]:
    tokens = scenario.input_tokens
    usage = {
        "promptTokenCount": tokens,
        "totalTokenCount": tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens}],
    }
    return report("usageMetadata", usage, scenario, wrong=("7", -1, None))


def embed(call: Call) -> Answer:
    """Answer `POST …/models/{model}:embedContent`."""
    return Answer.unary({"embedding": {"values": _VECTOR}, **_usage(call.scenario)}, call.scenario, headers())


def batch_embed(call: Call) -> Answer:
    """Answer `POST …/models/{model}:batchEmbedContents`."""
    embeddings = [{"values": _VECTOR} for _ in items(call.body.get("requests"))]
    return Answer.unary({"embeddings": embeddings, **_usage(call.scenario)}, call.scenario, headers())


def predict(call: Call) -> Answer:
    """Answer `POST …/models/{model}:predict`: embeddings for what has `content`, images for the rest."""
    instances = items(call.body.get("instances"))
    parameters = call.body.get("parameters")
    if any("content" in instance for instance in instances):
        return Answer.unary(_embeddings(len(list(instances)), call.scenario), call.scenario, headers())
    number = parameters.get("sampleCount") if isinstance(parameters, dict) else None
    return Answer.unary(_images(number or 1, call.scenario), call.scenario, headers())


def _embeddings(number: int, scenario: Scenario) -> dict[str, Any]:
    statistics = {} if scenario.no_usage else {"statistics": {"token_count": scenario.input_tokens, "truncated": False}}
    predictions = [{"embeddings": {"values": _VECTOR, **statistics}} for _ in range(number)]
    billed = {} if scenario.no_usage else {"metadata": {"billableCharacterCount": 4 * scenario.input_tokens}}
    return {"predictions": predictions, **billed}


def _images(number: int, scenario: Scenario) -> dict[str, Any]:
    images: list[Mapping[str, Any]] = [{"bytesBase64Encoded": _PIXEL, "mimeType": "image/png"} for _ in range(number)]
    if scenario.refusal:
        images[-1] = {"raiFilteredReason": "Unable to show generated images."}
    return {"predictions": images}


def predict_long_running(call: Call) -> Answer:
    """Answer `POST …/models/{model}:predictLongRunning`: the operation, which has only begun."""
    name = f"publishers/google/models/{call.scenario.model}/operations/{new_id('', 16)}"
    return Answer.unary({"name": name}, call.scenario, headers())


def batch_job(call: Call) -> Answer:
    """Answer `GET /v1beta/batches/{model}`: a job of two requests, done, its second one failed.

    `incomplete`: it still runs.
    """
    scenario = call.scenario
    job: dict[str, Any] = {"name": f"batches/{call.params['model']}"}
    metadata = {"model": f"models/{scenario.model}", "state": "BATCH_STATE_RUNNING"}
    if not scenario.incomplete:
        metadata["state"] = "BATCH_STATE_SUCCEEDED"
        responses = [
            {"response": json.loads(generate_content(call).body)},
            {"error": {"code": 13, "message": "An internal error has occurred."}},
        ]
        metadata["output"] = {"inlinedResponses": {"inlinedResponses": responses}}  # type: ignore[assignment]
        if "embedding" in scenario.model:
            embedded = [{"response": {"embedding": {"values": [0.5]}, "tokenCount": str(scenario.input_tokens)}}] * 2
            metadata["output"] = {"inlinedEmbedContentResponses": {"inlinedResponses": embedded}}  # type: ignore[assignment]
    return Answer.unary({**job, "metadata": metadata}, scenario, headers())
