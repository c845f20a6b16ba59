"""Cutting off a stream that reaches a budget: what has come is delivered, then `BudgetExceededError` is raised."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

from llm_toll_autopatch.budgets import elsewhere
from llm_toll_autopatch.budgets.errors import BudgetExceededError
from llm_toll_autopatch.estimate import CHARS_PER_TOKEN
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.ledger.money import from_nano_usd

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Generator, Iterator

    from llm_toll_autopatch.budgets.keeper import Keeper
    from llm_toll_autopatch.budgets.limits import Limit
    from llm_toll_autopatch.metering import Call
    from llm_toll_autopatch.meters import Meter

__all__ = ["Allowance", "watched", "watched_async"]

_STEP_TOKENS = 1_000
"""How much a stream may grow before what others have spent meanwhile is looked at again."""


class Allowance:
    """How long a stream may become before somebody has to look at its cost again.

    Args:
        limits: The budgets, each with its keeper and what is held of it for this call.

    Attributes:
        chars: Of the output; what is compared with for every chunk.
    """

    __slots__ = ("_limits", "chars")

    def __init__(self, limits: list[tuple[Keeper, Limit, int]]) -> None:
        self._limits = limits
        self.chars = -1

    def renew(self, call: Call, written: int) -> None:
        """Look at what the stream has cost and at what is left.

        Args:
            call: The stream's.
            written: Characters of its output so far.

        Raises:
            BudgetExceededError: Nothing is left.
        """
        try:
            over = self._look(call, written)
        except Exception as error:
            failures.note(f"looking at what {call.method} has cost so far", error)
            self.chars = sys.maxsize
            return
        if over is not None:
            raise over

    def _look(self, call: Call, written: int) -> BudgetExceededError | None:
        cost, more = call.cost_so_far(), call.cost_so_far(_STEP_TOKENS)
        if cost is None or more is None:  # no price is known: nothing that could be compared
            self.chars = sys.maxsize
            return None
        tokens = _STEP_TOKENS
        for keeper, limit, own in self._limits:
            (standing,) = keeper.standings([limit], call.started_at)
            used = standing.spent + standing.held - own
            left = limit.amount - used - cost
            if left <= 0:
                reason = "the stream was cut off, and what had come of it was delivered"
                return BudgetExceededError(limit.project, from_nano_usd(used + cost), limit.max_budget, reason)
            if more > cost:
                tokens = min(tokens, left * _STEP_TOKENS // (more - cost))
        self.chars = written + tokens * CHARS_PER_TOKEN
        return None


def watched(chunks: Iterator[Any], meter: Meter) -> Iterator[Any]:
    """Return the chunks of a stream, cut off where a budget is reached; as they are when the meter has no allowance."""
    allowance = meter.allowance
    return chunks if allowance is None else _watched(chunks, cast("Call", meter), allowance)


def _watched(chunks: Iterator[Any], call: Call, allowance: Allowance) -> Generator[Any, None, Any]:
    reader = call.reader
    advance = chunks.__next__
    while True:
        try:
            chunk = advance()
        except StopIteration as end:
            return end.value  # a generator's, which a `for` would lose
        yield chunk  # and it has been fed when this goes on
        if reader.output_chars > allowance.chars:
            allowance.renew(call, reader.output_chars)


def watched_async(chunks: AsyncIterator[Any], meter: Meter) -> AsyncIterator[Any]:
    """The same, async."""
    allowance = meter.allowance
    return chunks if allowance is None else _Watched(chunks, cast("Call", meter), allowance)


class _Watched:
    # No async generator: one that is dropped is closed some time later, and may raise then.
    __slots__ = ("_allowance", "_call", "_chunks", "_next", "_reader")

    def __init__(self, chunks: AsyncIterator[Any], call: Call, allowance: Allowance) -> None:
        self._call = call
        self._reader = call.reader
        self._allowance = allowance
        self._chunks = chunks
        self._next = chunks.__anext__

    @property
    def ag_running(self) -> bool:
        """Whether the stream below is an async generator that is at work on another step."""
        return bool(getattr(self._chunks, "ag_running", False))

    def __aiter__(self) -> _Watched:
        return self

    def __anext__(self) -> Awaitable[Any]:
        if self._call.chunks and self._reader.output_chars > self._allowance.chars:
            return self._renewed()
        return self._next()

    async def _renewed(self) -> Any:
        # A keeper may be a server, and the event loop does not wait for the network.
        written = self._reader.output_chars
        await elsewhere.ask(lambda: self._allowance.renew(self._call, written), lambda: None)
        return await self._next()
