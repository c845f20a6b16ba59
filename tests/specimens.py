"""Records for tests of what becomes of them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from llm_toll_autopatch.records import USAGE_COUNTS, CallRecord, Usage
from llm_toll_autopatch.testing import sample_record

NOON = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)


def record(**changes: Any) -> CallRecord:
    """A record like those of a short chat, changed in places."""
    ours = {"cost_usd": Decimal("0.00123"), "project": "acme", "started_at": NOON, "duration_s": 0.81}
    return sample_record(**{**ours, **changes})


TEXTS = st.text(max_size=20)


def any_record(
    ids: st.SearchStrategy[str], costs: st.SearchStrategy[Decimal], counts: st.SearchStrategy[int]
) -> st.SearchStrategy[CallRecord]:
    """Records with anything in every field, within what the one who keeps them can hold."""
    maybe = TEXTS | st.none()
    return st.builds(
        CallRecord,
        id=ids,
        provider=TEXTS,
        operation=TEXTS,
        method=TEXTS,
        model=TEXTS,
        response_model=maybe,
        service_tier=maybe,
        stream=st.booleans(),
        outcome=st.sampled_from(["completed", "closed", "abandoned", "error", "cancelled"]),
        usage=st.builds(
            Usage, **dict.fromkeys(USAGE_COUNTS, counts), details=st.dictionaries(TEXTS, counts, max_size=3)
        ),
        usage_source=st.sampled_from(["reported", "partial", "estimated", "missing"]),
        cost_usd=costs | st.none(),
        project=TEXTS,
        tags=st.dictionaries(TEXTS, TEXTS, max_size=3),
        started_at=st.datetimes(timezones=st.just(UTC)),
        duration_s=st.floats(0, 1e6),
        time_to_first_chunk_s=st.floats(0, 1e6) | st.none(),
        chunks=counts,
        response_id=maybe,
        error_type=maybe,
        endpoint=maybe,
    )
