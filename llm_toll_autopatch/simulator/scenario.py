"""How an answer behaves, read from the model's name."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Scenario"]

_ANSWER = ("Falling", " water", " speeds", " up,", " so", " it", " gets", " thinner.")
_REFUSAL = ("I'm", " sorry,", " but", " I", " can't", " help", " with", " that.")
_THOUGHT = ("The", " same", " amount", " passes", " every", " point", " each", " second.")
_HTTP_ERRORS = range(400, 600)


def _flag(default: Any, meaning: str, *, flag: str, bare: Any = None, also: tuple[str, ...] = ()) -> Any:
    """Declare a field of `Scenario` that the flag `flag` sets; `bare` is its value when the flag has none."""
    return dataclasses.field(default=default, metadata={"flag": flag, "also": also, "bare": bare, "meaning": meaning})


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What a simulated model does. Its fields are the table of flags: `Scenario.flags()` prints it.

    A model name is a base name followed by any number of `+flag` or `+flag=value`: `claude-sonnet-4-5+thinking=40`.
    The answer names the base as its model, so that prices are found. A "content event" is a streamed event that
    carries text, reasoning, a refusal or part of a tool call.
    """

    model: str = "simulated"

    chunks: int = _flag(8, "number of pieces that the text comes in", flag="chunks")
    delay_ms: int = _flag(0, "milliseconds between two events of a stream", flag="delay", bare=10)
    first_ms: int = _flag(
        0, "milliseconds before a stream's first event, or before a plain answer", flag="first", bare=10
    )
    endless: bool = _flag(False, "a stream's text never ends (use it with delay)", flag="endless")
    empty: bool = _flag(False, "no content at all", flag="empty")
    refusal: bool = _flag(False, "the model refuses; Gemini blocks the prompt", flag="refusal")
    incomplete: bool = _flag(
        False, "the answer ends for want of tokens; Responses: response.incomplete", flag="incomplete"
    )
    failed: bool = _flag(False, "Responses only: response.failed is the terminal event", flag="failed")
    choices: int | None = _flag(None, "number of choices or candidates (default: as requested)", flag="choices", bare=2)
    tools: int = _flag(0, "call the first declared tool, N rounds, before the text", flag="tools", bare=1)
    continuations: int = _flag(
        0, "Google only: the answer takes N further requests, each with a continuation token", flag="continue", bare=1
    )

    input_tokens: int = _flag(25, "input tokens reported; for Anthropic without the cached ones", flag="in")
    output_tokens: int | None = _flag(
        None, "output tokens reported, without reasoning (default: one for each piece of content)", flag="out"
    )
    reasoning_tokens: int = _flag(
        0, "reasoning tokens, reported and shown", flag="reasoning", bare=16, also=("thinking",)
    )
    cached_tokens: int = _flag(0, "tokens read from the cache", flag="cached", bare=10)
    cache_write_tokens: int = _flag(0, "tokens written to the cache", flag="cache-write", bare=10)
    delta_input_tokens: int | None = _flag(
        None, "Anthropic only: message_delta says input_tokens=N", flag="delta-input", bare=100
    )
    tier: str | None = _flag(None, "service tier that served", flag="tier")

    no_usage: bool = _flag(False, "no usage anywhere", flag="no-usage")
    usage_null: bool = _flag(False, "usage is there, and null", flag="usage-null")
    bad_usage: bool = _flag(False, "usage of wrong types: strings, negative numbers, lists", flag="bad-usage")
    usage_last: bool = _flag(
        False, "streams of chat completions and Gemini: usage on the last chunk only, unasked", flag="usage-last"
    )
    usage_every: bool = _flag(
        False, "streams: usage on every chunk, unasked and growing", flag="usage-every", also=("cumulative",)
    )

    error: int | None = _flag(None, "HTTP error of this status, before anything else", flag="error", bare=500)
    error_after: int | None = _flag(None, "error event after N content events of a stream", flag="error-after", bare=3)
    cut: int | None = _flag(
        None, "connection cut after N content events of a stream; a plain answer: in its middle", flag="cut", bare=3
    )

    @classmethod
    def parse(cls, model: str) -> Scenario:
        """Return the scenario that a model's name stands for.

        Args:
            model: `base+flag+flag=value`.

        Raises:
            ValueError: A flag is unknown or has a wrong value; the message lists the flags.
        """
        base, *flags = model.split("+")
        values: dict[str, Any] = {}
        for flag in flags:
            name, given, value = flag.partition("=")
            field = _FIELDS.get(name)
            if field is None:
                raise ValueError(f"Unknown flag {name!r} in model {model!r}. The flags are:\n{cls.flags()}")
            values[field.name] = _value(field, value if given else None)
        return cls(model=base, **values)

    @classmethod
    def flags(cls) -> str:
        """Return the table of flags as text, one a line."""
        lines = []
        for field in _FLAG_FIELDS:
            names = [field.metadata["flag"], *field.metadata["also"]]
            value = "" if field.type == "bool" else "=NAME" if "str" in field.type else "=N"
            bare = "" if field.metadata["bare"] is None else f" (alone: {field.metadata['bare']})"
            lines.append(f"  {' or '.join(f'+{name}{value}' for name in names)}: {field.metadata['meaning']}{bare}")
        return "\n".join(lines)

    def text_chunks(self) -> list[str]:
        """Return the pieces that the answer's text, or its refusal, comes in; `endless` repeats from there."""
        words = _REFUSAL if self.refusal else _ANSWER
        return [] if self.empty else list(itertools.islice(_prose(words), self.chunks))

    def text(self) -> str:
        """Return the whole text: `text_chunks()` joined."""
        return "".join(self.text_chunks())

    def reasoning_chunks(self) -> list[str]:
        """Return the pieces that the shown reasoning comes in: one for each token, eight at the most."""
        return list(itertools.islice(_prose(_THOUGHT), min(self.reasoning_tokens, len(_THOUGHT))))

    def endless_chunks(self) -> Iterator[str]:
        """Yield pieces of text for ever; they begin as `text_chunks()` does."""
        return _prose(_REFUSAL if self.refusal else _ANSWER)


def _prose(words: tuple[str, ...]) -> Iterator[str]:
    """Yield a sentence's words over and over, each with the space that belongs before it."""
    yield from words
    first, *rest = words
    yield from itertools.cycle((f" {first}", *rest))


def _value(field: dataclasses.Field[Any], text: str | None) -> Any:
    """Return a flag's value, from what is written after its `=`; None where nothing is."""
    flag, bare = field.metadata["flag"], field.metadata["bare"]
    if field.type == "bool":
        if text is not None:
            raise ValueError(f"Flag {flag!r} takes no value.")
        return True
    if text is None and bare is not None:
        return bare
    if not text:
        raise ValueError(f"Flag {flag!r} needs a value: '+{flag}=…'.")
    if "str" in field.type:
        return text
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"Flag {flag!r} needs a whole number that is not negative, not {text!r}.")
    number = int(text)
    if flag == "error" and number not in _HTTP_ERRORS:
        raise ValueError(f"Flag 'error' needs an HTTP status from 400 to 599, not {number}.")
    if flag == "choices" and not number:
        raise ValueError("Flag 'choices' needs a number above 0.")
    return number


_FLAG_FIELDS = tuple(field for field in dataclasses.fields(Scenario) if "flag" in field.metadata)
_FIELDS = {name: field for field in _FLAG_FIELDS for name in (field.metadata["flag"], *field.metadata["also"])}
