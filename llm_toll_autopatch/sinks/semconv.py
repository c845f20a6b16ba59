"""OpenTelemetry's names for generative AI. They live in no stable package, so they are copied here.

Two generations. `legacy`: what dashboards read today (semantic conventions 1.37 to 1.4x). `latest`: the conventions'
own repository since 2026, where tokens are counters and histograms of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_toll_autopatch.sinks.text import encodable

if TYPE_CHECKING:
    from llm_toll_autopatch.records import CallRecord, Usage

__all__ = [
    "COST",
    "SECONDS_BUCKETS",
    "TOKEN_BUCKETS",
    "UNKNOWN_COST",
    "attributes_of",
    "operation_of",
    "provider_of",
    "usage_attributes",
]

TOKEN_BUCKETS = tuple(4**power for power in range(14))
SECONDS_BUCKETS = tuple(0.01 * 2**power for power in range(14))

COST = "llm_toll.cost"
UNKNOWN_COST = "llm_toll.unknown_cost"
"""Our own: the conventions have no money."""

_OPERATIONS = {"messages": "chat", "responses": "chat", "completions": "text_completion"}
_PROVIDERS = {
    "google": "gcp.gemini",
    "vertex": "gcp.vertex_ai",
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
}


def operation_of(record: CallRecord) -> str:
    """Return `gen_ai.operation.name`; our own name where the conventions have none."""
    return _OPERATIONS.get(record.operation, record.operation)


def provider_of(record: CallRecord) -> str:
    """Return `gen_ai.provider.name`; our own name where the conventions have none."""
    return _PROVIDERS.get(record.provider, record.provider)


def attributes_of(record: CallRecord) -> dict[str, str]:
    """Return the attributes that all metrics of a call have."""
    attributes = {
        "gen_ai.operation.name": operation_of(record),
        "gen_ai.provider.name": provider_of(record),
        "gen_ai.request.model": encodable(record.model),
    }
    if record.response_model is not None:
        attributes["gen_ai.response.model"] = encodable(record.response_model)
    if record.endpoint is not None:
        attributes["server.address"] = record.endpoint
    return attributes


def usage_attributes(usage: Usage, *, legacy: bool, latest: bool) -> dict[str, int]:
    """Return the attributes of a span that say what was used."""
    attributes = {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
    }
    parts = {
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
    }
    if legacy:
        parts["gen_ai.usage.cache_creation.input_tokens"] = usage.cache_write_tokens
    if latest:
        parts["gen_ai.usage.cache_write.input_tokens"] = usage.cache_write_tokens
    return attributes | {name: tokens for name, tokens in parts.items() if tokens}
