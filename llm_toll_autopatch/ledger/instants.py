"""Moments as text, in the ledger's columns."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["instant"]


def instant(moment: datetime) -> str:
    """Return `moment` as it stands in `started_at`: ISO 8601, UTC, of one width, so that text sorts by time."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    # With a timespec it takes half as long again, at every call.
    return moment.isoformat() if moment.microsecond else moment.isoformat(timespec="microseconds")
