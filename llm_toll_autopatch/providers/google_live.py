"""Google's live sessions: one record for each turn of the model.

A session goes on for long and is billed turn by turn. A turn begins with the first message after the last one's end.
Its usage comes with the message that ends it, or in one of its own right behind.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch import settings
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.metering import outcome_of
from llm_toll_autopatch.providers import calls
from llm_toll_autopatch.providers.asked import ask_async
from llm_toll_autopatch.providers.attached import Attached
from llm_toll_autopatch.streams import outcome_of_exit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from llm_toll_autopatch.metering import Call
    from llm_toll_autopatch.providers.target import Caller, Target, Wrapper
    from llm_toll_autopatch.records import Outcome
    from llm_toll_autopatch.settings import Settings

__all__ = ["connected", "received"]


class _Turns:
    """The turns of one session.

    Args:
        model: The session's; empty when it was opened before there was anything to note it.
        active: The configuration when it was opened, or else when its first message comes.
    """

    __slots__ = ("_ended", "_is_over", "_reports", "active", "call", "model")

    def __init__(self, model: str, active: Settings | None) -> None:
        self.model = model
        self.active = active
        self.call: Call | None = None
        self._ended: Call | None = None
        self._is_over = False
        self._reports = False

    def take(self, message: Any, begin: Callable[[], Call | None]) -> None:
        """Take the next message."""
        has_usage = message.usage_metadata is not None
        if self._is_over and (message.server_content is not None or not has_usage):
            self.end("completed")
        if self.call is None:
            if not has_usage and message.server_content is None and message.tool_call is None:
                return  # about the session, not of a turn
            self.call = begin()
            self._is_over = self._reports = False
        if self.call is None:
            return
        self.call.feed(message)
        self._reports = self._reports or has_usage
        self._is_over = self._is_over or _ends(message.server_content)
        if self._is_over and self._reports:
            self.end("completed")

    def end(self, outcome: Outcome, error: BaseException | None = None, *, from_finalizer: bool = False) -> None:
        """End the turn that is open; one that only waits for its usage is complete."""
        if (call := self.call) is not None:
            self.call, self._ended = None, call
            if self._is_over:
                outcome, error = "completed", None
            call.end(outcome, error, from_finalizer=from_finalizer)

    async def written(self) -> None:
        """Wait until the record of the turn that ended last is written, within a bound."""
        if (call := self._ended) is not None:
            self._ended = None
            await call.written()


_sessions: Attached[_Turns] = Attached()


def _ends(content: Any) -> bool:
    """Return whether this content ends a turn, as the SDK's own `receive` decides it."""
    status = getattr(getattr(content, "interaction_status", None), "value", None)
    if status is not None and not status.endswith("UNSPECIFIED"):
        return bool(status.endswith("IDLE"))
    return bool(getattr(content, "turn_complete", None))


def _turns_of(session: Any, model: str = "") -> _Turns:
    return _sessions.to(session, lambda: _Turns(model, settings.active()))


def connected(target: Target, _caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap the method that opens a session: it alone knows the model."""

    @contextlib.asynccontextmanager
    async def hand_out(manager: Any, model: str, active: Settings) -> AsyncIterator[Any]:
        await ask_async(active, target.method)
        async with manager as session:
            turns = _turns_of(session, model)
            try:
                yield session
            except BaseException as error:
                turns.end(outcome_of_exit(error), error)
                raise
            turns.end("closed")
            await turns.written()

    def wrapper(wrapped: Any, _instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        manager = wrapped(*args, **kwargs)
        active = settings.active()
        return manager if active is None else hand_out(manager, str(kwargs.get("model", "")), active)

    return wrapper


def received(target: Target, caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap the method that returns a session's next message."""

    async def wait(wrapped: Any, session: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        try:
            message = await wrapped(*args, **kwargs)
        except Exception as error:  # one who stops waiting has not ended the turn
            _turns_of(session).end(outcome_of(error), error)
            raise
        try:
            turns = _turns_of(session)
            turns.take(message, lambda: begin(session, turns))
        except Exception as error:
            failures.note("reading a message of a live session", error)
        else:
            await turns.written()
        return message

    def begin(session: Any, turns: _Turns) -> Call | None:
        if turns.active is None:
            return None
        call = calls.begin_due(target, caller, session, {"model": turns.model}, turns.active)
        if call is not None:
            call.stream = True
        return call

    def wrapper(wrapped: Any, session: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return calls.named_like(wrapped, wait(wrapped, session, args, kwargs))

    return wrapper
