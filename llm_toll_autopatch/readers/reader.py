"""What a reader is: the part of a provider that knows the requests, chunks and responses of one API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from llm_toll_autopatch.readers.ceiling import Ceiling, Unbounded, merged

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llm_toll_autopatch.estimate import Measure
    from llm_toll_autopatch.records import Usage

__all__ = ["Reader", "Reading"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the provider reported of one request.

    Attributes:
        usage: The figures; where one is absent it is 0.
        final: Whether these are the provider's last word on this request.
        has_input: Whether an input figure was among them.
        has_output: Whether an output figure was among them.
        elsewhere: What other models did for the same request, with their names: billed at their rates, and not in
            `usage`.
    """

    usage: Usage
    final: bool
    has_input: bool = True
    has_output: bool = True
    elsewhere: tuple[tuple[str, Usage], ...] = ()


class Reader:
    """Follows one request of one API. It holds counters, never chunks, prompts or completions.

    A subclass names its `operation` and overrides `begin`, `feed`, `finish` and `usage`; it says what is `unbounded` or
    overrides `_ceiling`. Whoever calls these guards against exceptions: a reader may trip over a shape that it does not
    know, but should rather skip what it does not.

    Attributes:
        model: The model as asked for.
        response_model: The model that the response names.
        service_tier: The tier that the response names; the last one is what served.
        response_id: The provider's id of the response.
        input_chars: Characters of text in the request, for an estimate.
        lasts: Whether this is work that goes on after its answer, or stream, has come: its usage is fetched later.
        unfinished: Whether such work was still going on when it was last heard of.
        failed: Whether a stream told of an error in an event that the SDK hands out like any other, raising nothing.
        output_chars: Characters that the model wrote: text, reasoning, refusals, names and arguments of tool calls.
        measure: What counts a text's characters: `len`, or the user's estimator in its place (see `estimate`). What
            runs for every chunk calls `len` itself, which costs less.
        asks_for_usage: Whether it asked, in the user's place, for usage to be reported.
    """

    operation: ClassVar[str]
    unbounded: ClassVar[str] = ""
    """Why no request of this API has a ceiling, if none has."""

    __slots__ = (
        "asks_for_usage", "failed", "input_chars", "lasts", "measure", "model", "output_chars", "response_id",
        "response_model", "service_tier", "unfinished",
    )  # fmt: skip

    def __init__(self) -> None:
        self.model = ""
        self.response_model: str | None = None
        self.service_tier: str | None = None
        self.response_id: str | None = None
        self.input_chars = 0
        self.output_chars = 0
        self.measure: Measure = len
        self.asks_for_usage = False
        self.lasts = False
        self.unfinished = False
        self.failed = False

    @classmethod
    def parts(cls, answer: Any) -> Iterable[Any]:
        """Return what is billed separately in an answer that tells of earlier work: each is given to `finish`."""
        return (answer,)

    def begin(self, request: Mapping[str, Any]) -> None:
        """Take the keyword arguments of the call, before it is sent. They are not to be changed or kept."""
        raise NotImplementedError

    def ceiling(self, request: Mapping[str, Any]) -> Ceiling:
        """Return the most that one request can use, or why that cannot be said.

        Args:
            request: The keyword arguments of the call. They are not changed, consumed or kept.
        """
        try:
            return Ceiling(None, self.unbounded) if self.unbounded else self._ceiling(merged(request))
        except Unbounded as why:
            return Ceiling(None, str(why))

    def _ceiling(self, request: Mapping[str, Any]) -> Ceiling:
        """Return the ceiling of the request as it is sent, or raise `Unbounded`."""
        raise NotImplementedError

    def ask_for_usage(self, request: Mapping[str, Any], endpoint: str | None, *, always: bool) -> dict[str, Any] | None:
        """Return the keyword arguments with which a stream reports usage, where it does so only when asked.

        A reader that changes the request hides from the user whatever comes of it. None: send it as it is, because the
        API reports usage anyway, the user has decided himself, or (unless `always`) the host is not the provider's own.
        """
        del request, endpoint, always
        return None

    def feed(self, chunk: Any) -> bool | None:
        """Take one chunk of a stream. Return True when the user did not ask for it and must not see it."""
        raise NotImplementedError  # an API without streams

    def finish(self, response: Any) -> None:
        """Take the whole response of a call that is not a stream: the SDK's model, or the parsed JSON."""
        raise NotImplementedError

    def usage(self, *, ended: bool) -> Reading | None:
        """Return what has been reported so far; None when nothing was.

        Args:
            ended: Whether the response was read to its end.
        """
        raise NotImplementedError
