"""The user's own prices: what they cost, which one wins, which are refused."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from llm_toll_autopatch.pricing.prices import Prices
from llm_toll_autopatch.records import Usage

TEXT = Usage(input_tokens=1_200, output_tokens=345)
WRITES = Usage(
    input_tokens=10_100,
    cache_read_tokens=5_000,
    cache_write_tokens=5_000,
    cache_write_5m_tokens=3_000,
    cache_write_1h_tokens=2_000,
    output_tokens=40,
)


def cost(prices: dict[str, Any], usage: Usage, model: str, served: str | None = None) -> int | None:
    """The cost in nano-USD of a call to a server, at a tier, that nobody knows."""
    return Prices(prices).cost(
        usage,
        provider="whoever",
        model=model,
        response_model=served,
        endpoint="llm.local",
        service_tier="any",
        at=datetime(2026, 11, 20, tzinfo=UTC),
    )


FULL = {
    "input": 1, "output": 2, "cache_read": 0.1, "cache_write": 3, "cache_write_5m": 4, "cache_write_1h": 5,
    "input_audio": 6, "output_audio": 7, "input_image": 8, "output_image": 9, "reasoning": 10, "web_search": 11,
    "request": "0.5",
}  # fmt: skip


@pytest.mark.parametrize(
    ("prices", "usage", "nano"),
    [
        ({"input": 2.5, "output": 10}, TEXT, 1_200 * 2_500 + 345 * 10_000),
        ({"input": 0, "output": 0}, TEXT, 0),
        ({"input": "0.3", "output": Decimal("1.2")}, TEXT, 1_200 * 300 + 345 * 1_200),
        ({"input": 0.1, "output": 0}, Usage(input_tokens=3), 300),
        ({"input": 2, "output": 10, "cache_write": 3}, WRITES, 100 * 2_000 + 5_000 * 2_000 + 5_000 * 3_000 + 40 * 10_000),
        ({"input": 2, "output": 10, "cache_write_1h": 4}, WRITES, 8_100 * 2_000 + 2_000 * 4_000 + 40 * 10_000),
        (FULL, Usage(input_tokens=7, cache_read_tokens=1, cache_write_tokens=3, cache_write_5m_tokens=1, cache_write_1h_tokens=1, input_audio_tokens=1, input_image_tokens=1), 500_000_000 + 1_000 + 100 + 3_000 + 4_000 + 5_000 + 6_000 + 8_000),
        (FULL, Usage(output_tokens=4, output_audio_tokens=1, output_image_tokens=1, reasoning_tokens=1, web_searches=1), 500_000_000 + 2_000 + 7_000 + 9_000 + 10_000 + 11_000_000),
    ],
)  # fmt: skip
def test_overrides_are_usd_per_million(prices: dict[str, Any], usage: Usage, nano: int) -> None:
    """The user's prices are per million tokens; a part without one costs what its whole costs."""
    assert cost({"mine": prices}, usage, "mine") == nano


@pytest.mark.parametrize(
    ("model", "served", "usd"),
    [
        ("my-model", None, 1),
        ("MY-Model", None, 1),
        ("my-model-2", None, 2),
        ("my-model-large", None, 3),
        ("my-model-large", "my-model", 1),
        ("my-model", "whatever", 1),
        ("models/my-model", None, 1),
        ("gpt-4o", None, 4),
    ],
)
def test_the_nearest_override_wins(model: str, served: str | None, usd: int) -> None:
    """An exact name beats a glob, a longer glob a shorter one, and any of them the library."""
    prices = {
        "my-model*": {"input": 2, "output": 0},
        "my-model-l*": {"input": 3, "output": 0},
        "my-model": {"input": 1, "output": 0},
        "*": {"input": 4, "output": 0},
    }
    assert cost(prices, Usage(input_tokens=1_000), model, served) == usd * 1_000_000


@pytest.mark.parametrize(
    ("prices", "error", "message"),
    [
        ([], TypeError, "takes a mapping such as {'my-model"),
        ({"m": 3}, TypeError, "takes a mapping of prices for 'm'"),
        ({"": {"input": 1, "output": 1}}, TypeError, "names or globs of models"),
        ({4: {"input": 1, "output": 1}}, TypeError, "names or globs of models"),
        ({"m": {}}, ValueError, "needs 'input' for 'm'"),
        ({"m": {"input": 1}}, ValueError, "needs 'output' for 'm'"),
        ({"m": {"input": 1, "output": 1, "cached": 1}}, ValueError, "does not know 'cached' of 'm'; there are input, output, cache_read"),
        ({"m": {"input": -1, "output": 1}}, ValueError, "0 or more, for 'input' of 'm'; not -1"),
        ({"m": {"input": float("nan"), "output": 1}}, ValueError, "for 'input' of 'm'; not nan"),
        ({"m": {"input": 1, "output": float("inf")}}, ValueError, "for 'output' of 'm'; not inf"),
        ({"m": {"input": True, "output": 1}}, TypeError, "for 'input' of 'm'; not True"),
        ({"m": {"input": "cheap", "output": 1}}, ValueError, "for 'input' of 'm'; not 'cheap'"),
        ({"m": {"input": None, "output": 1}}, TypeError, "for 'input' of 'm'; not None"),
    ],
)  # fmt: skip
def test_bad_overrides_are_refused(prices: Any, error: type[Exception], message: str) -> None:
    """A mistake in `prices=` is found when it is made, and the message names the key and what is accepted."""
    with pytest.raises(error) as refused:
        Prices(prices)
    assert str(refused.value).startswith("prices= ")
    assert message in str(refused.value)
