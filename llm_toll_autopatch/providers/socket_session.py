"""A session on a websocket: pieces of work that begin and end while it is open, each billed by itself, once."""

from __future__ import annotations

import weakref
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.providers import calls

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from llm_toll_autopatch.metering import Call
    from llm_toll_autopatch.providers.target import Caller, Target
    from llm_toll_autopatch.readers.reader import Reader
    from llm_toll_autopatch.records import Outcome
    from llm_toll_autopatch.settings import Settings

__all__ = ["Link", "Session", "Step"]

_BOUND = 1_000


@dataclass(frozen=True, slots=True)
class Step:
    """What an event means.

    Attributes:
        work: The piece of work that it is about.
        reader: Reads that work.
        event: What the reader is given.
        begins: Whether it is enough to know of the work by.
        ends: How it ends the work; None when it does not.
        request: What is known of the work when it begins.
    """

    work: Hashable
    reader: type[Reader]
    event: Any
    begins: bool = False
    ends: Outcome | None = None
    request: Mapping[str, Any] = field(default_factory=dict)


class Session:
    """One session, on however many connections of this process.

    Args:
        active: The configuration when it was opened; None when it is not to be metered.
        who: Who opened it.
        model: The model that it was opened for; empty when that is not known.
    """

    __slots__ = (
        "__weakref__", "_done", "_ended", "_open", "active", "lanes", "links", "model", "name", "served", "speech",
        "who",
    )  # fmt: skip

    def __init__(self, active: Settings | None, who: Caller, model: str) -> None:
        self.active = active
        self.who = who
        self.model = model
        self.name: str | None = None
        self.served = ""
        self.speech = ""  # the model that transcribes what is said
        self.lanes: dict[str | None, str] = {}  # which response the events of a lane belong to
        self.links = 0
        self._open: dict[Hashable, Call] = {}
        self._done: dict[Hashable, None] = {}
        self._ended: Call | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is open."""
        return not self._open

    def take(self, step: Step, target: Target) -> None:
        """Take the next step. A work that has ended is not begun again: events are told twice after a reconnection."""
        if step.work in self._done or self.active is None:
            return
        call = self._open.get(step.work)
        if call is None:
            if not step.begins:
                return
            target = replace(target, reader=step.reader)
            call = calls.begin_due(target, lambda _: self.who, None, step.request, self.active)
            if call is None:
                return
            call.stream = True
            self._open[step.work] = call
        call.feed(step.event)
        if step.ends is not None:
            self._end(step.work, step.ends)

    def end(self, outcome: Outcome, error: BaseException | None = None, *, from_finalizer: bool = False) -> None:
        """End all that is open."""
        for work in tuple(self._open):
            self._end(work, outcome, error, from_finalizer=from_finalizer)

    def _end(
        self, work: Hashable, outcome: Outcome, error: BaseException | None = None, *, from_finalizer: bool = False
    ) -> None:
        call = self._open.pop(work, None)
        if call is None:  # another thread was faster
            return
        self._done[work] = None
        if len(self._done) > _BOUND:
            with suppress(StopIteration, KeyError, RuntimeError):
                del self._done[next(iter(self._done))]
        self._ended = call
        call.end(outcome, error, from_finalizer=from_finalizer)

    async def written(self) -> None:
        """Wait until the record that was made last is written, within a bound."""
        call, self._ended = self._ended, None
        if call is not None:
            await call.written()


_known: weakref.WeakValueDictionary[Hashable, Session] = weakref.WeakValueDictionary()


class Link:
    """One connection to a session. The last one that ends, ends what is open."""

    __slots__ = ("_is_over", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self._is_over = False
        session.links += 1

    def join(self, name: str | None) -> None:
        """Take part in the session that is called `name`, if another connection does: it is billed once for both."""
        own = self.session
        if not name or self._is_over:
            return
        own.name = own.name or name
        shared = _known.get((own.who.endpoint, name))
        if shared is None or not shared.links:
            _known[own.who.endpoint, name] = own
            return
        if shared is own or not own.idle:
            return
        shared.links += 1
        own.links -= 1
        self.session = shared

    def end(self, outcome: Outcome, error: BaseException | None = None, *, from_finalizer: bool = False) -> None:
        """Leave the session."""
        if not self._is_over:
            self._is_over = True
            self.session.links -= 1
        if self.session.links <= 0:
            self.session.end(outcome, error, from_finalizer=from_finalizer)
