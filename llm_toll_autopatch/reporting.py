"""The way of a record from a call that ended to the sinks: at once, or through a bounded queue."""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import threading
import time
from typing import TYPE_CHECKING

from llm_toll_autopatch.failures import LOGGER, failures
from llm_toll_autopatch.sinks import Sink, SinkUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llm_toll_autopatch.metering import Call
    from llm_toll_autopatch.records import CallRecord

__all__ = ["Counts", "closed", "counts", "flush", "opened", "reset"]

QUEUE_BOUND = 10_000
_RETRY_S = (0.05, 0.1, 0.25, 0.5, 1.0)
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
_delivering = threading.local()


def opened(call: Call) -> None:
    """Remember `call` until it is closed, so that one that is still open at exit gives its record too."""
    _open.add(call)


def open_calls() -> int:
    """Return the number of calls that have begun and not ended."""
    return len(_open)


def closed(call: Call, *, later: bool) -> None:
    """Report the call that has just ended: now, on this thread, or `later`, on the outbox's."""
    _open.discard(call)
    if later:
        _outbox.put(lambda: _report(call))
    else:
        _report(call)


def _report(call: Call) -> None:
    try:
        record = call.record()
    except Exception as error:
        failures.note(f"making the record of {call.method}", error)
        return
    for sink in _leaves(call.settings.sink):
        _deliver(sink, record)
    counts.records += 1


def _leaves(sink: Sink) -> Iterator[Sink]:
    # A tee is only a collection: each sink below it is delivered to, and tried again, for itself.
    below = getattr(sink, "sinks", None)
    if isinstance(below, tuple):
        for each in below:
            yield from _leaves(each)
    else:
        yield sink


def _deliver(sink: Sink, record: CallRecord) -> None:
    where = f"writing to {type(sink).__name__}"
    if getattr(_delivering, "on", False):
        # The garbage collector closed a stream in the middle of this very thread's `emit`, which may hold a lock.
        _outbox.put(lambda: _deliver(sink, record))
        return
    _delivering.on = True
    try:
        sink.emit(record)
    except SinkUnavailableError as error:
        failures.note(where, error)
        _outbox.put(lambda: _retry(sink, record))
    except Exception as error:
        failures.note(where, error)
    finally:
        _delivering.on = False


def _retry(sink: Sink, record: CallRecord) -> None:
    """Try again, with growing pauses, until the sink takes it; on the outbox's thread, or at exit for the last time."""
    for pause in _RETRY_S:
        if not _exiting:
            time.sleep(pause)
        try:
            sink.emit(record)
        except SinkUnavailableError:
            continue
        except Exception as error:
            failures.note(f"writing to {type(sink).__name__}", error)
        return
    if _exiting:
        _drop(f"{type(sink).__name__} did not take it before the program ended")
    else:
        _outbox.put(lambda: _retry(sink, record))


def _drop(reason: str) -> None:
    counts.dropped += 1
    LOGGER.error("a record was dropped: %s", reason)


class Outbox:
    """A bounded queue of work and the daemon thread that does it, started with the first piece.

    `put` may be called from a finalizer, in the middle of `put` itself: `queue.SimpleQueue` is made for that.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._starting = [None]
        self._busy = False

    @property
    def queued(self) -> int:
        """Number of pieces that wait or are being worked on."""
        return self._queue.qsize() + self._busy

    def put(self, work: Callable[[], None]) -> None:
        """Add a piece of work, or drop it, counted and logged, when the queue is full."""
        if self._queue.qsize() >= QUEUE_BOUND:
            _drop(f"{QUEUE_BOUND} are waiting for a sink that does not take them")
            return
        self._queue.put(work)
        try:
            self._starting.pop()
        except IndexError:
            return
        try:
            threading.Thread(target=self._run, name="llm-toll-outbox", daemon=True).start()
        except RuntimeError:  # the interpreter is on its way out: the exit hook does the work
            self._starting.append(None)

    def _run(self) -> None:
        while True:
            work = self._queue.get()
            self._busy = True
            try:
                work()
            except Exception as error:
                failures.note("the outbox", error)
            finally:
                self._busy = False
                del work  # an idle thread must not keep the last call alive

    def drain(self, timeout: float | None) -> bool:
        """Wait until all is done, at most `timeout` seconds; return whether it is."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.queued:
            if self._starting or (deadline is not None and time.monotonic() > deadline):
                return False
            time.sleep(0.002)
        return True

    def work_here(self) -> None:
        """Do what is left on the calling thread."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()()


_outbox = Outbox()


def queued() -> int:
    """Return the number of records that wait for the outbox."""
    return _outbox.queued


def flush(sink: Sink | None, timeout: float | None = None) -> bool:
    """Wait until no record waits any more, then flush `sink`; return False when `timeout` seconds did not suffice."""
    done = _outbox.drain(timeout)
    for leaf in _leaves(sink) if sink is not None else ():
        flush_leaf = getattr(leaf, "flush", None)
        if callable(flush_leaf):
            try:
                flush_leaf()
            except Exception as error:
                failures.note(f"flushing {type(leaf).__name__}", error)
    return done


def ledger_of(sink: Sink) -> str | None:
    """Return where the first ledger of `sink` is: a ledger is a sink that can add up what it holds."""
    for leaf in _leaves(sink):
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


def _after_fork_in_child() -> None:
    """The outbox's thread and the calls that were under way belong to the parent, which reports them."""
    global _outbox
    _outbox = Outbox()
    for call in list(_open):
        call.disown()
    _open.clear()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
