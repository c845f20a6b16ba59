"""`Overrides`: the prices that the user gave with `prices=`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from typing import Any

from llm_toll_autopatch.pricing.rates import KINDS, Rates

__all__ = ["Overrides"]

_EXAMPLE = "{'my-model*': {'input': 2.5, 'output': 10}}, in USD per million tokens"


class Overrides:
    """Rates by model name or glob, checked when they are made. Letter case does not count.

    Args:
        prices: For each name or glob, USD per million tokens of `input` and `output` and, where they differ, of their
            parts; USD per 1,000 of `web_search` and `file_search`; USD of each `request`.

    Raises:
        TypeError: Something has the wrong type.
        ValueError: A key is not known, a price is missing, below 0 or no number.
    """

    def __init__(self, prices: Mapping[str, Mapping[str, Any]] | None) -> None:
        if prices is not None and not isinstance(prices, Mapping):
            raise TypeError(f"prices= takes a mapping such as {_EXAMPLE}; not {prices!r}")
        self._exact: dict[str, tuple[str, Rates]] = {}
        globs: list[tuple[str, str, Rates]] = []
        for pattern, rates in (prices or {}).items():
            if not isinstance(pattern, str) or not pattern:
                raise TypeError(f"prices= takes names or globs of models as keys, as in {_EXAMPLE}; not {pattern!r}")
            checked = Rates.of(_checked(pattern, rates))
            if any(sign in pattern for sign in "*?["):
                globs.append((pattern.lower(), pattern, checked))
            self._exact[pattern.lower()] = pattern, checked
        self._globs = sorted(globs, key=lambda glob: -len(glob[0]))

    def find(self, names: Iterable[str]) -> tuple[str, Rates] | None:
        """Return the pattern that matches one of `names`, and its rates.

        An exact name beats a glob and a longer glob a shorter one; among equals the earlier of `names` wins.
        """
        if not self._exact:
            return None
        lowered = [name.lower() for name in names]
        for name in lowered:
            if (found := self._exact.get(name)) is not None:
                return found
        for glob, pattern, rates in self._globs:
            if any(fnmatchcase(name, glob) for name in lowered):
                return pattern, rates
        return None


def _checked(pattern: str, rates: object) -> dict[str, Decimal]:
    if not isinstance(rates, Mapping):
        raise TypeError(f"prices= takes a mapping of prices for {pattern!r}, as in {_EXAMPLE}; not {rates!r}")
    for kind in rates:
        if kind not in KINDS:
            raise ValueError(f"prices= does not know {kind!r} of {pattern!r}; there are {', '.join(KINDS)}")
    for kind in ("input", "output"):
        if kind not in rates:
            raise ValueError(f"prices= needs {kind!r} for {pattern!r}, as in {_EXAMPLE}")
    return {kind: _amount(pattern, kind, value) for kind, value in rates.items()}


def _amount(pattern: str, kind: str, value: object) -> Decimal:
    wanted = f"prices= takes a number of USD, 0 or more, for {kind!r} of {pattern!r}; not {value!r}"
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise TypeError(wanted)
    try:
        # By way of `str`, 0.1 is a tenth, which is what was meant; the float itself is not.
        amount = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(wanted) from None
    if not amount.is_finite() or amount < 0:
        raise ValueError(wanted)
    return amount
