"""What a benchmark finds, and how it is measured: CPU time, cases in turn, medians and spreads."""

from __future__ import annotations

import gc
import json
import math
import statistics
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Found", "Row", "added", "difference", "found", "in_turn", "is_full", "is_quick", "more", "of_found", "show"]


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        subject: What was measured: the heading it stands under.
        case: Which of its cases.
        figure: The figure, in `unit`.
        unit: Its unit.
        spread: Half the distance between the quartiles of the rounds, in `unit`.
        limit: What it must not exceed; None where there is no limit.
        note: What has to be said about it, or why there is no figure.
        error: The standard error of the figure, where it is a median of rounds, in `unit`.
    """

    subject: str
    case: str
    figure: float | None
    unit: str
    spread: float | None = None
    limit: float | None = None
    note: str = ""
    error: float | None = None


_ERROR_OF_SPREAD = 1.858
"""The standard error of the median of normally distributed rounds is so many spreads, over the root of their number."""
_SURE, _SURE_OF_BASE = 0.05, 0.01


class Found(NamedTuple):
    """The median of several rounds, half the distance between their quartiles, and how many they are."""

    median: float
    spread: float
    rounds: int

    @property
    def error(self) -> float:
        """The standard error of the median."""
        return _ERROR_OF_SPREAD * self.spread / math.sqrt(self.rounds)

    def is_sure(self, base: float) -> bool:
        """Return whether more rounds would buy nothing: to 5 % of the figure, or to 1 % of what it is added to."""
        return self.error <= max(_SURE * abs(self.median), _SURE_OF_BASE * base)


def is_quick() -> bool:
    """Return whether a rough figure will do."""
    return "--quick" in sys.argv


def is_full() -> bool:
    """Return whether it may take an hour."""
    return "--full" in sys.argv


def show(row: Row) -> None:
    """Hand a line to whoever runs the benchmark."""
    print(json.dumps(row), flush=True)


def of_found(subject: str, case: str, it: Found, unit: str, *, limit: float | None = None, note: str = "") -> Row:
    """Return the line for what was found."""
    spread, error = (it.spread, it.error) if it.rounds > 1 else (None, None)
    return Row(subject, case, it.median, unit, spread, limit, note, error)


def found(values: Sequence[float]) -> Found:
    """Sum up the rounds."""
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return Found(middle, (high - low) / 2, len(values))


def added(taken: Sequence[float], base: Sequence[float]) -> Found:
    """Return what a case took more than its base, of pairs of about the same moment.

    What slows a machine down multiplies: the ratio of a pair stays, and its difference does not. Where the base is
    less than what is added to it, its own error would multiply, too: that is for `more`.
    """
    usual = statistics.median(base)
    return found([(this / that - 1) * usual for this, that in zip(taken, base, strict=True)])


def more(taken: Sequence[float], base: Sequence[float]) -> Found:
    """Return what a case took more than its base, of pairs of about the same moment."""
    return found([this - that for this, that in zip(taken, base, strict=True)])


def in_turn(
    cases: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.process_time
) -> dict[str, list[float]]:
    """Return the seconds that each case took in each round. The cases take turns; a first round warms up."""
    taken: dict[str, list[float]] = {name: [] for name in cases}
    gc.freeze()  # what is imported need not be gone through each time
    for number in range(rounds + 1):
        for name, work in cases.items():
            gc.collect()
            gc.disable()
            start = clock()
            work()
            seconds = clock() - start
            gc.enable()
            if number:
                taken[name].append(seconds)
    return taken


def difference(taken: Mapping[str, list[float]], case: str, base: str, per: float) -> Found:
    """Return what a case took more than its base in the same round, divided by `per`, in microseconds."""
    return more(*([seconds / per * 1e6 for seconds in taken[name]] for name in (case, base)))
