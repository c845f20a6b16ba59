"""The Anthropic SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.providers.anthropic_fallbacks import refused
from llm_toll_autopatch.providers.fetched import lines
from llm_toll_autopatch.providers.posted import posts
from llm_toll_autopatch.providers.stainless import both, caller_of, manager, request
from llm_toll_autopatch.providers.target import Caller, Provider, Target, Wrapper
from llm_toll_autopatch.readers.batches import BatchedMessages
from llm_toll_autopatch.readers.messages import Messages
from llm_toll_autopatch.streams import AsyncStreamProxy, StreamProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["PROVIDER"]

_MESSAGES = "anthropic.resources.messages.messages"
_BATCHES = "anthropic.resources.messages.batches"
_BETA_BATCHES = "anthropic.resources.beta.messages.batches"
# Bedrock and Vertex copy the functions of the first-party beta class into classes of their own.
_BETA_MESSAGES = (
    "anthropic.resources.beta.messages.messages",
    "anthropic.lib.bedrock._beta_messages",
    "anthropic.lib.vertex._beta_messages",
)
_FALLBACKS = "anthropic.lib.middleware._fallbacks"
_MIDDLEWARE = "BetaRefusalFallbackMiddleware"
_STREAMING = "anthropic._streaming"


def _instance_check(_target: Target, _caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap what answers `isinstance(_, Stream)` in versions 0.x: it does not ask for `__class__`, as Python does."""

    def wrapper(wrapped: Any, cls: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        (instance,) = args
        if isinstance(instance, StreamProxy | AsyncStreamProxy) and issubclass(type(instance.__wrapped__), cls):
            return True
        return wrapped(*args, **kwargs)

    return wrapper


# `tool_runner` and `thread` send their requests through these methods.
PROVIDER = Provider(
    name="anthropic",
    caller=caller_of("anthropic"),
    targets=(
        *both(_MESSAGES, "Messages.create", "messages.create", request, Messages),
        *both(_MESSAGES, "Messages.parse", "messages.parse", request, Messages),
        *both(_MESSAGES, "Messages.stream", "messages.stream", manager, Messages),
        *(row for module in _BETA_MESSAGES for rows in (
            both(module, "Messages.create", "beta.messages.create", request, Messages),
            both(module, "Messages.parse", "beta.messages.parse", request, Messages),
            both(module, "Messages.stream", "beta.messages.stream", manager, Messages),
        ) for row in rows),
        *both(_BATCHES, "Batches.results", "messages.batches.results", lines, BatchedMessages),
        *both(_BETA_BATCHES, "Batches.results", "beta.messages.batches.results", lines, BatchedMessages),
        *posts("anthropic", {"/v1/messages": Messages}),
        Target(_FALLBACKS, f"{_MIDDLEWARE}.handle", "beta.messages.create", refused, optional=True),
        Target(
            _FALLBACKS, f"{_MIDDLEWARE}.handle_async", "beta.messages.create", refused, is_async=True, optional=True
        ),
        Target(_STREAMING, "_SyncStreamMeta.__instancecheck__", "isinstance", _instance_check, optional=True),
        Target(_STREAMING, "_AsyncStreamMeta.__instancecheck__", "isinstance", _instance_check, optional=True),
    ),
)  # fmt: skip
