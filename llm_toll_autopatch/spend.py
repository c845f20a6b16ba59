"""`Spend`: what a scope has cost so far."""

from __future__ import annotations

import threading
from collections import deque
from decimal import Decimal
from typing import TYPE_CHECKING

from llm_toll_autopatch.records import Usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from llm_toll_autopatch.records import CallRecord

__all__ = ["Spend"]


class Spend:
    """What the calls of a scope have used and cost so far; prints itself readably.

    A call counts when its record is made, also after the block has ended: a stream that was opened in it may be read to
    its end elsewhere. Calls of inner scopes count too. Safe to share between threads.
    """

    def __init__(self) -> None:
        self.told: Callable[[CallRecord], object] | None = None
        """Is told of each call that counts; must not raise."""
        self._arrived: deque[CallRecord] = deque()
        self._adding = threading.Lock()
        self._calls = 0
        self._usage = Usage()
        self._cost_usd = Decimal(0)
        self._unknown = 0
        self._estimated = 0

    def add(self, record: CallRecord) -> None:
        """Count a call."""
        if self.told is not None:
            self.told(record)
        self._arrived.append(record)
        self._count()

    def _count(self) -> None:
        # A finalizer may come here in the middle of this very loop: it must neither wait for itself nor be lost. It
        # leaves its record to the loop.
        while self._arrived and self._adding.acquire(blocking=False):
            try:
                while self._arrived:
                    record = self._arrived.popleft()
                    self._calls += 1
                    self._usage += record.usage
                    self._estimated += record.usage_source in ("estimated", "partial")
                    if record.cost_usd is None:
                        self._unknown += 1
                    else:
                        self._cost_usd += record.cost_usd
            finally:
                self._adding.release()

    @property
    def calls(self) -> int:
        """Number of calls that have ended."""
        return self._calls

    @property
    def usage(self) -> Usage:
        """Their tokens and units."""
        return self._usage

    @property
    def cost_usd(self) -> Decimal | None:
        """Their cost in USD, as far as it is known; None when it is known of none."""
        return None if self._calls and self._unknown == self._calls else self._cost_usd

    @property
    def unknown_costs(self) -> int:
        """Number of calls whose cost is not known: they are not in `cost_usd`."""
        return self._unknown

    @property
    def estimated_calls(self) -> int:
        """Number of calls whose tokens are estimated wholly or in part."""
        return self._estimated

    def _repr_html_(self) -> str:
        from llm_toll_autopatch.notebook.tables import of_spend

        return of_spend(self)

    def __repr__(self) -> str:
        return f"<Spend: {self}>"

    def __str__(self) -> str:
        cost = "unknown cost" if self.cost_usd is None else f"${self.cost_usd:f}"
        calls = f"{self.calls} call{'' if self.calls == 1 else 's'}"
        text = f"{calls}, {self._usage.input_tokens:,} input and {self._usage.output_tokens:,} output tokens, {cost}"
        if self._unknown and self.cost_usd is not None:
            text += f" and {self._unknown} unknown"
        return text + (f" ({self._estimated} estimated)" if self._estimated else "")
