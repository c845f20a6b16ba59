"""`StreamAccumulator`: what a response used, by its chunks alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.readers.chat import ChatCompletions
from llm_toll_autopatch.readers.fields import get, text
from llm_toll_autopatch.readers.generate_content import GenerateContent
from llm_toll_autopatch.readers.messages import Messages
from llm_toll_autopatch.readers.responses import Responses
from llm_toll_autopatch.records import Usage
from llm_toll_autopatch.settlement import Settlement, settled
from llm_toll_autopatch.shapes import Shape, readable, shape_of_answer, shape_of_chunk, unpacked

if TYPE_CHECKING:
    from llm_toll_autopatch.estimate import Measure
    from llm_toll_autopatch.readers.reader import Reader
    from llm_toll_autopatch.records import UsageSource

__all__ = ["StreamAccumulator"]


class StreamAccumulator:
    """Adds up what one response used, from the chunks of its stream or from the whole of it.

    Chunks are recognised by their shape, as objects and as dicts of parsed JSON: OpenAI's (`choices` and `model`),
    events of the Responses API (`type`), Anthropic's events (`type`), Gemini's (`candidates` and `usage_metadata`, or
    `usageMetadata`). It holds counters, never text::

        accumulator = StreamAccumulator()
        for line in response.iter_lines():
            accumulator.feed(json.loads(line.removeprefix("data: ")))
        print(accumulator.model, accumulator.usage, accumulator.usage_source)

    Args:
        measure: What counts the characters of a text, where the provider reports no tokens.
    """

    def __init__(self, measure: Measure = len) -> None:
        self._measure = measure
        self._shape: Shape | None = None
        self._whole = False
        self._models: set[type] = set()  # the SDK's, which the reader takes as they are
        self.reader: Reader | None = None
        """What reads this API's responses; None while nothing was recognised."""

    @property
    def provider(self) -> str | None:
        """Whose language the response speaks: `openai`, `anthropic` or `google`; None while it is not known."""
        return None if self._shape is None else self._shape.provider

    @property
    def model(self) -> str:
        """The model that the response names; empty when it names none."""
        return (self.reader.response_model if self.reader is not None else None) or ""

    @property
    def usage(self) -> Usage:
        """What has been used so far, in tokens; what the provider has not said is estimated from the text."""
        return self._settled().usage

    @property
    def usage_source(self) -> UsageSource:
        """Where the tokens come from: `missing` when nothing that was fed could be recognised."""
        return self._settled().source

    def _settled(self) -> Settlement:
        if self.reader is None:
            return Settlement(Usage(), "missing")
        return settled(self.reader, self.reader.usage(ended=self._whole), estimate_input=False)

    def feed(self, chunk: Any) -> bool:
        """Take a chunk or event of a stream, in order; return whether it, or one before it, was recognised.

        Never raises.
        """
        try:
            if type(chunk) in self._models and self.reader is not None:
                self.reader.feed(chunk)
                return True
            inner = unpacked(chunk)
            shape = self._shape or shape_of_chunk(inner)
            if shape is not None and _belongs(inner, shape):
                fields = readable(inner, shape)
                self._reader_of(shape).feed(fields)
                if fields is chunk:
                    self._models.add(type(chunk))
        except Exception as error:
            failures.note("reading a chunk by its shape", error)
        return self.reader is not None

    def finish(self, answer: Any) -> bool:
        """Take a whole response: the SDK's model, or the parsed JSON; return whether it was recognised.

        Never raises.
        """
        try:
            if (shape := shape_of_answer(answer)) is not None:
                self._whole = True
                self._reader_of(shape).finish(readable(answer, shape))
        except Exception as error:
            failures.note("reading a response by its shape", error)
        return self.reader is not None

    def _reader_of(self, shape: Shape) -> Reader:
        if self.reader is None:
            self._shape = shape
            self.reader = shape.reader()
            self.reader.measure = self._measure
        return self.reader

    def begins_another(self, chunk: Any) -> bool:
        """Return whether `chunk` belongs to a next response: this one is over, and the chunk has another id."""
        reader = self.reader
        if isinstance(reader, ChatCompletions):
            if reader._unfinished > 0:
                return False
            chunk = unpacked(chunk)
            return bool(get(chunk, "choices")) and _differ(text(chunk, "id"), reader)
        if isinstance(reader, Messages):
            return reader.response_id is not None and get(chunk, "type") == "message_start"
        if isinstance(reader, Responses):
            return reader._final and get(chunk, "type") == "response.created"
        if isinstance(reader, GenerateContent) and reader._finished:
            return _differ(text(chunk, "response_id") or text(chunk, "responseId"), reader)
        return False


def _belongs(chunk: Any, shape: Shape) -> bool:
    """Return whether a chunk of a stream whose shape is known is one that its reader can take."""
    if shape.reader in (Messages, Responses):
        return text(chunk, "type") is not None
    if shape.reader is GenerateContent:
        return any(get(chunk, name) is not None for name in ("candidates", "usage_metadata", "usageMetadata"))
    return isinstance(get(chunk, "choices"), list | tuple)


def _differ(named: str | None, reader: Reader) -> bool:
    return named is not None and reader.response_id is not None and named != reader.response_id
