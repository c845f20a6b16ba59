"""What a ledger raises."""

from __future__ import annotations

__all__ = ["LedgerError"]


class LedgerError(Exception):
    """The ledger cannot be used as it is, and trying again would not help: the message says what would."""
