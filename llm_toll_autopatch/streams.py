"""The proxies in which streams are handed out.

A proxy feeds a meter with the chunks that pass and tells it how the stream ended. A fresh generator for each `for` loop
is what sees the loop's `break`: nobody else refers to it, so it is closed when the loop lets go of it. For `async for`
an object with `__del__` does the same, since an async generator that is dropped is closed some time later by the event
loop. `__del__` of the proxy itself catches the streams that are dropped without either.

A loop inside somebody's `__next__` or `__anext__` is another matter: such an iterator takes one chunk in each of many
loops (LiteLLM's does), and leaving one is no break. It reads on where it was, as it does on the bare stream.

Everywhere the order is: report, then close; and nothing of ours raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Self

import wrapt

from llm_toll_autopatch.budgets.stopping import watched, watched_async
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.metering import Call, outcome_of

if TYPE_CHECKING:
    from types import TracebackType

    from llm_toll_autopatch.meters import Meter
    from llm_toll_autopatch.records import Outcome

__all__ = [
    "AsyncStreamProxy",
    "CloseAsync",
    "StreamProxy",
    "close_soon",
    "outcome_of_exit",
]

_closing: set[asyncio.Task[None]] = set()  # the event loop itself keeps no reference to a task

CloseAsync = Callable[[], Awaitable[Any]]


class _AsWrapped(str):
    """An attribute of a class of proxies, whose proxies say what their streams do."""

    __slots__ = ("_name",)

    _name: str

    def __new__(cls, value: str, name: str) -> Self:
        """Return the class's own value, for the attribute `name`."""
        own = super().__new__(cls, value)
        own._name = name
        return own

    def __get__(self, proxy: Any, owner: type) -> Any:
        return self if proxy is None else getattr(proxy.__wrapped__, self._name)


class _Proxy(wrapt.ObjectProxy):  # type: ignore[type-arg]
    """What sync and async proxies share: they look like what they wrap."""

    __slots__ = ("_self_close_on_break", "_self_meter", "_self_original")  # a dictionary takes more of each open stream

    def __init__(self, stream: Any, meter: Meter, *, close_on_break: bool = True) -> None:
        super().__init__(stream)
        # wrapt copies the stream's `__module__` and `__doc__`, in 120 bytes: `_AsWrapped` stands for them.
        own = self.__self_dict__
        if "__wrapped__" not in own:  # without its C extension, the whole proxy is in there
            own.clear()
        self._self_meter = meter
        self._self_close_on_break = close_on_break
        self._self_original = True

    def __init_subclass__(cls) -> None:
        for name in ("__module__", "__doc__"):
            setattr(cls, name, _AsWrapped(cls.__dict__[name] or "", name))

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    def __copy__(self) -> Self:
        """A shallow copy shares the cursor, as the SDK's own does, and the meter; its end is not the stream's."""
        other = type(self)(copy.copy(self.__wrapped__), self._self_meter, close_on_break=self._self_close_on_break)
        other._self_original = False
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self.__wrapped__, memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__wrapped__.__reduce_ex__(protocol)


class StreamProxy(_Proxy):
    """A sync stream: an SDK's `Stream`, a helper that iterates one, or a generator."""

    __slots__ = ("_self_source",)

    def __init__(
        self, stream: Any, meter: Meter, *, close_on_break: bool = True, source: Iterator[Any] | None = None
    ) -> None:
        super().__init__(stream, meter, close_on_break=close_on_break)
        self._self_source = watched(iter(stream) if source is None else source, meter)

    def __iter__(self) -> Iterator[Any]:
        return self if sys._getframe(1).f_code.co_name == "__next__" else self._self_loop()

    def _self_loop(self) -> Iterator[Any]:
        # Names and depth of the stack are held with the frame while the generator is open: few, and flat.
        meter: Any = self._self_meter
        reader = _reader_of(meter)
        try:
            for chunk in self._self_source:
                try:
                    if reader.feed(chunk):
                        continue
                except Exception:
                    _unread(meter)
                if reader is not meter:
                    if not meter.chunks:
                        meter.note_first(chunk)
                    meter.chunks += 1
                yield chunk
        except BaseException:
            self._self_left()
            raise
        meter.end("completed")

    def _self_left(self) -> None:
        """See to the end of a loop that the current exception ended; `GeneratorExit` is its `break`."""
        error = sys.exception()
        assert error is not None
        if not isinstance(error, GeneratorExit):
            self._self_finish(outcome_of(error), error)
        elif self._self_close_on_break:
            self._self_finish("closed")

    def __next__(self) -> Any:
        return self._self_step(self._self_source.__next__)

    def _self_step(self, advance: Callable[[], Any]) -> Any:
        meter = self._self_meter
        try:
            chunk = advance()
            while meter.feed(chunk):
                chunk = advance()
        except StopIteration:
            meter.end("completed")
            raise
        except BaseException as error:
            self._self_finish(outcome_of(error), error)
            raise
        return chunk

    def send(self, value: Any) -> Any:
        """Advance a generator; an SDK's `Stream` has no such method."""
        send = self.__wrapped__.send
        return self._self_step(lambda: send(value))

    def throw(self, *error: Any) -> Any:
        """Raise inside a generator; an SDK's `Stream` has no such method."""
        throw = self.__wrapped__.throw
        return self._self_step(lambda: throw(*error))

    def __enter__(self) -> Self:
        self.__wrapped__.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Any:
        try:
            return self.__wrapped__.__exit__(kind, error, traceback)
        finally:
            self._self_meter.end(outcome_of_exit(error), error)

    def close(self) -> Any:
        """Close the stream."""
        try:
            return self.__wrapped__.close()
        finally:
            self._self_meter.end("closed")

    def _self_finish(
        self, outcome: Outcome, error: BaseException | None = None, *, from_finalizer: bool = False
    ) -> None:
        if self._self_meter.end(outcome, error, from_finalizer=from_finalizer):
            with contextlib.suppress(Exception):
                self.__wrapped__.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # an `__init__` that raised
            if self._self_original:
                self._self_finish("abandoned", from_finalizer=True)


