"""`Table`: the prices of one model of `genai-prices` at one service tier, through time.

What 0.2.3 knows, and what follows from it here:

- Tiers are "variants" of a model: OpenAI's `flex`, `priority` (`fast` is the same) and batch, Google's `flex`,
  `priority` and batch, Anthropic's batch and fast mode, batch of Groq, Mistral and xAI. Most begin on the day on which
  they were checked (October 2026). The library falls back to the standard price where a model has no variant; here
  that is unknown, as is Anthropic's priority tier, OpenAI's `scale` and any tier on a platform.
- A part without a rate of its own costs what its whole costs. Batch and flex keep the standard rate of what their own
  price list leaves out.
- Long prompts: the rate of the highest step that the prompt exceeds holds for all tokens.
- Prices change by UTC date (`StartDateConstraint`) and by time of day (DeepSeek).
- Web searches have a rate on most OpenAI, Anthropic and Google models; where there is none they are unknown, not free.
- Surcharges for a region (Anthropic's `inference_geo`, regional endpoints of Vertex) are not in the data.
- Speech is partly billed by the second or the character, documents by the page: `Usage.details` has to say how many.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from llm_toll_autopatch.pricing.rates import Rates, Tariff, Unpriced, cached_parts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llm_toll_autopatch.pricing.sources import Source
    from llm_toll_autopatch.records import Usage

__all__ = ["Pricer", "Table", "context_of", "library_usage"]

_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "input_mtok": "input",
        "output_mtok": "output",
        "cache_read_mtok": "cache_read",
        "cache_write_mtok": "cache_write",
        "cache_write_5m_mtok": "cache_write_5m",
        "cache_write_1h_mtok": "cache_write_1h",
        "input_audio_mtok": "input_audio",
        "input_image_mtok": "input_image",
        "cache_audio_read_mtok": "cache_read_audio",
        "cache_image_read_mtok": "cache_read_image",
        "output_audio_mtok": "output_audio",
        "output_image_mtok": "output_image",
        "output_reasoning_mtok": "reasoning",
        "web_searches_kcount": "web_search",
        "storage_searches_kcount": "file_search",
        "requests_kcount": "request",
    }
)
"""Keys of the library's prices, by our name of the same thing. Prices of other things are left to the library."""

_TIERS: Mapping[str, tuple[str, str] | None] = MappingProxyType(
    {
        "": None,
        "auto": None,
        "default": None,
        "standard": None,
        "standard_only": None,
        "on_demand": None,
        "unspecified": None,
        "service_tier_unspecified": None,
        "traffic_type_unspecified": None,
        "flex": ("service_tier", "flex"),
        "on_demand_flex": ("service_tier", "flex"),
        "priority": ("service_tier", "priority"),
        "fast": ("service_tier", "priority"),
        "on_demand_priority": ("service_tier", "priority"),
        "batch": ("processing", "batch"),
    }
)
"""Names of tiers, lower-case, with the library's context for them. The standard prices need none."""


_FREE_IF_EMPTY = frozenset({"github-copilot", "google", "openai"})
"""Providers in whose data a model without prices is one that is free of charge: OpenAI's moderation, Google's Gemma."""


def context_of(service_tier: str | None, provider: str) -> Mapping[str, str] | None:
    """Return the library's price context for a tier; None is the standard tier.

    Raises:
        Unpriced: It is no tier that has prices.
    """
    tier = (service_tier or "").strip().lower()
    if provider == "anthropic" and tier == "fast":
        return {"speed": "fast"}
    try:
        context = _TIERS[tier]
    except KeyError:
        raise Unpriced(f"the service tier {service_tier!r}") from None
    return None if context is None else dict([context])


class Pricer(Protocol):
    """What knows the prices of one moment."""

    def listed(self) -> Mapping[int, Mapping[str, Decimal]]:
        """Return the prices by the prompt length above which they hold, in USD per `rates.KINDS[kind].per` units."""

    def nano_usd(self, usage: Usage) -> int:
        """Return what `usage` costs in nano-USD.

        Raises:
            Unpriced: Something was used that has no price.
        """


class Table:
    """The prices of `source` in `context`. Made of a new `genai-prices` snapshot, it is made anew."""

    def __init__(self, source: Source, context: Mapping[str, str] | None) -> None:
        self.source = source
        self._context = context
        model = source.model
        entries = [] if not isinstance(model.prices, list) else model.prices
        self._variants = [
            variant for variant in model.price_variants or () if context and variant.when.items() <= context.items()
        ]
        bounds = (entry.constraint for entry in (*entries, *self._variants))
        self._bounds = tuple(bound for bound in bounds if bound is not None)
        # Which bounds hold decides the price, whatever the day: there are never many combinations.
        self._pricers: dict[tuple[bool, ...], Pricer] = {}

    def pricer(self, at: datetime) -> Pricer:
        """Return the prices that held at `at`.

        Raises:
            Unpriced: The tier had none then.
        """
        key = tuple([bound.active(at) for bound in self._bounds]) if self._bounds else ()
        found = self._pricers.get(key)
        if found is None:
            found = self._pricers[key] = self._made(at)
        return found

    def always(self) -> Rates | None:
        """Return the rates if there are no others; None where they depend on the moment, or on a prompt's length."""
        if self._bounds:
            return None
        try:
            pricer = self.pricer(datetime.now(UTC))
        except Unpriced:
            return None
        return pricer.base if isinstance(pricer, Tariff) and not pricer.longer else None

    def _made(self, at: datetime) -> Pricer:
        source, context = self.source, self._context
        active = (variant.constraint is None or variant.constraint.active(at) for variant in self._variants)
        if context and not (source.own and any(active)):
            raise Unpriced(f"the {' '.join(context.values())} tier of {source.model.id} at that time")
        listed = {key: price for key, price in vars(source.model.get_prices(at, context)).items() if price is not None}
        if not listed:
            if not (source.provider.id in _FREE_IF_EMPTY or source.model.id.endswith(":free")):
                raise Unpriced(f"{source.model.id}, which is known without a price")
            listed = {"input_mtok": Decimal(0), "output_mtok": Decimal(0)}
        if listed.keys() <= _KINDS.keys():
            return _tariff(listed)
        return _LibraryPricer(source, context, at, listed)


