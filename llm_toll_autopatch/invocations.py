"""`Invocation`: one call of a function that `track_costs` decorates, and what becomes of its result."""

from __future__ import annotations

import inspect
import io
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch import settings
from llm_toll_autopatch.extraction import Extraction
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.generators import AsyncGeneratorProxy, GeneratorProxy, stepped
from llm_toll_autopatch.managers import inner_stream
from llm_toll_autopatch.meters import Lifecycle
from llm_toll_autopatch.providers.calls import named_like
from llm_toll_autopatch.providers.frames import uncounted
from llm_toll_autopatch.scopes import scope
from llm_toll_autopatch.shapes import label_of_sdk
from llm_toll_autopatch.streams import AsyncStreamProxy, StreamProxy
from llm_toll_autopatch.tracked import Metered, Origin, TrackedCall, TrackedStream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from llm_toll_autopatch.settings import Overlay, Settings
    from llm_toll_autopatch.spend import Spend

__all__ = ["Invocation", "Plan"]

_NO_ANSWER = (str, bytes, bytearray, int, float, type(None))
_NO_STREAM = (str, bytes, dict, list, io.IOBase)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The arguments of `track_costs`.

    Attributes:
        project: None where the user names none.
        limits: Those of the limits that were given, by the names that `scope` has for them.
    """

    project: str | None
    model: str | None
    tags: Mapping[str, str] | None
    extract_usage: Callable[[Any], Any] | None
    limits: Mapping[str, Any]

    def scope(self, project: str | None) -> AbstractContextManager[Spend]:
        """Return the scope of one call of the function, for which `project` pays."""
        return scope(project, tags=self.tags, **self.limits)

    def payer(self, base: Settings) -> str | None:
        """Return who pays, named by the user, or by the configuration if there are limits: they are a project's."""
        if self.project is not None or not self.limits:
            return self.project
        current = settings.seen_here(base)
        return None if current is None else current.project


