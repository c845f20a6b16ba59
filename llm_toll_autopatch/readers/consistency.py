"""Whether the figures that a provider reported agree with each other."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from llm_toll_autopatch.records import CONTRADICTORY, Usage

__all__ = ["Balance", "balanced", "checked"]


class Balance(NamedTuple):
    """Input and output as they are billed, None where not known, and whether the total told another story."""

    given: int | None
    written: int | None
    reasoning: int
    contradictory: bool = False


def balanced(
    given: int | None, written: int | None, total: int | None, *, reasoning: int, cached: int, silent: bool
) -> Balance:
    """Fill the gap that a reported total leaves, where servers that speak OpenAI's language report two of three.

    Some leave one figure out. Others leave the reasoning out of the output, but not out of the total: xAI, Gemini's
    OpenAI-compatible endpoint, gateways in front of Gemini. It is billed as output, so it counts as such here.

    Args:
        given: Input tokens.
        written: Output tokens.
        total: Their sum, as reported.
        reasoning: Reasoning tokens.
        cached: Cached and cache-write tokens, which are in the input, or should be.
        silent: Whether nothing came as output: a total that equals the input then says that there was none.
    """
    if not total or (given is None and written is None):
        return Balance(given, written, reasoning)
    if written is None:
        assert given is not None
        missing = total - given
        return Balance(given, missing if missing > 0 or (silent and missing == 0) else None, reasoning, missing < 0)
    if given is None:
        return Balance(total - written if total >= written else None, written, reasoning, total < written)
    gap = total - given - written
    if gap > 0 and cached <= given:
        return Balance(given, written + gap, reasoning or gap, gap != reasoning)
    return Balance(given, written, reasoning, gap != 0)


def checked(usage: Usage, *, contradictory: bool = False) -> Usage:
    """Return `usage`, with `CONTRADICTORY` in its details if its parts are more than their whole.

    Args:
        usage: As reported.
        contradictory: Whether a contradiction has been found already.
    """
    if contradictory or not (
        usage.cache_read_tokens + usage.cache_write_tokens <= usage.input_tokens
        and usage.cache_write_5m_tokens + usage.cache_write_1h_tokens <= usage.cache_write_tokens
        and usage.input_audio_tokens + usage.input_image_tokens <= usage.input_tokens
        and usage.tool_use_input_tokens <= usage.input_tokens
        and usage.reasoning_tokens + usage.output_audio_tokens + usage.output_image_tokens <= usage.output_tokens
    ):
        return replace(usage, details={**usage.details, CONTRADICTORY: 1})
    return usage