def _tariff(listed: Mapping[str, Any]) -> Tariff:
    """Make a tariff of the library's prices, each a `Decimal` or a `TieredPrices`."""
    base, *longer = ((above, Rates.of(prices)) for above, prices in _by_length(listed).items())
    return Tariff(base[1], tuple(longer))


def _by_length(listed: Mapping[str, Any]) -> dict[int, dict[str, Decimal]]:
    """Return the prices of prompts of any length, under 0, and of those above each length that makes a difference."""
    starts = {tier.start for price in listed.values() for tier in getattr(price, "tiers", ())}
    return {
        above: {_KINDS.get(key, key): _price(key, price, above) for key, price in listed.items()}
        for above in sorted({0, *starts})
    }


def _price(key: str, price: Any, above: int) -> Decimal:
    if not isinstance(price, Decimal):
        # As in the library, the last step of those that begin at the same length is the one that counts.
        price = next((tier.price for tier in reversed(price.tiers) if tier.start <= above), price.base)
    amount: Decimal = price
    return amount / 1_000 if key == "requests_kcount" else amount


_COUNTED_ELSEWHERE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "audio_hours": ("audio_seconds", "input_audio_seconds", "output_audio_seconds", "seconds"),
        "input_audio_hours": ("input_audio_seconds", "audio_seconds", "seconds"),
        "output_audio_hours": ("output_audio_seconds",),
        "input_mchars": ("input_characters",),
        "input_text_messages_kcount": ("input_text_messages",),
        "input_document_kpages": ("input_document_pages",),
        "input_annotated_document_kpages": ("input_annotated_document_pages",),
    }
)
"""Prices of what is not tokens, and the counts in `Usage.details` that say how much there was."""


class _LibraryPricer:
    """Asks `genai-prices` for every call, for models that bill by the second, the character, the page …."""

    def __init__(
        self, source: Source, context: Mapping[str, str] | None, at: datetime, listed: Mapping[str, Any]
    ) -> None:
        self._source, self._context, self._at = source, context, at
        self._listed = listed
        others = [key for key in listed if key not in _KINDS and not key.endswith("_mtok")]
        self._counts = {count for key in others for count in _COUNTED_ELSEWHERE.get(key, ())}
        self._others = others

    def listed(self) -> Mapping[int, Mapping[str, Decimal]]:
        return _by_length(self._listed)

    def nano_usd(self, usage: Usage) -> int:
        if self._others and not self._counts & usage.details.keys():
            raise Unpriced(f"{self._source.model.id} without {' or '.join(sorted(self._counts)) or self._others[0]}")
        if usage.web_searches and "web_searches_kcount" not in self._listed:
            raise Unpriced("web searches")
        cost = self._source.model.calc_price(
            library_usage(usage),
            self._source.provider,
            genai_request_timestamp=self._at,
            price_context=self._context,
        )
        return int((cost.total_price * 1_000_000_000).to_integral_value(ROUND_HALF_EVEN))


_USAGE_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "input_tokens": "input_tokens",
        "output_tokens": "output_tokens",
        "cache_read_tokens": "cache_read_tokens",
        "cache_write_tokens": "cache_write_tokens",
        "cache_write_5m_tokens": "cache_write_5m_tokens",
        "cache_write_1h_tokens": "cache_write_1h_tokens",
        "reasoning_tokens": "output_reasoning_tokens",
        "input_audio_tokens": "input_audio_tokens",
        "output_audio_tokens": "output_audio_tokens",
        "input_image_tokens": "input_image_tokens",
        "output_image_tokens": "output_image_tokens",
        "web_searches": "web_searches",
    }
)
_DETAIL_KEYS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "seconds": ("audio_seconds", "input_audio_seconds"),
        "audio_seconds": ("audio_seconds", "input_audio_seconds"),
        "input_audio_seconds": ("audio_seconds", "input_audio_seconds"),
        "output_audio_seconds": ("audio_seconds", "output_audio_seconds"),
        "input_characters": ("input_characters",),
        "input_text_messages": ("input_text_messages",),
        "input_document_pages": ("input_document_pages",),
        "input_annotated_document_pages": ("input_annotated_document_pages",),
        "file_searches": ("storage_searches",),
        "input_video_tokens": ("input_video_tokens",),
        "output_video_tokens": ("output_video_tokens",),
        "citation_tokens": ("output_citation_tokens",),
    }
)
"""Counts in `Usage.details` that the library has a price for, with its names of them."""


def library_usage(usage: Usage) -> Any:
    """Return `usage` as `genai_prices.Usage`. What the library does not know is left out."""
    from genai_prices import Usage as LibraryUsage

    counts = {key: value for ours, key in _USAGE_KEYS.items() if (value := getattr(usage, ours))}
    if usage.cache_read_tokens:
        # The library wants to be told, and takes no part of two wholes for granted.
        counts["cache_audio_read_tokens"], counts["cache_image_read_tokens"] = cached_parts(usage)
    for name, value in usage.details.items():
        for key in _DETAIL_KEYS.get(name, ()):
            counts[key] = max(value, counts.get(key, 0))
    return LibraryUsage(**counts)
