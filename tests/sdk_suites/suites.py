"""What is run: the SDKs' distributions, what their tests need, and which of them need no network.

The SDKs' own lists of what their tests need are in development groups that no distribution carries, so they are here.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SUITES", "Suite"]


@dataclass(frozen=True)
class Suite:
    """One SDK's tests.

    Attributes:
        sdk: Its provider's name.
        distribution: Its name to pip.
        extras: The extras that its tests import.
        requirements: What else they import.
        selection: The tests that can pass without a network, a key or recordings that are not shipped.
        slice: Those of them that run in less than a minute, bare and patched together.
        in_sdist: Whether the tests come with the source distribution; otherwise they are installed with the package.
        build_requirements: What pip needs to read the source distribution's metadata.
        options: pytest's.
        ini: pytest's configuration, where the distribution has none.
    """

    sdk: str
    distribution: str
    extras: tuple[str, ...]
    requirements: tuple[str, ...]
    selection: tuple[str, ...]
    slice: tuple[str, ...]
    in_sdist: bool = True
    build_requirements: tuple[str, ...] = ("hatchling", "hatch-fancy-pypi-readme")
    options: tuple[str, ...] = ()
    ini: str | None = None


SUITES = (
    Suite(
        sdk="openai",
        distribution="openai",
        extras=("realtime", "aiohttp", "bedrock", "vertex", "datalib"),
        requirements=(
            "respx", "pytest", "pytest-asyncio", "pytest-xdist", "inline-snapshot", "azure-identity", "botocore",
            "trio", "rich", "Pillow", "griffe", "dirty-equals", "time-machine", "nest-asyncio", "httpx",
        ),
        selection=(
            "tests/lib/chat", "tests/lib/responses", "tests/test_streaming.py", "tests/test_sse_framing.py",
            "tests/test_stream_mode.py", "tests/test_legacy_response.py", "tests/test_response.py",
            "tests/test_module_client.py", "tests/lib/test_azure.py", "tests/lib/test_assistants.py",
            "tests/test_usage_cache_write.py", "tests/lib/test_streaming_deltas.py", "tests/lib/streaming",
            "tests/lib/beta", "tests/lib/test_embeddings.py",
        ),
        slice=(
            "tests/lib/chat", "tests/test_streaming.py", "tests/test_stream_mode.py", "tests/test_legacy_response.py",
            "tests/test_response.py", "tests/lib/test_streaming_deltas.py",
        ),
    ),
    Suite(
        sdk="anthropic",
        distribution="anthropic",
        extras=("aiohttp", "bedrock", "vertex", "google-cloud", "aws", "mcp", "webhooks"),
        requirements=(
            "respx", "pytest", "pytest-asyncio", "pytest-xdist", "time-machine", "dirty-equals>=0.6",
            "importlib-metadata>=6.7", "rich>=13.7.1", "hypothesis", "inline-snapshot>=0.28", "griffe>=1",
            "http-snapshot[httpx]==0.1.9", "packaging", "opentelemetry-sdk",
        ),
        selection=(
            "tests/test_streaming.py", "tests/lib/streaming", "tests/lib/threads", "tests/lib/tools/test_runners.py",
            "tests/lib/tools/test_runner_eager_tools.py", "tests/lib/test_bedrock.py", "tests/lib/test_vertex.py",
            "tests/lib/test_azure.py", "tests/lib/test_bedrock_mantle.py", "tests/lib/test_refusal_fallback.py",
            "tests/lib/test_refusal_fallback_streaming.py", "tests/lib/test_platform_resources.py",
            "tests/test_required_args.py", "tests/test_response.py", "tests/test_middleware.py",
        ),
        slice=(
            "tests/test_streaming.py", "tests/lib/streaming", "tests/test_required_args.py", "tests/test_response.py",
            "tests/test_middleware.py", "tests/lib/test_refusal_fallback_streaming.py",
        ),
        # The SDK's own plugin, which makes respx see the HTTP library that the SDK uses.
        options=("-p", "tests._alias_httpx"),
    ),
    Suite(
        sdk="google",
        distribution="google-genai",
        extras=(),
        requirements=(
            "pytest<9", "pytest-asyncio<1", "pytest-timeout", "aiohttp", "mcp", "pillow", "sentencepiece", "respx",
        ),
        selection=(
            "afc", "chats", "live", "errors", "common", "interactions", "gaos", "transformers",
            "models/test_gc_continuation_token.py", "models/test_generate_content_continuation_token.py",
            "client/test_async_stream.py",
        ),
        slice=(
            "afc", "chats", "models/test_gc_continuation_token.py",
            "models/test_generate_content_continuation_token.py", "client/test_async_stream.py",
        ),
        in_sdist=False,
        # Without namespace packages pytest imports a second copy of the SDK, called `genai`, that no patch reaches.
        options=("-o", "consider_namespace_packages=true", "--timeout", "15"),
        ini="[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n",
    ),
)  # fmt: skip
