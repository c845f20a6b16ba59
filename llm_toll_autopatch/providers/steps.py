"""Awaiting something with a context variable set during its steps only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from contextvars import ContextVar

__all__ = ["Under"]

T = TypeVar("T")


class Under(Generic[T]):
    """Awaits something with a context variable set during its steps, and not while it waits in between."""

    __slots__ = ("_steps", "_value", "_variable")

    def __init__(self, variable: ContextVar[T], value: T, awaited: Awaitable[Any]) -> None:
        self._variable = variable
        self._value = value
        self._steps: Any = awaited.__await__()

    def __await__(self) -> Self:
        return self

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        token = self._variable.set(self._value)
        try:
            return self._steps.__next__()
        finally:
            self._variable.reset(token)

    def send(self, value: Any) -> Any:
        """Take the next step, with what was waited for."""
        token = self._variable.set(self._value)
        try:
            return self._steps.send(value)
        finally:
            self._variable.reset(token)

    def throw(self, *error: Any) -> Any:
        """Take the next step, with an exception."""
        token = self._variable.set(self._value)
        try:
            return self._steps.throw(*error)
        finally:
            self._variable.reset(token)

    def close(self) -> None:
        """Take no more steps."""
        self._steps.close()
