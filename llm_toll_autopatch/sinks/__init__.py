"""Where records go. A sink only ever sees `CallRecord`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from llm_toll_autopatch.records import CallRecord

__all__ = ["Sink", "SinkUnavailableError"]


class SinkUnavailableError(Exception):
    """Raised by `Sink.emit` when it cannot take the record now but may later (a busy database, a full disk).

    The record is then kept in a bounded queue and tried again. Any other exception means that it is not worth trying.
    """


@runtime_checkable
class Sink(Protocol):
    """Anything with `emit`.

    `emit` is called once for each finished call, on the thread that ended it, and may be called from several threads
    at once. What it raises is logged and counted, and never reaches the user's call. Optional: `flush()` and `close()`.
    """

    def emit(self, record: CallRecord) -> None:
        """Take one finished call.

        Raises:
            SinkUnavailableError: It cannot be taken now and should be tried again.
        """
        ...
