"""What metering adds to a plain call: on the thread that makes it, and elsewhere in the process.

    .venv/bin/python -m benchmarks.calls llm_toll_autopatch

Not all combinations, but what is asked before it is deployed: every configuration on one thread; the two that most
programs have, memory and the default ledger, also async, on 8 and 64 threads and in 200 and 2,000 tasks; PostgreSQL
also where an event loop must not wait for it. First from the gate to the record alone, around a method that returns a
ready answer; then through the real SDK over a transport within the process, where a call takes some hundred
microseconds by itself. The bare SDK takes its turn in the same round.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import tempfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from openai._models import construct_type
from openai.types.chat import ChatCompletion

from benchmarks.rows import Row, added, difference, in_turn, is_full, is_quick, more, of_found, show
from benchmarks.ways import HERE, LEDGER, MEMORY, POSTGRES, SERVED, Way, Ways
from benchmarks.wires import OUTPUT_TOKENS, Clients
from llm_toll_autopatch import flush, patch_all, settings, unpatch_all
from llm_toll_autopatch.patches import Patch
from llm_toll_autopatch.providers.openai import PROVIDER
from llm_toll_autopatch.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

ALONE = "Added to a plain call, from the gate to its record"
CALLER = "Added to a plain call through the SDK, on the caller's thread"
ELSEWHERE = "Added to a plain call through the SDK, elsewhere in the process"
CALLS, CALLS_SERVED = (10, 5) if is_quick() else (80, 25)
"""How many make a round. Of those that wait for a server's disk fewer: by the clock they take much longer."""
CALLS_ALONE, ROUNDS_ALONE = (10, 1) if is_quick() else (200, 11)
FEWEST, MOST = (1, 1) if is_quick() else (15, 45) if is_full() else (7, 11)
"""Rounds: none more when all cases are sure."""
_MANY, _ROUNDS_OF_MANY = 1_000, 3
"""A round of so many calls is some rounds by itself, and needs nothing that warms up."""
MODEL = "gpt-5-mini"
REQUEST: Any = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Why is the sky blue?"}],
    "max_completion_tokens": 2 * OUTPUT_TOKENS,  # a strict budget needs a bound
}


class Load(NamedTuple):
    """How calls are made: on so many threads or in so many tasks; of which configurations that is asked; how many."""

    threads: int
    tasks: int
    ways: tuple[Way, ...]
    at_least: int = CALLS

    @property
    def name(self) -> str:
        """What the table calls it."""
        if self.tasks:
            return f"{self.tasks:,} tasks" if self.tasks > 1 else "async"
        return f"{self.threads} threads" if self.threads > 1 else "sync"

    @property
    def each(self) -> int:
        """How many calls a thread or task makes in a round."""
        return max(1, self.at_least // max(self.threads, self.tasks))

    @property
    def calls(self) -> int:
        """How many there are in a round."""
        return self.each * max(self.threads, self.tasks)

    @property
    def rounds(self) -> tuple[int, int, int]:
        """How many rounds only warm up, and how many there are at least and at most beside them."""
        return (0, _ROUNDS_OF_MANY, _ROUNDS_OF_MANY) if self.calls > _MANY else (1, FEWEST, MOST)


USUAL = (MEMORY, LEDGER)
LOADS = (
    Load(1, 0, HERE),
    Load(1, 0, SERVED, CALLS_SERVED),
    Load(0, 1, USUAL),
    Load(0, 1, (POSTGRES,), CALLS_SERVED),
    Load(8, 0, USUAL),
    *(() if is_quick() else (Load(64, 0, USUAL), Load(0, 200, USUAL), Load(0, 2_000, USUAL))),
)


class Spent(NamedTuple):
    """Seconds: CPU time of the threads that call, CPU time elsewhere in the process, and by the clock."""

    caller: float
    elsewhere: float
    clock: float


def on_threads(clients: Clients, load: Load) -> float:
    """Make the calls; return the CPU time of all the threads."""
    ready = threading.Barrier(load.threads)

    def calls(_: int) -> float:
        ready.wait()
        start = time.thread_time()
        for _ in range(load.each):
            clients.openai.chat.completions.create(**REQUEST)
        return time.thread_time() - start

    if load.threads == 1:
        return calls(0)
    with ThreadPoolExecutor(load.threads) as pool:
        return sum(pool.map(calls, range(load.threads)))


async def in_tasks(clients: Clients, load: Load) -> float:
    """Make the calls; return the CPU time of the event loop."""

    async def calls() -> None:
        for _ in range(load.each):
            await clients.openai_async.chat.completions.create(**REQUEST)

    start = time.thread_time()
    await asyncio.gather(*(calls() for _ in range(load.tasks)))
    return time.thread_time() - start


def spent(clients: Clients, load: Load, runner: asyncio.Runner) -> Spent:
    """Make the calls of one round, and wait until their records are written."""
    gc.collect()
    gc.disable()
    began, process, here = time.perf_counter(), time.process_time(), time.thread_time()
    caller = runner.run(in_tasks(clients, load)) if load.tasks else on_threads(clients, load)
    clock = time.perf_counter() - began
    flush(timeout=60)
    whole, here = time.process_time() - process, time.thread_time() - here
    gc.enable()
    # The thread that waits is here; where the calls are made by others, they are no part of elsewhere either.
    calling = here if load.threads <= 1 else here + caller
    return Spent(caller, whole - calling, clock)


def through_sdk(load: Load, ways: Ways) -> None:
    """Show what a call costs under one load, in each configuration."""
    there = [way for way in load.ways if not ways.why_not(way)]
    clients = Clients(1)
    warming, fewest, most = load.rounds
    gc.freeze()
    taken: dict[str, list[Spent]] = {name: [] for name in ("bare", *(way.name for way in there))}
    with asyncio.Runner() as runner:
        for number in range(1 - warming, most + 1):
            if number > fewest and all(is_sure(taken[way.name], taken["bare"]) for way in there):
                break
            bare = spent(clients, load, runner)
            after = {}
            for way in there:
                patch_all(**ways.options(way))
                after[way.name] = spent(clients, load, runner)
                unpatch_all()
            if number:
                for name, each in {"bare": bare, **after}.items():
                    taken[name].append(each)
    for way in load.ways:
        if why := ways.why_not(way):
            show(Row(CALLER, f"{load.name}: {way.name}", None, "µs", note=why))
        else:
            tell(f"{load.name}: {way.name}", way, taken["bare"], taken[way.name], load.calls)


def is_sure(metered: Sequence[Spent], bare: Sequence[Spent]) -> bool:
    """Return whether there are rounds enough."""
    base = [each.caller for each in bare]
    return added([each.caller for each in metered], base).is_sure(statistics.median(base))


def tell(case: str, way: Way, bare: Sequence[Spent], metered: Sequence[Spent], calls: int) -> None:
    """Show what one configuration adds under one load."""

    def us(part: str, each: Sequence[Spent]) -> list[float]:
        return [getattr(spent, part) / calls * 1e6 for spent in each]

    base = us("caller", bare)
    caller, usual = added(us("caller", metered), base), statistics.median(base)
    elsewhere, clock = (more(us(part, metered), us(part, bare)) for part in ("elsewhere", "clock"))
    note = f"bare {usual:.0f} µs, {(usual + caller.median) / usual:.2f}; {clock.median:.0f} µs more by the clock"
    show(of_found(CALLER, case, caller, "µs", limit=way.limit_us, note=note))
    show(of_found(ELSEWHERE, case, elsewhere, "µs"))


class Bare:
    """A resource as the SDK's, whose method has an answer ready."""

    _client = SimpleNamespace(base_url=SimpleNamespace(host="api.openai.com"))
    answer: Any = construct_type(
        type_=ChatCompletion,
        value={
            "id": "c", "created": 1, "model": MODEL, "service_tier": "default",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "word"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 1}},
        },
    )  # fmt: skip

    def create(self, **_request: Any) -> Any:
        """Return an answer that nobody has seen yet."""
        return self.answer.model_copy()


