"""The wrapper of a method that sends one request and returns its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch import settings
from llm_toll_autopatch.budgets import caps
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.hints import refused_option
from llm_toll_autopatch.metering import Call, outcome_of
from llm_toll_autopatch.providers.frames import uncounted
from llm_toll_autopatch.providers.target import Caller, Target, Wrapper

if TYPE_CHECKING:
    from llm_toll_autopatch.settings import Settings

__all__ = ["Deliver", "begin", "begin_async", "begin_due", "charge", "failed", "named_like", "request", "response"]

_REFUSING = ("llm_toll_autopatch.", "openai.", "anthropic.")
_SENDING = ("post", "request")

Deliver = Callable[[Call, Any, Target], Any]
"""Takes the call, what the SDK's method returned and the target; ends the call or hands it on; returns what the user
gets."""


def begin(
    target: Target, caller: Callable[[Any], Caller], instance: Any, kwargs: Mapping[str, Any], active: Settings
) -> tuple[Call | None, Mapping[str, Any]]:
    """Begin the call of a request that is about to be sent, if the limits admit it.

    Returns:
        The call, None when it cannot be metered; and the keyword arguments with which to send the request.

    Raises:
        BudgetExceededError: A budget has no room for it.
        LocalRateLimitError: Nor has a limit on 60 seconds.
    """
    active = caps.capped(active)
    call, kwargs = _begun(target, caller, instance, kwargs, active)
    if call is not None and active.limits:
        from llm_toll_autopatch.budgets import gate

        try:
            gate.admit(call, kwargs)
        except BaseException:
            call.drop()
            raise
    return call, kwargs


async def begin_async(
    target: Target, caller: Callable[[Any], Caller], instance: Any, kwargs: Mapping[str, Any], active: Settings
) -> tuple[Call | None, Mapping[str, Any]]:
    """Do as `begin` does, without holding up the event loop."""
    active = caps.capped_if_fresh(active) or await caps.capped_async(active)
    call, kwargs = _begun(target, caller, instance, kwargs, active)
    if call is not None and active.limits:
        from llm_toll_autopatch.budgets import gate

        try:
            await gate.admit_async(call, kwargs)
        except BaseException:
            call.drop()
            raise
    return call, kwargs


def begin_due(
    target: Target, caller: Callable[[Any], Caller], instance: Any, kwargs: Mapping[str, Any], active: Settings
) -> Call | None:
    """Do as `begin` does for work that is under way already: it counts against the limits, and cannot be refused."""
    call, kwargs = _begun(target, caller, instance, kwargs, active)
    if call is not None:
        charge(call)
    return call


def charge(call: Call) -> None:
    """Have `call`, which cannot be refused any more, count against the limits. Never raises."""
    call.settings = caps.capped_now(call.settings)
    if call.settings.limits:
        from llm_toll_autopatch.budgets import gate

        gate.admit_due(call)


def _begun(
    target: Target, caller: Callable[[Any], Caller], instance: Any, kwargs: Mapping[str, Any], active: Settings
) -> tuple[Call | None, Mapping[str, Any]]:
    try:
        assert target.reader is not None, "a target that sends a request has a reader"
        who = caller(instance)
        reader = target.reader()
    except Exception as error:
        failures.note(f"beginning {target.method}", error)
        return None, kwargs
    try:
        reader.measure = active.measure if active.estimate_input else _nothing
        reader.begin(kwargs, later=target.whole and active.estimate_input and not kwargs.get("stream"))
        if active.include_usage is not False:
            kwargs = reader.ask_for_usage(kwargs, who.endpoint, always=active.include_usage is True) or kwargs
    except Exception as error:
        failures.note(f"reading the request of {target.method}", error)
    reader.measure = active.measure
    call = Call(reader, active, provider=who.provider, method=target.method, endpoint=who.endpoint)
    return call, kwargs


def _nothing(_text: str) -> int:
    return 0


def unsent(error: BaseException) -> bool:
    """Return whether a Stainless SDK refused the arguments itself: such a call was no request, and is no record.

    Anthropic's SDK does so with a plain call whose answer may be long, and libraries then stream it instead. The call
    did not come as far as the client's `post`, which therefore is not in the traceback. Where the code of anybody else
    is in it, nothing can be told, and the call counts as sent.
    """
    if type(error) not in (TypeError, ValueError):
        return False
    step = error.__traceback__
    while step is not None:
        module = str(step.tb_frame.f_globals.get("__name__", ""))
        if not module.startswith(_REFUSING):
            return False
        if step.tb_frame.f_code.co_name in _SENDING and module.endswith("._base_client"):
            return False
        step = step.tb_next
    return True


def failed(call: Call, error: BaseException) -> None:
    """End the call of a request that raised `error`; keep a hint if it did for what was added to it. Never raises."""
    if unsent(error):
        call.drop()
        return
    if call.asks_for_usage and (hint := refused_option(error, call.endpoint, call.settings.include_usage)):
        call.settings.hints.add(hint)
    call.end(outcome_of(error), error)


def response(call: Call, answer: Any, _target: Target) -> Any:
    """Deliver an answer that is the whole response."""
    call.finish(answer)
    return answer


def request(
    target: Target,
    caller: Callable[[Any], Caller],
    deliver: Deliver = response,
    configured: Callable[[], Settings | None] = settings.active,
) -> Wrapper:
    """Wrap a method that sends its request when it is called, or awaited.

    Args:
        target: The method.
        caller: Tells who sends the request.
        deliver: Hands out the answer.
        configured: Returns the configuration that counts for a call; None when there is none.
    """

    def hand_out(call: Call, answer: Any) -> Any:
        try:
            return deliver(call, answer, target)
        except Exception as error:
            failures.note(f"delivering the answer of {target.method}", error)
            call.end("completed")
            return answer

    return (_async_request if target.is_async else _sync_request)(target, caller, hand_out, configured)


def _sync_request(
    target: Target,
    caller: Callable[[Any], Caller],
    hand_out: Callable[[Call, Any], Any],
    configured: Callable[[], Settings | None],
) -> Wrapper:
    @uncounted
    def wrapper(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        active = configured()
        if active is None:
            return wrapped(*args, **kwargs)
        call, kwargs = begin(target, caller, instance, kwargs, active)
        if call is None:
            return wrapped(*args, **kwargs)
        try:
            answer = wrapped(*args, **kwargs)
        except BaseException as error:
            failed(call, error)
            raise
        return hand_out(call, answer)

    return wrapper


def _async_request(
    target: Target,
    caller: Callable[[Any], Caller],
    hand_out: Callable[[Call, Any], Any],
    configured: Callable[[], Settings | None],
) -> Wrapper:
    @uncounted
    async def send(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], active: Settings
    ) -> Any:
        call, kwargs = await begin_async(target, caller, instance, kwargs, active)
        if call is None:
            return await wrapped(*args, **kwargs)
        try:
            answer = await wrapped(*args, **kwargs)
        except BaseException as error:
            failed(call, error)
            raise
        answer = hand_out(call, answer)
        await call.written()
        return answer

    @uncounted
    def wrapper(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        # What is configured counts when the method is called, not when its coroutine is awaited. Nothing else happens
        # before that: helpers of the SDK make coroutines that they may never await.
        active = configured()
        if active is None:
            return wrapped(*args, **kwargs)
        return named_like(wrapped, send(wrapped, instance, args, kwargs, active))

    return wrapper


def named_like(wrapped: Any, coroutine: Any) -> Any:
    """Give `coroutine` the name of the method, as it appears in warnings and in the names of tasks."""
    coroutine.__name__ = wrapped.__name__
    coroutine.__qualname__ = wrapped.__qualname__
    return coroutine