def outcome_of_exit(error: BaseException | None) -> Outcome:
    """Return how a call ended whose `with` was left by `error`: an exception in the user's own code is a break."""
    return "closed" if error is None or isinstance(error, Exception | GeneratorExit) else "cancelled"


class AsyncStreamProxy(_Proxy):
    """An async stream: an SDK's `AsyncStream`, a helper that iterates one, or an async generator."""

    __slots__ = ("_self_home", "_self_source")

    def __init__(
        self, stream: Any, meter: Meter, *, close_on_break: bool = True, source: AsyncIterator[Any] | None = None
    ) -> None:
        super().__init__(stream, meter, close_on_break=close_on_break)
        self._self_source = watched_async(stream.__aiter__() if source is None else source, meter)
        try:
            self._self_home: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:  # another framework's event loop
            self._self_home = None

    def __aiter__(self) -> AsyncIterator[Any]:
        if not self._self_close_on_break or sys._getframe(1).f_code.co_name == "__anext__":
            return self
        return self._self_loop()

    def _self_loop(self) -> AsyncIterator[Any]:
        return _AsyncLoop(self)

    def __anext__(self) -> Awaitable[Any]:
        return _AsyncSteps(self).__anext__()

    async def __aenter__(self) -> Self:
        await self.__wrapped__.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Any:
        try:
            return await self.__wrapped__.__aexit__(kind, error, traceback)
        finally:
            self._self_meter.end(outcome_of_exit(error), error)
            await self._self_meter.written()

    async def close(self) -> Any:
        """Close the stream."""
        try:
            return await self._self_closer()()
        finally:
            self._self_meter.end("closed")
            await self._self_meter.written()

    aclose = close

    def _self_closer(self) -> CloseAsync:
        """Return what closes the stream. It does not refer to the proxy, which may be about to die."""
        stream = self.__wrapped__
        return getattr(stream, "aclose", None) or getattr(stream, "close", None) or _nothing_to_close

    def _self_finish(
        self, outcome: Outcome, error: BaseException | None = None, *, from_finalizer: bool = False
    ) -> None:
        if self._self_meter.end(outcome, error, from_finalizer=from_finalizer):
            close_soon(self._self_closer(), self._self_home)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # an `__init__` that raised
            if self._self_original:
                self._self_finish("abandoned", from_finalizer=True)


class _AsyncSteps:
    """The steps of an async stream.

    An async generator would hold its frame, and the event loop a weak reference to it, while the stream is open.
    """

    __slots__ = ("_meter", "_proxy", "_reader", "_source")

    def __init__(self, proxy: AsyncStreamProxy) -> None:
        self._proxy = proxy
        self._meter: Any = proxy._self_meter
        self._reader = _reader_of(self._meter)
        self._source = proxy._self_source

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        meter, reader = self._meter, self._reader
        try:
            async for chunk in self._source:
                try:
                    if reader.feed(chunk):
                        continue
                except Exception:
                    _unread(meter)
                if reader is not meter:
                    if not meter.chunks:
                        meter.note_first(chunk)
                    meter.chunks += 1
                return chunk
        except BaseException as error:
            self._left(error)
            raise
        meter.end("completed")
        await meter.written()
        raise StopAsyncIteration

    def _left(self, error: BaseException) -> None:
        if isinstance(error, GeneratorExit):  # the event loop is gone, and this step with it
            self._meter.end("abandoned")
        elif not getattr(self._source, "ag_running", False):  # else this step is one too many: another goes on
            self._proxy._self_finish(outcome_of(error), error)


class _AsyncLoop(_AsyncSteps):
    """The iterator of one `async for`. Only the loop refers to it, so it dies with the loop, and that is the break."""

    __slots__ = ()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self._proxy._self_finish("closed")


def _reader_of(meter: Any) -> Any:
    """Return what reads the chunks that `meter` gets.

    That is a call's own reader: its `feed` is written out above, since it would be one frame more for each chunk.
    """
    return meter.reader if type(meter) is Call else meter


def _unread(meter: Any) -> None:
    """Note the current exception: a reader's."""
    error = sys.exception()
    assert error is not None
    failures.note(f"reading a chunk of {getattr(meter, 'method', 'a stream')}", error)


def close_soon(close: CloseAsync, home: asyncio.AbstractEventLoop | None) -> None:
    """Close an async stream from code that cannot await: on the running event loop, else on its own one if it lives.

    Without either nobody can await the closing; the transport is then closed when it is collected.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        if home is not None and not home.is_closed():
            with contextlib.suppress(RuntimeError):  # closed in between
                home.call_soon_threadsafe(_start_closing, close, home)
        return
    _start_closing(close, loop)


def _start_closing(close: CloseAsync, loop: asyncio.AbstractEventLoop) -> None:
    task = loop.create_task(_close_quietly(close))
    _closing.add(task)
    task.add_done_callback(_closing.discard)


async def _nothing_to_close() -> None:
    """Close a stream that has no such method."""


async def _close_quietly(close: CloseAsync) -> None:
    with contextlib.suppress(Exception):
        await close()
