"""The proxies in which the generators of tracked functions are handed out.

The function's scope is in force while the generator's own code runs, and never while its consumer's does: it is set for
each step and reset before the value is handed over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from llm_toll_autopatch import settings
from llm_toll_autopatch.budgets.stopping import watched_async
from llm_toll_autopatch.metering import outcome_of
from llm_toll_autopatch.providers.steps import Under
from llm_toll_autopatch.streams import AsyncStreamProxy, CloseAsync, StreamProxy

if TYPE_CHECKING:
    from collections.abc import Generator

    from llm_toll_autopatch.meters import Meter
    from llm_toll_autopatch.records import Outcome
    from llm_toll_autopatch.settings import Overlay

__all__ = ["AsyncGeneratorProxy", "GeneratorProxy", "Scoped", "stepped"]


class Scoped:
    """Puts a scope over the configuration for one synchronous step."""

    __slots__ = ("_scope", "_token")

    def __init__(self, scope: Overlay | None) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        self._token = settings._overlay.set(self._scope)

    def __exit__(self, *_error: object) -> None:
        settings._overlay.reset(self._token)


def stepped(scope: Overlay | None, awaited: Awaitable[Any]) -> Under[Overlay | None]:
    """Return what awaits `awaited` with `scope` over the configuration during its steps."""
    return Under(settings._overlay, scope, awaited)


class GeneratorProxy(StreamProxy):
    """A generator.

    Args:
        generator: The user's.
        meter: Sees what passes.
        scope: Is in force while the generator runs.
        close_on_break: Whether leaving a `for` closes it.
    """

    def __init__(self, generator: Any, meter: Meter, scope: Overlay | None, *, close_on_break: bool) -> None:
        super().__init__(generator, meter, close_on_break=close_on_break, source=generator)
        self._self_scope = scope

    def _self_loop(self) -> Generator[Any, Any, Any]:
        # `yield from` sends, throws and takes the generator's result through here.
        advance: Callable[[], Any] = self._self_source.__next__
        while True:
            try:
                value = self._self_step(advance)
            except StopIteration as end:
                return end.value
            try:
                sent = yield value
            except GeneratorExit:
                if self._self_close_on_break:
                    self._self_finish("closed")
                raise
            except BaseException as error:  # thrown in by `yield from`
                advance = partial(self.__wrapped__.throw, error)
            else:
                advance = self._self_source.__next__ if sent is None else partial(self.__wrapped__.send, sent)

    def _self_step(self, advance: Callable[[], Any]) -> Any:
        with Scoped(self._self_scope):
            return super()._self_step(advance)

    def close(self) -> Any:
        """Close the generator."""
        with Scoped(self._self_scope):
            return super().close()

    def _self_finish(
        self, outcome: Outcome, error: BaseException | None = None, *, from_finalizer: bool = False
    ) -> None:
        with Scoped(self._self_scope):
            super()._self_finish(outcome, error, from_finalizer=from_finalizer)


Admit = Callable[[], Awaitable[None]]


class _Within:
    """The values of an async generator, each got in its scope, once it has been admitted."""

    __slots__ = ("_admit", "_advance", "_generator", "_meter", "_scope")

    def __init__(self, generator: Any, meter: Meter, scope: Overlay | None, admit: Admit | None) -> None:
        self._admit = admit
        self._advance = generator.__anext__
        self._generator = generator
        self._meter = meter
        self._scope = scope

    @property
    def ag_running(self) -> bool:
        """Whether the generator is at work on another step."""
        return bool(self._generator.ag_running)

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[Any]:
        return stepped(self._scope, self._advance()) if self._admit is None else self.first()

    async def first(self, advance: Callable[[], Awaitable[Any]] | None = None) -> Any:
        """Take a step by `advance`; before the first of all ask whether it may be taken."""
        admit, self._admit = self._admit, None
        if admit is not None:
            await admit()
            self._advance = watched_async(self._generator, self._meter).__anext__
        return await stepped(self._scope, (advance or self._advance)())


class AsyncGeneratorProxy(AsyncStreamProxy):
    """An async generator; the arguments are those of `GeneratorProxy`, and `admit`, awaited before it starts."""

    def __init__(
        self,
        generator: Any,
        meter: Meter,
        scope: Overlay | None,
        *,
        close_on_break: bool,
        admit: Admit | None = None,
    ) -> None:
        within = _Within(generator, meter, scope, admit)
        super().__init__(
            generator,
            meter,
            close_on_break=close_on_break,
            source=within,
        )
        self._self_within = within

    def _self_closer(self) -> CloseAsync:
        return partial(_close, self.__wrapped__, self._self_within._scope)

    async def asend(self, value: Any) -> Any:
        """Advance the generator."""
        return await self._self_step(partial(self.__wrapped__.asend, value))

    async def athrow(self, *error: Any) -> Any:
        """Raise inside the generator."""
        return await self._self_step(partial(self.__wrapped__.athrow, *error))

    async def _self_step(self, advance: Callable[[], Awaitable[Any]]) -> Any:
        meter = self._self_meter
        try:
            value = await self._self_within.first(advance)
        except StopAsyncIteration:
            meter.end("completed")
            await meter.written()
            raise
        except BaseException as error:
            self._self_finish(outcome_of(error), error)
            raise
        meter.feed(value)
        return value


async def _close(generator: Any, scope: Overlay | None) -> None:
    await stepped(scope, generator.aclose())
