"""Calls that no patch follows: `track_costs` makes them of the results of a function."""

from __future__ import annotations

import time
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from llm_toll_autopatch import answers, lasting, reporting, user_warnings
from llm_toll_autopatch.accumulator import StreamAccumulator
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.metering import Call
from llm_toll_autopatch.providers.calls import charge
from llm_toll_autopatch.readers.reader import Reader
from llm_toll_autopatch.records import CallRecord, Usage
from llm_toll_autopatch.settlement import Settlement
from llm_toll_autopatch.shapes import label_of_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llm_toll_autopatch.budgets.stopping import Allowance
    from llm_toll_autopatch.extraction import Extraction
    from llm_toll_autopatch.records import Outcome
    from llm_toll_autopatch.settings import Settings
    from llm_toll_autopatch.spend import Spend

__all__ = ["Metered", "Origin", "TrackedCall", "TrackedStream"]

_REMEMBERED = 1_000
_NO_CHUNK = (str, bytes, bytearray, int, float, type(None))


class Metered:
    """The calls that others follow while a tracked function runs: the patches, or other tracked functions.

    A response with the id of one of them has been counted already. Where one of the two has no id, the kind of call
    decides, or that the tokens are the same.

    Args:
        spend: That of the function's scope.
    """

    def __init__(self, spend: Spend) -> None:
        self._spend = spend
        self._ended: deque[CallRecord] = deque(maxlen=_REMEMBERED)
        self._own: set[str] = set()
        spend.told = self._ended.append

    def __bool__(self) -> bool:
        return next(self._calls(), None) is not None

    def except_for(self, call: TrackedCall) -> None:
        """Leave out a call of the function's own."""
        self._own.add(call.id)

    @property
    def any_open(self) -> bool:
        """Whether one of the calls has not ended."""
        return any(call.id not in self._own for call in reporting.open_within(self._spend))

    def has(self, reader: Reader) -> bool:
        """Return whether the response that `reader` has read is that of one of the calls."""
        tokens: tuple[int, int] | None = None
        for operation, response_id, theirs in self._calls():
            if response_id is not None and reader.response_id is not None:
                if response_id == reader.response_id:
                    return True
            elif operation == reader.operation:
                return True
            if theirs is not None and any(theirs):
                tokens = _tokens(reader) if tokens is None else tokens
                if theirs == tokens:
                    return True
        return False

    def _calls(self) -> Iterator[tuple[str, str | None, tuple[int, int] | None]]:
        for record in tuple(self._ended):
            if record.id not in self._own:
                usage = record.usage
                yield record.operation, record.response_id, (usage.input_tokens, usage.output_tokens)
        for call in reporting.open_within(self._spend):
            if call.id not in self._own:
                yield call.reader.operation, call.reader.response_id, None


def _tokens(reader: Reader) -> tuple[int, int]:
    reading = reader.usage(ended=True)
    return (0, 0) if reading is None else (reading.usage.input_tokens, reading.usage.output_tokens)


class _Unread(Reader):
    """Stands where a reader will be as soon as it is known what the response is."""

    operation = "unknown"
    unbounded = "track_costs does not see the request; patch_all() does"
    __slots__ = ()

    def usage(self, *, ended: bool) -> None:
        """Return that nothing was reported."""


class Origin(NamedTuple):
    """What is known of a response before any of it has been read.

    Attributes:
        method: The function that it comes from.
        started_at: When that was called.
        began: The same on the monotonic clock.
        model: The user's `model=`.
        certain: Whether it is known to be an answer to a billed request, whatever is in it.
        patched: Whether what the SDKs send is metered by the patches.
    """

    method: str
    started_at: datetime
    began: float
    model: str | None
    patched: bool
    certain: bool = False


