"""A value that fits a JSON schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["sample"]

_MAX_DEPTH = 8
_SCALARS: Mapping[str, Any] = {"string": "Paris", "integer": 1, "number": 1.5, "boolean": True, "null": None}


def sample(schema: Any, *, root: Any = None, depth: int = 0) -> Any:
    """Return the same small value for the same schema.

    Understands what the SDKs make of functions and pydantic models: JSON Schema, and Gemini's own with its upper-case
    type names. Constraints such as `pattern` are not looked at.

    Args:
        schema: The schema.
        root: The schema that references point into; the schema itself at the start.
        depth: How deep in the value we are. Recursive schemas end in None.
    """
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return None
    root = schema if root is None else root
    if "$ref" in schema:
        return sample(_resolve(schema["$ref"], root), root=root, depth=depth + 1)
    for fixed in ("const", "default"):
        if schema.get(fixed) is not None:
            return schema[fixed]
    if schema.get("enum"):
        return schema["enum"][0]
    for several in ("anyOf", "any_of", "oneOf", "allOf"):
        if schema.get(several):
            return sample(schema[several][0], root=root, depth=depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = str(kind[0] if isinstance(kind, list) else kind).lower()
    if kind == "object":
        properties = schema.get("properties") or {}
        return {name: sample(value, root=root, depth=depth + 1) for name, value in properties.items()}
    if kind == "array":
        return [sample(schema["items"], root=root, depth=depth + 1)] if "items" in schema else []
    return _SCALARS.get(kind)


def _resolve(reference: Any, root: Any) -> Any:
    """Return what `#/$defs/Name` points to; None where there is nothing."""
    found = root
    for step in str(reference).removeprefix("#/").split("/"):
        if not isinstance(found, Mapping):
            return None
        found = found.get(step)
    return found
