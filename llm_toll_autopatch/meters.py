"""What the proxies of streams report to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
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
    """A meter for what stands above a metered stream: it sees how the user ends it, the counting is done below.

    Attributes:
        below: The call below, open or not, or the meter of a tracked stream; None while there is none.
    """

    __slots__ = ("below",)

    allowance: ClassVar[None] = None
    """The stream below has its own."""

    def __init__(self, below: Any = None) -> None:
        self.below = below

    def feed(self, _chunk: Any) -> bool:
        """Let the chunk pass."""
        return False

    def end(self, outcome: Outcome, error: BaseException | None = None, *, from_finalizer: bool = False) -> bool:
        """End what is below; return False when it had ended already."""
        return self.below is not None and self.below.end(outcome, error, from_finalizer=from_finalizer)

    async def written(self) -> None:
        """Wait until the record of what is below is written, within a bound."""
        if self.below is not None:
            await self.below.written()
