"""Costs, by hand from the published prices, and against `genai-prices` called directly."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import warnings
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import genai_prices
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.pricing.prices import Prices, UnknownPriceWarning
from llm_toll_autopatch.records import USAGE_COUNTS, Usage

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
OPENAI = "developers.openai.com/api/docs/pricing, as in genai-prices 0.2.3"
ANTHROPIC = "platform.claude.com/docs/en/about-claude/pricing, as in genai-prices 0.2.3"
GOOGLE = "ai.google.dev/gemini-api/docs/pricing, as in genai-prices 0.2.3"
GROQ = "groq.com/pricing, as in genai-prices 0.2.3"
DEEPSEEK = "api-docs.deepseek.com/quick_start/pricing, as in genai-prices 0.2.3"
OPENROUTER = "openrouter.ai/models, as in genai-prices 0.2.3"
TOGETHER = "together.ai/pricing, as in genai-prices 0.2.3"
MISTRAL = "mistral.ai/pricing, as in genai-prices 0.2.3"
BEDROCK = "aws.amazon.com/bedrock/pricing, as in genai-prices 0.2.3"
VERTEX = "cloud.google.com/vertex-ai/generative-ai/pricing, as in genai-prices 0.2.3"


@dataclass(frozen=True)
class Case:
    """A call, and its cost: the sum of the products of units and USD per million of them.

    Attributes:
        source: The page that publishes the prices.
        bill: Pairs of units and USD per million units; a web search at USD 10 per 1,000 is 10,000 a million.
    """

    source: str
    model: str
    usage: Usage
    bill: list[tuple[int, str]] | None
    provider: str = "openai"
    served: str | None = None
    host: str | None = None
    tier: str | None = None
    at: datetime = AT
    name: str = ""

    def __str__(self) -> str:
        return "-".join(filter(None, (self.provider, self.host, self.model, self.tier, self.name)))

    @property
    def nano(self) -> int | None:
        """The expected cost, of the bill alone."""
        if self.bill is None:
            return None
        usd = sum((units * Decimal(price) for units, price in self.bill), Decimal(0)) / 1_000_000
        return int((usd * 10**9).to_integral_value(ROUND_HALF_EVEN))


def cost(prices: Prices, usage: Usage, model: str, **how: Any) -> int | None:
    """`Prices.cost`, of a model of OpenAI unless it says otherwise."""
    call: dict[str, Any] = {
        "provider": "openai",
        "response_model": None,
        "endpoint": None,
        "service_tier": None,
        "at": AT,
    }
    return prices.cost(usage, model=model, **(call | how))


def check(case: Case) -> None:
    """Assert that the call costs what the case says, to the nano-USD, and warns only where that is nothing."""
    prices = Prices()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if case.bill is None else "error", UnknownPriceWarning)
        got = cost(
            prices,
            case.usage,
            case.model,
            provider=case.provider,
            response_model=case.served,
            endpoint=case.host,
            service_tier=case.tier,
            at=case.at,
        )
    assert got == case.nano, case.source
    assert bool(prices.unknown) == (case.bill is None)


def by_name(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=str)


U = Usage
TEXT = U(input_tokens=1_200, output_tokens=345)
CACHED = U(input_tokens=2_006, cache_read_tokens=1_920, output_tokens=300, reasoning_tokens=128)

FROM_OPENAI = [
    Case(OPENAI, "gpt-4o", TEXT, [(1_200, "2.50"), (345, "10")], host="api.openai.com", served="gpt-4o-2024-08-06"),
    Case(OPENAI, "gpt-4o", CACHED, [(86, "2.50"), (1_920, "1.25"), (300, "10")], host="api.openai.com", tier="default"),
    Case(OPENAI, "gpt-4o-mini", U(input_tokens=1, output_tokens=1), [(1, "0.15"), (1, "0.60")], name="one-token"),
    Case(OPENAI, "gpt-4o-mini", U(), [], name="nothing"),
    Case(OPENAI, "gpt-4o", TEXT, [(1_200, "4.25"), (345, "17")], tier="priority"),
    Case(OPENAI, "gpt-4o", TEXT, [(1_200, "4.25"), (345, "17")], tier="fast"),
    Case(OPENAI, "gpt-4o", TEXT, [(1_200, "1.25"), (345, "5")], tier="batch"),
    Case(OPENAI, "gpt-4o", TEXT, None, tier="flex"),
    Case(OPENAI, "gpt-4o", TEXT, None, tier="scale"),
    Case(OPENAI, "o4-mini", CACHED, [(86, "0.55"), (1_920, "0.138"), (300, "2.20")], tier="flex"),
    Case(OPENAI, "o4-mini", CACHED, None, tier="flex", at=datetime(2026, 10, 1, tzinfo=UTC), name="before-it-was-checked"),
    Case(OPENAI, "gpt-5.4", U(input_tokens=272_000, output_tokens=1_000), [(272_000, "2.50"), (1_000, "15")], name="long"),
    Case(OPENAI, "gpt-5.4", U(input_tokens=272_001, output_tokens=1_000), [(272_001, "5"), (1_000, "22.50")], name="longer"),
    Case(OPENAI, "gpt-5.4", U(input_tokens=300_000, cache_read_tokens=280_000, output_tokens=10), [(20_000, "2.50"), (280_000, "0.25"), (10, "11.25")], tier="flex", name="longer"),
    Case(OPENAI, "gpt-5.6", U(input_tokens=5_000, cache_write_tokens=4_000, output_tokens=10), [(1_000, "4"), (4_000, "5"), (10, "20")]),
    Case(OPENAI, "gpt-5.6", U(input_tokens=5_000, cache_write_tokens=4_000, output_tokens=10), [(1_000, "5"), (4_000, "6.25"), (10, "30")], at=datetime(2026, 8, 20, 23, 59, tzinfo=UTC), name="the-day-before-the-cut"),
    Case(OPENAI, "gpt-5.4", replace(TEXT, web_searches=3), [(1_200, "2.50"), (345, "15"), (3, "10000")], name="web-search"),
    Case(OPENAI, "gpt-audio", U(input_tokens=500, input_audio_tokens=400, output_tokens=90, output_audio_tokens=70), [(100, "2.50"), (400, "32"), (20, "10"), (70, "64")]),
    Case(OPENAI, "gpt-realtime", U(input_tokens=1_000, input_audio_tokens=600, cache_read_tokens=512, output_tokens=50, output_audio_tokens=40, details={"cache_read_audio_tokens": 384}), [(272, "4"), (216, "32"), (128, "0.40"), (384, "0.40"), (10, "16"), (40, "64")]),
    Case(OPENAI, "gpt-image-1", U(input_tokens=1_050, input_image_tokens=1_000, output_tokens=4_160, output_image_tokens=4_160), [(50, "5"), (1_000, "10"), (4_160, "40")]),
    Case(OPENAI, "text-embedding-3-small", U(input_tokens=8_191), [(8_191, "0.02")]),
    Case(OPENAI, "whisper-1", U(details={"seconds": 90}), [(90, "100")], name="USD 0.006 a minute is USD 100 a million seconds"),
    Case(OPENAI, "whisper-1", U(), None, name="without its duration"),
    Case(OPENAI, "tts-1", U(), None),
    Case(OPENAI, "gpt-4o-transcribe", U(details={"seconds": 90}), None, name="seconds of a model that is billed by tokens"),
    Case(OPENAI, "gpt-5-mini", U(details={"images": 2}), None, name="images of a model without a price for them"),
    Case(OPENAI, "gpt-5-mini", U(input_tokens=9, details={"image_gen_output_tokens": 196}), None, name="images by a tool"),
    Case(OPENAI, "omni-moderation-latest", U(input_tokens=10), []),
    Case(OPENAI, "ft:gpt-4o-mini-2024-07-18:org::id", TEXT, [(1_200, "0.30"), (345, "1.20")]),
    Case(OPENAI, "ft:gpt-4.1-2025-04-14:org::id", TEXT, None, served="gpt-4.1-2025-04-14"),
    Case(OPENAI, "gpt-99", TEXT, None, host="api.openai.com"),
]  # fmt: skip

WRITES = U(
    input_tokens=10_100,
    cache_read_tokens=5_000,
    cache_write_tokens=5_000,
    cache_write_5m_tokens=3_000,
    cache_write_1h_tokens=2_000,
    output_tokens=40,
)
CLAUDE = "claude-sonnet-4-5"
FROM_ANTHROPIC = [
    Case(ANTHROPIC, CLAUDE, TEXT, [(1_200, "3"), (345, "15")], "anthropic", served="claude-sonnet-4-5-20250929", host="api.anthropic.com", tier="standard"),
    Case(ANTHROPIC, CLAUDE, WRITES, [(100, "3"), (5_000, "0.30"), (3_000, "3.75"), (2_000, "6"), (40, "15")], "anthropic", name="writes"),
    Case(ANTHROPIC, CLAUDE, U(input_tokens=900, cache_write_tokens=800), [(100, "3"), (800, "3.75")], "anthropic", name="unsplit-write"),
    Case(ANTHROPIC, CLAUDE, WRITES, [(100, "1.50"), (5_000, "0.15"), (3_000, "1.875"), (2_000, "3"), (40, "7.50")], "anthropic", tier="batch"),
    Case(ANTHROPIC, CLAUDE, U(input_tokens=200_001, output_tokens=10), [(200_001, "6"), (10, "22.50")], "anthropic", name="long"),
    Case(ANTHROPIC, CLAUDE, replace(TEXT, web_searches=2), [(1_200, "3"), (345, "15"), (2, "10000")], "anthropic", name="web-search"),
    Case(ANTHROPIC, CLAUDE, TEXT, None, "anthropic", tier="priority"),
    Case(ANTHROPIC, "claude-opus-4-8", TEXT, [(1_200, "5"), (345, "25")], "anthropic"),
    Case(ANTHROPIC, "claude-opus-4-8", TEXT, [(1_200, "10"), (345, "50")], "anthropic", tier="fast"),
    Case(ANTHROPIC, "claude-haiku-4-5", CACHED, [(86, "1"), (1_920, "0.10"), (300, "5")], "anthropic", name="thinking"),
    Case(ANTHROPIC, "claude-opus-4-6", U(input_tokens=200_001), [(200_001, "10")], "anthropic", at=datetime(2026, 3, 12, tzinfo=UTC), name="before-flat-pricing"),
    Case(ANTHROPIC, "claude-opus-4-6", U(input_tokens=200_001), [(200_001, "5")], "anthropic"),
]  # fmt: skip

FROM_GOOGLE = [
    Case(GOOGLE, "models/gemini-2.5-flash", TEXT, [(1_200, "0.30"), (345, "2.50")], "google", host="generativelanguage.googleapis.com"),
    Case(GOOGLE, "gemini-2.5-flash", U(input_tokens=1_000, input_audio_tokens=700, output_tokens=60, reasoning_tokens=50), [(300, "0.30"), (700, "1"), (60, "2.50")], "google", tier="ON_DEMAND", name="audio"),
    Case(GOOGLE, "gemini-2.5-flash", U(input_tokens=1_000, input_audio_tokens=700, cache_read_tokens=500), [(500, "1"), (300, "0.03"), (200, "0.10")], "google", name="cached-audio-that-must-be"),
    Case(GOOGLE, "gemini-2.5-flash", U(input_tokens=400, tool_use_input_tokens=300, output_tokens=20), [(400, "0.30"), (20, "2.50")], "google", name="tools"),
    Case(GOOGLE, "gemini-2.5-flash", CACHED, [(86, "0.15"), (1_920, "0.03"), (300, "1.25")], "google", tier="batch"),
    Case(GOOGLE, "gemini-2.5-flash", TEXT, None, "google", tier="PROVISIONED_THROUGHPUT"),
    Case(GOOGLE, "gemini-2.5-pro", U(input_tokens=200_000, output_tokens=5), [(200_000, "1.25"), (5, "10")], "google", name="long"),
    Case(GOOGLE, "gemini-2.5-pro", U(input_tokens=200_001, output_tokens=5), [(200_001, "2.50"), (5, "15")], "google", name="longer"),
    Case(GOOGLE, "gemini-2.5-flash-image", U(input_tokens=20, output_tokens=1_300, output_image_tokens=1_290), [(20, "0.30"), (10, "2.50"), (1_290, "30")], "google"),
    Case(GOOGLE, "gemini-3-flash-preview", replace(TEXT, web_searches=1), [(1_200, "0.50"), (345, "3"), (1, "14000")], "google"),
    Case(GOOGLE, "gemini-embedding-001", U(input_tokens=77), [(77, "0.15")], "google"),
    Case(GOOGLE, "gemma-3-27b-it", TEXT, [], "google", name="free of charge"),
]  # fmt: skip

SONNET_ON_BEDROCK = "anthropic.claude-sonnet-4-5-20250929-v1:0"
FROM_OTHERS = [
    Case(GROQ, "openai/gpt-oss-120b", TEXT, [(1_200, "0.15"), (345, "0.60")], host="api.groq.com", tier="on_demand"),
    Case(GROQ, "llama-3.3-70b-versatile", TEXT, [(1_200, "0.59"), (345, "0.79")], host="api.groq.com:443"),
    Case(GROQ, "gpt-4o", TEXT, None, host="api.groq.com"),
    Case(DEEPSEEK, "deepseek-chat", CACHED, [(86, "0.27"), (1_920, "0.07"), (300, "1.10")], host="api.deepseek.com", name="by-day"),
    Case(DEEPSEEK, "deepseek-chat", CACHED, [(86, "0.135"), (1_920, "0.035"), (300, "0.55")], host="api.deepseek.com", at=datetime(2026, 11, 20, 17, tzinfo=UTC), name="by-night"),
    Case(OPENROUTER, "openai/gpt-4o", TEXT, [(1_200, "2.50"), (345, "10")], host="openrouter.ai"),
    Case(OPENROUTER, "gpt-4o", TEXT, None, host="openrouter.ai", name="a-router-never-falls-back"),
    Case(TOGETHER, "meta-llama/Llama-3.3-70B-Instruct-Turbo", TEXT, [(1_200, "0.88"), (345, "0.88")], host="api.together.xyz"),
    Case(TOGETHER, "meta-llama/Llama-3.3-70B-Instruct-Turbo", TEXT, [(1_200, "0.88"), (345, "0.88")], host="api.together.ai"),
    Case(MISTRAL, "mistral-large-latest", TEXT, [(1_200, "2"), (345, "6")], host="api.mistral.ai"),
    Case(OPENAI, "my-deployment", TEXT, [(1_200, "2.50"), (345, "10")], "azure", served="gpt-4o-2024-11-20", host="corp.openai.azure.com"),
    Case(OPENAI, "my-deployment", TEXT, [(1_200, "2.50"), (345, "10")], "openai", served="gpt-4o-2024-11-20", host="corp.openai.azure.com"),
    Case(OPENAI, "my-deployment", TEXT, [(1_200, "2.50"), (345, "10")], "azure", served="gpt-4o-2024-11-20", host="gateway.example.com", name="own-gateway"),
    Case(OPENAI, "gpt-4o", TEXT, None, "azure", host="corp.openai.azure.com", name="a-deployment-can-have-any-name"),
    Case(OPENAI, "my-deployment", TEXT, None, "azure", served="gpt-4o-2024-11-20", tier="priority"),
    Case(ANTHROPIC, "my-claude", TEXT, [(1_200, "3"), (345, "15")], "azure", served=CLAUDE, host="corp.services.ai.azure.com"),
    Case(BEDROCK, f"us.{SONNET_ON_BEDROCK}", TEXT, [(1_200, "3.30"), (345, "16.50")], "bedrock", served="claude-sonnet-4-5-20250929", host="bedrock-runtime.us-east-1.amazonaws.com"),
    Case(BEDROCK, f"global.{SONNET_ON_BEDROCK}", TEXT, [(1_200, "3"), (345, "15")], "bedrock", served="claude-sonnet-4-5-20250929", host="bedrock-runtime.us-east-1.amazonaws.com"),
    Case(BEDROCK, f"arn:aws:bedrock:us-east-1:1:inference-profile/global.{SONNET_ON_BEDROCK}", TEXT, [(1_200, "3"), (345, "15")], "bedrock"),
    Case(ANTHROPIC, "us.anthropic.claude-opus-4-20250514-v9:9", TEXT, [(1_200, "15"), (345, "75")], "bedrock", name="maker"),
    Case(VERTEX, "claude-sonnet-4-5@20250929", WRITES, [(100, "3"), (5_000, "0.30"), (3_000, "3.75"), (2_000, "6"), (40, "15")], "vertex", host="us-east5-aiplatform.googleapis.com"),
    Case(VERTEX, "publishers/google/models/gemini-2.5-pro", TEXT, [(1_200, "1.25"), (345, "10")], "vertex", host="aiplatform.googleapis.com", tier="ON_DEMAND"),
    Case(VERTEX, "google/gemini-2.5-pro", TEXT, [(1_200, "1.25"), (345, "10")], "openai", host="us-central1-aiplatform.googleapis.com"),
    Case("no page", "projects/p/locations/l/endpoints/123", TEXT, None, "vertex"),
]  # fmt: skip

GPT = [(1_200, "2.50"), (345, "10")]
FROM_ANYWHERE = [
    *(Case(OPENAI, "gpt-4o", TEXT, GPT, host=host) for host in ("127.0.0.1", "localhost", "api.localhost", "[::1]:8000", "127.0.0.1:4000")),
    Case(OPENAI, "openai/gpt-4o", TEXT, GPT, host="localhost", name="a gateway's own spelling"),
    *(Case("no page", "llama3.2", TEXT, None, host=host) for host in ("127.0.0.1", "localhost", "::1")),
    *(Case("no page", "gpt-4o", TEXT, None, host=host) for host in ("10.0.0.7", "192.168.1.9", "gpu.local", "llm", "llm.example.com", "api.openai.com.example.com", "eu.api.openai.com", "router.huggingface.co")),
    Case("no page", "gpt-4o", TEXT, None, provider="nobody"),
    Case("no page", "", TEXT, None),
]  # fmt: skip


@by_name(FROM_OPENAI)
def test_openai(case: Case) -> None:
    """OpenAI's prices, tiers and dates, to the nano-USD."""
    check(case)


