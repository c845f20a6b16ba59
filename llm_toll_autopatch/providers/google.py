"""The Google GenAI SDK, on the Gemini API and on Vertex AI.

One user call may send several requests (automatic function calling, automatic continuation), so the meter sits on the
SDK's private methods that send exactly one each; `google_streams` has what stands above them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llm_toll_autopatch.providers import calls, stainless
from llm_toll_autopatch.providers.google_batches import results
from llm_toll_autopatch.providers.google_interactions import fetched, fetched_before, interaction, opened
from llm_toll_autopatch.providers.google_live import connected, received
from llm_toll_autopatch.providers.google_streams import answered, held, held_async, streamed, streamed_async
from llm_toll_autopatch.providers.target import Caller, Provider, Target, Wrapper
from llm_toll_autopatch.readers.embed_content import EmbedContent
from llm_toll_autopatch.readers.gemini_live import LiveTurn
from llm_toll_autopatch.readers.generate_content import GenerateContent
from llm_toll_autopatch.readers.imagen import Imagen
from llm_toll_autopatch.readers.interactions import Interaction, InteractionDecision
from llm_toll_autopatch.readers.veo import Veo

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llm_toll_autopatch.readers.reader import Reader

__all__ = ["PROVIDER"]


def _caller(resource: Any) -> Caller:
    client = getattr(resource, "_api_client", None)
    if client is None:  # a generated resource, which has but the address
        if (old := getattr(resource, "_client", None)) is not None:
            host = old.base_url.host or None
        else:
            host = _host_of(resource.sdk_configuration.get_server_details()[0])
        return Caller("vertex" if "aiplatform" in (host or "") else "google", host)
    return Caller("vertex" if client.vertexai else "google", _host_of(client._http_options.base_url or ""))


@lru_cache(64)  # an open stream holds the name: one for all
def _host_of(url: str) -> str | None:
    return urlsplit(url).hostname


def _embeds_itself(target: Target, caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap `embed_content` of the versions in which it sends the request itself, without a private method."""
    counted = calls.request(target, caller)

    def wrapper(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if hasattr(instance, "_embed_content"):
            return wrapped(*args, **kwargs)
        return counted(wrapped, instance, args, kwargs)

    return wrapper


def _both(path: str, method: str, reader: type[Reader], *, optional: bool = False) -> list[Target]:
    """Return the rows of a method that sends one request, sync and async."""
    return [
        Target(
            _MODELS, f"{cls}.{path}", f"models.{method}", calls.request, reader, cls == "AsyncModels", optional,
            whole=True,
        )
        for cls in ("Models", "AsyncModels")
    ]  # fmt: skip


_MODELS = "google.genai.models"
_CHATS = "google.genai.chats"
_BATCHES = "google.genai.batches"
_LIVE = "google.genai.live"
_INTERACTIONS, _INTERACT = "google.genai._gaos.interactions", "interactions.create"
_DECISIONS, _DECIDE = "google.genai._gaos.decisions", "decisions.create"
_OLD = "google.genai._interactions.resources.interactions"
_PUBLIC = "google.genai._gaos.google_genai"
_CLIENT = "google.genai._api_client"
_STREAM, _EMBED = "models.generate_content_stream", "models.embed_content"

PROVIDER = Provider(
    name="google",
    caller=_caller,
    targets=(
        *_both("_generate_content", "generate_content", GenerateContent),
        Target(_MODELS, "Models._generate_content_stream", _STREAM, streamed, GenerateContent),
        Target(_MODELS, "AsyncModels._generate_content_stream", _STREAM, streamed_async, GenerateContent, True),
        Target(_MODELS, "Models.generate_content_stream", _STREAM, held),
        Target(_MODELS, "AsyncModels.generate_content_stream", _STREAM, held_async, is_async=True),
        Target(_CHATS, "Chat.send_message_stream", "chats.send_message_stream", held),
        Target(_CHATS, "AsyncChat.send_message_stream", "chats.send_message_stream", held_async, is_async=True),
        *_both("_embed_content", "embed_content", EmbedContent, optional=True),
        Target(_MODELS, "Models.embed_content", _EMBED, _embeds_itself, EmbedContent),
        Target(_MODELS, "AsyncModels.embed_content", _EMBED, _embeds_itself, EmbedContent, True),
        *_both("_generate_images", "generate_images", Imagen),
        *_both("_edit_image", "edit_image", Imagen),
        *_both("_upscale_image", "upscale_image", Imagen),
        *_both("recontext_image", "recontext_image", Imagen),
        *_both("segment_image", "segment_image", Imagen),
        *_both("_generate_videos", "generate_videos", Veo),
        Target(_INTERACTIONS, "Interactions.create", _INTERACT, interaction, Interaction),
        Target(_INTERACTIONS, "AsyncInteractions.create", _INTERACT, interaction, Interaction, True),
        Target(_PUBLIC, "GeminiNextGenInteractions.create", _INTERACT, opened, optional=True),
        Target(_PUBLIC, "AsyncGeminiNextGenInteractions.create", _INTERACT, opened, is_async=True, optional=True),
        Target(_INTERACTIONS, "Interactions.get", "interactions.get", fetched),
        Target(_INTERACTIONS, "AsyncInteractions.get", "interactions.get", fetched, is_async=True),
        Target(_INTERACTIONS, "Interactions.cancel", "interactions.cancel", fetched),
        Target(_INTERACTIONS, "AsyncInteractions.cancel", "interactions.cancel", fetched, is_async=True),
        # Up to 2.8 another generator made them, the one of OpenAI's and Anthropic's SDKs.
        Target(_OLD, "InteractionsResource.create", _INTERACT, stainless.request, Interaction, optional=True),
        Target(_OLD, "AsyncInteractionsResource.create", _INTERACT, stainless.request, Interaction, True, True),
        Target(_OLD, "InteractionsResource.get", "interactions.get", fetched_before, optional=True),
        Target(_OLD, "AsyncInteractionsResource.get", "interactions.get", fetched_before, None, True, True),
        Target(_OLD, "InteractionsResource.cancel", "interactions.cancel", fetched_before, optional=True),
        Target(_OLD, "AsyncInteractionsResource.cancel", "interactions.cancel", fetched_before, None, True, True),
        Target(_DECISIONS, "Decisions.create", _DECIDE, interaction, InteractionDecision),
        Target(_DECISIONS, "AsyncDecisions.create", _DECIDE, interaction, InteractionDecision, True),
        Target(_LIVE, "AsyncLive.connect", "live.connect", connected, is_async=True),
        Target(_LIVE, "AsyncSession._receive", "live.connect", received, LiveTurn, True),
        Target(_BATCHES, "Batches.get", "batches.get", results),
        Target(_BATCHES, "AsyncBatches.get", "batches.get", results, is_async=True),
        Target(_CLIENT, "BaseApiClient._async_request", "requests", answered, is_async=True),
    ),
)