class Invocation:
    """One call of a tracked function, or of a generator function for as long as its generator lives.

    Args:
        plan: What the decorator was told.
        method: The name of the function.
        base: The configuration in force, or the one that stands in for it.
    """

    __slots__ = ("_first", "_metered", "_plan", "active", "began", "method", "scope", "started_at")

    def __init__(self, plan: Plan, method: str, base: Settings) -> None:
        with plan.scope(plan.payer(base)) as spend:
            self.scope: Overlay | None = settings.overlay()
            self.active: Settings | None = settings.seen_here(base)
        self._plan = plan
        self._first: TrackedCall | None = None
        self._metered = Metered(spend)
        self.method = method
        self.started_at = datetime.now(UTC)
        self.began = time.monotonic()

    @property
    def patched(self) -> bool:
        """Whether the patches meter what the SDKs send."""
        return settings.in_force() is not None

    def admit(self) -> None:
        """Ask the limits, before the function runs, whether it may. With the patches on they are asked of each request.

        Raises:
            BudgetExceededError: A budget has no room for it.
            LocalRateLimitError: Nor has a limit on 60 seconds.
        """
        if self._is_limited:
            from llm_toll_autopatch.budgets import gate

            call = self._first = self._call()
            try:
                gate.admit(call, {})
            except BaseException:
                self.let_go()
                raise

    async def _admit_async(self, call: TrackedCall) -> None:
        """Do as `admit` does for `call`, without holding up the event loop."""
        from llm_toll_autopatch.budgets import gate

        try:
            await gate.admit_async(call, {})
        except BaseException:
            call.drop()
            raise

    @property
    def _is_limited(self) -> bool:
        return self.active is not None and bool(self.active.limits) and not self.patched

    def let_go(self) -> None:
        """Give up the call that was admitted, if it has come to nothing."""
        call, self._first = self._first, None
        if call is not None:
            call.drop()

    def hand_out(self, result: Any) -> Any:
        """Return what the caller gets for the function's result. Never raises.

        A coroutine, a generator and a stream are handed out in something that resembles them, all else as it is.
        """
        try:
            return self._hand_out(result)
        except Exception as error:
            failures.note(f"handing out what {self.method} returned", error)
            return result

    def _hand_out(self, result: Any) -> Any:
        if inspect.iscoroutine(result):
            return named_like(result, self._awaited(result))
        try:
            handed, is_stream = self._proxied(result)
            if not is_stream:
                self._count(result)
        finally:
            self.let_go()
        return handed

    @uncounted
    async def _awaited(self, coroutine: Any) -> Any:
        handed = call = None
        try:
            if self._is_limited and self._first is None:
                self._first = self._call()
                try:
                    await self._admit_async(self._first)
                except BaseException:
                    coroutine.close()
                    raise
            handed = result = await stepped(self.scope, coroutine)
            try:
                handed, is_stream = self._proxied(result)
                call = None if is_stream else self._count(result)
            except Exception as error:
                failures.note(f"handing out what {self.method} returned", error)
        finally:
            self.let_go()
        if call is not None:
            await call.written()
        return handed

    def _proxied(self, result: Any) -> tuple[Any, bool]:
        """Return what to hand out, and whether it is a stream, whose record comes when it ends."""
        if isinstance(result, StreamProxy | AsyncStreamProxy):  # metered already
            return result, True
        if _is_stream(result):
            return self._stream(result), True
        if _is_async_stream(result):
            return self._async_stream(result), True
        return result, False

    def _count(self, result: Any) -> TrackedCall | None:
        """Record a whole result if it is a response."""
        if self._plan.extract_usage is None and isinstance(result, _NO_ANSWER):
            return None
        call = self._call()
        call.finish(result)
        return call

    def _call(self) -> TrackedCall:
        """Return the call that was admitted, or a new one."""
        admitted, self._first = self._first, None
        if admitted is not None:
            return admitted
        plan = self._plan
        assert self.active is not None, "nothing is tracked where a scope has switched the metering off"
        origin = Origin(self.method, self.started_at, self.began, plan.model, self.patched)
        extraction = None if plan.extract_usage is None else Extraction(plan.extract_usage, self.method)
        return TrackedCall(self.active, origin, self._metered, extraction)

    def _call_of(self, stream: Any) -> TrackedCall:
        call = self._call()
        url = getattr(getattr(stream, "response", None), "url", None)
        host = getattr(url, "host", None)
        call.known(
            provider=label_of_sdk(stream),
            endpoint=host if isinstance(host, str) else None,
            certain=hasattr(type(stream), "__stream__"),  # the streams of the SDKs that Stainless generates
        )
        return call

    def _stream(self, stream: Any) -> Any:
        meter = TrackedStream(self._call_of(stream))
        close = self._closes
        if isinstance(stream, GeneratorType):
            return GeneratorProxy(stream, meter, self.scope, close_on_break=close)
        if (name := inner_stream(stream)) is not None:
            # A helper iterates its inner stream; what is above sees how it ends.
            setattr(stream, name, StreamProxy(getattr(stream, name), meter, close_on_break=close))
            return StreamProxy(stream, Lifecycle(meter), close_on_break=close)
        return StreamProxy(stream, meter, close_on_break=close)

    def _async_stream(self, stream: Any) -> Any:
        is_admitted = self._first is not None or not self._is_limited
        call = self._call_of(stream)
        meter = TrackedStream(call)
        close = self._closes
        if isinstance(stream, AsyncGeneratorType):
            admit = None if is_admitted else partial(self._admit_async, call)
            return AsyncGeneratorProxy(stream, meter, self.scope, close_on_break=close, admit=admit)
        if (name := inner_stream(stream)) is not None:
            setattr(stream, name, AsyncStreamProxy(getattr(stream, name), meter, close_on_break=close))
            return AsyncStreamProxy(stream, Lifecycle(meter), close_on_break=close)
        return AsyncStreamProxy(stream, meter, close_on_break=close)

    @property
    def _closes(self) -> bool:
        return self.active is not None and self.active.close_on_break


def _is_stream(result: Any) -> bool:
    """Return whether `result` is a generator or resembles an SDK's stream. `map`, `zip` and files do not."""
    if isinstance(result, GeneratorType):
        return True
    if isinstance(result, _NO_STREAM) or not _has(result, "__next__", "close", "__iter__"):
        return False
    return not _has(result, "readline")  # a file in somebody's wrapper


def _is_async_stream(result: Any) -> bool:
    if isinstance(result, AsyncGeneratorType):
        return True
    return (
        not isinstance(result, _NO_STREAM) and _has(result, "__anext__", "__aiter__") and not _has(result, "readline")
    )


def _has(value: Any, *names: str) -> bool:
    try:
        return all(hasattr(value, name) for name in names)
    except Exception:  # a property of somebody's class
        return False