class TrackedCall(Call):
    """A response that a tracked function gave, as one call. It turns out by its end whether it is one to be counted.

    Args:
        settings: The configuration, as the function's scope has changed it.
        origin: What is known of it.
        metered: What others have counted.
        extraction: The user's `extract_usage`.
    """

    __slots__ = ("_accumulator", "_extraction", "_metered", "_origin", "_repeated", "_saw_objects")

    def __init__(
        self, settings: Settings, origin: Origin, metered: Metered, extraction: Extraction | None = None
    ) -> None:
        super().__init__(
            _Unread(),
            settings,
            provider="unknown",
            method=origin.method,
            endpoint=None,
        )
        metered.except_for(self)
        self._began_at, self._began = origin.started_at.timestamp(), origin.began
        self._accumulator = StreamAccumulator(settings.measure)
        self._extraction = extraction
        self._metered = metered
        self._origin = origin
        self._repeated = False
        self._saw_objects = False

    def known(self, *, provider: str | None, endpoint: str | None, certain: bool) -> None:
        """Take note of what is known of the response, now that it is here."""
        self._origin = self._origin._replace(certain=certain)
        self.provider = provider or "unknown"
        self.endpoint = endpoint

    def begins_another(self, chunk: Any) -> bool:
        """Return whether `chunk` is the first of a next response. Never raises."""
        try:
            return self._accumulator.begins_another(chunk)
        except Exception as error:
            failures.note("telling one response from the next", error)
        return False

    def successor(self) -> TrackedCall:
        """Begin the call of the next response in the same stream."""
        origin = self._origin._replace(started_at=datetime.now(UTC), began=time.monotonic())
        extraction = None if self._extraction is None else self._extraction.again()
        call = TrackedCall(self.settings, origin, self._metered, extraction)
        call.stream = True
        call.provider, call.endpoint, call.allowance = self.provider, self.endpoint, self.allowance
        if call.allowance is not None:
            call.allowance.chars = -1
        return call

    def feed(self, chunk: Any) -> bool:
        """Take one chunk; the user sees every one of them. Never raises."""
        if self._extraction is not None:
            self._extraction.take(chunk)
        if self._accumulator.feed(chunk):
            self._adopt(chunk)
        elif not isinstance(chunk, _NO_CHUNK):
            self._saw_objects = True
        if not self.chunks:
            self.note_first(chunk)
        self.chunks += 1
        return False

    def finish(self, response: Any) -> None:
        """Take a whole result and end the call. Never raises."""
        if self._extraction is not None and not self._metered:
            self._extraction.take(response)
        if self._accumulator.finish(response):
            self._adopt(response)
            answers.note(response)
        self.end("completed")

    def _adopt(self, seen: Any) -> None:
        reader = self._accumulator.reader
        if reader is None or reader is self.reader:
            return
        self.reader = reader
        self._repeated = answers.known(seen)

    def end(self, outcome: Outcome, error: BaseException | None = None, *, from_finalizer: bool = False) -> bool:
        """End the call: with a record, or without one when there is nothing to count. Never raises.

        A stream in which there is nothing of any language model is left as it is when its consumer breaks off.
        """
        try:
            if not self._counts():
                if outcome == "closed" and self._is_foreign():
                    return False
                if not reporting.ended(self):
                    return False
                reporting.dropped(self, later=from_finalizer)
                return True
        except Exception as failure:
            failures.note(f"telling what {self.method} returned", failure)
        self.reader.unfinished = False
        if self.admission is None and not from_finalizer and self.open:
            charge(self)  # nobody was asked before: the limits learn of it now
        return super().end(outcome, error, from_finalizer=from_finalizer)

    def _counts(self) -> bool:
        reader = self.reader
        if self._repeated or (self._recognised and self._metered.has(reader)):
            return False
        if reader.unfinished or (reader.lasts and lasting.counted(reader.response_id or "")):
            return False  # nothing to bill yet, or billed already
        if self._recognised:
            return True
        if self._metered:
            return False
        if self._extraction is not None and (self._extraction.usage is not None or self._extraction.failed):
            return True
        return not self._origin.patched and (self._origin.certain or (self.stream and self._saw_objects))

    @property
    def _recognised(self) -> bool:
        return self._accumulator.reader is not None

    def _is_foreign(self) -> bool:
        """Return whether nothing in the stream came from a model, so that it is none of our business."""
        return not (self._recognised or self._origin.certain or self._metered.any_open)

    def record(self) -> CallRecord:
        """Return the record, with the user's model in place of what the response names."""
        extraction = self._extraction
        if extraction is not None:
            extraction.warn_if_failed()
        self._name_model()
        record = super().record()
        told = extraction is not None and extraction.failed
        if record.usage_source == "missing" and record.outcome != "error" and not told:
            user_warnings.warn(
                f"track_costs can read nothing in what {self.method} gave: its cost is not known; "
                "extract_usage= can tell it",
                UserWarning,
            )
        return record

    def cost_so_far(self, more_output_tokens: int = 0) -> int | None:
        """Return what the call costs as far as it has come, in nano-USD, by the user's model if there is one."""
        self._name_model()
        return super().cost_so_far(more_output_tokens)

    def _name_model(self) -> None:
        reader, extraction = self.reader, self._extraction
        model = self._origin.model or (extraction.model if extraction is not None else None)
        if model is not None:
            # Its maker's price holds, and not that of a host which may be anybody's.
            reader.model, reader.response_model, self.endpoint = model, None, None
            self.provider = label_of_model(model) or self.provider
        else:
            reader.model = reader.model or reader.response_model or ""
        if self.provider == "unknown":
            self.provider = label_of_model(reader.model) or self._accumulator.provider or "unknown"

    def _settle(self) -> Settlement:
        if self._extraction is not None and self._extraction.usage is not None:
            return Settlement(self._extraction.usage, "reported")
        return super()._settle() if self._recognised else Settlement(Usage(), "missing")


class TrackedStream:
    """What the proxy of a tracked function's stream reports to: one call for each response that passes.

    Args:
        call: The first.
    """

    __slots__ = ("_call",)

    def __init__(self, call: TrackedCall) -> None:
        call.stream = True
        self._call = call

    @property
    def allowance(self) -> Allowance | None:
        """How long the stream may become."""
        return self._call.allowance

    # What cuts a stream off looks at a call and its reader, which here come one after the other.

    @property
    def reader(self) -> TrackedStream:
        """What tells the length of the output."""
        return self

    @property
    def output_chars(self) -> int:
        """The length of the output of the response that passes."""
        return self._call.reader.output_chars

    @property
    def chunks(self) -> int:
        """The number of its chunks."""
        return self._call.chunks

    @property
    def method(self) -> str:
        """The function."""
        return self._call.method

    @property
    def started_at(self) -> datetime:
        """When it began."""
        return self._call.started_at

    def cost_so_far(self, more_output_tokens: int = 0) -> int | None:
        """Return what it costs as far as it has come, in nano-USD."""
        return self._call.cost_so_far(more_output_tokens)

    def feed(self, chunk: Any) -> bool:
        """Let the chunk pass, and note it."""
        call = self._call
        if call.begins_another(chunk):
            call.end("completed")
            self._call = call = call.successor()
        return call.feed(chunk)

    def end(self, outcome: Outcome, error: BaseException | None = None, *, from_finalizer: bool = False) -> bool:
        """End the last call; return False when that had ended, or when the stream is to be left alone."""
        return self._call.end(outcome, error, from_finalizer=from_finalizer)

    async def written(self) -> None:
        """Wait until the last record is written, within a bound."""
        await self._call.written()
