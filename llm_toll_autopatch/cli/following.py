"""Calls as they come into a ledger, and a line for each."""

from __future__ import annotations

import time
from datetime import UTC
from typing import TYPE_CHECKING

from llm_toll_autopatch.cli.spending import cost_text
from llm_toll_autopatch.cli.table import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llm_toll_autopatch.ledger.groupings import Where
    from llm_toll_autopatch.ledger.location import Ledger
    from llm_toll_autopatch.records import CallRecord

__all__ = ["HEADER", "RIGHT", "cells_of", "followed", "is_there"]

HEADER = ("started (UTC)", "project", "model", "method", "input", "output", "cost", "took", "outcome")
RIGHT = (False, False, False, False, True, True, True, True, False)


def cells_of(record: CallRecord) -> list[str]:
    """Return a call's cells, for columns of `HEADER`."""
    mark = "~" if record.usage_source in {"partial", "estimated"} else ""
    return [
        record.started_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S"),
        printable(record.project) or "-",
        printable(record.response_model or record.model) or "-",
        printable(record.method),
        f"{mark}{record.usage.input_tokens:,}",
        f"{mark}{record.usage.output_tokens:,}",
        cost_text(record.cost_usd, estimated=bool(mark)),
        f"{record.duration_s:,.1f}s",
        record.outcome + (f" ({printable(record.error_type)})" if record.error_type else ""),
    ]


def is_there(ledger: Ledger) -> bool:
    """Return whether the ledger has been made; one that is no file always has."""
    path = getattr(ledger, "path", None)
    return path is None or path.exists()


def followed(ledger: Ledger, latest: int, where: Where, interval_s: float) -> Iterator[list[CallRecord]]:
    """Yield the latest calls, then at each interval those that have come in since. Waits for a ledger to be made.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    while not is_there(ledger):
        yield []
        time.sleep(interval_s)
    for records in ledger.arrivals(latest, where=where):
        yield records
        time.sleep(interval_s)
