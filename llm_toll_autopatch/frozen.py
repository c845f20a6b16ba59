"""Frozen dataclasses that are quickly made."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any, TypeVar

__all__ = ["quickly_made"]

T = TypeVar("T")


def quickly_made(cls: type[T]) -> type[T]:
    """Give a frozen dataclass with slots and keyword-only fields an `__init__` that writes them as if it were open.

    The one that `dataclasses` makes calls `object.__setattr__` for every field, which is most of what a record costs:
    `benchmarks/calls.py` measures it. Here an instance is of a subclass that can be written to until it is whole. What
    a field's default factory makes must not be mutable: it is made once.
    """
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return cls  # changing an object's class stops all threads there
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    names = [field.name for field in fields]
    known: dict[str, Any] = {
        "_cls": cls,
        "_open": type(f"_Open{cls.__name__}", (cls,), {"__slots__": (), "__setattr__": object.__setattr__}),
        "_set": object.__setattr__,
        "_slow": cls.__init__,
    }
    for field in fields:
        if field.default is not dataclasses.MISSING:
            known[f"_{field.name}"] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            known[f"_{field.name}"] = field.default_factory()
    lines = [
        f"def __init__(self, *, {', '.join(f'{name}=_{name}' if f'_{name}' in known else name for name in names)}):",
        " if self.__class__ is not _cls:",  # a subclass of somebody's
        f"  return _slow(self, {', '.join(f'{name}={name}' for name in names)})",
        " _set(self, '__class__', _open)",
        *(f" self.{name} = {name}" for name in names),
        " self.__class__ = _cls",
    ]
    exec("\n".join(lines), known)  # noqa: S102 - as `dataclasses` itself does
    made = known["__init__"]
    made.__qualname__, made.__module__ = f"{cls.__qualname__}.__init__", cls.__module__
    made.__annotations__ = cls.__init__.__annotations__
    cls.__init__ = made  # type: ignore[method-assign]
    return cls
