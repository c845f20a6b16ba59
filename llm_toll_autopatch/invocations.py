"""`Invocation`: one call of a function that `track_costs` decorates, and what becomes of its result."""

from __future__ import annotations

import inspect
import io
import time
from dataclasses import dataclass
from datetime import UTC, datetime
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

    def scope(self) -> AbstractContextManager[Spend]:
        """Return the scope of one call of the function."""
        return scope(self.project, tags=self.tags, **self.limits)


class Invocation:
    """One call of a tracked function, or of a generator function for as long as its generator lives.

    Args:
        plan: What the decorator was told.
        method: The name of the function.
        base: The configuration in force, or the one that stands in for it.
    """

    __slots__ = ("_base", "_metered", "_plan", "active", "began", "method", "scope", "started_at")

    def __init__(self, plan: Plan, method: str, base: Settings) -> None:
        with plan.scope() as spend:
            self.scope: Overlay | None = settings.overlay()
        self.active: Settings | None = base if self.scope is None else self.scope.over(base)
        self._plan = plan
        self._metered = Metered(spend)
        self.method = method
        self.started_at = datetime.now(UTC)
        self.began = time.monotonic()

    @property
    def patched(self) -> bool:
        """Whether the patches meter what the SDKs send."""
        return settings.in_force() is not None

    def admit(self) -> None:
        """Ask the limits, before the function runs, whether it may: where nothing is patched nobody else does.

        This is the place for `llm_toll_autopatch.budgets.gate`. What it raises reaches the caller.
        """

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
        handed, is_stream = self._proxied(result)
        if not is_stream:
            self._count(result)
        return handed

    @uncounted
    async def _awaited(self, coroutine: Any) -> Any:
        result = await stepped(self.scope, coroutine)
        handed, call = result, None
        try:
            handed, is_stream = self._proxied(result)
            call = None if is_stream else self._count(result)
        except Exception as error:
            failures.note(f"handing out what {self.method} returned", error)
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

    def _call(self, **known: Any) -> TrackedCall:
        plan = self._plan
        assert self.active is not None, "nothing is tracked where a scope has switched the metering off"
        origin = Origin(self.method, self.started_at, self.began, plan.model, self.patched, **known)
        extraction = None if plan.extract_usage is None else Extraction(plan.extract_usage, self.method)
        return TrackedCall(self.active, origin, self._metered, extraction)

    def _stream(self, stream: Any) -> Any:
        meter = TrackedStream(self._call(**_known_of(stream)))
        close = self._closes
        if isinstance(stream, GeneratorType):
            return GeneratorProxy(stream, meter, self.scope, close_on_break=close)
        if (name := inner_stream(stream)) is not None:
            # A helper iterates its inner stream; what is above sees how it ends.
            setattr(stream, name, StreamProxy(getattr(stream, name), meter, close_on_break=close))
            return StreamProxy(stream, Lifecycle([meter]), close_on_break=close)
        return StreamProxy(stream, meter, close_on_break=close)

    def _async_stream(self, stream: Any) -> Any:
        meter = TrackedStream(self._call(**_known_of(stream)))
        close = self._closes
        if isinstance(stream, AsyncGeneratorType):
            return AsyncGeneratorProxy(stream, meter, self.scope, close_on_break=close)
        if (name := inner_stream(stream)) is not None:
            setattr(stream, name, AsyncStreamProxy(getattr(stream, name), meter, close_on_break=close))
            return AsyncStreamProxy(stream, Lifecycle([meter]), close_on_break=close)
        closing = None if hasattr(stream, "aclose") or hasattr(stream, "close") else _nothing_to_close
        return AsyncStreamProxy(stream, meter, close_on_break=close, close=closing)

    @property
    def _closes(self) -> bool:
        return self.active is not None and self.active.close_on_break


async def _nothing_to_close() -> None:
    """Close a stream that has no such method."""


def _known_of(stream: Any) -> dict[str, Any]:
    url = getattr(getattr(stream, "response", None), "url", None)
    host = getattr(url, "host", None)
    return {
        "provider": label_of_sdk(stream),
        "endpoint": host if isinstance(host, str) else None,
        "certain": hasattr(type(stream), "__stream__"),  # the streams of the SDKs that Stainless generates
    }


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
