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
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.failures import LOGGER, failures
from llm_toll_autopatch.sinks import Sink, SinkUnavailableError
from llm_toll_autopatch.sinks.tee import leaves

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llm_toll_autopatch.budgets.gate import Admission
    from llm_toll_autopatch.metering import Call
    from llm_toll_autopatch.spend import Spend

__all__ = ["Counts", "closed", "counts", "flush", "open_within", "opened", "reset", "written"]

QUEUE_BOUND = 10_000
PATIENCE_S = 2.0
"""How long a call waits for its record to be written."""
_RETRY_S = (0.01, 0.05, 0.25, 0.5, 1.0)
_EXIT_S = 5.0


class Counts:
    """What `status()` shows of the reporting."""

    __slots__ = ("dropped", "records")

    def __init__(self) -> None:
        self.records = 0
        self.dropped = 0


counts = Counts()
_open: set[Call] = set()
_exiting = False
_cold = [None]
_hopeless: set[int] = set()
_delivering = threading.local()


def opened(call: Call) -> None:
    """Remember `call` until it is closed, so that one that is still open at exit gives its record too."""
    _open.add(call)
    if _cold:
        with contextlib.suppress(IndexError):
            _cold.pop()
            # The first price takes a quarter of a second to look up. The request takes as long: use its time.
            _outbox.put(call.settings.prices.warm_up)


def open_calls() -> int:
    """Return the number of calls that have begun and not ended."""
    return len(_open)


def open_within(spend: Spend) -> list[Call]:
    """Return the calls that have begun in the scope of `spend` and not ended."""
    return [call for call in tuple(_open) if spend in call.settings.spends]


def dropped(call: Call, *, later: bool = False) -> None:
    """Forget a call that has ended and gives no record; let go of what is held for it: now, or `later`, as `closed`."""
    _open.discard(call)
    if call.admission is not None and later:
        _outbox.put(functools.partial(released, call.admission))
    elif call.admission is not None:
        released(call.admission)


def released(admission: Admission) -> None:
    """Let go of what is held for a call that is not sent; as soon as its keepers can be told."""
    for each in admission.releasers():
        _deliver(each, admission.call_id)


def closed(call: Call, *, later: bool) -> None:
    """Report the call that has just ended: now, on this thread, or `later`, on the outbox's.

    A sink that cannot take the record at once gets it from the outbox. A thread waits for that, within a bound; an
    event loop must not: its coroutines await `written`.
    """
    _open.discard(call)
    if later:
        _outbox.put(functools.partial(_report, call))
        return
    waiting = _report(call)
    if waiting and _in_event_loop():
        call.waiting = waiting
    elif waiting and not getattr(_delivering, "outbox", False):
        concurrent.futures.wait(waiting, PATIENCE_S)
        _mark_hopeless(waiting)


async def written(call: Call) -> None:
    """Wait until the record of `call` is written, within the bound, without holding up the event loop."""
    waiting, call.waiting = call.waiting, ()
    if waiting:
        import asyncio

        await asyncio.wait([asyncio.wrap_future(each) for each in waiting], timeout=PATIENCE_S)
        _mark_hopeless(waiting)


def _in_event_loop() -> bool:
    loops = sys.modules.get("asyncio")
    return loops is not None and loops._get_running_loop() is not None


def _mark_hopeless(waiting: Sequence[Delivery]) -> None:
    """Have nobody else wait for a sink for which somebody waited in vain, until it takes a record again."""
    for each in waiting:
        if not each.done():
            _hopeless.add(id(each.sink))


def _report(call: Call) -> list[Delivery]:
    """Make the record and hand it to each sink; return the deliveries left to the outbox that are worth waiting for."""
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
    sinks: Sequence[Sink] = leaves(call.settings.sink)
    admission = call.admission
    if admission is not None:
        sinks = (*sinks, *admission.settlers(sinks))
    deliveries = [each for each in [_deliver(sink, record) for sink in sinks] if each is not None]
    if admission is not None:
        # What a call is charged is known when it is settled.
        if deliveries:
            deliveries[-1].add_done_callback(lambda _: admission.warn_of_overruns(record))
        else:
            admission.warn_of_overruns(record)
    return [each for each in deliveries if id(each.sink) not in _hopeless]


