"""Reading SDK objects without trusting them.

The SDKs build their models without validation, so on a compatible server any field may be missing, `None` or of
another type; and what is a model in one place is a plain dict in another (raw responses, `extract_usage`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

__all__ = ["as_mapping", "count", "counts", "figures", "get", "header", "leftovers", "text"]

_NONE: Mapping[str, str] = MappingProxyType({})
_NOTHING: Mapping[str, int] = MappingProxyType({})
_OF_EITHER = frozenset({"video_tokens", "document_tokens", "file_tokens"})
"""Counts that mean nothing without saying whether they are of the input or of the output."""


@lru_cache(256)
def _is_mapping(cls: type) -> bool:
    return issubclass(cls, Mapping)  # which asks Python code, a dozen times a call


def get(obj: Any, name: str) -> Any:
    """Return attribute or key `name` of `obj`; None when there is none."""
    if type(obj) is dict or _is_mapping(obj.__class__):
        return obj.get(name)
    try:
        return getattr(obj, name, None)
    except Exception:  # a property of somebody's subclass
        return None


def text(obj: Any, name: str) -> str | None:
    """Return `name` of `obj` when it is a string with something in it."""
    value = get(obj, name)
    return value if isinstance(value, str) and value else None


def header(response: Any) -> tuple[str | None, str | None, str | None]:
    """Return the model, the id and the service tier that a response names; None for what it does not."""
    try:
        model, response_id, tier = response.model, response.id, getattr(response, "service_tier", None)
    except Exception:  # JSON, or a server that leaves one out
        return text(response, "model"), text(response, "id"), text(response, "service_tier")
    return (
        model if isinstance(model, str) else None,
        response_id if isinstance(response_id, str) else None,
        tier if isinstance(tier, str) else None,
    )


def count(obj: Any, *names: str) -> int | None:
    """Return the first of `names` that is a whole number of 0 or more; None when none is."""
    for name in names:
        value = obj.get(name) if type(obj) is dict else get(obj, name)
        if value is None:
            continue
        if (type(value) is int or (isinstance(value, float) and value.is_integer())) and value >= 0:
            return int(value)
    return None


def counts(obj: Any) -> dict[str, int]:
    """Return what `count` tells of each field of a model or a mapping: to look at all once costs less."""
    return {
        name: int(value)
        for name, value in as_mapping(obj).items()
        if value is not None
        and (type(value) is int or (isinstance(value, float) and value.is_integer()))
        and value >= 0
    }


def as_mapping(obj: Any) -> Mapping[str, Any]:
    """Return the fields of a model, undeclared ones included, or a mapping as it is; empty for anything else."""
    if obj is None:
        return {}
    if type(obj) is dict or _is_mapping(obj.__class__):
        mapping: Mapping[str, Any] = obj
        return mapping
    declared = getattr(obj, "__dict__", None)
    if not isinstance(declared, dict):
        return {}
    undeclared = getattr(obj, "__pydantic_extra__", None)
    return {**declared, **undeclared} if undeclared and isinstance(undeclared, dict) else declared


def figures(
    usage: Any, known: frozenset[str], nested: Mapping[str, str] = _NONE
) -> tuple[dict[str, int], list[Mapping[str, int]], dict[str, int]]:
    """Return what one walk over `usage` finds: its counts, those of its parts, and those of both that are not `known`.

    No new count is lost so. Money and times are no counts.

    Args:
        usage: The provider's object.
        known: Names that are read elsewhere, on any level; those of `nested` among them.
        nested: Parts that are looked into like `usage` itself, by their names, with what goes before the name of a
            count that another part has too. What is nested below any other name is found as `name.inner`. A part in
            which there is nothing but zeros is empty.
    """
    found: dict[str, int] = {}
    fields = as_mapping(usage)
    whole = _level(fields, known, "", found)
    parts: list[Mapping[str, int]] = []
    for name, prefix in nested.items():
        part = fields.get(name)
        inner = None if part is None else as_mapping(part)
        parts.append(_level(inner, known, prefix, found) if inner and any(inner.values()) else _NOTHING)
    return whole, parts, found


def _level(fields: Mapping[str, Any], known: frozenset[str], prefix: str, found: dict[str, int]) -> dict[str, int]:
    """Return the counts in `fields`; add those that are not known to `found`."""
    numbers: dict[str, int] = {}
    for name, value in fields.items():
        if value is None:
            continue
        if type(value) is int:
            number = value
        elif isinstance(value, float):
            if not value.is_integer():
                continue
            number = int(value)
        else:
            if name not in known and not isinstance(value, str | int | list) and not _is_no_count(name):
                found.update({f"{name}.{key}": inner for key, inner in counts(value).items() if inner})
            continue
        if number >= 0:
            numbers[name] = number
            if number and name not in known and not _is_no_count(name):
                found[f"{prefix}{name}" if name in found or name in _OF_EITHER else name] = number
    return numbers


def _is_no_count(name: str) -> bool:
    return name.startswith("cost") or name.endswith("_time")


def leftovers(usage: Any, known: frozenset[str], *, nested: Mapping[str, str] = _NONE) -> dict[str, int]:
    """Return the counts of `usage` and of its parts that are not `known`: see `figures`."""
    return figures(usage, known.union(nested), nested)[2]