class AsyncBare(Bare):
    """The same, async."""

    async def create(self, **_request: Any) -> Any:
        """Return an answer that nobody has seen yet."""
        return self.answer.model_copy()


class Metered(Bare):
    """What is to be patched."""

    create = Bare.create


class AsyncMetered(AsyncBare):
    """The same, async."""

    create = AsyncBare.create


def patch() -> None:
    """Put our wrappers on the two, as on the SDK's."""
    module = SimpleNamespace(Completions=Metered, AsyncCompletions=AsyncMetered)
    for target in PROVIDER.targets:
        if target.method == "chat.completions.create":
            Patch(target, module, PROVIDER.caller, lambda: True)


def alone(load: Load, ways: Ways) -> None:
    """Show what a call costs by itself, in each configuration."""
    there = [way for way in load.ways if not ways.why_not(way)]
    resolved = {way.name: Settings.resolve(**ways.options(way)) for way in there}
    bare, metered = (AsyncBare(), AsyncMetered()) if load.tasks else (Bare(), Metered())
    calls = CALLS_ALONE if load.at_least == CALLS else load.at_least

    async def in_loop(resource: Any) -> None:
        for _ in range(calls):
            await resource.create(**REQUEST)

    with asyncio.Runner() as runner:

        def make(resource: Any, way: Way | None = None) -> None:
            settings.activate(None if way is None else resolved[way.name])
            if way is not None:
                ways.options(way)  # empties a memory sink
            if load.tasks:
                runner.run(in_loop(resource))
                return
            for _ in range(calls):
                resource.create(**REQUEST)

        cases = {"bare": partial(make, bare), **{way.name: partial(make, metered, way) for way in there}}
        taken = in_turn(cases, ROUNDS_ALONE, time.thread_time)
    settings.activate(None)
    for way in load.ways:
        case = f"{load.name}: {way.name}"
        if why := ways.why_not(way):
            show(Row(ALONE, case, None, "µs", note=why))
        else:
            it = difference(taken, way.name, "bare", calls)
            show(of_found(ALONE, case, it, "µs", limit=way.limit_us, note="CPU time of the caller's thread"))


def main() -> None:
    """Measure."""
    with tempfile.TemporaryDirectory() as made, Ways(Path(made)).there() as ways:
        patch()
        for load in LOADS:
            if max(load.threads, load.tasks) == 1:
                alone(load, ways)
        for load in LOADS:
            through_sdk(load, ways)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
