"""What came with which release of an SDK, so that a test of it is left out before, and never without a reason.

`test_versions.py` holds the table against the SDKs that are installed.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from inspect import signature
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import models, types

from llm_toll_autopatch.providers import load
from llm_toll_autopatch.providers.since import SINCE, numbers
from llm_toll_autopatch.sdks import SDKS

CRASHES_HALF_READ = sys.version_info[:3] == (3, 13, 0)
HALF_READ_AT_EXIT = pytest.mark.skipif(
    CRASHES_HALF_READ,
    reason="CPython 3.13.0 crashes at its exit when a stream of OpenAI's was half-read, metered or not",
)
NO_THREADS_AT_EXIT = (3, 12, 0) <= sys.version_info[:3] < (3, 12, 3)
"""CPython's issue 113964: what a sink does when it is closed is then waited for."""
INSTALLED = {"openai": openai.__version__, "anthropic": anthropic.__version__, "google": genai.__version__}

Came = tuple[str, Callable[[], bool]]
"""The release, and whether it is there now."""


def _module(name: str) -> Callable[[], bool]:
    return lambda: importlib.util.find_spec(name) is not None


def _named(module: Any, name: str) -> Callable[[], bool]:
    return lambda: hasattr(module, name)


CAME: dict[tuple[str, str], Came] = {
    ("openai", "BedrockOpenAI"): ("2.40.0", _named(openai, "BedrockOpenAI")),
    ("anthropic", "AnthropicBedrock(api_key)"): (
        "0.88.0",
        lambda: "api_key" in signature(anthropic.AnthropicBedrock).parameters,
    ),
    ("anthropic", "AnthropicBedrockMantle"): ("0.91.0", _named(anthropic, "AnthropicBedrockMantle")),
    ("anthropic", "AnthropicAWS"): ("0.88.0", _named(anthropic, "AnthropicAWS")),
    ("anthropic", "AnthropicGoogleCloud"): ("0.117.0", _named(anthropic, "AnthropicGoogleCloud")),
    ("anthropic", "BetaRefusalFallbackMiddleware"): ("0.108.0", _module("anthropic.lib.middleware")),
    # Before, a coroutine of a deprecated model warns when it is made; ours, when it runs.
    ("anthropic", "warnings of a coroutine that runs"): ("2.0.0", lambda: INSTALLED["anthropic"] >= "2"),
    # Before, `isinstance` is answered by a metaclass, to which a stream of ours is one only while it is patched.
    ("anthropic", "isinstance by class"): ("1.0.0", lambda: not hasattr(anthropic._streaming, "_SyncStreamMeta")),
    ("google", "usage of embeddings"): (
        "3.1.0",
        lambda: "usage_metadata" in types.EmbedContentResponse.model_fields,
    ),
    ("google", "continued interactions"): ("2.9.0", _module("google.genai._gaos")),
    ("google", "continuation"): ("2.30.0", _named(models.Models, "_generate_content_with_continuation")),
    ("google", "decisions.create"): ("3.2.0", _named(genai.Client, "decisions")),
}
"""By provider and what it is. What is a method of a table of ours stands in `SINCE`."""


def came_later(provider: str, what: str) -> str | None:
    """The release that brought it, if that is later than the one installed; it has to be in one of the tables."""
    since = CAME[provider, what][0] if (provider, what) in CAME else _of_method(provider, what)
    return since if since is not None and numbers(INSTALLED[provider]) < numbers(since) else None


def needs(provider: str, what: str) -> pytest.MarkDecorator:
    """Leave a test out on the versions that do not have it yet."""
    since = came_later(provider, what)
    return pytest.mark.skipif(since is not None, reason=f"came with {SDKS[provider].distribution} {since}: {what}")


def _of_method(provider: str, method: str) -> str | None:
    """The release that brought a method of the provider's table; None if every supported one has it."""
    rows = [row for row in load(provider).targets if row.method == method]
    assert rows, f"{provider} has no {method}"
    releases = [SINCE.get((row.module, method)) for row in rows]
    return None if None in releases else max(filter(None, releases), key=numbers)
