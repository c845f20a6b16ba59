"""`Lane`: the last step of a record's way, to one sink, at once or through a queue of its own."""

from __future__ import annotations

import concurrent.futures
import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.counts import drop
from llm_toll_autopatch.doing import here, phase
from llm_toll_autopatch.failures import LOGGER, failures
from llm_toll_autopatch.health import SinkStatus
from llm_toll_autopatch.sinks import SinkUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from llm_toll_autopatch.sinks import Sink

__all__ = ["Delivery", "Lane", "here", "phase"]

QUEUE_BOUND = 10_000
"""How many records may wait for one sink."""
FAILURES_IN_A_ROW = 5
"""After so many a sink is suspended."""
SUSPENSION_S = 30.0
STUCK_S = 1.0
"""A sink that has held a thread for so long gets no other one."""
SLOW_S = 0.1
"""A sink that took longer several times in a row is called by its lane from then on, and not waited for."""
_SLOW_IN_A_ROW = 3
_QUICK_IN_A_ROW = 20
_RETRY_S = (0.01, 0.05, 0.25, 0.5, 1.0)
_LINGER_S = 1.0
_TOGETHER = 200
"""How many records a ledger is given in one transaction."""
_LOG_EVERY_S = 60.0


class Delivery(concurrent.futures.Future[None]):
    """A record that a sink has not been given yet; done when it has taken it, or never will.

    Attributes:
        wanted: Whether it is worth waiting for.
    """

    def __init__(self, lane: Lane, sink: Sink, record: Any) -> None:
        super().__init__()
        self.lane = lane
        self.sink = sink
        self.record = record
        self.wanted = False


