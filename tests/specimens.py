"""Records for tests of what becomes of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from llm_toll_autopatch.records import CallRecord, Usage, new_id

NOON = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)


def record(**changes: Any) -> CallRecord:
    """A record like those of a short chat, changed in places."""
    plain = CallRecord(
        id=new_id(),
        provider="openai",
        operation="chat",
        method="chat.completions.create",
        model="gpt-5-mini",
        usage=Usage(input_tokens=1200, output_tokens=450),
        usage_source="reported",
        cost_usd=Decimal("0.00123"),
        project="acme",
        started_at=NOON,
        duration_s=0.81,
    )
    return replace(plain, **changes)
