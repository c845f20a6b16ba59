"""What the served page shows: asked anew all the time, but of the older calls only now and then."""

from __future__ import annotations

import hashlib
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from llm_toll_autopatch.page.cells import Cells, Unit, add
from llm_toll_autopatch.page.snapshot import Asked, Seen, encoded, greatest_of, recent, unit_of

if TYPE_CHECKING:
    from llm_toll_autopatch.records import CallRecord

__all__ = ["Answer", "Live"]

_OLD_S = 60.0
"""For how long the sums of the older calls are good: a prune or new prices are seen after this."""
_IDLE = 4
"""How many times as long as an answer took nothing is asked, so that a huge ledger has its rest."""


class Answer(NamedTuple):
    """What the page shows, and a name for exactly that."""

    tag: str
    data: str


class _Old(NamedTuple):
    """Of the calls that started before `before`, asked at `asked_at` by the monotonic clock, within `took_s`."""

    before: datetime
    asked_at: float
    took_s: float
    dimensions: list[str]
    unit: Unit
    cells: Cells
    dearest: list[CallRecord]
    slowest: list[CallRecord]


class Live:
    """Answers what a page shows, to any number of threads, one at a time.

    Args:
        asked: Which calls of which ledger.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._lock = threading.Lock()
        self._old: _Old | None = None
        self._answer: Answer | None = None
        self._good_until = 0.0

    def answer(self) -> Answer:
        """Return what there is to be seen now, or was a moment ago.

        Raises:
            LedgerError: There is no ledger, or it cannot be read.
        """
        with self._lock:
            start = time.monotonic()
            if self._answer is None or start >= self._good_until:
                seen = self._seen(datetime.now(UTC))
                data = encoded(self._asked, seen)
                # Two looks at the same calls are the same answer, within an hour: what is "today" depends on it.
                same = data.replace(seen.now.isoformat(timespec="seconds"), seen.now.isoformat(timespec="hours"), 1)
                self._answer = Answer(hashlib.sha256(same.encode()).hexdigest()[:32], data)
                end = time.monotonic()
                self._good_until = end + _IDLE * (end - start)
            return self._answer

    def _seen(self, now: datetime) -> Seen:
        asked, old = self._asked, self._older(now)
        unit, dimensions = old.unit, old.dimensions
        cells = dict(old.cells)
        add(cells, asked.cells(unit, dimensions, old.before, None))
        return Seen(
            now=now,
            dimensions=dimensions,
            unit=unit,
            cells=cells,
            hours=asked.cells("hour", dimensions, recent(now), None) if unit != "hour" else None,
            dearest=greatest_of("cost", [*old.dearest, *asked.greatest("cost", since=old.before)]),
            slowest=greatest_of("duration", [*old.slowest, *asked.greatest("duration", since=old.before)]),
            budgets=asked.budgets(now),
        )

    def _older(self, now: datetime) -> _Old:
        start = time.monotonic()
        before = (now - timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        old = self._old
        if old is None or old.before != before or start - old.asked_at > max(_OLD_S, _IDLE * old.took_s):
            asked = self._asked
            unit, dimensions = unit_of(asked.span()), asked.dimensions()
            self._old = old = _Old(
                before=before,
                asked_at=start,
                dimensions=dimensions,
                unit=unit,
                cells=asked.cells(unit, dimensions, None, before),
                dearest=asked.greatest("cost", until=before),
                slowest=asked.greatest("duration", until=before),
                took_s=time.monotonic() - start,
            )
        return old
