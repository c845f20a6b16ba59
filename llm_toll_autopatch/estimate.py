"""Tokens, when the provider reported none.

Text is counted in characters while it passes, four to a token. A user's `estimator=` (see `estimators`) takes the place
of `len` there: its tokens count as four characters each, so all sums have one unit and nothing else knows of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["CHARS_PER_TOKEN", "Measure", "TokenEstimateWarning", "text_chars", "tokens"]

CHARS_PER_TOKEN = 4
_MAX_DEPTH = 24

Measure = Callable[[str], int]
"""Counts the characters of a text, or four times its tokens."""

# Values under these keys are data, identifiers or switches, not text that becomes tokens at about four characters each.
_NOT_TEXT = frozenset(
    {
        "b64_json", "cache_control", "data", "encrypted_content", "fileUri", "file_data", "file_id", "file_uri", "id",
        "image_url", "inlineData", "inline_data", "media_type", "mimeType", "mime_type", "role", "signature",
        "thoughtSignature", "thought_signature", "tool_call_id", "tool_use_id", "type", "uri", "url",
    }
)  # fmt: skip


class TokenEstimateWarning(UserWarning):
    """The provider reported no usage for a call, or not all of it: the record holds an estimate and says so."""


def tokens(chars: int) -> int:
    """Return the estimate for `chars` characters of text: `max(1, chars // 4)`, and 0 for none."""
    return max(1, chars // CHARS_PER_TOKEN) if chars else 0


def text_chars(value: Any, measure: Measure = len, depth: int = _MAX_DEPTH) -> int:
    """Return the number of characters of text in a request's part: strings, and those in lists, mappings and models.

    Binary data (base64 strings, data URLs), identifiers and iterators do not count; nothing is consumed.
    """
    if value is None:
        return 0
    if isinstance(value, str):
        return 0 if value.startswith("data:") else measure(value)
    if depth == 0 or isinstance(value, int | float | bytes | bytearray | type):
        return 0
    if isinstance(value, list | tuple):
        return sum(text_chars(item, measure, depth - 1) for item in value)
    if isinstance(value, Mapping):
        chars = sum(text_chars(v, measure, depth - 1) for k, v in value.items() if k not in _NOT_TEXT)
        # Anthropic's plain-text documents have their text where others have base64.
        return chars + text_chars(value.get("data"), measure) if value.get("media_type") == "text/plain" else chars
    fields = getattr(value, "__dict__", None)
    if isinstance(fields, dict) and hasattr(value, "__pydantic_fields_set__"):
        return text_chars(fields, measure, depth - 1)
    return 0
