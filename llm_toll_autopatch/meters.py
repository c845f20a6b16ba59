"""What the proxies of streams report to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llm_toll_autopatch.budgets.stopping import Allowance
    from llm_toll_autopatch.records import Outcome

__all__ = ["Lifecycle", "Meter"]


class Meter(Protocol):
    """What a proxy reports to: a `Call`, or something that stands above several."""

    @property
    def allowance(self) -> Allowance | None:
        """How long its stream may become; None for one that no budget cuts off."""
        ...

    def feed(self, chunk: Any) -> bool:
        """Take a chunk; return True when the user must not see it."""
        ...

    def end(self, outcome: Outcome, error: BaseException | None = None, *, from_finalizer: bool = False) -> bool:
        """Take the end; return False when it had ended already."""
        ...

    async def written(self) -> None:
        """Wait until what is reported is written, within a bound."""
        ...


class Lifecycle:
    """A meter for what stands above metered streams: it sees how the user ends it, the counting is done below.

    Args:
        calls: The calls below, open or not, or the meters of tracked streams.
    """

    __slots__ = ("calls",)

    allowance: ClassVar[None] = None
    """The streams below have theirs."""

    def __init__(self, calls: Iterable[Any] = ()) -> None:
        self.calls = tuple(calls)

    def feed(self, _chunk: Any) -> bool:
        """Let the chunk pass."""
        return False

    def end(self, outcome: Outcome, error: BaseException | None = None, *, from_finalizer: bool = False) -> bool:
        """End the calls below that are still open; return False when none was."""
        ended = [call.end(outcome, error, from_finalizer=from_finalizer) for call in self.calls]
        return any(ended)

    async def written(self) -> None:
        """Wait until the records of the calls below are written, within a bound."""
        for call in self.calls:
            await call.written()
