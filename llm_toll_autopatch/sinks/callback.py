"""`CallbackSink`: hands records to a function."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from llm_toll_autopatch.records import CallRecord

__all__ = ["CallbackSink"]


class CallbackSink:
    """Calls a function with every record, on the thread that ended the call, which waits for it.

    Args:
        function: Takes a `CallRecord`. What it returns is ignored, what it raises is logged and counted. It may raise
            `SinkUnavailableError` to get the record again later.
        deferred: Whether to call it on a thread of ours instead, a little later: for one that may take long or hang,
            such as a request to a server. A call never waits for it then, and an event loop is not held up.
    """

    def __init__(self, function: Callable[[CallRecord], object], *, deferred: bool = False) -> None:
        self._function = function
        self.deferred = deferred

    def __repr__(self) -> str:
        return f"CallbackSink({self._function!r})"

    def emit(self, record: CallRecord) -> None:
        """Call the function with `record`."""
        self._function(record)
