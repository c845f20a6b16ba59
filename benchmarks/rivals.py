"""What an instrument adds to a chunk and to a call of the real SDKs, over a transport within the process.

    .bench/openinference/bin/python -m benchmarks.rivals openinference

A bare and an instrumented child of one process, which has the SDKs imported, take turns some tens of times a second:
whatever slows this machine down slows both. Then two more children, and again. A chunk is measured where the SDK parses
it, and where it is there already.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import statistics
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.children import Child
from benchmarks.environments import OURS
from benchmarks.instruments import COVERS, INSTRUMENTS
from benchmarks.replays import Replays
from benchmarks.rows import Row, added, is_full, is_quick, more, of_found, show
from benchmarks.wires import APIS, OUTPUT_TOKENS, Clients

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.rows import Found
    from benchmarks.wires import Api

SEEN = "Tokens of a stream as the user asked for it"
FEWEST, MOST = (1, 1) if is_quick() else (4, 12) if is_full() else (2, 3)
"""Pairs of children: none more for a case that is sure."""
_OF_OURS = 1 if is_quick() else 2
"""So many times as many for ourselves, who are in every comparison, and add less than a busy machine does."""
_FEW = 20
"""Chunks of the streams that warm up, and of those that are handed out again."""
_SETTLING_S = 0.0 if is_quick() else 0.3
"""What an instrument begins on other threads with its first call has ended by then: we look up the prices, for one."""


class Kind(NamedTuple):
    """What is done: a stream or calls, of how many chunks or calls, in how many turns; whether it is replayed."""

    subject: str
    streams: bool
    number: int
    turns: int
    replayed: bool = False


ALONE, THROUGH, PLAIN = KINDS = (
    Kind("Added to a chunk, in isolation, beside others", True, 100 if is_quick() else 2_000, 5, replayed=True),
    Kind("Added to a chunk, through the SDK", True, 50 if is_quick() else 300, 3),
    Kind("Added to a plain call, through the SDK", False, 5 if is_quick() else 24, 6),
)


class Case(NamedTuple):
    """One of the things that are done through one API: which of `APIS`, which of `KINDS`, whether async."""

    api: int
    kind: int
    is_async: bool

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{APIS[self.api].name}{', async' if self.is_async else ''}"


class Did(NamedTuple):
    """How it went: CPU microseconds of a chunk or a call, chunks that the user got, whether tokens were seen."""

    taken_us: float
    got: int
    seen: bool


class Doing:
    """What a child does, bare or with an instrument."""

    def __init__(self, name: str) -> None:
        sys.stdout = sys.stderr  # some print each call
        self._replays = Replays(ALONE.number)
        self._instrument = INSTRUMENTS[name]() if name else None
        self._few, self._many = Clients(_FEW), Clients(THROUGH.number)
        self._runner = asyncio.Runner()
        self._elsewhere = 0.0

    def __call__(self, asked: tuple[list[Any], bool]) -> Did:
        """Do it once, or rather warm up. What other threads do after that is part of the next time."""
        case, warms_up = Case(*asked[0]), asked[1]
        kind, api = KINDS[case.kind], APIS[case.api]
        if self._instrument is not None:
            api = self._instrument.around(api)
        clients = self._few if kind.replayed or warms_up else self._many
        self._replays.on = kind.replayed
        gc.collect()
        gc.freeze()  # what is imported need not be gone through each time
        start = time.thread_time()
        got = self._runner.run(_async(api, clients, kind)) if case.is_async else _sync(api, clients, kind)
        here = time.thread_time() - start
        seen = self._instrument is not None and self._instrument.has(OUTPUT_TOKENS)
        before, self._elsewhere = self._elsewhere, time.process_time() - time.thread_time()
        return Did((here + self._elsewhere - before) / kind.number * 1e6, got, seen)


def _sync(api: Api, clients: Clients, kind: Kind) -> int:
    if kind.streams:
        return sum(1 for _ in api.stream(clients))
    assert api.plain is not None
    for _ in range(kind.number):
        api.plain(clients)
    return 0


async def _async(api: Api, clients: Clients, kind: Kind) -> int:
    if kind.streams:
        got = 0
        async for _ in api.stream_async(clients):
            got += 1
        return got
    assert api.plain_async is not None
    for _ in range(kind.number):
        await api.plain_async(clients)
    return 0


def cases(name: str) -> Iterator[Case]:
    """Yield what an instrument is measured on."""
    for number, api in enumerate(APIS[:1] if is_quick() else APIS):
        if not api.name.startswith(COVERS.get(name, ("",))):
            continue
        for kind in KINDS:
            # A helper makes much of each chunk by itself.
            if (kind.streams and not kind.replayed) or api.plain is not None:
                yield from (Case(number, KINDS.index(kind), is_async) for is_async in (False, True))


def in_turn(bare: Child, on: Child, case: Case) -> list[tuple[Did, Did]]:
    """Return how it went, bare and instrumented."""
    pairs = []
    for number in range(KINDS[case.kind].turns + 1):
        order = (bare, on) if number % 2 else (on, bare)
        went = {child: Did(*child.ask((case, not number))) for child in order}
        if number:
            pairs.append((went[bare], went[on]))
    return pairs


def added_in(case: Case, pairs: list[tuple[Did, Did]]) -> tuple[Found, float]:
    """Return what the instrument adds, and what it is added to."""
    bare, on = ([did.taken_us for did in each] for each in zip(*pairs, strict=True))
    return (more if KINDS[case.kind].replayed else added)(on, bare), statistics.median(bare)


def pair_of_children(name: str, went: dict[Case, list[tuple[Did, Did]]], failed: dict[Case, str]) -> None:
    """Have a bare and an instrumented child do in turn whatever is not sure yet."""
    unsure = [case for case, pairs in went.items() if case not in failed and not (pairs and is_sure(case, pairs))]
    if not unsure:
        return
    with Child(lambda: Doing("")) as bare, Child(lambda: Doing(name)) as on:
        for number, case in enumerate(unsure):
            try:
                if not number:
                    on.ask((case, True))
                    time.sleep(_SETTLING_S)
                went[case] += in_turn(bare, on, case)
            except RuntimeError as error:
                failed[case] = str(error)


def is_sure(case: Case, pairs: list[tuple[Did, Did]]) -> bool:
    """Return whether there were turns enough."""
    it, base = added_in(case, pairs)
    return len(pairs) >= FEWEST * KINDS[case.kind].turns and it.is_sure(base)


def main(name: str) -> None:
    """Measure one instrument on all that it covers."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # two processors are seldom equally busy
    went: dict[Case, list[tuple[Did, Did]]] = {case: [] for case in cases(name)}
    failed: dict[Case, str] = {}
    for _ in range(MOST * (_OF_OURS if name == OURS.name else 1)):
        pair_of_children(name, went, failed)
    for case, pairs in went.items():
        tell(f"{case.name}: {name}", case, pairs, failed.get(case, ""))


def tell(title: str, case: Case, pairs: list[tuple[Did, Did]], failure: str) -> None:
    """Show what was added in one case."""
    kind = KINDS[case.kind]
    if failure:
        show(Row(kind.subject, title, None, "µs", note=f"does not run: {failure}"))
        return
    it, base = added_in(case, pairs)
    remarks = [f"bare {base:.1f} µs, {(base + it.median) / base:.2f}"]
    bare, on = pairs[-1]
    if kind.streams and on.got != bare.got:
        remarks.append(f"the user got {on.got} chunks instead of {bare.got}")
    if kind is THROUGH:
        show(Row(SEEN, title, float(on.seen), "seen"))
    if not on.seen:
        remarks.append("without the tokens")
    show(of_found(kind.subject, title, it, "µs", note="; ".join(remarks)))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    main(sys.argv[1])
