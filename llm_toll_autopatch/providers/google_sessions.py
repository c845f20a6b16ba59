"""Google's streams as the user holds them, each above the several requests that it may send.

The call stack tells the one about the other: whoever sends a request looks up for the stream that is being advanced.
So a chunk costs nothing here, and what runs in between, or in a task or thread that a tool starts, inherits nothing.
"""

from __future__ import annotations

import inspect
import sys
import threading
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch import settings, streams
from llm_toll_autopatch.meters import Lifecycle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from llm_toll_autopatch.metering import Call
    from llm_toll_autopatch.records import Outcome
    from llm_toll_autopatch.settings import Settings

__all__ = ["Session", "configured", "current", "on_behalf_of", "on_behalf_of_async", "release", "sender"]


class Session(Lifecycle):
    """A stream as the user holds it, above the requests that it sends one after the other.

    Attributes:
        active: The configuration when the user asked for the stream; it counts for all its requests.
        chunks: The SDK's generator, or its stream around one.
    """

    __slots__ = ("_connections", "active", "chunks")

    def __init__(self, active: Settings) -> None:
        super().__init__()
        self.active = active
        self.chunks: Any = None
        self._connections: list[Any] | None = None

    def sent(self, call: Call, connections: list[Any] | None = None) -> None:
        """Take note of a request, and of what holds its connection."""
        before = self.below
        self.below = call if before is None or not before.open else _Both(before, call)
        self._connections = connections

    @property
    def busy(self) -> bool:
        """Whether somebody waits for a chunk at this moment: then nobody else can close the generator."""
        chunks = self._generator
        return bool(getattr(chunks, "gi_running", False) or getattr(chunks, "ag_running", False))

    @property
    def goes_on(self) -> bool:
        """Whether the user's async generator has not ended."""
        return getattr(self._generator, "ag_frame", None) is not None

    @property
    def _generator(self) -> Any:
        return getattr(self.chunks, "generator", self.chunks)

    def begins(self) -> None:
        """Note that a loop over the stream begins on this thread, with which the first request will be sent."""
        _beginning.session = self

    def end(self, outcome: Outcome, error: BaseException | None = None, *, from_finalizer: bool = False) -> bool:
        """End the request that is open; return False when none was, or when somebody else still reads it."""
        if _beginning.session is self:
            _beginning.session = None
        return not self.busy and super().end(outcome, error, from_finalizer=from_finalizer)

    async def close(self) -> None:
        """Close the user's async generator, and the connection, which the SDK leaves open until the next collection."""
        chunks = self.chunks
        try:
            await (chunks.aclose() if hasattr(chunks, "aclose") else chunks.close())
        finally:
            if not self.busy:
                await release(self._connections)


class _Both:
    """Two requests of one stream: the SDK has dropped the first, whose end is still to come."""

    def __init__(self, first: Any, second: Call) -> None:
        self._two = (first, second)

    @property
    def open(self) -> bool:
        """Whether any of them is open."""
        return any(each.open for each in self._two)

    def end(self, outcome: Outcome, error: BaseException | None = None, *, from_finalizer: bool = False) -> bool:
        """End those that are open; return False when none was."""
        ended = [each.end(outcome, error, from_finalizer=from_finalizer) for each in self._two]
        return any(ended)

    async def written(self) -> None:
        """Wait until the records of both are written, within a bound."""
        for each in self._two:
            await each.written()


class _Beginning(threading.local):
    session: Session | None = None


_beginning = _Beginning()


def sender() -> Session | None:
    """Return the stream on whose behalf a request of `generate_content_stream` is sent.

    For the first request of a loop that is the one that begins on this thread, if it is being advanced and has sent
    nothing yet: then nobody has to look at the call stack, whose frames would be held as long as the stream is open.
    """
    session, _beginning.session = _beginning.session, None
    return session if session is not None and session.below is None and session.busy else current()


def current() -> Session | None:
    """Return the stream on whose behalf the SDK is running: that of the nearest step on the call stack.

    Such a step is a frame of `streams`, or one of the two below, whose `meter` is a session. Looking costs a few
    microseconds a request, and about 1 KB while a stream is open, since the frames of generators stay.
    """
    frame = sys._getframe(1)
    while frame is not None:
        ours = frame.f_globals is _STEPS or frame.f_globals is _FIRST_STEPS
        if ours and "meter" in frame.f_code.co_varnames:
            meter = frame.f_locals.get("meter")
            if isinstance(meter, Session):
                return meter
        frame = frame.f_back  # type: ignore[assignment]
    return None


_STEPS, _FIRST_STEPS = vars(streams), globals()


def on_behalf_of(meter: Session, send: Callable[[], Any]) -> Any:  # noqa: ARG001 - `current` looks for it
    """Call `send` as a step of the stream that `meter` is."""
    return send()


async def on_behalf_of_async(meter: Session, sending: Awaitable[Any]) -> Any:  # noqa: ARG001 - the same
    """Await `sending` as one."""
    return await sending


def configured() -> Settings | None:
    """Return the configuration that counts for a request: that of the stream on whose behalf it is sent."""
    session = current()
    return settings.active() if session is None else session.active


async def release(connections: list[Any] | None) -> None:
    """Close the responses of the HTTP library (httpx2, httpx or aiohttp) below the SDK's own."""
    while connections:
        response = connections.pop().response_stream
        close = getattr(response, "aclose", None) or getattr(response, "close", None)
        if close is not None and inspect.isawaitable(closing := close()):
            await closing