@by_name(FROM_ANTHROPIC)
def test_anthropic(case: Case) -> None:
    """Anthropic's prices: both lifetimes of cache writes, batch, fast mode, web searches."""
    check(case)


@by_name(FROM_GOOGLE)
def test_google(case: Case) -> None:
    """Google's prices: modalities, thoughts, tools, long prompts, traffic types."""
    check(case)


@by_name(FROM_OTHERS)
def test_the_host_says_whose_price(case: Case) -> None:
    """Compatible hosts and platforms have their own prices; only platforms fall back to the model's maker."""
    check(case)


@by_name(FROM_ANYWHERE)
def test_a_host_that_is_nobodys(case: Case) -> None:
    """A server on loopback is a proxy if it serves the provider's models; any other unknown host has no price."""
    check(case)


MODELS = [
    ("openai", "gpt-4o", None),
    ("openai", "gpt-5.6", None),
    ("openai", "gpt-5.4", {"service_tier": "flex"}),
    ("openai", "gpt-realtime", None),
    ("anthropic", "claude-sonnet-4-5", None),
    ("anthropic", "claude-haiku-5-5", {"processing": "batch"}),
    ("google", "gemini-2.5-flash", None),
    ("google", "gemini-2.5-flash-image", None),
]
COUNTS = st.one_of(st.integers(0, 300), st.integers(0, 400_000))


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Usage whose parts are disjoint and fit into their wholes, in any size."""
    read, short, long, audio, image, plain = (draw(COUNTS) for _ in range(6))
    reasoning, said, drawn, written = (draw(COUNTS) for _ in range(4))
    return Usage(
        input_tokens=read + short + long + audio + image + plain,
        cache_read_tokens=read,
        cache_write_tokens=short + long,
        cache_write_5m_tokens=short,
        cache_write_1h_tokens=long,
        input_audio_tokens=audio,
        input_image_tokens=image,
        output_tokens=reasoning + said + drawn + written,
        reasoning_tokens=reasoning,
        output_audio_tokens=said,
        output_image_tokens=drawn,
    )


@given(st.sampled_from(MODELS), usages())
def test_it_is_what_the_library_says(model: tuple[str, str, dict[str, str] | None], usage: Usage) -> None:
    """Any usage costs what `genai_prices.calc_price` makes of it, rounded once."""
    provider, name, context = model
    direct = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            cache_write_5m_tokens=usage.cache_write_5m_tokens,
            cache_write_1h_tokens=usage.cache_write_1h_tokens,
            input_audio_tokens=usage.input_audio_tokens,
            cache_audio_read_tokens=0,
            input_image_tokens=usage.input_image_tokens,
            cache_image_read_tokens=0,
            output_audio_tokens=usage.output_audio_tokens,
            output_image_tokens=usage.output_image_tokens,
            output_reasoning_tokens=usage.reasoning_tokens,
        ),
        name,
        provider_id=provider,
        genai_request_timestamp=AT,
        price_context=context,
    ).total_price
    tier = next(iter((context or {"": ""}).values()))
    expected = int((direct * 10**9).to_integral_value(ROUND_HALF_EVEN))
    assert cost(PRICES, usage, name, provider=provider, service_tier=tier) == expected


PRICES = Prices()


SOME = st.integers(0, 300)
PARTS = {
    "cache_read_tokens": ("input_tokens",),
    "cache_write_tokens": ("input_tokens",),
    "cache_write_1h_tokens": ("input_tokens", "cache_write_tokens"),
    "reasoning_tokens": ("output_tokens",),
    "output_audio_tokens": ("output_tokens",),
    "output_image_tokens": ("output_tokens",),
}


@given(st.sampled_from(MODELS), st.builds(Usage, **{count: SOME for count in USAGE_COUNTS if count != "web_searches"}))
def test_contradictory_figures_have_a_cost(model: tuple[str, str, dict[str, str] | None], usage: Usage) -> None:
    """Parts that are more than their whole give no error, but a cost that is not below that of any one part."""
    provider, name, _ = model
    whole = cost(PRICES, usage, name, provider=provider)
    assert whole is not None
    for part, wholes in PARTS.items():
        n = getattr(usage, part)
        alone = cost(PRICES, Usage(**dict.fromkeys((part, *wholes), n)), name, provider=provider)
        assert alone is not None
        assert whole >= alone


def test_all_models_of_the_three_providers() -> None:
    """Every model that OpenAI, Anthropic and Google have in the library costs what the library says, or is unknown."""
    from genai_prices.data_snapshot import get_snapshot

    usage = Usage(input_tokens=1_000_003, output_tokens=70_001, cache_read_tokens=30_011)
    counts = genai_prices.Usage(input_tokens=1_000_003, output_tokens=70_001, cache_read_tokens=30_011)
    compared = 0
    for provider in get_snapshot().providers:
        if provider.id not in {"openai", "anthropic", "google"}:
            continue
        for model in provider.models:
            if provider.find_model(model.id) is not model:
                continue  # named by a pattern that its id does not match
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UnknownPriceWarning)
                got = cost(PRICES, usage, model.id, provider=provider.id)
            if got is None:
                assert "output_mtok" not in vars(model.get_prices(AT)), model.id
                continue
            direct = model.calc_price(counts, provider, genai_request_timestamp=AT).total_price
            assert got == int((direct * 10**9).to_integral_value(ROUND_HALF_EVEN)), model.id
            compared += 1
    assert compared > 150


def test_half_a_nano_goes_to_the_even_one() -> None:
    """What is left of a nano-USD is rounded once, half to even."""
    prices = Prices({"half": {"input": "0.0005", "output": "0.00025"}})
    assert [cost(prices, Usage(input_tokens=n), "half") for n in (1, 2, 3, 5)] == [0, 1, 2, 2]
    assert cost(prices, Usage(input_tokens=1, output_tokens=2), "half") == 1


def test_an_unknown_model_warns_once() -> None:
    """The first call of a model without a price warns, at the caller's line; all are counted."""
    prices = Prices()
    with pytest.warns(UnknownPriceWarning, match="no price is known .*'gpt-99' cost None.*prices=") as caught:
        assert [cost(prices, TEXT, "gpt-99") for _ in range(3)] == [None] * 3
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(UnknownPriceWarning, match="'gpt-98'"):
        assert cost(prices, TEXT, "gpt-98") is None
    assert prices.unknown == {"gpt-99": 3, "gpt-98": 1}


