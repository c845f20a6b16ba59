"""The OpenAI SDK."""

from __future__ import annotations

from llm_toll_autopatch.providers import stainless
from llm_toll_autopatch.providers.target import Provider, Target
from llm_toll_autopatch.readers.chat import ChatCompletions
from llm_toll_autopatch.readers.responses import Responses

__all__ = ["PROVIDER"]

_CHAT = "openai.resources.chat.completions.completions"
_RESPONSES = "openai.resources.responses.responses"

PROVIDER = Provider(
    name="openai",
    caller=stainless.caller_of("openai"),
    targets=(
        Target(_CHAT, "Completions.create", "chat.completions.create", stainless.request, ChatCompletions),
        Target(_CHAT, "AsyncCompletions.create", "chat.completions.create", stainless.request, ChatCompletions, True),
        Target(_RESPONSES, "Responses.create", "responses.create", stainless.request, Responses),
        Target(_RESPONSES, "AsyncResponses.create", "responses.create", stainless.request, Responses, True),
    ),
)
