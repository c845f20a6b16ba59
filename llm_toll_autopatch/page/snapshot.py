"""What the page shows of a ledger, as one JSON object: docs/page.md describes it."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from llm_toll_autopatch.budgets.limits import window_of
from llm_toll_autopatch.ledger.groupings import TAG
from llm_toll_autopatch.ledger.money import to_nano_usd
from llm_toll_autopatch.page.cells import Cells, Unit, cells_of, shown, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from llm_toll_autopatch.budgets.keeper import Standing
    from llm_toll_autopatch.ledger.groupings import Where
    from llm_toll_autopatch.ledger.totals import Totals
    from llm_toll_autopatch.records import CallRecord

__all__ = [
    "BYTES_MAX",
    "DIMENSIONS",
    "Asked",
    "PageLedger",
    "Seen",
    "encoded",
    "greatest_of",
    "look",
    "nothing",
    "recent",
    "unit_of",
]

DIMENSIONS = ("project", "model", "provider", "outcome", "usage_source")
"""Groupings that calls are always divided by."""

BYTES_MAX = 2_000_000
"""How large the JSON may be; the page around it has a quarter of a megabyte."""

CELLS_MAX = 40_000
CELLS_MIN = 50
CALLS_MAX = 150
"""Calls in each of the lists."""
BUDGETS_MAX = 200

_TAGS_MAX = 3
_TAG_VALUES_MAX = 50
_SAMPLE = 2_000
_HOURS = timedelta(hours=48)
_HOURLY = timedelta(days=3)
"""A ledger whose calls are from no more than this is shown by the hour."""


class PageLedger(Protocol):
    """What the page asks of a ledger. It makes use of `greatest` and `budgets` where a ledger has them."""

    def records(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
        project: str | None = None,
        limit: int | None = None,
        *,
        where: Where | None = None,
        newest_first: bool = False,
    ) -> Iterator[CallRecord]:
        """Iterate over records."""
        ...

    def totals(
        self,
        by: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        *,
        where: Where | None = None,
    ) -> list[Totals]:
        """Return sums."""
        ...


class Asked:
    """Which calls of which ledger the page is about.

    Args:
        ledger: The ledger.
        since: Only calls that started then or later.
        until: Only calls that started before.
        where: Only calls of these values.
        tags: Names of tags that calls are divided by, before those that are found.
    """

    def __init__(
        self,
        ledger: PageLedger,
        since: datetime | None = None,
        until: datetime | None = None,
        where: Where | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        self.ledger = ledger
        self.since = since
        self.until = until
        self.where = dict(where or {})
        self.tags = tuple(tags)

    def cells(self, unit: Unit, dimensions: Sequence[str], since: datetime | None, until: datetime | None) -> Cells:
        """Return the cells of the calls of a part of the time."""
        return cells_of(self.ledger.totals([unit, *dimensions], *self._within(since, until), where=self.where))

    def span(self) -> tuple[datetime, datetime] | None:
        """Return when the first and the last call started; None when there are none."""
        ends = [
            next(iter(self.ledger.records(self.since, self.until, limit=1, where=self.where, newest_first=last)), None)
            for last in (False, True)
        ]
        first, last = ends
        return (first.started_at, last.started_at) if first and last else None

    def dimensions(self) -> list[str]:
        """Return what calls are divided by: the usual, and tags of the last ones that have not too many values."""
        values: Counter[str] = Counter()
        seen: dict[str, set[str]] = {}
        latest = self.ledger.records(self.since, self.until, limit=_SAMPLE, where=self.where, newest_first=True)
        for record in latest:
            for name, value in record.tags.items():
                values[name] += 1
                seen.setdefault(name, set()).add(value)
        most_used = sorted(values, key=lambda name: (-values[name], name))
        found = [name for name in most_used if name and len(seen[name]) <= _TAG_VALUES_MAX]
        tags = list(dict.fromkeys([*self.tags, *found]))[: max(_TAGS_MAX, len(self.tags))]
        return [*DIMENSIONS, *(TAG + name for name in tags)]

    def greatest(self, measure: str, since: datetime | None = None, until: datetime | None = None) -> list[CallRecord]:
        """Return the calls of a part of the time that cost the most or took the longest, at most `CALLS_MAX`."""
        since, until = self._within(since, until)
        ask = getattr(self.ledger, "greatest", None)
        if ask is not None:
            found: list[CallRecord] = ask(measure, CALLS_MAX, since, until, where=self.where)
            return found
        return greatest_of(measure, self.ledger.records(since, until, where=self.where))

    def _within(self, since: datetime | None, until: datetime | None) -> tuple[datetime | None, datetime | None]:
        return (
            max(filter(None, (since, self.since)), default=None),
            min(filter(None, (until, self.until)), default=None),
        )

    def budgets(self, now: datetime) -> list[Standing] | None:
        """Return how budgets stand now, None when this ledger cannot tell."""
        ask = getattr(self.ledger, "budgets", None)
        found: list[Standing] | None = None if ask is None else ask(now)
        if found is None:
            return None
        return [each for each in found if each.limit.period != "minute" and getattr(each, "is_capped", True)]


def unit_of(span: tuple[datetime, datetime] | None) -> Unit:
    """Return how long the periods are that show such a span of time."""
    return "hour" if span is None or span[1] - span[0] <= _HOURLY else "day"


def greatest_of(measure: str, calls: Iterable[CallRecord]) -> list[CallRecord]:
    """Return those of `calls` that cost the most or took the longest, at most `CALLS_MAX`; no unknown costs."""
    if measure == "duration":
        return heapq.nlargest(CALLS_MAX, calls, key=lambda call: (call.duration_s, call.started_at))
    known = (call for call in calls if call.cost_usd is not None)
    return heapq.nlargest(CALLS_MAX, known, key=lambda call: (call.cost_usd or 0, call.started_at))


class Seen(NamedTuple):
    """What a ledger has answered.

    Attributes:
        now: When.
        dimensions: What calls are divided by.
        unit: The periods of `cells`.
        cells: The sums of all calls.
        hours: Those of the last hours; None where `cells` are by the hour.
        dearest: The calls that cost the most.
        slowest: The calls that took the longest.
        budgets: How budgets stand; None when the ledger cannot tell.
    """

    now: datetime
    dimensions: list[str]
    unit: Unit
    cells: Cells
    hours: Cells | None
    dearest: list[CallRecord]
    slowest: list[CallRecord]
    budgets: list[Standing] | None


def look(asked: Asked, now: datetime | None = None) -> Seen:
    """Ask the ledger.

    Args:
        asked: Which calls of which ledger.
        now: The moment that "today" is of; None for now.

    Raises:
        ValueError: `asked` has an unknown name.
        LedgerError: There is no ledger, or it cannot be read.
    """
    now = now or datetime.now(UTC)
    unit, dimensions = unit_of(asked.span()), asked.dimensions()
    return Seen(
        now=now,
        dimensions=dimensions,
        unit=unit,
        cells=asked.cells(unit, dimensions, None, None),
        hours=asked.cells("hour", dimensions, recent(now), None) if unit != "hour" else None,
        dearest=asked.greatest("cost"),
        slowest=asked.greatest("duration"),
        budgets=asked.budgets(now),
    )


def nothing(now: datetime) -> Seen:
    """Return what is to be seen where there is no ledger."""
    return Seen(now, list(DIMENSIONS), "hour", {}, None, [], [], None)


def recent(now: datetime) -> datetime:
    """Return when the last hours begin."""
    return now.astimezone(UTC).replace(minute=0, second=0, microsecond=0) - _HOURS


def encoded(asked: Asked, seen: Seen) -> str:
    """Return the page's object as JSON in ASCII, of at most about `BYTES_MAX`, which can stand in an HTML `script`."""
    limit = CELLS_MAX
    while True:
        text = json.dumps(_page(asked, seen, limit), separators=(",", ":"))
        # No tag, comment or entity of HTML can begin without these.
        text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
        if len(text) <= BYTES_MAX or limit < CELLS_MIN:
            return text
        limit //= 2


