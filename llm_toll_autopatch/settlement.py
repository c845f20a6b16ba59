"""From what a provider reported to the usage that is recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from llm_toll_autopatch import estimate
from llm_toll_autopatch.records import Usage, UsageSource

if TYPE_CHECKING:
    from llm_toll_autopatch.readers.reader import Reader, Reading

__all__ = ["Elsewhere", "Settlement", "settled"]

Elsewhere = tuple[tuple[str, Usage], ...]
"""Models that took part in a request beside the one that was called, with what each used."""


class Settlement(NamedTuple):
    """The usage of the model that was called, where it comes from, and what others used for the same request."""

    usage: Usage
    source: UsageSource
    elsewhere: Elsewhere = ()


def settled(reader: Reader, reading: Reading | None, *, estimate_input: bool) -> Settlement:
    """Fill the gaps of `reading`, which is `reader.usage(…)`, with estimates.

    What the provider has said stands. Only the gaps are estimated, and an output figure that was not its last word is a
    lower bound.
    """
    if reading is not None and reading.final and reading.has_input and reading.has_output:
        return Settlement(reading.usage, "reported", reading.elsewhere)
    reported = Usage() if reading is None else reading.usage
    output = reported.output_tokens
    if reading is None or not (reading.final and reading.has_output):
        output = max(output, estimate.tokens(reader.output_chars))
    input_tokens = reported.input_tokens
    if (reading is None or not reading.has_input) and estimate_input:
        input_tokens = max(input_tokens, estimate.tokens(reader.input_chars))
    # An input that only its parts were reported of is not less than these.
    input_tokens = max(input_tokens, reported.cache_read_tokens + reported.cache_write_tokens)
    usage = replace(reported, input_tokens=input_tokens, output_tokens=output)
    if reading is None:
        return Settlement(usage, "estimated")
    return Settlement(usage, "partial", reading.elsewhere)
