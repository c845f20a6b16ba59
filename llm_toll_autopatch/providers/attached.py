"""What is known of a connection that stays open, kept beside it, for the SDKs' objects are not ours to add to."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from llm_toll_autopatch.records import Outcome

__all__ = ["Attached", "Ending"]


class Ending(Protocol):
    """What is attached to a connection: it has to be told when the connection is gone."""

    def end(self, outcome: Outcome, error: BaseException | None = None, *, from_finalizer: bool = False) -> None:
        """End what is still open."""


_State = TypeVar("_State", bound=Ending)


class Attached(Generic[_State]):
    """Connections of one kind, each with its state."""

    def __init__(self) -> None:
        self._states: weakref.WeakKeyDictionary[Any, _State] = weakref.WeakKeyDictionary()

    def to(self, connection: Any, begin: Callable[[], _State]) -> _State:
        """Return the state of `connection`, made by `begin` when there is none.

        A connection that is dropped, or is open when the program ends, abandons what is open on it.
        """
        state = self._states.get(connection)
        if state is None:
            state = self._states[connection] = begin()
            weakref.finalize(connection, state.end, "abandoned", from_finalizer=True)
        return state
