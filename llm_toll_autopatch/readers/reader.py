"""What a reader is: the part of a provider that knows the requests, chunks and responses of one API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from llm_toll_autopatch.estimate import text_chars
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.readers.ceiling import Ceiling, Unbounded, merged
from llm_toll_autopatch.readers.fields import as_mapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llm_toll_autopatch.estimate import Measure
    from llm_toll_autopatch.records import Usage

__all__ = ["Reader", "Reading"]


class Reading(NamedTuple):
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
    """Follows one request of one API. It holds counters, never chunks or completions.

    Text is counted for an estimate. Where the answer comes whole that is left until it is there, and not done at all if
    the provider says what was used: only until then, while the SDK holds it too, the request's text is referred to.

    A subclass names its `operation` and overrides `_texts`, `feed`, `_take`, `_written` and `usage`; it says what is
    `unbounded` or overrides `_ceiling`. Whoever calls these guards against exceptions: a reader may trip over a shape
    that it does not know, but should rather skip what it does not.

    Attributes:
        model: The model as asked for.
        response_model: The model that the response names.
        service_tier: The tier that the response names; the last one is what served.
        response_id: The provider's id of the response.
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
    says_all: ClassVar[tuple[str, ...]] = ()
    """The counts in a usage beside which nothing needs an estimate; empty where `usage` itself has to tell that."""

    __slots__ = (
        "_request", "_usage", "asks_for_usage", "failed", "lasts", "measure", "model", "output_chars", "response_id",
        "response_model", "service_tier", "unfinished",
    )  # fmt: skip

    def __init__(self) -> None:
        self.model = ""
        self.response_model: str | None = None
        self.service_tier: str | None = None
        self.response_id: str | None = None
        self._request: int | tuple[Any, ...] = 0  # its characters, or the texts until they are counted
        self._usage: Any = None  # as it was reported
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

    def begin(self, request: Mapping[str, Any], *, later: bool = False) -> None:
        """Take the keyword arguments of the call, before it is sent. They are not to be changed.

        Args:
            request: The arguments.
            later: Whether the answer comes whole, and nobody has it before `finish` has: that counts the text of the
                request, if it has to be counted, and lets go of it.
        """
        self._request = self._texts(request)
        if not later:
            self.hold_nothing()

    def _texts(self, request: Mapping[str, Any]) -> tuple[Any, ...]:
        """Take what matters of the request; return the parts of it whose text becomes tokens."""
        raise NotImplementedError

    @property
    def input_chars(self) -> int:
        """Characters of text in the request, for an estimate."""
        self.hold_nothing()
        request = self._request
        return request if isinstance(request, int) else 0

    def hold_nothing(self) -> None:
        """Count the text of the request if it is still referred to: the answer has not come whole. Never raises."""
        texts = self._request
        if isinstance(texts, tuple):
            self._request = 0  # whatever happens: nothing is held, or counted twice
            try:
                self._request = sum([text_chars(each, self.measure) for each in texts if each is not None])
            except Exception as error:
                failures.note("counting the text of a request", error)

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
        is_told = False
        try:
            self._take(response)
            is_told = not self.unfinished and self._is_told()
            if not is_told:
                self.output_chars += self._written(response)
        finally:
            if is_told:
                self._request = 0
            else:
                self.hold_nothing()

    def _take(self, response: Any) -> None:
        """Take from a whole response all but its text."""
        raise NotImplementedError

    def _written(self, response: Any) -> int:
        """Return the characters that the model wrote in a whole response."""
        del response
        return 0

    def _is_told(self) -> bool:
        """Return whether nothing is left to estimate when the response has been read to its end."""
        if not self.says_all:
            reading = self.usage(ended=True)
            return reading is not None and reading.final and reading.has_input and reading.has_output
        fields = as_mapping(self._usage)
        for number in map(fields.get, self.says_all):  # noqa: SIM110 - a generator is a frame more for each call
            if type(number) is not int or number < 0:
                return False
        return True

    def usage(self, *, ended: bool) -> Reading | None:
        """Return what has been reported so far; None when nothing was.

        Args:
            ended: Whether the response was read to its end.
        """
        raise NotImplementedError
