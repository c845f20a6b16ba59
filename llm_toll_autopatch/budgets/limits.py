"""`Limit`: how much of what an account may use in which window. Checked once, when it is configured."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Literal

from llm_toll_autopatch.ledger.money import NANO_USD_MAX, from_nano_usd, to_nano_usd

__all__ = [
    "AMOUNT_MAX",
    "MINUTE_S",
    "RESETS",
    "Asked",
    "Limit",
    "Period",
    "Reset",
    "Unit",
    "checked_amount",
    "checked_count",
    "checked_reset",
    "window_of",
]

Unit = Literal["usd", "calls", "tokens"]
Period = Literal["total", "daily", "weekly", "monthly", "minute"]
Reset = Literal["daily", "weekly", "monthly"]

RESETS: tuple[Reset, ...] = ("daily", "weekly", "monthly")
MINUTE_S = 60.0
AMOUNT_MAX = NANO_USD_MAX // 4
"""Larger amounts are cut down to this: sums of a few of them still fit into 64 bits."""

_EVER = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Limit:
    """How much an account may use.

    Attributes:
        account: The project, or the id of a block of code.
        unit: What is counted: `usd` (in nano-USD), `calls`, `tokens`.
        amount: How many of them at most, in one window.
        period: `total` for ever, `daily`, `weekly`, `monthly`: calendar windows in UTC; `minute`: any 60 seconds.
        is_block: Whether the account is a block of code, which only this process knows of.
    """

    account: str
    unit: Unit
    amount: int
    period: Period = "total"
    is_block: bool = False

    @property
    def project(self) -> str | None:
        """The project, None for a block of code."""
        return None if self.is_block else self.account

    @property
    def max_budget(self) -> Decimal | None:
        """The amount in USD; None when it is not one of money."""
        return from_nano_usd(self.amount) if self.unit == "usd" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What somebody asks to be limited, checked; each may be None.

    Attributes:
        max_budget: Nano-USD.
        reset: The calendar window of `max_budget`; None is for ever.
        rate_limit: Calls in any 60 seconds.
        tpm_limit: Tokens in any 60 seconds.
    """

    max_budget: int | None = None
    reset: Reset | None = None
    rate_limit: int | None = None
    tpm_limit: int | None = None

    def __post_init__(self) -> None:
        if self.reset is not None and self.max_budget is None:
            raise ValueError("reset= says when max_budget= starts anew: give max_budget= too")

    @classmethod
    def checked(cls, max_budget: object, reset: object, rate_limit: object, tpm_limit: object) -> Asked:
        """Return what is asked for.

        Raises:
            TypeError: One has the wrong type.
            ValueError: One makes no sense, or there is a `reset` of no `max_budget`.
        """
        return cls(
            max_budget=checked_amount("max_budget=", max_budget),
            reset=checked_reset("reset=", reset),
            rate_limit=checked_count("rate_limit=", rate_limit, "calls"),
            tpm_limit=checked_count("tpm_limit=", tpm_limit, "tokens"),
        )

    def of(self, account: str, *, is_block: bool = False) -> list[Limit]:
        """Return the limits of a project, or of a block of code with this id."""
        wanted: tuple[tuple[Unit, Period, int | None], ...] = (
            ("usd", self.reset or "total", self.max_budget),
            ("calls", "minute", self.rate_limit),
            ("tokens", "minute", self.tpm_limit),
        )
        return [Limit(account, unit, most, period, is_block) for unit, period, most in wanted if most is not None]


def window_of(period: Period, at: datetime) -> tuple[datetime, datetime]:
    """Return the calendar window in UTC in which `at` lies: its beginning, and the moment after its end.

    Weeks begin on Monday (ISO 8601).
    """
    day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "daily":
        return day, day + timedelta(days=1)
    if period == "weekly":
        monday = day - timedelta(days=day.weekday())
        return monday, monday + timedelta(days=7)
    if period == "monthly":
        first = day.replace(day=1)
        return first, (first + timedelta(days=32)).replace(day=1)
    return _EVER


def checked_amount(source: str, value: object) -> int | None:
    """Return an amount of USD in nano-USD; None for None.

    Raises:
        TypeError: `value` is not a number.
        ValueError: It is negative, infinite, not a number, or more than a ledger can hold.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise TypeError(f"{source} takes an amount of USD such as 5 or '0.50', not {value!r}")
    try:
        usd = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"{source} takes an amount of USD such as 5 or '0.50', not {value!r}") from None
    if not usd.is_finite() or usd < 0:
        raise ValueError(f"{source} takes an amount of USD that is 0 or more, not {value!r}")
    try:
        return min(to_nano_usd(usd), AMOUNT_MAX)
    except OverflowError as error:
        raise ValueError(f"{source} is {value!r}: {error}") from None


def checked_count(source: str, value: object, what: str) -> int | None:
    """Return a number of `what` in any 60 seconds; None for None.

    Raises:
        TypeError: `value` is not an integer.
        ValueError: It is not positive.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{source} takes a number of {what} in 60 seconds such as 60, not {value!r}")
    if value < 1:
        raise ValueError(f"{source} takes a positive number of {what} in 60 seconds, not {value!r}")
    return min(value, AMOUNT_MAX)


def checked_reset(source: str, value: object) -> Reset | None:
    """Return `value` if it says when a budget starts anew.

    Raises:
        ValueError: It is something else.
    """
    if value is None:
        return None
    for known in RESETS:
        if value == known:
            return known
    raise ValueError(f"{source} takes None, {', '.join(map(repr, RESETS))}, not {value!r}")
