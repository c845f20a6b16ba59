"""`Call`: one billed request, from the gate to its one record."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch import answers, lasting, reporting, user_warnings
from llm_toll_autopatch.budgets.errors import BudgetExceededError
from llm_toll_autopatch.estimate import TokenEstimateWarning
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.records import CallRecord, Outcome, Usage, new_id
from llm_toll_autopatch.settlement import Elsewhere, Settlement, settled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llm_toll_autopatch.budgets.gate import Admission
    from llm_toll_autopatch.budgets.stopping import Allowance
    from llm_toll_autopatch.lane import Delivery
    from llm_toll_autopatch.readers.ceiling import Ceiling
    from llm_toll_autopatch.readers.reader import Reader
    from llm_toll_autopatch.settings import Settings

__all__ = ["Call", "outcome_of"]

_NANO = Decimal(1_000_000_000)
_EXACT = Context(prec=40)  # the program's own may round to three digits


def outcome_of(error: BaseException) -> Outcome:
    """Return how a call ended that `error` ended: an `Exception` is an error, anything above it an interruption.

    A stream that was cut off by a budget was stopped early like any other.
    """
    if isinstance(error, BudgetExceededError):
        return "closed"
    return "error" if isinstance(error, Exception) else "cancelled"


class Call:
    """One billed request. Whoever ends it first writes its record; every later end is nothing.

    Args:
        reader: Reads this request; `reader.begin` has been called.
        settings: The configuration that was active when the call began.
        provider: Label of the provider: `openai`, `azure` ….
        method: The resource method: `chat.completions.create`.
        endpoint: The host that is called.
    """

    __slots__ = (
        "__weakref__", "_began", "_began_at", "admission", "allowance", "chunks", "duration_s", "endpoint",
        "error_type", "first_chunk_s", "id", "method", "outcome", "provider", "reader", "settings", "stream", "waiting",
    )  # fmt: skip

    def __init__(self, reader: Reader, settings: Settings, *, provider: str, method: str, endpoint: str | None) -> None:
        self.reader = reader
        self.settings = settings
        self.provider = provider
        self.method = method
        self.endpoint = endpoint
        self._began_at = time.time()
        self.id = new_id(self._began_at)
        self.stream = False
        self.chunks = 0
        self.first_chunk_s: float | None = None
        self.outcome: Outcome = "abandoned"
        self.error_type: str | None = None
        self.duration_s = 0.0
        self.waiting: Sequence[Delivery] = ()
        self.admission: Admission | None = None
        self.allowance: Allowance | None = None
        self._began = time.monotonic()
        reporting.opened(self)

    @property
    def open(self) -> bool:
        """Whether the call has not ended yet."""
        return reporting.is_open(self)

    @property
    def started_at(self) -> datetime:
        """When the call began, aware, UTC."""
        return datetime.fromtimestamp(self._began_at, UTC)

    @property
    def asks_for_usage(self) -> bool:
        """Whether usage was asked for in the user's place."""
        return self.reader.asks_for_usage

    @property
    def model(self) -> str:
        """The model as asked for."""
        return self.reader.model

    def ceiling(self, request: Mapping[str, Any]) -> Ceiling:
        """Return the most that the request can use, or why that cannot be said."""
        return self.reader.ceiling(request)

    def most(self, ceiling: Ceiling) -> int | None:
        """Return the most that the figures of a ceiling can cost, in nano-USD; None when that is unknown."""
        assert ceiling.usage is not None
        return self.settings.prices.most(
            ceiling.usage,
            provider=self.provider,
            model=self.reader.model,
            endpoint=self.endpoint,
            tiers=ceiling.tiers,
            at=self.started_at,
        )

    def cost_so_far(self, more_output_tokens: int = 0) -> int | None:
        """Return what the call costs as far as it has come, in nano-USD; None when its price is not known.

        Args:
            more_output_tokens: What it would cost with so many more.
        """
        usage, _, elsewhere = self._settle()
        usage = replace(usage, output_tokens=usage.output_tokens + more_output_tokens)
        return self._total(usage, elsewhere, self.started_at)

    def feed(self, chunk: Any) -> bool:
        """Take one chunk of the stream; return True when the user must not see it. Never raises."""
        try:
            if self.reader.feed(chunk):
                return True
        except Exception as error:
            failures.note(f"reading a chunk of {self.method}", error)
        if not self.chunks:
            self.note_first(chunk)
        self.chunks += 1
        return False

    def note_first(self, chunk: Any) -> None:
        """Take note of the first chunk that the user sees."""
        self.first_chunk_s = time.monotonic() - self._began
        answers.note(chunk)

    def finish(self, response: Any) -> None:
        """Take the whole response and end the call. Never raises."""
        try:
            self.reader.finish(response)
        except Exception as error:
            failures.note(f"reading the response of {self.method}", error)
        answers.note(response)
        self.end("completed")

    def end(self, outcome: Outcome, error: BaseException | None = None, *, from_finalizer: bool = False) -> bool:
        """End the call and hand its record to the sink; return False when it had ended already. Never raises.

        Args:
            outcome: How it ended.
            error: What ended it.
            from_finalizer: Whether the garbage collector is calling, in which case nothing may be waited for here:
                the record is made and written by another thread.
        """
        reader = self.reader
        if reader.unfinished and reader.response_id and self.open:
            # The provider works on, whatever became of the stream that told of it.
            lasting.keep(reader.response_id, self)
            return True
        if not reporting.ended(self):
            return False
        try:
            if reader.lasts and reader.response_id:
                lasting.note(reader.response_id)
            self.duration_s = time.monotonic() - self._began
            self.outcome = "error" if reader.failed else outcome
            self.error_type = None if error is None else type(error).__name__
            reporting.closed(self, later=from_finalizer)
        except Exception as failure:
            failures.note(f"recording {self.method}", failure)
        return True

    def give_up(self) -> None:
        """End the call as abandoned, whatever it waits for."""
        self.reader.unfinished = False
        self.end("abandoned", from_finalizer=True)

    async def written(self) -> None:
        """Wait until the record is written where that did not work at once, within a bound; for code that can await."""
        if self.waiting:
            await reporting.written(self)

    def drop(self) -> None:
        """End the call without a record: nothing was sent."""
        reporting.ended(self)
        reporting.dropped(self)

    def record(self) -> CallRecord:
        """Return the record of a call that has ended, priced. May warn, but never raises on account of it."""
        reader = self.reader
        usage, source, elsewhere = self._settle()
        started_at = self.started_at
        cost: Decimal | None = None
        if source != "missing":
            nano = self._total(usage, elsewhere, started_at)
            cost = None if nano is None else _EXACT.divide(nano, _NANO)
        elif self.outcome == "error":  # is not billed; whether one that was interrupted in flight is, nobody can tell
            cost = Decimal(0)
        for _, more in elsewhere:
            usage += more
        draft = CallRecord(
            id=self.id,
            provider=self.provider,
            operation=reader.operation,
            method=self.method,
            model=reader.model,
            response_model=reader.response_model,
            service_tier=reader.service_tier,
            stream=self.stream,
            outcome=self.outcome,
            usage=usage,
            usage_source=source,
            cost_usd=cost,
            project=self.settings.project,
            tags=self.settings.tags,
            started_at=started_at,
            duration_s=self.duration_s,
            time_to_first_chunk_s=self.first_chunk_s,
            chunks=self.chunks,
            response_id=reader.response_id,
            error_type=self.error_type,
            endpoint=self.endpoint,
        )
        if source in ("estimated", "partial"):
            self._warn(draft)
        return draft

    def _settle(self) -> Settlement:
        """Return the usage of the model that was called, its source, and what others used for the same request."""
        reader = self.reader
        try:
            reading = reader.usage(ended=self.outcome == "completed")
        except Exception as error:
            failures.note(f"reading the usage of {self.method}", error)
            reading = None
        if reading is None:
            if not self.chunks and self.outcome in ("error", "cancelled"):
                return Settlement(Usage(), "missing")
            if reader.lasts and self.outcome == "abandoned":  # the provider works on, and bills what nobody has seen
                return Settlement(Usage(), "missing")
        return settled(reader, reading, estimate_input=self.settings.estimate_input)

    def _total(self, usage: Usage, elsewhere: Elsewhere, at: datetime) -> int | None:
        """Return the cost in nano-USD; None when any part of it is not known."""
        reader = self.reader
        total = self._nano(usage, reader.model, reader.response_model, at)
        for model, more in elsewhere:
            part = self._nano(more, model, model, at)
            total = None if total is None or part is None else total + part
        return total

    def _nano(self, usage: Usage, model: str, response_model: str | None, at: datetime) -> int | None:
        return self.settings.prices.cost(
            usage,
            provider=self.provider,
            model=model,
            response_model=response_model,
            endpoint=self.endpoint,
            service_tier=self.reader.service_tier,
            at=at,
        )

    def _warn(self, record: CallRecord) -> None:
        message = (
            f"{record.provider} reported {'no' if record.usage_source == 'estimated' else 'incomplete'} usage for "
            f"{record.method} ({record.model}, {record.outcome}): the record holds an estimate of "
            f"{record.usage.input_tokens} input and {record.usage.output_tokens} output tokens"
        )
        user_warnings.warn(message, TokenEstimateWarning)
