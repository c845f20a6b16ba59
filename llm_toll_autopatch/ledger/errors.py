"""What a ledger raises."""

from __future__ import annotations

from llm_toll_autopatch.sinks import SinkUnavailableError

__all__ = ["LedgerError", "UnusableLedgerError"]


class LedgerError(Exception):
    """The ledger cannot be used as it is, and trying again would not help: the message says what would."""


class UnusableLedgerError(LedgerError, SinkUnavailableError):
    """It is the ledger that is wrong, not the record: once somebody has put that right, the record can be written."""
