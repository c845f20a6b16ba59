"""The Anthropic SDK."""

from __future__ import annotations

from llm_toll_autopatch.providers import stainless
from llm_toll_autopatch.providers.target import Provider, Target
from llm_toll_autopatch.readers.messages import Messages

__all__ = ["PROVIDER"]

_MESSAGES = "anthropic.resources.messages.messages"

PROVIDER = Provider(
    name="anthropic",
    caller=stainless.caller_of("anthropic"),
    targets=(
        Target(_MESSAGES, "Messages.create", "messages.create", stainless.request, Messages),
        Target(_MESSAGES, "AsyncMessages.create", "messages.create", stainless.request, Messages, True),
        Target(_MESSAGES, "Messages.stream", "messages.stream", stainless.manager, Messages),
        Target(_MESSAGES, "AsyncMessages.stream", "messages.stream", stainless.manager, Messages, True),
    ),
)
