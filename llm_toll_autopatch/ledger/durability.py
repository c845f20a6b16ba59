"""When a record counts as written, and how a URL of a ledger says so."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

__all__ = ["Durability", "durability_of", "without_durability"]

Durability: TypeAlias = Literal["commit", "full", "queue"]
_ACCEPTED = ", ".join(get_args(Durability))
_PARAMETER = "durability="


def durability_of(argument: object, in_url: str | None = None) -> Durability:
    """Return what an argument or a URL asks for; `"commit"` where neither does.

    Raises:
        ValueError: It is no durability, or the two ask for different ones.
    """
    if argument is not None and in_url is not None and argument != in_url:
        raise ValueError("durability= is given twice, as an argument and in the URL, and the two are not the same")
    for each in (argument, in_url, "commit"):
        if each is not None:
            if each not in get_args(Durability):
                # Not quoted: in a URL that somebody wrote wrongly it may be a part of the password.
                raise ValueError(f"durability= takes one of: {_ACCEPTED}")
            return each  # type: ignore[return-value]
    raise AssertionError  # the last one is not None


def without_durability(url: str) -> tuple[str, str | None]:
    """Return `url` without its parameter `durability`, and the value of that; None where it has none."""
    start, mark, query = url.partition("?")
    parameters = query.split("&") if mark else []
    rest = [each for each in parameters if not each.startswith(_PARAMETER)]
    if len(rest) == len(parameters):
        return url, None
    found = {each.removeprefix(_PARAMETER) for each in parameters if each.startswith(_PARAMETER)}
    if len(found) > 1:
        raise ValueError("durability= stands in the URL twice")
    return start + ("?" + "&".join(rest) if rest else ""), found.pop()
