"""What a metered call leaves behind: `Usage` and `CallRecord`.

This module needs nothing else of the package: everything else may import it.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Literal

__all__ = ["CONTRADICTORY", "CallRecord", "Outcome", "Usage", "UsageSource", "new_id"]

Outcome = Literal["completed", "closed", "abandoned", "error", "cancelled"]
"""How a call ended.

`completed`: read to its end. `closed`: the consumer stopped early (break, `close()`, leaving `with`). `abandoned`:
dropped unread or half-read, found by the garbage collector or at interpreter exit. `error`: the provider or the
connection failed. `cancelled`: the task or the program was interrupted while it waited.
"""

UsageSource = Literal["reported", "partial", "estimated", "missing"]
"""Where a call's tokens come from.

`reported`: the provider's final figures. `partial`: some reported, the rest estimated. `estimated`: none reported.
`missing`: nothing is known.
"""

CONTRADICTORY = "contradictory"
"""Stands in `Usage.details` where the provider's own figures contradict each other: parts that are more than their
whole, or a total that is not the sum. They are kept as they were reported. Where it is absent, no part exceeds its
whole."""

_NO_DETAILS: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens and units of one billed request. Every figure is an `int`, 0 when absent.

    `input_tokens` is everything billed as input, cached and cache-write tokens included. `output_tokens` is everything
    billed as output, reasoning included. The other fields are parts of these two, in tokens, except `web_searches`
    (a count of requests). A part that a provider adds later is kept in `details`, as is `CONTRADICTORY`.

    `a + b` adds every field.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    input_image_tokens: int = 0
    output_image_tokens: int = 0
    tool_use_input_tokens: int = 0
    web_searches: int = 0
    details: Mapping[str, int] = field(default_factory=lambda: _NO_DETAILS)

    @property
    def total_tokens(self) -> int:
        """`input_tokens + output_tokens`."""
        return self.input_tokens + self.output_tokens

    def _repr_html_(self) -> str:
        from llm_toll_autopatch.notebook.tables import of_usage

        return of_usage(self)

    def __add__(self, other: Usage) -> Usage:
        if not isinstance(other, Usage):
            return NotImplemented
        sums = {name: getattr(self, name) + getattr(other, name) for name in USAGE_COUNTS}
        details = {k: self.details.get(k, 0) + other.details.get(k, 0) for k in {**self.details, **other.details}}
        return Usage(**sums, details=details)


USAGE_COUNTS: tuple[str, ...] = tuple(f.name for f in dataclasses.fields(Usage) if f.name != "details")
"""The names of `Usage`'s integer fields, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One billed request, as it is handed to the sinks. Holds no prompt, completion, key or header.

    Attributes:
        id: UUIDv7 (RFC 9562), minted when the call starts; unique, sorts by time.
        provider: `openai`, `anthropic`, `google`; `azure`, `bedrock`, `vertex` … where the client says so.
        operation: What kind of call: `chat`, `responses`, `messages`, `generate_content` ….
        method: The resource method that sent the request: `chat.completions.create`.
        model: The model as asked for.
        response_model: The model that served, as the response names it; None when it did not.
        service_tier: The tier that served, as the response names it.
        stream: Whether the response was a stream.
        outcome: How the call ended.
        usage: Tokens and units.
        usage_source: Where the tokens come from.
        cost_usd: Cost in USD. None when it is not known, which is never the same as 0.
        project: Who pays.
        tags: What for.
        started_at: When the request was about to be sent, aware, UTC.
        duration_s: Seconds from there to the end.
        time_to_first_chunk_s: Seconds from there to a stream's first chunk; None without one.
        chunks: Number of chunks that reached the user.
        response_id: The provider's id of the response.
        error_type: Name of the exception's class, for `error` and `cancelled`.
        endpoint: Host that was called, without path or port's credentials.
    """

    id: str
    provider: str
    operation: str
    method: str
    model: str
    response_model: str | None = None
    service_tier: str | None = None
    stream: bool = False
    outcome: Outcome = "completed"
    usage: Usage = field(default_factory=Usage)
    usage_source: UsageSource = "missing"
    cost_usd: Decimal | None = None
    project: str = "default"
    tags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    started_at: datetime
    duration_s: float = 0.0
    time_to_first_chunk_s: float | None = None
    chunks: int = 0
    response_id: str | None = None
    error_type: str | None = None
    endpoint: str | None = None


def new_id(at: float | None = None) -> str:
    """Return a new UUIDv7 as text: 48 bits of Unix time in milliseconds, 74 random bits (RFC 9562, section 5.7).

    Args:
        at: The Unix time in seconds; now by default.
    """
    when = f"{int((time.time() if at is None else at) * 1000) & 0xFFFF_FFFF_FFFF:012x}"
    random = os.urandom(10).hex()
    return f"{when[:8]}-{when[8:]}-7{random[:3]}-{_VARIANT[random[3]]}{random[4:7]}-{random[7:19]}"


_VARIANT = {digit: "89ab"[number % 4] for number, digit in enumerate("0123456789abcdef")}
"""Two of the bits of this digit are fixed."""
