"""`Rates` and `Tariff`: what each kind of token costs, in exact integers.

A rate of USD per million tokens is a rate of 1,000 nano-USD a token times that figure. It need not be whole (0.0375 is
37.5), so all rates of a model share one denominator, `scale`, and a call is a sum of integer products that is rounded
once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from llm_toll_autopatch.records import Usage

__all__ = ["KINDS", "Kind", "Rates", "Tariff", "Unpriced", "cached_parts"]


class Unpriced(LookupError):  # noqa: N818 - an answer, not an error
    """Nothing is known about what something costs; the message says what, to the user."""


class Kind(NamedTuple):
    """A kind of unit that is billed.

    Attributes:
        per: How many units the price is for.
        fallback: Kinds whose rate holds where this one has none, first to last.
    """

    per: int
    fallback: tuple[str, ...] = ()


_MILLION = 1_000_000
_NANO = 1_000_000_000

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "input": Kind(_MILLION),
        "output": Kind(_MILLION),
        "cache_read": Kind(_MILLION, ("input",)),
        "cache_write": Kind(_MILLION, ("input",)),
        "cache_write_5m": Kind(_MILLION, ("cache_write", "input")),
        "cache_write_1h": Kind(_MILLION, ("cache_write", "input")),
        "input_audio": Kind(_MILLION, ("input",)),
        "input_image": Kind(_MILLION, ("input",)),
        "cache_read_audio": Kind(_MILLION, ("cache_read", "input_audio", "input")),
        "cache_read_image": Kind(_MILLION, ("cache_read", "input_image", "input")),
        "output_audio": Kind(_MILLION, ("output",)),
        "output_image": Kind(_MILLION, ("output",)),
        "reasoning": Kind(_MILLION, ("output",)),
        "web_search": Kind(1_000),
        "file_search": Kind(1_000),
        "request": Kind(1),
    }
)
"""Every kind that `Rates` knows, with what a price of it is for."""


def cached_parts(usage: Usage) -> tuple[int, int]:
    """Return how many of the audio and image tokens of the input were read from a cache.

    `usage.details` says it (`cache_read_audio_tokens`, `cache_read_image_tokens`), or the figures leave no room. Else
    it is 0: a cached prefix is mostly text.
    """
    read, audio, image = usage.cache_read_tokens, usage.input_audio_tokens, usage.input_image_tokens
    plain = max(0, usage.input_tokens - read - usage.cache_write_tokens)
    read_audio = min(max(usage.details.get("cache_read_audio_tokens", 0), audio - plain), audio, read)
    plain = max(0, plain - audio + read_audio)
    read_image = min(max(usage.details.get("cache_read_image_tokens", 0), image - plain), image, read - read_audio)
    return read_audio, read_image


@dataclass(frozen=True, slots=True)
class Rates:
    """The rates of one model at one moment, in `1 / scale` nano-USD a unit.

    `listed` is what they were made from, in USD per `KINDS[kind].per` units. `missing` are the kinds that have neither
    a rate nor another one to fall back to; theirs stands at 0 and must not be used.
    """

    listed: Mapping[str, Decimal]
    missing: frozenset[str]
    scale: int
    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_5m: int
    cache_write_1h: int
    input_audio: int
    input_image: int
    cache_read_audio: int
    cache_read_image: int
    output_audio: int
    output_image: int
    reasoning: int
    web_search: int
    file_search: int
    request: int

    @classmethod
    def of(cls, listed: Mapping[str, Decimal]) -> Rates:
        """Make exact integers of prices in USD per `KINDS[kind].per` units."""
        ratios = {kind: price.as_integer_ratio() for kind, price in listed.items()}
        scale = math.lcm(*(below * KINDS[kind].per for kind, (_, below) in ratios.items()))
        exact = {kind: above * (scale * _NANO // (below * KINDS[kind].per)) for kind, (above, below) in ratios.items()}
        common = math.gcd(scale, *exact.values())
        scale //= common
        rates = {
            kind: next((exact[name] // common for name in (kind, *about.fallback) if name in exact), None)
            for kind, about in KINDS.items()
        }
        return cls(
            listed=MappingProxyType(dict(listed)),
            missing=frozenset(kind for kind, rate in rates.items() if rate is None) - {"request"},
            scale=scale,
            **{kind: rate or 0 for kind, rate in rates.items()},
        )

    def nano_usd(self, usage: Usage) -> int:
        """Return what `usage` costs in nano-USD, rounded half to even.

        A part that has no rate of its own is billed as what it is a part of. Where figures contradict each other (parts
        that are more than their whole) every part is billed as reported, and what is left of the whole is 0.

        Raises:
            Unpriced: Something was used that has no rate.
        """
        # Nearly every call has none of the rarer parts: what they cost is worked out elsewhere.
        given, written = usage.input_tokens, usage.output_tokens
        if given and not self.input and "input" in self.missing:
            raise Unpriced("input tokens")
        if written and not self.output and "output" in self.missing:
            raise Unpriced("output tokens")
        read, reasoning = usage.cache_read_tokens, usage.reasoning_tokens
        total = self.request + read * self.cache_read + reasoning * self.reasoning
        given -= read
        written -= reasoning
        if usage.cache_write_tokens or usage.cache_write_5m_tokens or usage.cache_write_1h_tokens:
            tokens, cost = self._cache_writes(usage)
            given -= tokens
            total += cost
        if usage.input_audio_tokens or usage.input_image_tokens:
            tokens, cost = self._input_media(usage)
            given -= tokens
            total += cost
        if usage.output_audio_tokens or usage.output_image_tokens:
            audio, image = usage.output_audio_tokens, usage.output_image_tokens
            written -= audio + image
            total += audio * self.output_audio + image * self.output_image
        if given > 0:
            total += given * self.input
        if written > 0:
            total += written * self.output
        if usage.web_searches:
            total += usage.web_searches * self._rate("web_search")
        if usage.details and (searches := usage.details.get("file_searches")):
            total += searches * self._rate("file_search")
        if self.scale == 1:
            return total
        nano, rest = divmod(total, self.scale)
        return nano + (2 * rest > self.scale or (2 * rest == self.scale and nano % 2 == 1))

    def _cache_writes(self, usage: Usage) -> tuple[int, int]:
        """Return the tokens that were written to a cache, and what they cost."""
        short, long = usage.cache_write_5m_tokens, usage.cache_write_1h_tokens
        tokens = max(usage.cache_write_tokens, short + long)
        cost = short * self.cache_write_5m + long * self.cache_write_1h + (tokens - short - long) * self.cache_write
        return tokens, cost

    def _input_media(self, usage: Usage) -> tuple[int, int]:
        """Return the input tokens of speech and images that were not cached, and what speech and images add."""
        read_audio, read_image = cached_parts(usage)
        audio, image = usage.input_audio_tokens - read_audio, usage.input_image_tokens - read_image
        cost = read_audio * (self.cache_read_audio - self.cache_read)
        cost += read_image * (self.cache_read_image - self.cache_read)
        return audio + image, cost + audio * self.input_audio + image * self.input_image

    def _rate(self, kind: str) -> int:
        if kind in self.missing:
            raise Unpriced(f"{kind.replace('_', ' ')}es")
        rate: int = getattr(self, kind)
        return rate


@dataclass(frozen=True, slots=True)
class Tariff:
    """`Rates` by the length of the prompt: the first, and those that hold for all tokens of a prompt above a length."""

    base: Rates
    longer: tuple[tuple[int, Rates], ...] = ()

    def listed(self) -> Mapping[int, Mapping[str, Decimal]]:
        """Return the prices that this was made from, by the prompt length above which they hold."""
        return {0: self.base.listed, **{above: rates.listed for above, rates in self.longer}}

    def nano_usd(self, usage: Usage) -> int:
        """Return what `usage` costs in nano-USD.

        Raises:
            Unpriced: Something was used that has no rate.
        """
        rates = self.base
        for above, those in self.longer:
            if usage.input_tokens > above:
                rates = those
        return rates.nano_usd(usage)
