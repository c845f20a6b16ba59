"""Reading SDK objects without trusting them.

The SDKs build their models without validation, so on a compatible server any field may be missing, `None` or of
another type; and what is a model in one place is a plain dict in another (raw responses, `extract_usage`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["as_mapping", "count", "get", "leftovers", "text"]


def get(obj: Any, name: str) -> Any:
    """Return attribute or key `name` of `obj`; None when there is none."""
    if type(obj) is dict or isinstance(obj, Mapping):
        return obj.get(name)
    try:
        return getattr(obj, name, None)
    except Exception:  # a property of somebody's subclass
        return None


def text(obj: Any, name: str) -> str | None:
    """Return `name` of `obj` when it is a string with something in it."""
    value = get(obj, name)
    return value if isinstance(value, str) and value else None


def count(obj: Any, *names: str) -> int | None:
    """Return the first of `names` that is a whole number of 0 or more; None when none is."""
    for name in names:
        value = get(obj, name)
        if (type(value) is int or (isinstance(value, float) and value.is_integer())) and value >= 0:
            return int(value)
    return None


def as_mapping(obj: Any) -> Mapping[str, Any]:
    """Return the fields of a model, undeclared ones included, or a mapping as it is; empty for anything else."""
    if type(obj) is dict or isinstance(obj, Mapping):
        return obj
    declared = getattr(obj, "__dict__", None)
    if not isinstance(declared, dict):
        return {}
    undeclared = getattr(obj, "__pydantic_extra__", None)
    return {**declared, **undeclared} if isinstance(undeclared, dict) else declared


def leftovers(usage: Any, known: frozenset[str], *, nested: tuple[str, ...] = ()) -> dict[str, int]:
    """Return the counts of `usage` and of its `nested` parts that are not in `known`, so that no new one is lost."""
    found: dict[str, int] = {}
    for part in (usage, *(get(usage, name) for name in nested)):
        fields = as_mapping(part)
        for name in fields:
            if name not in known and (value := count(fields, name)):
                found[name] = value
    return found
