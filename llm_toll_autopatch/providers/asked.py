"""The gate of sessions: what is billed there cannot be told before, but nothing begins when nothing is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.budgets import caps
from llm_toll_autopatch.providers.calls import named_like

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llm_toll_autopatch.providers.target import Target, Wrapper
    from llm_toll_autopatch.settings import Settings

__all__ = ["ask", "ask_async", "asking"]


def ask(active: Settings | None, method: str) -> None:
    """Raise if a limit has no room for what a session is about to begin.

    Raises:
        BudgetExceededError: A budget has none.
        LocalRateLimitError: Nor has a limit on 60 seconds.
    """
    if active is not None and (active := caps.capped(active)).limits:
        from llm_toll_autopatch.budgets import gate

        gate.ask(active, method)


async def ask_async(active: Settings | None, method: str) -> None:
    """Do as `ask` does, without holding up the event loop."""
    if active is not None and (active := await caps.capped_async(active)).limits:
        from llm_toll_autopatch.budgets import gate

        await gate.ask_async(active, method)


def asking(target: Target, configured: Callable[..., Settings | None]) -> Wrapper:
    """Wrap what opens a session, or begins work in one.

    Args:
        target: The method.
        configured: Returns the configuration that counts, given the instance and the arguments; None when nothing
            is asked for.
    """

    async def wait(wrapped: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], active: Settings) -> Any:
        await ask_async(active, target.method)
        return await wrapped(*args, **kwargs)

    def wrapper(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        active = configured(instance, *args, **kwargs)
        if active is None:
            return wrapped(*args, **kwargs)
        known = caps.capped_if_fresh(active)
        if known is not None and not known.limits:
            return wrapped(*args, **kwargs)
        if target.is_async:
            return named_like(wrapped, wait(wrapped, args, kwargs, active))
        ask(active, target.method)
        return wrapped(*args, **kwargs)

    return wrapper