@pytest.mark.filterwarnings("error")
def test_a_warning_that_is_an_error_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Under `-W error` the call goes on, and the log says what the warning would have."""
    with caplog.at_level(logging.WARNING, "llm_toll_autopatch"):
        assert cost(Prices(), TEXT, "gpt-99") is None
    assert "no price is known" in caplog.text


@pytest.mark.parametrize(
    "usage", [replace(TEXT, web_searches=1), replace(TEXT, details={"file_searches": 1})], ids=["web", "file"]
)
def test_a_search_without_a_price_is_not_free(usage: Usage) -> None:
    """What was used and has no price makes the whole unknown."""
    with pytest.warns(UnknownPriceWarning, match="searches"):
        assert cost(Prices(), usage, "gemini-2.5-flash-image", provider="google") is None


def test_threads_share_prices() -> None:
    """Many threads that ask at once get the same answers, and one warning."""
    prices = Prices()
    answers: list[tuple[int | None, int | None]] = []
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        answers.extend((cost(prices, TEXT, "gpt-4o"), cost(prices, TEXT, "gpt-99")) for _ in range(50))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert set(answers) == {(6_450_000, None)}
    assert len(answers) == 400
    assert [warning.category for warning in caught] == [UnknownPriceWarning]


def test_the_caches_are_bounded() -> None:
    """Names that never repeat, as of fine-tunes or deployments, do not fill the memory."""
    prices = Prices({"*": {"input": 1, "output": 1}})
    for n in range(5_000):
        cost(prices, TEXT, f"model-{n}")
    assert len(prices._quotes) <= 2_048


def test_without_the_library_only_overrides_have_prices(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A `genai-prices` that cannot be imported is our failure: noted, and no price; the user's own still hold."""
    monkeypatch.setitem(sys.modules, "genai_prices.data_snapshot", None)
    prices = Prices({"mine": {"input": 1, "output": 1}})
    prices.warm_up()
    assert cost(prices, TEXT, "gpt-4o") is None
    assert cost(prices, TEXT, "mine") == 1_545_000
    assert prices.explain(provider="openai", model="gpt-4o").source.startswith("genai-prices failed")
    assert failures.total == 3
    assert failures.last == "pricing: RuntimeError"
    failures.reset()


