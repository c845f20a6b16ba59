"""What a benchmark finds, and how it is measured: CPU time, cases in turn, medians and spreads."""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import time
import warnings
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Found", "Row", "difference", "forked", "in_turn", "is_quick", "show"]


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
    """

    subject: str
    case: str
    figure: float | None
    unit: str
    spread: float | None = None
    limit: float | None = None
    note: str = ""


class Found(NamedTuple):
    """The median of several rounds, and half the distance between their quartiles."""

    median: float
    spread: float


def is_quick() -> bool:
    """Return whether a rough figure will do."""
    return "--quick" in sys.argv


def show(row: Row) -> None:
    """Hand a line to whoever runs the benchmark."""
    print(json.dumps(row), flush=True)


def found(values: list[float]) -> Found:
    """Sum up the rounds."""
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return Found(middle, (high - low) / 2)


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
    pairs = zip(taken[case], taken[base], strict=True)
    return found([(more - less) / per * 1e6 for more, less in pairs])


def forked(work: Callable[[], object]) -> object:
    """Return what `work` returns in a child of this process, which it may change as it likes; raise what it says."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of an SDK, which wait
        child = os.fork()
    if not child:
        os.close(reading)
        try:
            said = json.dumps([work(), None])
        except BaseException as error:
            said = json.dumps([None, f"{type(error).__name__}: {error}"[:300]])
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    answer, failure = json.loads(said or '[null, "it died"]')
    if failure is not None:
        raise RuntimeError(failure)
    return answer
