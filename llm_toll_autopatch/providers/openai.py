"""The OpenAI SDK."""

from __future__ import annotations

from llm_toll_autopatch.providers.fetched import results
from llm_toll_autopatch.providers.openai_sockets import TARGETS
from llm_toll_autopatch.providers.posted import posts
from llm_toll_autopatch.providers.stainless import both, caller_of, manager, request
from llm_toll_autopatch.providers.target import Provider
from llm_toll_autopatch.readers.audio import Speech, Transcriptions, Translations
from llm_toll_autopatch.readers.batches import Batches, EvalRuns
from llm_toll_autopatch.readers.chat import ChatCompletions
from llm_toll_autopatch.readers.completions import Completions
from llm_toll_autopatch.readers.decisions import Decisions
from llm_toll_autopatch.readers.embeddings import Embeddings
from llm_toll_autopatch.readers.images import Images
from llm_toll_autopatch.readers.responses import Responses
from llm_toll_autopatch.readers.runs import Runs

__all__ = ["PROVIDER"]

_CHAT = "openai.resources.chat.completions.completions"
_RESPONSES = "openai.resources.responses.responses"
_BETA_RESPONSES = "openai.resources.beta.responses.responses"
_IMAGES = "openai.resources.images"
_THREADS = "openai.resources.beta.threads.threads"
_RUNS = "openai.resources.beta.threads.runs.runs"
_BATCHES = "openai.resources.batches"
_EVALS = "openai.resources.evals.runs.runs"

PROVIDER = Provider(
    name="openai",
    caller=caller_of("openai"),
    targets=(
        *both(_CHAT, "Completions.create", "chat.completions.create", request, ChatCompletions),
        *both(_CHAT, "Completions.parse", "chat.completions.parse", request, ChatCompletions),
        *both(_CHAT, "Completions.stream", "chat.completions.stream", manager),
        *both(_RESPONSES, "Responses.create", "responses.create", request, Responses),
        *both(_RESPONSES, "Responses.parse", "responses.parse", request, Responses),
        *both(_RESPONSES, "Responses.stream", "responses.stream", manager),
        *both(_RESPONSES, "Responses.compact", "responses.compact", request, Responses),
        *both(_RESPONSES, "Responses.retrieve", "responses.retrieve", results, Responses),
        *both(_RESPONSES, "Responses.cancel", "responses.cancel", results, Responses),
        *both(_BETA_RESPONSES, "Responses.create", "beta.responses.create", request, Responses),
        *both(_BETA_RESPONSES, "Responses.compact", "beta.responses.compact", request, Responses),
        *both(_BETA_RESPONSES, "Responses.retrieve", "beta.responses.retrieve", results, Responses),
        *both(_BETA_RESPONSES, "Responses.cancel", "beta.responses.cancel", results, Responses),
        *both("openai.resources.completions", "Completions.create", "completions.create", request, Completions),
        *both("openai.resources.embeddings", "Embeddings.create", "embeddings.create", request, Embeddings),
        *both("openai.resources.decisions", "Decisions.create", "decisions.create", request, Decisions),
        *both(_IMAGES, "Images.generate", "images.generate", request, Images),
        *both(_IMAGES, "Images.edit", "images.edit", request, Images),
        *both(_IMAGES, "Images.create_variation", "images.create_variation", request, Images),
        *both(
            "openai.resources.audio.transcriptions", "Transcriptions.create", "audio.transcriptions.create", request,
            Transcriptions,
        ),
        *both(
            "openai.resources.audio.translations", "Translations.create", "audio.translations.create", request,
            Translations,
        ),
        *both("openai.resources.audio.speech", "Speech.create", "audio.speech.create", request, Speech),
        *both(_THREADS, "Threads.create_and_run", "beta.threads.create_and_run", request, Runs),
        *both(_THREADS, "Threads.create_and_run_stream", "beta.threads.create_and_run_stream", manager, Runs),
        *both(_RUNS, "Runs.create", "beta.threads.runs.create", request, Runs),
        *both(_RUNS, "Runs.create_and_stream", "beta.threads.runs.create_and_stream", manager, Runs),
        *both(_RUNS, "Runs.stream", "beta.threads.runs.stream", manager, Runs),
        *both(_RUNS, "Runs.submit_tool_outputs", "beta.threads.runs.submit_tool_outputs", results, Runs),
        *both(
            _RUNS, "Runs.submit_tool_outputs_stream", "beta.threads.runs.submit_tool_outputs_stream", manager, Runs
        ),
        *both(_RUNS, "Runs.retrieve", "beta.threads.runs.retrieve", results, Runs),
        *both(_RUNS, "Runs.cancel", "beta.threads.runs.cancel", results, Runs),
        *both(_BATCHES, "Batches.retrieve", "batches.retrieve", results, Batches),
        *both(_BATCHES, "Batches.cancel", "batches.cancel", results, Batches),
        *both(_EVALS, "Runs.retrieve", "evals.runs.retrieve", results, EvalRuns),
        *TARGETS,
        *posts(
            "openai",
            {
                "/chat/completions": ChatCompletions,
                "/responses": Responses,
                "/completions": Completions,
                "/embeddings": Embeddings,
            },
        ),
    ),
)  # fmt: skip
