"""Usage to USD, with the prices of `genai-prices`."""

from __future__ import annotations

import warnings
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.failures import LOGGER, failures

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from llm_toll_autopatch.records import Usage

__all__ = ["Prices", "UnknownPriceWarning"]


class UnknownPriceWarning(UserWarning):
    """No price is known for a model: its calls cost `None`, which no sum counts as 0."""


class Prices:
    """The prices of one configuration."""

    def __init__(self, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        for model, rates in (overrides or {}).items():
            if any(rates.get(kind) is None or rates[kind] < 0 for kind in ("input", "output")):
                raise ValueError(f"prices= needs 'input' and 'output' of 0 or more for {model!r}")
        self._overrides = dict(overrides or {})
        self.unknown: dict[str, int] = {}

    def cost(
        self,
        usage: Usage,
        *,
        provider: str,
        model: str,
        response_model: str | None,
        endpoint: str | None,
        service_tier: str | None,
        at: datetime,
    ) -> int | None:
        """Return the cost in nano-USD; None when it is not known. Never raises."""
        del endpoint, service_tier
        name = response_model or model
        try:
            if (rates := self._overrides.get(name)) is not None:
                given, written = (Decimal(str(rates[kind])) for kind in ("input", "output"))
                usd = (given * usage.input_tokens + written * usage.output_tokens) / 1_000_000
            else:
                import genai_prices

                usd = genai_prices.calc_price(
                    genai_prices.Usage(
                        input_tokens=usage.input_tokens,
                        output_tokens=usage.output_tokens,
                        cache_read_tokens=usage.cache_read_tokens,
                        cache_write_tokens=usage.cache_write_tokens,
                    ),
                    name,
                    provider_id=provider,
                    genai_request_timestamp=at,
                ).total_price
            return int((usd * 1_000_000_000).to_integral_value(ROUND_HALF_EVEN))
        except LookupError:
            self._warn(name)
        except Exception as error:
            failures.note("pricing", error)
        return None

    def _warn(self, name: str) -> None:
        self.unknown[name] = self.unknown.get(name, 0) + 1
        if self.unknown[name] > 1:
            return
        message = f"no price is known for {name!r}: its cost is None; give one with prices="
        try:
            warnings.warn(message, UnknownPriceWarning, stacklevel=2)
        except UnknownPriceWarning:
            LOGGER.warning(message)