class Lane:
    """What is known of one sink, and the records that wait for it.

    The queue's thread is started with the first record and ends when there is nothing to do. `put` may be called from a
    finalizer, in the middle of `put` itself.
    """

    def __init__(self, sink: object) -> None:
        self.name = type(sink).__name__
        self.ledger = hasattr(sink, "totals")
        self.deferred = bool(getattr(sink, "deferred", False))
        self.written = self.dropped = self.failures = 0
        # Somebody waited in vain for the sink: nobody else does, until it takes a record again.
        self.hopeless = False
        self._queue: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
        # One token for each delivery until it is done; appending and popping are atomic.
        self._undone: list[None] = []
        self._starting = [None]
        self._working = threading.RLock()
        self._counting = threading.RLock()
        self._wake = threading.Event()
        self._began: dict[int, float] = {}  # since when which thread is within `emit`
        self._refused = False
        self._refusal: Exception | None = None
        self._reason = ""
        self._in_a_row = self._slow_in_a_row = self._quick_in_a_row = 0
        self._slow = False
        self._abandoned = 0
        self._suspended_until = 0.0
        self._log_from = 0.0
        self.anchor: Callable[[], object | None] = lambda: None

    # What it is like

    @property
    def queued(self) -> int:
        """Number of records that wait or are being handed over by the lane."""
        return len(self._undone)

    @property
    def suspended(self) -> bool:
        """Whether the sink has failed so often that it is left alone for a while."""
        return bool(self._suspended_until)

    @property
    def stuck(self) -> bool:
        """Whether the sink holds a thread for longer than it may."""
        return bool(self._began) and min(list(self._began.values()), default=time.monotonic()) < (
            time.monotonic() - STUCK_S
        )

    @property
    def state(self) -> str:
        """What `SinkStatus.state` says."""
        if self.suspended:
            return "suspended"
        if self.stuck:
            return "stuck"
        if self._refused and self._undone:
            return "retrying"
        return "slow" if self._slow else "ok"

    def status(self) -> SinkStatus:
        """Return the figures that `status()` shows."""
        state = self.state
        return SinkStatus(
            name=self.name,
            written=self.written,
            queued=self.queued,
            dropped=self.dropped,
            failures=self.failures,
            state=state,
            reason=self._reason if state == "retrying" else "",
        )

    @property
    def takes_over(self) -> bool:
        """Whether records go through the queue now, in order, instead of to the sink on the calling thread."""
        if self._began and self.stuck:
            return True
        if self._refused and not self._undone:
            self._refused = False  # all that had been refused is written, or given up
        return self.deferred or self._slow or self._refused or self.suspended

    def worth_waiting_for(self, *, refused: bool) -> bool:
        """Whether a caller should wait for its record to be written, which the sink has `refused` to take at once."""
        if self.hopeless or self.suspended or here.works or here.emitting:
            return False
        return not self.deferred and (self.ledger or refused or self._refused)

    # Handing over

    def at_once(self, sink: Sink, record: Any) -> bool:
        """Hand `record` to `sink` on this thread; return False when the sink cannot take it now."""
        taken = self._attempt(getattr(sink, "emit_now", sink.emit), record)
        if not taken:
            self._refusal = None  # its traceback holds the frames of the program
        return taken

    def _attempt(self, emit: Callable[[Any], None], record: Any, records: int = 1) -> bool:
        thread = threading.get_ident()
        outer, here.emitting = here.emitting, True
        began = time.monotonic()
        self._began[thread] = began
        try:
            emit(record)
        except SinkUnavailableError as error:
            self._refusal = error
            self._reason = " ".join(str(error).split())[:200]
            return False
        except Exception as error:
            self._failed(error)
            return True
        finally:
            self._began.pop(thread, None)
            here.emitting = outer
        self._succeeded((time.monotonic() - began) / records, records)
        return True

    def _succeeded(self, took_s: float, records: int) -> None:
        with self._counting:
            self.written += records
        self.hopeless = False
        self._refusal = None
        self._in_a_row = 0
        self._suspended_until = 0.0
        if took_s > SLOW_S:
            self._slow_in_a_row += 1
            self._quick_in_a_row = 0
            if self._slow_in_a_row >= _SLOW_IN_A_ROW and not self._slow:
                self._slow = True
                self._log("%s is slow: nobody waits for it any more, it gets its records from a thread of its own")
        elif self._slow_in_a_row:
            self._quick_in_a_row += 1
            if not self._slow or self._quick_in_a_row >= _QUICK_IN_A_ROW:
                self._slow = False
                self._slow_in_a_row = 0

    def _failed(self, error: Exception) -> None:
        with self._counting:
            self.failures += 1
            self._in_a_row += 1
        failures.note(f"writing to {self.name}", error)
        if self._in_a_row >= FAILURES_IN_A_ROW:
            self._suspended_until = time.monotonic() + SUSPENSION_S
            self._log(
                f"%s failed {self._in_a_row} times in a row: its records are kept, up to {QUEUE_BOUND:,},"
                f" and it is tried again in {SUSPENSION_S:.0f} s"
            )

    def _log(self, message: str) -> None:
        now = time.monotonic()
        if now >= self._log_from:
            self._log_from = now + _LOG_EVERY_S
            with contextlib.suppress(Exception):  # a broken logging handler is the user's
                LOGGER.warning(message, self.name)

    # The queue

    def put(self, delivery: Delivery, *, refused: bool = False) -> bool:
        """Queue `delivery`; return False when the queue is full, and the record is dropped, counted and logged.

        Args:
            delivery: What is to be handed over.
            refused: Whether the sink could not take it at once: what follows then queues up behind it.
        """
        if len(self._undone) >= QUEUE_BOUND:
            self._drop(f"{QUEUE_BOUND} are waiting for {self.name}, which does not take them")
            delivery.set_result(None)
            return False
        self._undone.append(None)
        self._refused = self._refused or refused
        self._queue.put(delivery)
        self._start()
        return True

    def _start(self) -> None:
        try:
            self._starting.pop()
        except IndexError:
            return
        try:
            threading.Thread(target=self._run, name=f"llm-toll-{self.name}", daemon=True).start()
        except RuntimeError:  # the interpreter is on its way out: the exit hook does the work
            self._starting.append(None)

    @property
    def threadless(self) -> bool:
        """Whether records wait and no thread is there to hand them over."""
        return bool(self._undone and self._starting)

    def _run(self) -> None:
        here.works = True
        while True:
            try:
                delivery = self._queue.get(timeout=_LINGER_S)
            except queue.Empty:
                self._starting.append(None)
                if self._queue.empty():
                    return
                try:
                    self._starting.pop()  # a record came in between, and nobody has started a thread for it
                except IndexError:
                    return
                continue
            try:
                self._work(delivery)
            except BaseException as error:  # a sink that exits ends its attempt, not the thread
                failures.note(f"the queue of {self.name}", error)
            del delivery  # an idle thread must not keep the last record and its sink alive

    def work_here(self) -> None:
        """Hand over on the calling thread what waits."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._work(self._queue.get_nowait())

    def _work(self, delivery: Delivery) -> None:
        if self.ledger and not self._queue.empty() and self._all_at_once(delivery):
            return
        try:
            if self._deliver(delivery):
                with contextlib.suppress(concurrent.futures.InvalidStateError):  # who waited has been cancelled
                    delivery.set_result(None)
            else:
                self._undone.append(None)
                self._queue.put(delivery)  # those behind it get their turn
        finally:
            self._undone.pop()

    def _all_at_once(self, first: Delivery) -> bool:
        """Have a ledger commit `first` and what waits behind it together; return False if it does not, for any reason.

        Then all is as it was: what is wrong, and with which record, shows when each is tried alone.
        """
        add = getattr(first.sink, "add", None)
        if add is None or self.suspended:
            return False
        batch = [first]
        with contextlib.suppress(queue.Empty):
            while len(batch) < _TOGETHER:
                batch.append(self._queue.get_nowait())

        def emit(records: list[Any]) -> None:
            try:
                add(records)
            except SinkUnavailableError:
                raise  # it says why, to `status()` too
            except Exception as error:
                raise SinkUnavailableError(f"{self.name}.add: {type(error).__name__}") from error

        with self._working:
            written = self._attempt(emit, [each.record for each in batch], len(batch))
        if not written:
            for each in batch[1:]:
                self._queue.put(each)
            return False
        for each in batch:
            self._undone.pop()
            with contextlib.suppress(concurrent.futures.InvalidStateError):
                each.set_result(None)
        return True

    def _deliver(self, delivery: Delivery) -> bool:
        """Try for a while; return whether that is the end of it."""
        while (pause := self._suspended_until - time.monotonic()) > 0 and self._pause(pause):
            pass
        for pause in _RETRY_S:
            if phase.exiting and self.suspended and self._in_a_row > FAILURES_IN_A_ROW:
                self._drop(f"{self.name} kept failing until the program ended")
                return True
            with self._working:
                if self._attempt(delivery.sink.emit, delivery.record):
                    return True
            self._refused = True
            self._pause(pause)
        if self._refusal is not None:
            failures.note(f"writing to {self.name}", self._refusal)
            self._refusal = None  # its traceback holds the record
        with self._counting:
            self.failures += 1
        if phase.exiting:
            self._drop(f"{self.name} did not take it before the program ended")
        return phase.exiting

    def _pause(self, seconds: float) -> bool:
        """Wait; return False when somebody who does not want to wait cuts it short."""
        if phase.exiting or self._wake.wait(seconds):
            self._wake.clear()
            return False
        return True

    def _drop(self, reason: str, records: int = 1) -> None:
        with self._counting:
            self.dropped += records
        drop(reason, records)

    def hurry(self) -> None:
        """Have the next attempt made now."""
        self._wake.set()

    def drain(self, deadline: float | None) -> bool:
        """Wait until nothing waits; return False at the deadline, or when the sink is suspended."""
        failed = self._in_a_row
        if self.suspended:
            self.hurry()
        while self.queued:
            if self.threadless or (deadline is not None and time.monotonic() > deadline):
                return False
            if self.suspended and self._in_a_row != failed:
                return False  # it has just failed again
            time.sleep(0.002)
        return True

    def abandon(self) -> None:
        """Count what waits as dropped: the program ends."""
        if left := self.queued - self._abandoned:
            self._abandoned += left
            why = f": {self._reason}" if self._refused and self._reason else ""
            self._drop(f"{self.name} did not take them before the program ended{why}", left)

    def rest(self, deadline: float) -> bool:
        """Keep the queue's thread out of the sink; return False when it does not come out in time."""
        return self._working.acquire(timeout=max(0.0, deadline - time.monotonic()))

    def resume(self) -> None:
        """Go on after `rest`."""
        self._working.release()
