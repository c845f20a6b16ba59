"""The Google GenAI SDK, on the Gemini API and on Vertex AI.

One user call may send several requests (automatic function calling, automatic continuation), so the meter sits on the
SDK's private methods that send exactly one each; `google_streams` has what stands above them.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from llm_toll_autopatch.providers import calls
from llm_toll_autopatch.providers.google_streams import answered, held, held_async, streamed, streamed_async
from llm_toll_autopatch.providers.target import Caller, Provider, Target
from llm_toll_autopatch.readers.generate_content import GenerateContent

__all__ = ["PROVIDER"]


def _caller(resource: Any) -> Caller:
    client = resource._api_client
    host = urlsplit(client._http_options.base_url or "").hostname
    return Caller("vertex" if client.vertexai else "google", host)


_MODELS = "google.genai.models"
_CHATS = "google.genai.chats"
_CLIENT = "google.genai._api_client"
_UNARY, _STREAM = "models.generate_content", "models.generate_content_stream"

PROVIDER = Provider(
    name="google",
    caller=_caller,
    targets=(
        Target(_MODELS, "Models._generate_content", _UNARY, calls.request, GenerateContent),
        Target(_MODELS, "AsyncModels._generate_content", _UNARY, calls.request, GenerateContent, True),
        Target(_MODELS, "Models._generate_content_stream", _STREAM, streamed, GenerateContent),
        Target(_MODELS, "AsyncModels._generate_content_stream", _STREAM, streamed_async, GenerateContent, True),
        Target(_MODELS, "Models.generate_content_stream", _STREAM, held),
        Target(_MODELS, "AsyncModels.generate_content_stream", _STREAM, held_async, is_async=True),
        Target(_CHATS, "Chat.send_message_stream", "chats.send_message_stream", held),
        Target(_CHATS, "AsyncChat.send_message_stream", "chats.send_message_stream", held_async, is_async=True),
        Target(_CLIENT, "BaseApiClient._async_request", "requests", answered, is_async=True),
    ),
)
