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
    at once. What it raises is logged and counted, and never reaches the user's call. Whatever it does is nothing to
    other sinks: one that is slow, hangs or fails gets its records from a thread of its own.

    Optional:

    - `deferred`: True for a sink that is to be called by a thread of its own from the start, since it may take long or
      waits for locks of another library.
    - `began(call_id)`: Called in the context of a call that begins; its record will have this `id`, if it gets one.
    - `flush()`: Pass on what is kept back; called by `flush()`, and at exit.
    - `close()`: Let go of files and connections; called at exit, after `flush()`. A later `emit` opens them again.
    """

    def emit(self, record: CallRecord) -> None:
        """Take one finished call.

        Raises:
            SinkUnavailableError: It cannot be taken now and should be tried again.
        """
        ...
