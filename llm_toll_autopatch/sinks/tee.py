"""`TeeSink`: several sinks as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.sinks import Sink, SinkUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from llm_toll_autopatch.records import CallRecord

__all__ = ["PartlyDeliveredError", "TeeSink", "leaves"]


class PartlyDeliveredError(SinkUnavailableError):
    """Some sinks of a tee could not take the record now; the others have it.

    Attributes:
        remaining: The sink to try again with the record: only those that do not have it.
    """

    def __init__(self, remaining: Sink) -> None:
        super().__init__(f"not delivered to {remaining!r}")
        self.remaining = remaining


class TeeSink:
    """Hands every record to each of several sinks; one that fails does not keep the record from the others.

    Whoever delivers records and can queue them should deliver to each of `leaves(sink)` by itself, so that a busy sink
    neither holds up the others nor makes them get a record twice.

    Args:
        sinks: The sinks, in the order in which they get a record. A tee among them is replaced by its sinks.

    Attributes:
        sinks: The sinks, no tee among them.
    """

    def __init__(self, *sinks: Sink) -> None:
        self.sinks: tuple[Sink, ...] = tuple(leaf for sink in sinks for leaf in leaves(sink))

    def __repr__(self) -> str:
        return f"TeeSink({', '.join(map(repr, self.sinks))})"

    def emit(self, record: CallRecord) -> None:
        """Hand `record` to each sink; note what they raise.

        Raises:
            PartlyDeliveredError: At least one could not take it now. Try again with its `remaining`, not with the tee.
        """
        waiting: list[Sink] = []
        for sink in self.sinks:
            try:
                sink.emit(record)
            except SinkUnavailableError:
                waiting.append(sink)
            except Exception as error:
                failures.note(f"{type(sink).__name__}.emit", error)
        if waiting:
            raise PartlyDeliveredError(waiting[0] if len(waiting) == 1 else TeeSink(*waiting))

    def flush(self) -> None:
        """Flush each sink that can be flushed; note what they raise."""
        self._each("flush")

    def close(self) -> None:
        """Close each sink that can be closed; note what they raise."""
        self._each("close")

    def _each(self, method: str) -> None:
        for sink in self.sinks:
            call: Callable[[], object] | None = getattr(sink, method, None)
            try:
                if call is not None:
                    call()
            except Exception as error:
                failures.note(f"{type(sink).__name__}.{method}", error)


def leaves(sink: Sink) -> tuple[Sink, ...]:
    """Return the sinks that records for `sink` end up in: those of a tee, or else `sink` itself."""
    return sink.sinks if isinstance(sink, TeeSink) else (sink,)