def _page(asked: Asked, seen: Seen, limit: int) -> dict[str, Any]:
    chosen = {name: [value] if isinstance(value, str) else value for name, value in asked.where.items()}
    return {
        "version": 1,
        "generated_at": seen.now.isoformat(timespec="seconds"),
        "chosen": {
            "since": asked.since and asked.since.isoformat(timespec="seconds"),
            "until": asked.until and asked.until.isoformat(timespec="seconds"),
            "where": {name: list(map(shown, values)) for name, values in chosen.items()},
        },
        "dimensions": seen.dimensions,
        "tables": [
            table(seen.cells, seen.unit, seen.dimensions, limit),
            *([] if seen.hours is None else [table(seen.hours, "hour", seen.dimensions, limit // 2)]),
        ],
        "budgets": _budgets(seen, chosen.get("project")),
        "dearest": [_call(call, seen.dimensions) for call in seen.dearest],
        "slowest": [_call(call, seen.dimensions) for call in seen.slowest],
        "calls_max": CALLS_MAX,
    }


def _budgets(seen: Seen, projects: Sequence[str] | None) -> list[dict[str, Any]] | None:
    if seen.budgets is None:
        return None
    chosen = [each for each in seen.budgets if projects is None or each.limit.account in projects]
    return [
        {
            "project": shown(standing.limit.account),
            "unit": standing.limit.unit,
            "period": standing.limit.period,
            "cap": str(standing.limit.amount),
            "spent": str(standing.spent),
            "held": str(standing.held),
            "ends_at": None
            if standing.limit.period == "total"
            else window_of(standing.limit.period, seen.now)[1].isoformat(timespec="seconds"),
        }
        for standing in chosen[:BUDGETS_MAX]
    ]


def _call(record: CallRecord, dimensions: Sequence[str]) -> dict[str, Any]:
    own = {
        "project": record.project,
        "model": record.response_model or record.model,
        "provider": record.provider,
        "outcome": record.outcome,
        "usage_source": record.usage_source,
    }
    return {
        "id": shown(record.id),
        "started_at": record.started_at.astimezone(UTC).isoformat(timespec="seconds"),
        "values": [
            shown(str(own[name] if name in own else record.tags.get(name.removeprefix(TAG), ""))) for name in dimensions
        ],
        "method": shown(record.method),
        "error_type": record.error_type and shown(record.error_type),
        "input_tokens": record.usage.input_tokens,
        "output_tokens": record.usage.output_tokens,
        "nano_usd": None if record.cost_usd is None else str(to_nano_usd(record.cost_usd)),
        "duration_s": round(record.duration_s, 3),
    }
