"""The Anthropic SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.providers import stainless
from llm_toll_autopatch.providers.target import Caller, Provider, Target, Wrapper
from llm_toll_autopatch.readers.messages import Messages
from llm_toll_autopatch.streams import AsyncStreamProxy, StreamProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["PROVIDER"]

_MESSAGES = "anthropic.resources.messages.messages"
_STREAMING = "anthropic._streaming"


def _instance_check(_target: Target, _caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap what answers `isinstance(_, Stream)` in versions 0.x: it does not ask for `__class__`, as Python does."""

    def wrapper(wrapped: Any, cls: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        (instance,) = args
        if isinstance(instance, StreamProxy | AsyncStreamProxy) and issubclass(type(instance.__wrapped__), cls):
            return True
        return wrapped(*args, **kwargs)

    return wrapper


PROVIDER = Provider(
    name="anthropic",
    caller=stainless.caller_of("anthropic"),
    targets=(
        Target(_MESSAGES, "Messages.create", "messages.create", stainless.request, Messages),
        Target(_MESSAGES, "AsyncMessages.create", "messages.create", stainless.request, Messages, True),
        Target(_MESSAGES, "Messages.stream", "messages.stream", stainless.manager, Messages),
        Target(_MESSAGES, "AsyncMessages.stream", "messages.stream", stainless.manager, Messages, True),
        Target(_STREAMING, "_SyncStreamMeta.__instancecheck__", "isinstance", _instance_check, optional=True),
        Target(_STREAMING, "_AsyncStreamMeta.__instancecheck__", "isinstance", _instance_check, optional=True),
    ),
)
