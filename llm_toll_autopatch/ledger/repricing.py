"""Computing the costs of past calls again, with the prices that are known now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from llm_toll_autopatch.ledger.money import from_nano_usd, sum_usd, to_nano_usd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime
    from decimal import Decimal

    from llm_toll_autopatch.ledger.location import Ledger
    from llm_toll_autopatch.records import CallRecord, Usage

__all__ = ["Repriced", "Repricing", "reprice"]

_AT_ONCE = 500
"""Calls in a transaction: other processes write between two of these."""

# The record does not say which of its tokens were another model's, so its cost cannot be computed again.
_OF_SEVERAL_MODELS = frozenset({"advisor_input_tokens", "advisor_output_tokens"})


class _Prices(Protocol):
    def cost(
        self,
        usage: Usage,
        *,
        provider: str,
        model: str,
        response_model: str | None,
        endpoint: str | None,
        service_tier: str | None,
        at: datetime,
    ) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Repriced:
    """One call whose cost is another one now. None: not known."""

    record: CallRecord
    before: Decimal | None
    after: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Repricing:
    """What was found.

    Attributes:
        calls: Calls that were looked at.
        changed: Those whose cost is another one now.
        unknown: Those whose cost is still not known, by model.
        kept: Those whose cost was known and could not be computed now: it stays as it is.
    """

    calls: int
    changed: tuple[Repriced, ...]
    unknown: dict[str, int]
    kept: int

    @property
    def before(self) -> Decimal:
        """The known costs of what changed, in USD, as they were."""
        return sum_usd(call.before for call in self.changed if call.before is not None)

    @property
    def after(self) -> Decimal:
        """Their costs now."""
        return sum_usd(call.after for call in self.changed)


def reprice(
    ledger: Ledger,
    prices: _Prices,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    project: str | None = None,
    only_unknown: bool = False,
    dry_run: bool = False,
    progress: Callable[[int], None] = lambda _calls: None,
) -> Repricing:
    """Compute the costs of past calls again and put them into the ledger; the former ones stay there beside them.

    A cost that is known is never replaced by one that is not. A call without any usage keeps its cost, which does not
    come from a price.

    Args:
        ledger: Where the calls are.
        prices: What things cost now. The prices of the day on which a call was made hold, where the source has them.
        since: Only calls that started then or later.
        until: Only calls that started before.
        project: Only calls of this project.
        only_unknown: Only calls whose cost is not known.
        dry_run: Whether to leave the ledger as it is.
        progress: Told, now and then, how many more calls have been read.

    Raises:
        LedgerError: There is no ledger, or it cannot be read.
        SinkUnavailableError: It is busy. What was written before stays written; doing it again does the rest.
    """
    calls = kept = 0
    changed: list[Repriced] = []
    unknown: dict[str, int] = {}
    for number, record in enumerate(ledger.records(since, until, project), 1):
        if not number % _AT_ONCE:
            progress(_AT_ONCE)
        if record.usage_source == "missing" or (only_unknown and record.cost_usd is not None):
            continue
        calls += 1
        after = _cost(record, prices)
        if after is not None:
            if after != record.cost_usd:
                changed.append(Repriced(record, record.cost_usd, after))
        elif record.cost_usd is None:
            model = record.response_model or record.model
            unknown[model] = unknown.get(model, 0) + 1
        else:
            kept += 1
    if not dry_run:
        for start in range(0, len(changed), _AT_ONCE):
            ledger.replace_costs(list(_in_nano(changed[start : start + _AT_ONCE])))
    return Repricing(calls=calls, changed=tuple(changed), unknown=unknown, kept=kept)


def _cost(record: CallRecord, prices: _Prices) -> Decimal | None:
    if not _OF_SEVERAL_MODELS.isdisjoint(record.usage.details):
        return None
    nano = prices.cost(
        record.usage,
        provider=record.provider,
        model=record.model,
        response_model=record.response_model,
        endpoint=record.endpoint,
        service_tier=record.service_tier,
        at=record.started_at,
    )
    return None if nano is None else from_nano_usd(nano)


def _in_nano(changed: Iterable[Repriced]) -> Iterator[tuple[str, int | None, int]]:
    for call in changed:
        yield call.record.id, None if call.before is None else to_nano_usd(call.before), to_nano_usd(call.after)
