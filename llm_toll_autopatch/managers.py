"""The proxies of the context managers that an SDK's `stream()` helpers return."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar

import wrapt

from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.metering import Call, outcome_of
from llm_toll_autopatch.meters import Lifecycle
from llm_toll_autopatch.streams import AsyncStreamProxy, StreamProxy, outcome_of_exit

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from llm_toll_autopatch.records import Outcome

__all__ = ["AsyncManagerProxy", "ManagerProxy", "inner_stream"]


class _ManagerProxy(wrapt.ObjectProxy):  # type: ignore[type-arg]
    """What sync and async managers share: the request is sent on entering, so that is where the call begins.

    Args:
        manager: What the SDK's `stream()` returned.
        begin: Begins the call, of an async manager when it is awaited; returns None when it cannot be metered, or when
            its request passes through a patched method by itself. Raises when a limit refuses it.
        close_on_break: Whether a `break` closes the stream.
    """

    _self_stream_proxy: ClassVar[type[StreamProxy | AsyncStreamProxy]]

    def __init__(self, manager: Any, begin: Callable[[], Any], *, close_on_break: bool) -> None:
        super().__init__(manager)
        self._self_begin = begin
        self._self_close_on_break = close_on_break
        self._self_call: Call | None = None

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    def _self_hand_out(self, stream: Any, call: Call | None) -> Any:
        """Put the metering proxy below the helper, which iterates its inner stream, and one for the lifecycle above."""
        proxy = self._self_stream_proxy
        close = self._self_close_on_break
        name = inner_stream(stream)
        if call is None:  # the helper's own request passed through another patched method, or none is metered
            inner = getattr(stream, name or "", None)
            if not isinstance(inner, proxy):
                return stream
            below: Any = inner._self_meter
            call = self._self_call = below
            return proxy(stream, Lifecycle(below), close_on_break=close)
        call.stream = True
        if name is None:  # an SDK that keeps its inner stream elsewhere: its events pass here too
            failures.note(f"finding the inner stream of {call.method}", LookupError(type(stream).__name__))
            return proxy(stream, call, close_on_break=close)
        setattr(stream, name, proxy(getattr(stream, name), call, close_on_break=close))
        return proxy(stream, Lifecycle(call), close_on_break=close)

    def _self_end(self, outcome: Outcome, error: BaseException | None) -> None:
        if self._self_call is not None:
            self._self_call.end(outcome, error)


def _never_await(manager: Any) -> None:
    """Close the coroutine in which an async manager keeps its request, which is refused: it would warn of itself."""
    for value in vars(manager).values():
        if inspect.iscoroutine(value):
            value.close()


def inner_stream(helper: Any) -> str | None:
    """Return the name of the stream that a helper iterates; in the handlers of Assistants it is a private one."""
    names = getattr(helper, "__dict__", ())
    return next((name for name in names if name == "_raw_stream" or name.endswith("EventHandler__stream")), None)


class ManagerProxy(_ManagerProxy):
    """What a sync `stream()` helper returns: `with` it, and the stream that it gives is metered."""

    _self_stream_proxy = StreamProxy

    def __enter__(self) -> Any:
        call = self._self_call = self._self_begin()
        try:
            stream = self.__wrapped__.__enter__()
        except BaseException as error:
            self._self_end(outcome_of(error), error)
            raise
        return self._self_hand_out(stream, call)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Any:
        try:
            return self.__wrapped__.__exit__(kind, error, traceback)
        finally:
            self._self_end(outcome_of_exit(error), error)


class AsyncManagerProxy(_ManagerProxy):
    """What an async `stream()` helper returns: `async with` it, and the stream that it gives is metered."""

    _self_stream_proxy = AsyncStreamProxy

    async def __aenter__(self) -> Any:
        try:
            call = self._self_call = await self._self_begin()
        except BaseException:
            _never_await(self.__wrapped__)
            raise
        try:
            stream = await self.__wrapped__.__aenter__()
        except BaseException as error:
            self._self_end(outcome_of(error), error)
            raise
        return self._self_hand_out(stream, call)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Any:
        try:
            return await self.__wrapped__.__aexit__(kind, error, traceback)
        finally:
            self._self_end(outcome_of_exit(error), error)
            if self._self_call is not None:
                await self._self_call.written()
