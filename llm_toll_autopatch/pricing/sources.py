"""`locate`: whose price holds for a call, by the host that was called, then by the client's provider.

Everything here reads the data of `genai-prices`, which is handed in: this module does not import it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from llm_toll_autopatch.pricing.rates import Unpriced

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Source", "clean", "locate", "names_of"]


class Source(NamedTuple):
    """Whose price it is: a provider and one of the models of `genai-prices`.

    Attributes:
        own: Whether the provider has a price of its own for the model, not one of the model's maker.
    """

    provider: Any
    model: Any
    own: bool


_PLATFORMS = {"azure": "azure", "bedrock": "aws", "vertex": "google"}
"""Platforms that serve the models of others, by our name, with that of `genai-prices`."""

_ALIASES = (
    ("aws", re.compile(r"bedrock-(runtime|mantle)(-fips)?\.[a-z0-9-]+\.(amazonaws\.com(\.cn)?|api\.aws)")),
    ("together", re.compile(r"api\.together\.ai")),
)
"""Hosts that `genai-prices` 0.2.3 does not know as those of a provider that it has."""

_PATHS = ("/", "/client/v4/accounts/-/ai/", "/serving-endpoints/")
"""Paths that the patterns of `genai-prices` ask for on hosts where they change nothing: Cloudflare, Databricks."""

_BEDROCK_NAME = re.compile(r"(?:[a-z-]+\.)?anthropic\.(claude-.+?)(?:-v\d+)?(?::\d+)?")
_ROUTES = ("models/", "publishers/", "projects/")


def locate(providers: list[Any], *, provider: str, host: str | None, asked: str, served: str | None) -> Source:
    """Find the price that holds for a call.

    Args:
        providers: Those of a snapshot of `genai-prices`.
        provider: Label of the client: `openai`, `azure` ….
        host: The host that was called, as `clean` returns it; None when it is not known.
        asked: The model that was asked for.
        served: The model that the response names.

    Raises:
        Unpriced: There is none; the message says of what.
    """
    if host is None or _is_loopback(host):
        sellers = _by_label(providers, _PLATFORMS.get(provider, provider))
    else:
        sellers = list(_by_host(providers, host))
        if not sellers and provider in _PLATFORMS:
            sellers = _by_label(providers, _PLATFORMS[provider])
    if not sellers:
        raise Unpriced(f"the host {host}" if host else f"the provider {provider}")
    for seller in sellers:
        for name in _billed_names(seller.id, asked, served):
            for spelling in names_of(name, seller.id):
                if (source := _find(providers, seller, spelling)) is not None:
                    return source
    raise Unpriced(f"this model at {sellers[0].name}")


def clean(endpoint: str | None) -> str | None:
    """Return the bare lower-case host of `endpoint`, without a port; None when there is none."""
    host = (endpoint or "").strip().lower()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    return host.rstrip(".") or None


def names_of(name: str, provider_id: str) -> Iterator[str]:
    """Yield `name`, and what it is without the path or prefix under which a provider's API serves it."""
    yield name
    tail = name
    if name.startswith(_ROUTES):
        tail = name.rpartition("models/")[2]
    elif name.startswith(f"{provider_id}/"):
        tail = name.removeprefix(f"{provider_id}/")
    elif name.startswith("arn:"):
        tail = name.rpartition("/")[2]
    if tail != name:
        yield tail


def _billed_names(seller_id: str, asked: str, served: str | None) -> tuple[str, ...]:
    """Return the names that say what is billed, the likeliest first."""
    names = tuple(dict.fromkeys(name for name in (served, asked) if name))
    tuned = tuple(name for name in names if name.startswith("ft:"))
    if tuned:
        return tuned  # whose rates are not those of the base model
    if seller_id == "azure":
        return (served,) if served else ()  # what was asked for is a deployment, which can have any name
    if seller_id == "aws":
        return names[::-1]  # the profile that was asked for sets the price: `global.` is cheaper than `us.`
    return names


def _find(providers: list[Any], seller: Any, name: str) -> Source | None:
    model = seller.find_model(name, all_providers=providers)
    if model is not None:
        return Source(seller, model, own=any(model is one for one in seller.models))
    maker = _by_id(providers, "anthropic")
    if seller.id == "aws" and maker is not None:
        bare = _BEDROCK_NAME.fullmatch(name)
        model = maker.find_model(bare[1] if bare else name)
        if model is not None:
            return Source(maker, model, own=False)
    return None


def _by_id(providers: list[Any], provider_id: str) -> Any | None:
    return next((one for one in providers if one.id == provider_id), None)


def _by_label(providers: list[Any], label: str) -> list[Any]:
    """Return the provider, and those that share its host: OpenAI's decisions are priced apart."""
    chosen = _by_id(providers, label)
    return [] if chosen is None else [one for one in providers if one.api_pattern == chosen.api_pattern]


def _by_host(providers: list[Any], host: str) -> Iterator[Any]:
    for provider_id, pattern in _ALIASES:
        if pattern.fullmatch(host):
            yield from _by_label(providers, provider_id)
            return
    urls = [f"https://{host}{path}" for path in _PATHS]
    for one in providers:
        matches = (re.match(one.api_pattern, url) for url in urls)
        if any(match is not None and _is_whole_host(match, len("https://") + len(host)) for match in matches):
            yield one


def _is_whole_host(match: re.Match[str], end: int) -> bool:
    """Whether `match` covers the host; patterns have no end, and `api.openai.com.example.org` is not OpenAI's."""
    return match.end() >= end or match.group().endswith(".")


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    from ipaddress import ip_address  # takes 3 ms, which no start needs

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
