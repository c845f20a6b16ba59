"""The way of a record from a call that ended to the sinks: at once, or through a bounded queue."""

from __future__ import annotations

import atexit
import concurrent.futures
import contextlib
import functools
import os
import queue
import sys
import threading
import time
from typing import TYPE_CHECKING

from llm_toll_autopatch import lanes
from llm_toll_autopatch.aside import aside, finished
from llm_toll_autopatch.counts import counts, drop
from llm_toll_autopatch.doing import here
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.lanes import deliver, lane_of
from llm_toll_autopatch.loops import in_event_loop
from llm_toll_autopatch.sinks import forking  # noqa: F401 - registered before us: ledgers come to a rest after lanes
from llm_toll_autopatch.sinks.tee import leaves

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llm_toll_autopatch.budgets.gate import Admission
    from llm_toll_autopatch.health import SinkStatus
    from llm_toll_autopatch.lane import Delivery
    from llm_toll_autopatch.metering import Call
    from llm_toll_autopatch.sinks import Sink
    from llm_toll_autopatch.spend import Spend

__all__ = ["closed", "counts", "flush", "open_within", "opened", "reset", "written"]

QUEUE_BOUND = 10_000
PATIENCE_S = 2.0
"""How long a call waits for its record to be written."""
_EXIT_S = 5.0
_AGAIN_S = 0.2

_open: set[Call] = set()
_cold = [None]
_exit_deadline: float | None = None


def opened(call: Call) -> None:
    """Remember `call` until it has ended, so that one that is still open at exit gives its record too."""
    _open.add(call)
    for sink in call.settings.told:
        try:
            sink.began(call.id)
        except Exception as error:
            failures.note(f"{type(sink).__name__}.began", error)
    if _cold:
        with contextlib.suppress(IndexError):
            _cold.pop()
            # Exit hooks run in the opposite order: what the program has set up until its first call (an exporter of
            # metrics, say) ends after us, and gets our last records. The first registration stays, for what is called
            # after this one.
            atexit.register(_at_exit)
            _end_with_multiprocessing()
            # The first price takes a quarter of a second to look up. The request takes as long: use its time.
            _outbox.put(call.settings.prices.warm_up)


