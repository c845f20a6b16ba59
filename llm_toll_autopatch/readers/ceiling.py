"""`Ceiling`: the most that one request can use, said before it is sent."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.readers.fields import count, text

if TYPE_CHECKING:
    from llm_toll_autopatch.records import Usage

__all__ = [
    "ABOUT_SENDING",
    "SPENT",
    "Ceiling",
    "Unbounded",
    "bounded_output",
    "merged",
    "no_search",
    "only",
    "openai_tiers",
]


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most that one request can use: a strict budget reserves what that costs.

    Attributes:
        usage: The largest figures that the provider can report; None where nothing bounds them.
        unbounded: If so, which part of the request is unbounded, and how to bound it, in words for the user.
        tiers: The service tiers that may serve. The first must have a price; of all that have one the dearest counts.
    """

    usage: Usage | None
    unbounded: str | None = None
    tiers: tuple[str | None, ...] = (None,)


class Unbounded(Exception):  # noqa: N818 - an answer, not an error
    """Nothing bounds a part of the request; the message says which, and what to do."""


SPENT = "what is fetched has been spent before, and fetching it is free: no ceiling applies"
"""Why there is no ceiling for the readers of results."""

ABOUT_SENDING = frozenset(
    {"extra_body", "extra_headers", "extra_query", "model", "stream", "stream_options", "timeout"}
)
_NONE: Mapping[str, str] = MappingProxyType({})
_SEARCHING = (":online", "compound", "deep-research", "search", "sonar")


def merged(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is given of the request, as it is sent: `extra_body` adds to the parameters, and overrides them.

    What is not given is None, or one of the SDKs' sentinels, which are false; what is empty or 0 says no more.

    Raises:
        Unbounded: It names another model, which would have another price.
    """
    extra = request.get("extra_body")
    if not isinstance(extra, Mapping):
        return {name: value for name, value in request.items() if value}
    if "model" in extra and extra["model"] != request.get("model"):
        raise Unbounded("extra_body names another model than model= does: pass it as model=")
    return {name: value for name, value in {**request, **extra}.items() if value}


def only(request: Mapping[str, Any], known: Collection[str], refused: Mapping[str, str] = _NONE) -> None:
    """Check that every parameter is one whose part in the bound is known; what is not given is None, empty or false.

    Raises:
        Unbounded: One is not.
    """
    for name, value in request.items():
        if name in known or name in ABOUT_SENDING or not value:
            continue
        why = refused.get(name, "is not known to leave the number of tokens bounded: leave it out")
        raise Unbounded(f"{name}= {why}")


def no_search(model: str) -> None:
    """Check that a model's name is none of those that search the web of themselves.

    Raises:
        Unbounded: It is.
    """
    if any(word in model.lower() for word in _SEARCHING):
        raise Unbounded(f"{model!r} adds what it finds on the web to its input, without a bound: use another model")


def bounded_output(request: Any, *names: str, at: str = "") -> int:
    """Return the largest of the limits to the output that are given. 0 is none: some servers take it for no limit.

    Raises:
        Unbounded: None is given.
    """
    given = [number for name in names if (number := count(request, name))]
    if not given:
        raise Unbounded(f"nothing bounds the output: pass {at}{names[0]}=")
    return max(given)


def openai_tiers(request: Mapping[str, Any]) -> tuple[str | None, ...]:
    """Return the tiers that may serve one of OpenAI's APIs: what a request leaves open, its project decides."""
    asked = text(request, "service_tier")
    if asked in (None, "auto"):
        return (None, "priority")
    return (asked, None) if asked == "flex" else (asked,)