def test_new_price_data_counts_at_once() -> None:
    """After `genai_prices` has loaded newer data, the next call has the newer price."""
    from genai_prices.data_snapshot import DataSnapshot, get_snapshot, set_custom_snapshot

    prices = Prices()
    assert cost(prices, TEXT, "gpt-4o") == 6_450_000
    openai = next(one for one in get_snapshot().providers if one.id == "openai")
    model = openai.find_model("gpt-4o")
    assert model is not None
    dearer = replace(model, prices=genai_prices.types.ModelPrice(input_mtok=Decimal(5), output_mtok=Decimal(10)))
    try:
        set_custom_snapshot(DataSnapshot(providers=[replace(openai, models=[dearer])], from_auto_update=True))
        assert cost(prices, TEXT, "gpt-4o") == 1_200 * 5_000 + 345 * 10_000
    finally:
        set_custom_snapshot(None)
    assert cost(prices, TEXT, "gpt-4o") == 6_450_000


def test_explain_says_what_and_from_where() -> None:
    """`explain` names the source of a price, its rates and its long-prompt rates, or why there is none."""
    prices = Prices({"my-*": {"input": 1, "output": 2}})
    library = prices.explain(provider="openai", model="gpt-5.4", at=AT)
    assert library.source == "genai-prices openai/gpt-5.4"
    assert library.known
    assert (library.rates["input"], library.rates["output"]) == (Decimal("2.5"), Decimal(15))
    assert library.longer[272_000]["input"] == Decimal(5)
    own = prices.explain(provider="openai", model="my-model")
    assert (own.source, own.pattern, own.provider) == ("prices='my-*'", "my-*", None)
    assert own.rates == {"input": 1, "output": 2}
    spoken = prices.explain(provider="openai", model="whisper-1", at=AT)
    assert spoken.rates == {"audio_hours": Decimal("0.36"), "input_audio_hours": Decimal("0.36")}
    nothing = prices.explain(provider="openai", model="gpt-4o", endpoint="llm.example.com")
    assert (nothing.source, nothing.known) == ("no price is known for the host llm.example.com", False)
    assert not prices.unknown, "explaining is not calling"


def test_nothing_is_imported_before_it_is_needed() -> None:
    """Neither importing the module nor a price of the user's own loads `genai-prices`."""
    code = (
        "import sys, datetime; from llm_toll_autopatch.pricing.prices import Prices; from llm_toll_autopatch.records import Usage\n"
        "p = Prices({'m': {'input': 1, 'output': 1}})\n"
        "p.cost(Usage(input_tokens=1), provider='openai', model='m', response_model=None, endpoint='h',"
        " service_tier=None, at=datetime.datetime.now(datetime.UTC))\n"
        "assert not {'genai_prices', 'pydantic', 'ipaddress'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