def _end_with_multiprocessing() -> None:
    """Have a child of `multiprocessing` report what is left: it runs that library's finalizers, and no exit hooks."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, _at_exit, exitpriority=-1)


def is_open(call: Call) -> bool:
    """Return whether `call` has not ended."""
    return call in _open


def ended(call: Call) -> bool:
    """Take note that `call` has ended; return False when it had already.

    Taking it out of the set is atomic. A lock is not an option: finalizers end calls too, at any moment, also inside
    whatever the lock would protect.
    """
    try:
        _open.remove(call)
    except KeyError:
        return False
    return True


def open_calls() -> int:
    """Return the number of calls that have begun and not ended."""
    return len(_open)


def open_within(spend: Spend) -> list[Call]:
    """Return the calls that have begun in the scope of `spend` and not ended."""
    return [call for call in tuple(_open) if spend in call.settings.spends]


def dropped(call: Call, *, later: bool = False) -> None:
    """Let go of what is held for a call that has ended and gives no record: now, or `later`, as `closed`."""
    if call.admission is not None and later:
        _outbox.put(functools.partial(released, call.admission))
    elif call.admission is not None:
        released(call.admission)


def released(admission: Admission) -> None:
    """Let go of what is held for a call that is not sent; as soon as its keepers can be told."""
    for each in admission.releasers():
        deliver(each, admission.call_id, owner=each.keeper)


def closed(call: Call, *, later: bool) -> None:
    """Report the call that has just ended: now, on this thread, or `later`, on the outbox's.

    A sink that cannot take the record at once gets it from its lane. A thread waits for that, within a bound; an
    event loop must not: its coroutines await `written`.
    """
    if later:
        _outbox.put(functools.partial(_report, call))
        return
    waiting = _report(call)
    if waiting and in_event_loop():
        call.waiting = waiting
    elif waiting:
        concurrent.futures.wait(waiting, PATIENCE_S)
        _mark_hopeless(waiting)


async def written(call: Call) -> None:
    """Wait until the record of `call` is written, within the bound, without holding up the event loop."""
    waiting, call.waiting = call.waiting, ()
    if waiting:
        import asyncio

        await asyncio.wait([asyncio.wrap_future(each) for each in waiting], timeout=PATIENCE_S)
        _mark_hopeless(waiting)


def _mark_hopeless(waiting: Sequence[Delivery]) -> None:
    """Have nobody else wait for a sink for which somebody waited in vain, until it takes a record again."""
    for each in waiting:
        if not each.done():
            each.lane.hopeless = True


def _report(call: Call) -> list[Delivery]:
    """Make the record and hand it to each sink; return the deliveries that are worth waiting for."""
    try:
        record = call.record()
    except Exception as error:
        failures.note(f"making the record of {call.method}", error)
        dropped(call)
        return []
    counts.records += 1
    for spend in call.settings.spends:
        spend.add(record)
    # Each sink of a tee is delivered to, and tried again, for itself.
    admission = call.admission
    settings = call.settings
    takers = settings.takers if admission is None else admission.takers(leaves(settings.sink))
    deliveries: list[Delivery] = []
    interruption: BaseException | None = None
    for sink, owner in takers:
        try:
            if (delivery := deliver(sink, record, owner)) is not None:
                deliveries.append(delivery)
        except BaseException as error:  # Ctrl-C, say: the other sinks have the record before it interrupts the program
            interruption = interruption or error
    if admission is not None:
        # What a call is charged is known when it is settled.
        settling = [each for each in deliveries if each.lane.ledger]
        if settling:
            settling[-1].add_done_callback(lambda _: admission.warn_of_overruns(record))
        else:
            admission.warn_of_overruns(record)
    if interruption is not None:
        raise interruption
    return [each for each in deliveries if each.wanted]


class Outbox:
    """A bounded queue of work and the daemon thread that does it, started with the first piece. It calls no sink.

    `put` may be called from a finalizer, in the middle of `put` itself: `queue.SimpleQueue` is made for that.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._starting = [None]
        # One token for each piece until it is done. The queue's own size is no answer: from Python 3.13 on `put` hands
        # a piece to a thread that waits in `get` and has yet to wake up. Appending and popping are atomic.
        self._undone: list[None] = []
        self._working = threading.RLock()
        self._resting = False

    @property
    def queued(self) -> int:
        """Number of pieces that wait or are being worked on."""
        return len(self._undone)

    def put(self, work: Callable[[], object]) -> bool:
        """Add a piece of work; return False when the queue is full, and it is dropped, counted and logged."""
        if self._queue.qsize() >= QUEUE_BOUND:
            drop(f"{QUEUE_BOUND} calls that have ended wait for their records to be made")
            return False
        self._undone.append(None)
        self._queue.put(work)
        try:
            self._starting.pop()
        except IndexError:
            return True
        try:
            threading.Thread(target=self._run, name="llm-toll-outbox", daemon=True).start()
        except RuntimeError:  # the interpreter is on its way out: the exit hook does the work
            self._starting.append(None)
        return True

    def _run(self) -> None:
        here.works = True
        while True:
            work = self._queue.get()
            try:
                with self._working:
                    work()
            except Exception as error:
                failures.note("the outbox", error)
            finally:
                self._undone.pop()
                del work  # an idle thread must not keep the last call alive

    def drain(self, timeout: float | None) -> bool:
        """Wait until all is done, at most `timeout` seconds; return whether it is."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.queued:
            if self._starting or (deadline is not None and time.monotonic() > deadline):
                return False
            time.sleep(0.002)
        return True

    def rest(self, deadline: float) -> None:
        """Come to a rest, until the deadline at most, until `resume`: nothing may be half done when the process forks.

        A child would inherit the locks that are held in the middle of an import or within SQLite, and nobody to let
        go of them.
        """
        self._resting = self._working.acquire(timeout=max(0.0, deadline - time.monotonic()))

    def resume(self) -> None:
        """Go on after `rest`."""
        if self._resting:
            self._working.release()

    def work_here(self) -> None:
        """Do what is left on the calling thread."""
        with contextlib.suppress(queue.Empty):
            while True:
                work = self._queue.get_nowait()
                self._undone.pop()
                work()


_outbox = Outbox()


def queued() -> int:
    """Return the number of records that wait to be made, or for a sink."""
    return _outbox.queued + lanes.queued()


def flush(sink: Sink | None, timeout: float | None = None) -> bool:
    """Wait until no record waits any more, then flush `sink`; return False when `timeout` seconds did not suffice.

    A suspended sink is tried once more and not waited for. A sink that flushes is not waited for either, by itself.
    """
    if here.works or here.emitting:
        return False
    deadline = None if timeout is None else time.monotonic() + timeout
    made = _outbox.drain(timeout)
    done = lanes.drain(deadline) and made
    threads = []
    for leaf in leaves(sink) if sink is not None else ():
        if not callable(flush_leaf := getattr(leaf, "flush", None)):
            continue
        if deadline is None:
            try:
                flush_leaf()
            except Exception as error:
                failures.note(f"flushing {type(leaf).__name__}", error)
        else:
            threads.append(aside(flush_leaf, f"flushing {type(leaf).__name__}"))
    return done if deadline is None else finished(threads, deadline) and done


def ledger_of(sink: Sink) -> str | None:
    """Return where the first ledger of `sink` is: a ledger is a sink that can add up what it holds."""
    for leaf in leaves(sink):
        if hasattr(leaf, "totals"):
            return str(getattr(leaf, "location", getattr(leaf, "path", type(leaf).__name__)))
    return None


def reset() -> None:
    """Start the counts anew."""
    counts.__init__()  # type: ignore[misc]


def sinks_of(sink: Sink) -> tuple[SinkStatus, ...]:
    """Return how each of the sinks that records for `sink` end up in is doing."""
    return tuple(lane_of(leaf).status() for leaf in leaves(sink))


def _at_exit() -> None:
    """End what is still open, write what still waits, flush and close the sinks: in about `_EXIT_S` seconds at most.

    Runs twice, and has the time once.
    """
    global _exit_deadline
    now = time.monotonic()
    deadline = _exit_deadline = now + _EXIT_S if _exit_deadline is None else max(_exit_deadline, now + _AGAIN_S)
    for call in list(_open):
        call.give_up()
    if not _outbox.drain(deadline - now):
        _outbox.work_here()
    lanes.end(deadline)
    # What a sink does there may take for ever, and is waited for no longer than the rest.
    threads = [aside(functools.partial(_close, sink), f"closing {type(sink).__name__}") for sink in lanes.sinks()]
    finished(threads, max(deadline, time.monotonic() + _AGAIN_S))


def _close(sink: Sink) -> None:
    for method in ("flush", "close"):
        call = getattr(sink, method, None)
        if callable(call):
            call()


def _before_fork() -> None:
    deadline = time.monotonic() + PATIENCE_S
    _outbox.rest(deadline)
    lanes.rest(deadline)


def _after_fork_in_parent() -> None:
    lanes.resume()
    _outbox.resume()


def _after_fork_in_child() -> None:
    """The outbox's thread and the calls that were under way belong to the parent, which reports them."""
    global _outbox, _exit_deadline
    _outbox = Outbox()
    _exit_deadline = None
    _cold[:] = [None]  # its exit is another one
    lanes.forget()
    _open.clear()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
