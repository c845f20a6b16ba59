"""What metering holds: of an open stream, of 10,000 of them, of a stream of a million chunks, of an hour of calls.

    .venv/bin/python -m benchmarks.memory llm_toll_autopatch

Each in a child of its own, so that none finds what another has left.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import os
import tempfile
import threading
import time
import tracemalloc
import warnings
from array import array
from pathlib import Path
from typing import Any, cast

from benchmarks import chunks
from benchmarks.children import Child, forked
from benchmarks.rows import Row, is_full, is_quick, show
from benchmarks.wires import Clients
from llm_toll_autopatch import MemorySink, SQLiteLedger, flush, patch_all, reporting

OPEN, MANY = "Held by an open stream", "Held by many streams open at once, through the async SDK"
LONG, HOUR = "Held more at the end of a long stream than at its beginning", "Held more after an hour of calls"
LIMIT_BYTES = 1280
STREAMS, AT_ONCE = (100, 100) if is_quick() else (1_000, 10_000)
EARLY, LATE = (100, 1_000) if is_quick() else (10_000, 1_000_000)
CALLS, BATCH = (100, 20) if is_quick() else (100_000 if is_full() else 20_000, 1_000)
KINDS = {name: kind for name, kind in chunks.KINDS.items() if not kind.asks and (name == "google" or not is_quick())}
_CHUNKS, _SMALL = 5, 100
_PAGE = os.sysconf("SC_PAGESIZE")


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * _PAGE


async def warm_up(kind: chunks.Kind, *, is_async: bool) -> None:
    """Have everything imported and started that the first call imports and starts."""
    data = [kind.chunk]
    chunks.drain(chunks.metered(kind, data))
    if is_async:
        await chunks.drain_async(chunks.metered_async(kind, data))
    flush(60)


# An open stream


def held_open(name: str, *, is_async: bool, is_metered: bool, is_read: bool) -> float:
    """Return the bytes that one open stream holds, of the SDK's and of ours, without the chunks."""
    kind = KINDS[name]
    data = [kind.chunk] * 2
    make: Any = (chunks.metered_async if is_async else chunks.metered) if is_metered else None

    async def all_of_them() -> float:
        await warm_up(kind, is_async=is_async)
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        streams = []
        for _ in range(STREAMS):
            stream = make(kind, data) if make else chunks.prepared(kind, data, is_async=is_async)
            if kind.classes is None and not make:
                stream = (chunks.one_by_one_async if is_async else chunks.one_by_one)(stream)
            iterator = None
            if is_read:
                iterator = aiter(stream) if is_async else iter(stream)
                await anext(iterator) if is_async else next(iterator)
            streams.append((stream, iterator))
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return (after - before) / len(streams)

    return asyncio.run(all_of_them())


def one_stream() -> None:
    """Show what an open stream of each type holds."""
    for name, is_async, is_read in itertools.product(KINDS, (False, True), (False, True)):
        held = functools.partial(held_open, name, is_async=is_async, is_read=is_read)
        bare, metered = (
            cast("float", forked(functools.partial(held, is_metered=is_metered))) for is_metered in (False, True)
        )
        case = f"{name}{', async' if is_async else ''}: {'after its first chunk' if is_read else 'unread'}"
        show(Row(OPEN, case, metered - bare, "bytes", limit=LIMIT_BYTES, note=f"bare {bare:.0f} bytes"))


# Many at once


def at_once(*, is_metered: bool) -> tuple[float, float]:
    """Return the bytes in memory and the CPU microseconds per stream of many that have handed out one chunk each."""
    if is_metered:
        patch_all(sink=MemorySink())
    clients = Clients(_CHUNKS)

    async def opened() -> Any:
        stream = await clients.openai_async.chat.completions.create(
            model="gpt-5-mini", messages=[{"role": "user", "content": "Why is the sky blue?"}], stream=True
        )
        iterator = aiter(stream)
        await anext(iterator)
        return stream, iterator

    async def main() -> tuple[float, float]:
        warm = [await opened() for _ in range(10)]
        gc.collect()
        before, start = resident(), time.process_time()
        streams = await asyncio.gather(*(opened() for _ in range(AT_ONCE)))
        taken = time.process_time() - start
        gc.collect()
        after = resident()
        assert len({id(stream) for stream, _ in [*streams, *warm]}) == AT_ONCE + len(warm)
        if is_metered:
            assert reporting.open_calls() == AT_ONCE + len(warm)
        return (after - before) / AT_ONCE, taken / AT_ONCE * 1e6

    return asyncio.run(main())


def many_streams() -> None:
    """Show what many streams hold."""
    with (
        Child(lambda: lambda _: at_once(is_metered=False)) as without,
        Child(lambda: lambda _: at_once(is_metered=True)) as with_it,
    ):
        without.tell()  # at the same time: whatever slows this machine down slows both
        with_it.tell()
        bare, metered = without.answer(), with_it.answer()
    case = f"{AT_ONCE:,} streams, one chunk read of each"
    note = f"bare {bare[0] / 1024:.1f} KiB, {metered[0] / bare[0]:.2f}"
    show(Row(MANY, f"{case}: memory per stream", (metered[0] - bare[0]) / 1024, "KiB", note=note))
    note = f"bare {bare[1]:.0f} µs, {metered[1] / bare[1]:.2f}"
    show(Row(MANY, f"{case}: CPU time per stream until there", metered[1] - bare[1], "µs", note=note))