class Delivery(concurrent.futures.Future[None]):
    """A record that a sink could not take at once; done when it has been taken, or given up."""

    def __init__(self, sink: Any, record: Any) -> None:
        super().__init__()
        self.sink = sink
        self.record = record

    def attempt(self) -> None:
        """Try, and try again after a pause, until the sink takes it; on the outbox's thread, or at exit a last time."""
        where = f"writing to {type(self.sink).__name__}"
        for pause in _RETRY_S:
            try:
                self.sink.emit(self.record)
            except SinkUnavailableError as error:
                failure = error
                if not _exiting:
                    time.sleep(pause)
                continue
            except Exception as error:
                failures.note(where, error)
            _hopeless.discard(id(self.sink))
            self.set_result(None)
            return
        failures.note(where, failure)
        if _exiting:
            _drop(f"{type(self.sink).__name__} did not take it before the program ended")
        else:
            _outbox.put(self.attempt)


def _deliver(sink: Any, record: Any) -> Delivery | None:
    """Hand `record`, or a call's id, to `sink`; return the delivery left to the outbox if that does not work now."""
    delivery = None
    if getattr(_delivering, "on", False):
        # The garbage collector closed a stream in the middle of this very thread's `emit`, which may hold a lock. Who
        # waited here would wait for himself.
        _outbox.put(Delivery(sink, record).attempt)
        return None
    _delivering.on = True
    try:
        getattr(sink, "emit_now", sink.emit)(record)
    except SinkUnavailableError:
        waiting = Delivery(sink, record)
        delivery = waiting if _outbox.put(waiting.attempt) else None
    except Exception as error:
        failures.note(f"writing to {type(sink).__name__}", error)
    finally:
        _delivering.on = False
    return delivery


def _drop(reason: str) -> None:
    counts.dropped += 1
    LOGGER.error("a record was dropped: %s", reason)


class Outbox:
    """A bounded queue of work and the daemon thread that does it, started with the first piece.

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
            _drop(f"{QUEUE_BOUND} are waiting for a sink that does not take them")
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
        _delivering.outbox = True
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

    def rest(self) -> None:
        """Come to a rest, for a while at most, until `resume`: nothing may be half done when the process forks.

        A child would inherit the locks that are held in the middle of an import or within SQLite, and nobody to let
        go of them.
        """
        self._resting = self._working.acquire(timeout=PATIENCE_S)

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
    """Return the number of records that wait for the outbox."""
    return _outbox.queued


def flush(sink: Sink | None, timeout: float | None = None) -> bool:
    """Wait until no record waits any more, then flush `sink`; return False when `timeout` seconds did not suffice."""
    done = _outbox.drain(timeout)
    for leaf in leaves(sink) if sink is not None else ():
        flush_leaf = getattr(leaf, "flush", None)
        if callable(flush_leaf):
            try:
                flush_leaf()
            except Exception as error:
                failures.note(f"flushing {type(leaf).__name__}", error)
    return done


def ledger_of(sink: Sink) -> str | None:
    """Return where the first ledger of `sink` is: a ledger is a sink that can add up what it holds."""
    for leaf in leaves(sink):
        if hasattr(leaf, "totals"):
            return str(getattr(leaf, "path", type(leaf).__name__))
    return None


def reset() -> None:
    """Start the counts anew."""
    counts.__init__()  # type: ignore[misc]


def _at_exit() -> None:
    """End what is still open and write what still waits, for at most about `_EXIT_S` seconds."""
    global _exiting
    for call in list(_open):
        call.give_up()
    if not _outbox.drain(_EXIT_S):
        _exiting = True
        _outbox.work_here()


def _before_fork() -> None:
    _outbox.rest()


def _after_fork_in_parent() -> None:
    _outbox.resume()


def _after_fork_in_child() -> None:
    """The outbox's thread and the calls that were under way belong to the parent, which reports them."""
    global _outbox
    _outbox = Outbox()
    for call in list(_open):
        call.disown()
    _open.clear()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
