"""What an instrument adds to a chunk and to a call of the real SDKs, over a transport within the process.

    .bench/openinference/bin/python -m benchmarks.rivals openinference

Bare and instrumented runs take turns, each in a fresh fork of a process that has the SDKs imported.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any

from benchmarks.environments import OURS
from benchmarks.instruments import COVERS, INSTRUMENTS, Instrument
from benchmarks.rows import Row, forked, found, is_quick, show
from benchmarks.wires import APIS, OUTPUT_TOKENS, Api, Clients

if TYPE_CHECKING:
    from collections.abc import Callable

PER_CHUNK, PER_CALL = "Added to a chunk, through the SDK", "Added to a plain call, through the SDK"
SEEN = "Tokens of a stream as the user asked for it"
CHUNKS, CALLS, WITHIN, ROUNDS = (50, 5, 1, 1) if is_quick() else (400, 30, 5, 3)
_SETTLING_S = 0.0 if is_quick() else 0.5
"""What an instrument begins on other threads with its first call has ended by then: we look up the prices, for one."""
_OF_OURS = 3
"""So many times as many rounds for ourselves: what we add is less than what a busy machine does."""


def measured(api: Api, kind: str, how: Callable[[], Instrument] | None) -> tuple[float, bool, int]:
    """Return the CPU microseconds of a chunk or a call, whether its tokens were seen, and how much the user got."""
    sys.stdout = sys.stderr  # some print each call
    instrument = None if how is None else how()
    if instrument is not None:
        api = instrument.around(api)
    clients = Clients(CHUNKS)
    got = 0

    def sync_chunks() -> None:
        nonlocal got
        got = sum(1 for _ in api.stream(clients))

    async def async_chunks() -> None:
        nonlocal got
        got = 0
        async for _ in api.stream_async(clients):
            got += 1

    def sync_calls() -> None:
        assert api.plain is not None
        for _ in range(CALLS):
            api.plain(clients)

    async def async_calls() -> None:
        assert api.plain_async is not None
        for _ in range(CALLS):
            await api.plain_async(clients)

    work: dict[str, Callable[[], Any]] = {
        "chunk": sync_chunks, "chunk async": async_chunks, "call": sync_calls, "call async": async_calls,
    }  # fmt: skip
    run, per = work[kind], CHUNKS if kind.startswith("chunk") else CALLS
    with asyncio.Runner() as runner:

        def once() -> float:
            start = time.process_time()
            if kind.endswith("async"):
                runner.run(run())
            else:
                run()
            return (time.process_time() - start) / per * 1e6

        once()
        if instrument is not None:
            time.sleep(_SETTLING_S)
            once()
        taken = statistics.median(once() for _ in range(WITHIN))
    seen = instrument is not None and instrument.has(OUTPUT_TOKENS)
    return taken, seen, got


def compare(name: str, api: Api, kind: str) -> None:
    """Show what instrument `name` adds."""
    subject = PER_CHUNK if kind.startswith("chunk") else PER_CALL
    case = f"{api.name}{', async' if kind.endswith('async') else ''}: {name}"
    bare: list[Any] = []
    on: list[Any] = []
    try:
        for _ in range(ROUNDS * _OF_OURS if name == OURS.name and not is_quick() else ROUNDS):
            bare.append(forked(lambda: measured(api, kind, None)))
            on.append(forked(lambda: measured(api, kind, INSTRUMENTS[name])))
    except RuntimeError as error:
        show(Row(subject, case, None, "µs", note=f"does not run: {error}"))
        return
    added = found([after[0] - before[0] for before, after in zip(bare, on, strict=True)])
    base = statistics.median(each[0] for each in bare)
    remarks = [f"bare {base:.1f} µs, {(base + added.median) / base:.2f}"]
    if kind.startswith("chunk"):
        if on[-1][2] != bare[-1][2]:
            remarks.append(f"the user got {on[-1][2]} chunks instead of {bare[-1][2]}")
        show(Row(SEEN, case, float(on[-1][1]), "seen"))
    elif not on[-1][1]:
        remarks.append("without the tokens")
    show(Row(subject, case, added.median, "µs", added.spread, note="; ".join(remarks)))


def main(name: str) -> None:
    """Measure one instrument on all that it covers."""
    for api in APIS[:1] if is_quick() else APIS:
        if not api.name.startswith(COVERS.get(name, ("",))):
            continue
        for kind in ("chunk", "chunk async", "call", "call async"):
            if kind.startswith("chunk") or api.plain is not None:
                compare(name, api, kind)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    main(sys.argv[1])