# A long one


def grown(name: str, *, is_async: bool) -> int:
    """Return the bytes held more at a stream's last chunk than at an early one."""
    kind = KINDS[name]
    data = cast("Any", itertools.repeat(kind.chunk, LATE))

    async def pass_by(stream: Any, count: int) -> None:
        for _ in range(count // _SMALL):  # small numbers are no objects that tracemalloc would note
            for _ in range(_SMALL):
                await anext(stream) if is_async else next(stream)

    async def read() -> int:
        await warm_up(kind, is_async=is_async)
        stream = aiter(chunks.metered_async(kind, data)) if is_async else iter(chunks.metered(kind, data))
        held = array("q", (0, 0))
        tracemalloc.start()
        for at, count in enumerate((EARLY, LATE - EARLY)):
            await pass_by(stream, count)
            gc.collect()
            held[at] = tracemalloc.get_traced_memory()[0]
        left = [chunk async for chunk in stream] if is_async else list(stream)
        assert not left
        return held[1] - held[0]

    return asyncio.run(read())


def long_streams() -> None:
    """Show what a long stream of each type leaves behind."""
    for name, is_async in itertools.product(KINDS, (False, True)):
        more = cast("int", forked(functools.partial(grown, name, is_async=is_async)))
        case = f"{name}{', async' if is_async else ''}: chunk {LATE:,} against chunk {EARLY:,}"
        show(Row(LONG, case, float(more), "bytes"))


# An hour, or a day, in a minute


def _plain(clients: Clients) -> None:
    clients.openai.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "Why?"}])


def _stream(clients: Clients) -> Any:
    messages: Any = [{"role": "user", "content": "Why?"}]
    return clients.openai.chat.completions.create(model="gpt-5-mini", messages=messages, stream=True)


async def _of_tasks(clients: Clients) -> None:
    messages: Any = [{"role": "user", "content": "Why?"}]
    ask: Any = clients.openai_async.chat.completions.create
    await ask(model="gpt-5-mini", messages=messages)
    async for _ in await ask(model="gpt-5-mini", messages=messages, stream=True):
        pass
    async for _ in await ask(model="gpt-5-mini", messages=messages, stream=True):
        break
    await ask(model="gpt-5-mini", messages=messages)


def _ten_calls(clients: Clients) -> None:
    for _ in range(3):
        _plain(clients)
    for _ in _stream(clients):
        pass
    for _ in _stream(clients):
        break
    _stream(clients)  # nobody reads it


def batch(clients: Clients) -> None:
    """Make calls of all sorts on a thread and an event loop of their own."""

    def work() -> None:
        with asyncio.Runner() as runner:
            for _ in range(BATCH // 10):
                _ten_calls(clients)
                runner.run(_of_tasks(clients))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def found_now() -> tuple[int, int, int, int, int]:
    """Return bytes in memory, objects, descriptors, threads, open calls."""
    gc.collect()
    flush(60)
    time.sleep(0 if is_quick() else 2)  # an idle thread of ours waits for a second before it ends
    return (
        resident(),
        len(gc.get_objects()),
        len(list(Path("/proc/self/fd").iterdir())),
        threading.active_count(),
        reporting.open_calls(),
    )


def compressed() -> list[int]:
    """Return what has grown between a quarter of the calls and the last, and how many records there are."""
    batches = CALLS // BATCH
    early = max(1, batches // 4)  # by then SQLite's page cache is full
    with tempfile.TemporaryDirectory() as folder:
        ledger = SQLiteLedger(Path(folder) / "ledger.db")
        patch_all(sink=ledger)
        clients = Clients(_CHUNKS)
        for _ in range(early):
            batch(clients)
        before = found_now()
        for _ in range(batches - early):
            batch(clients)
        after = found_now()
        calls = sum(total.calls for total in ledger.totals())
        ledger.close()
    return [*(more - less for more, less in zip(after, before, strict=True)), calls]


def an_hour(grown: list[int]) -> None:
    """Show what many calls leave behind."""
    memory, objects, descriptors, threads, still_open, calls = grown
    made = f"{CALLS:,} calls, sync and async; half of them streams: read to the end, left early, never read"
    note = f"{calls:,} records in the ledger" + ("" if calls == CALLS else f" instead of {CALLS:,}")
    figures = (memory / 1024, objects, descriptors, threads, still_open)
    units = (("memory", "KiB"), ("objects", ""), ("descriptors", ""), ("threads", ""), ("calls still open", ""))
    for figure, (what, unit) in zip(figures, units, strict=True):
        more = "; SQLite's page cache takes up to 2,000 KiB of it" if what == "memory" else ""
        show(Row(HOUR, f"{what}, {made}", float(figure), unit, note=note + more))


def main() -> None:
    """Measure."""
    one_stream()
    many_streams()
    with Child(lambda: lambda _: compressed()) as hour:  # beside the long streams: neither is timed
        hour.tell()
        long_streams()
        an_hour(hour.answer())


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for kind in KINDS.values():
        asyncio.run(warm_up(kind, is_async=True))  # here, once for all the children
    gc.freeze()
    main()
