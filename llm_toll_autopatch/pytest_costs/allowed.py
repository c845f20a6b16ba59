"""How much a test, or a whole run, may use, and keepers that remember whether they had to refuse something."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.budgets.limits import AMOUNT_MAX, Limit, checked_amount
from llm_toll_autopatch.budgets.memory import MemoryKeeper
from llm_toll_autopatch.ledger.money import format_usd, from_nano_usd
from llm_toll_autopatch.records import new_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llm_toll_autopatch.budgets.keeper import Keeper, Kept, Refusal, Reservation
    from llm_toll_autopatch.budgets.limits import Unit
    from llm_toll_autopatch.pytest_costs.calls import LLMCalls

__all__ = ["Allowed", "TestKeeper"]


class TestKeeper(MemoryKeeper):
    """Keeps the limits of one test, and counts what it refuses."""

    __test__ = False  # pytest is not to collect it

    def __init__(self) -> None:
        super().__init__()
        self.refused = 0

    def reserve(self, reservation: Reservation) -> Refusal | None:
        """Hold what is asked for, or nothing."""
        refusal = super().reserve(reservation)
        self.refused += refusal is not None
        return refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What `@pytest.mark.llm_budget` allows; None is any amount.

    Attributes:
        usd: Nano-USD.
        calls: Number of requests.
        tokens: Input and output tokens.
    """

    usd: int | None = None
    calls: int | None = None
    tokens: int | None = None

    @classmethod
    def checked(cls, args: tuple[object, ...], kwargs: Mapping[str, Any]) -> Allowed:
        """Return what a marker's arguments say.

        Raises:
            TypeError: They are not what the marker takes.
            ValueError: They make no sense.
        """
        unknown = [name for name in kwargs if name not in cls.__slots__]
        if args or unknown or not kwargs:
            raise TypeError("llm_budget takes usd=, calls= and tokens=, at least one of them, by name")
        return cls(
            usd=checked_amount("usd=", kwargs.get("usd")),
            calls=_checked_count("calls", kwargs.get("calls")),
            tokens=_checked_count("tokens", kwargs.get("tokens")),
        )

    def kept_by(self, keeper: Keeper) -> tuple[Kept, ...]:
        """Return the limits, of a block of code that is the test."""
        wanted: tuple[tuple[Unit, int | None], ...] = (
            ("usd", self.usd),
            ("calls", self.calls),
            ("tokens", self.tokens),
        )
        block = new_id()
        return tuple((Limit(block, unit, most, is_block=True), keeper) for unit, most in wanted if most is not None)

    def complaint(self, calls: LLMCalls, refused: int) -> str | None:
        """Return what to say of a test that used more, or may have; None if it did not."""
        spend = calls.spend
        cost, unknown = spend.cost_usd or Decimal(0), spend.unknown_costs
        wrong = []
        if self.calls is not None and spend.calls > self.calls:
            wrong.append(f"{spend.calls:,} calls of {self.calls:,}")
        if self.tokens is not None and spend.usage.total_tokens > self.tokens:
            wrong.append(f"{spend.usage.total_tokens:,} tokens of {self.tokens:,}")
        if self.usd is not None and cost > from_nano_usd(self.usd):
            wrong.append(f"{format_usd(cost)} of {format_usd(from_nano_usd(self.usd))}")
        if refused:
            wrong.append(f"{refused:,} call{'s' if refused > 1 else ''} more refused, and not sent")
        if wrong:
            return "\n  ".join([f"llm_budget is exceeded: {', '.join(wrong)}", *_lines(calls)])
        if self.usd is not None and unknown:
            said = f"llm_budget(usd=…) cannot be checked: of {unknown:,} of {spend.calls:,} calls no price is known"
            hint = "give prices={…} to patch_all, or in pyproject.toml, or limit calls= or tokens="
            return "\n  ".join([said, *_lines(calls), hint])
        return None


def _lines(calls: LLMCalls) -> list[str]:
    return [f"{model}: {spend}" for model, spend in calls.by_model.items()]


def _checked_count(name: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}= takes a number such as 3, not {value!r}")
    if value < 0:
        raise ValueError(f"{name}= takes a number that is 0 or more, not {value!r}")
    return min(value, AMOUNT_MAX)
