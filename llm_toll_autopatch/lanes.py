"""The lanes of all sinks: what one sink does is nothing to the others."""

from __future__ import annotations

import functools
import time
import weakref
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.doing import here, phase
from llm_toll_autopatch.lane import Delivery, Lane

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llm_toll_autopatch.sinks import Sink

__all__ = ["deliver", "drain", "end", "forget", "lane_of", "lanes", "queued", "rest", "resume", "sinks"]

_lanes: dict[tuple[int, bool], Lane] = {}


def lane_of(sink: Sink, owner: object | None = None) -> Lane:
    """Return the lane of `sink`; of its `owner`, where it was made for one record only."""
    holder = sink if owner is None else owner
    key = (id(holder), owner is not None)
    lane = _lanes.get(key)
    if lane is None:
        new = Lane(holder)
        lane = _lanes.setdefault(key, new)
        if lane is new:
            try:
                lane.anchor = weakref.ref(holder, functools.partial(_forget, _lanes, key))
            except TypeError:  # it has __slots__: its lane keeps it alive, so that no other sink gets its address
                lane.anchor = lambda: holder
    return lane


def _forget(lanes: dict[tuple[int, bool], Lane], key: tuple[int, bool], _: object) -> None:
    # They are handed in: as the interpreter ends, modules lose their names before the last sinks go.
    lanes.pop(key, None)


def deliver(sink: Any, record: Any, owner: object | None = None) -> Delivery | None:
    """Give `record` to `sink`, at once or through its lane.

    Args:
        sink: Who gets it: anything with `emit`.
        record: The record, or whatever else its `emit` takes.
        owner: Whose lane it is to be, where `sink` was made for this record only.

    Returns:
        The delivery that is left to the lane; None where all is done, or the record is dropped.

    Raises:
        BaseException: What interrupted the sink, if it is no `Exception`.
    """
    lane = lane_of(sink, owner)
    # Within `emit` the garbage collector closed a stream in the middle of this very thread's `emit`, which may hold a
    # lock: who called the sink here would wait for himself. And a thread of ours must not be held up by a sink.
    directly = not here.emitting and not here.works and not lane.takes_over
    try:
        if directly and lane.at_once(sink, record):
            return None
    except BaseException:  # Ctrl-C, or a sink that exits: whether it has the record, nobody knows
        if lane.ledger or owner is not None:  # to those the same record twice is once
            lane.put(Delivery(lane, sink, record), refused=True)
        raise
    delivery = Delivery(lane, sink, record)
    if not lane.put(delivery, refused=directly):
        return None
    delivery.wanted = lane.worth_waiting_for(refused=directly)
    return delivery


def lanes() -> Iterable[Lane]:
    """Return the lanes of all sinks that have been given a record."""
    return list(_lanes.values())


def sinks() -> Iterable[Any]:
    """Return the sinks that have been given a record and are still there."""
    alive = [lane.anchor() for lane in lanes()]
    return [sink for sink in alive if sink is not None]


def queued() -> int:
    """Return the number of records that wait for a sink."""
    return sum(lane.queued for lane in lanes())


def drain(deadline: float | None) -> bool:
    """Wait until no lane has work, or the deadline; return whether it is so. Suspended sinks are tried once."""
    idle = [lane.drain(deadline) for lane in lanes()]
    return all(idle)


_held: list[Lane] = []


def rest(deadline: float) -> None:
    """Bring every lane to a rest before a fork.

    Those that are stuck stay so, but for ledgers: they wait for others within bounds, and hold locks of SQLite's.
    """
    _held[:] = [lane for lane in lanes() if (lane.ledger or not lane.stuck) and lane.rest(deadline)]


def resume() -> None:
    """Go on after `rest`."""
    while _held:
        _held.pop().resume()


def forget() -> None:
    """Start anew, in a forked child: what waits belongs to the parent."""
    phase.exiting = False
    _held.clear()
    _lanes.clear()
    here.emitting = here.works = False


def end(deadline: float) -> None:
    """Hand over what waits as the program ends: normally first, then without pauses, until the deadline."""
    for lane in lanes():
        lane.hurry()
    drain(max(time.monotonic(), deadline - 1.0))
    phase.exiting = True
    for lane in lanes():
        lane.hurry()
        if lane.threadless and not lane.stuck:
            lane.work_here()
    drain(deadline)
    for lane in lanes():
        lane.abandon()
