"""USD as integers of a thousand-millionth (nano-USD) inside, `Decimal` outside; never a float."""

from __future__ import annotations

from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, Context, Decimal
from functools import reduce
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["NANO_USD_MAX", "decimals_for", "format_usd", "from_nano_usd", "sum_usd", "to_nano_usd"]

NANO_USD_MAX = 2**63 - 1
"""The largest amount that a 64-bit column holds: a little over 9.2 thousand million USD."""

_NANO_DIGITS = 9
_SIGNIFICANT_DIGITS = 3
_CENTS_DIGITS = 2
_DIGITS_OF_MAX = 10  # of its whole dollars

# The program's own decimal context may round to five digits; money must not follow it.
_EXACT = Context(prec=1000, Emax=MAX_EMAX, Emin=MIN_EMIN, rounding=ROUND_HALF_EVEN, traps=[])


def to_nano_usd(usd: Decimal) -> int:
    """Return `usd` in nano-USD, rounded half to even.

    Raises:
        ValueError: `usd` is not a number, or infinite.
        OverflowError: It does not fit into 64 bits.
    """
    if not usd.is_finite():
        raise ValueError(f"{usd} is not an amount of money")
    if usd.adjusted() < _DIGITS_OF_MAX:  # a huge exponent would be a huge int
        nano = int(usd.scaleb(_NANO_DIGITS, _EXACT).to_integral_value(ROUND_HALF_EVEN))
        if -NANO_USD_MAX <= nano <= NANO_USD_MAX:
            return nano
    raise OverflowError("an amount of more than 9.2 thousand million USD does not fit into the ledger")


def from_nano_usd(nano: int) -> Decimal:
    """Return `nano` in USD, exactly: the inverse of `to_nano_usd`."""
    return Decimal(nano).scaleb(-_NANO_DIGITS, _EXACT)


def sum_usd(amounts: Iterable[Decimal]) -> Decimal:
    """Return the exact sum of `amounts`, whatever precision the program computes with."""
    return reduce(_EXACT.add, amounts, Decimal(0))


def decimals_for(amounts: Iterable[Decimal]) -> int:
    """Return how many decimals a column of `amounts` (USD) needs, so that it lines up and adds up to the eye.

    As many as the smallest amount other than 0 needs for three significant digits (fewer if it is exact with fewer), at
    least two, at most nine: an amount other than 0 never reads as 0.
    """
    return max((_decimals_of(amount) for amount in amounts if amount), default=_CENTS_DIGITS)


def _decimals_of(amount: Decimal) -> int:
    exact = max(0, -_exponent(amount.normalize(_EXACT)))
    wanted = _SIGNIFICANT_DIGITS - 1 - amount.adjusted()
    return min(max(_CENTS_DIGITS, min(wanted, exact)), _NANO_DIGITS)


def _exponent(amount: Decimal) -> int:
    exponent = amount.as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0


def format_usd(usd: Decimal, decimals: int | None = None) -> str:
    """Return `usd` for people: `$1,234.56`, `-$0.50`, `$0.0000123`.

    Args:
        usd: A finite amount.
        decimals: Digits after the point; None for those that `decimals_for` finds for this amount alone.
    """
    places = decimals_for([usd]) if decimals is None else decimals
    rounded = usd.quantize(Decimal(1).scaleb(-places, _EXACT), context=_EXACT)
    return f"{'-' if rounded < 0 else ''}${abs(rounded):,f}"
