"""Text in columns, for terminals and pipes alike."""

from __future__ import annotations

import os
import unicodedata
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Styles", "aligned", "printable"]

_GAP = "  "


class Styles:
    """Bold and dim text for a terminal; plain text for anything else, and under `NO_COLOR` (no-color.org)."""

    def __init__(self, stream: IO[str]) -> None:
        self._on = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def bold(self, text: str) -> str:
        """Return `text` in bold."""
        return f"\033[1m{text}\033[0m" if self._on else text

    def dim(self, text: str) -> str:
        """Return `text` dimmed."""
        return f"\033[2m{text}\033[0m" if self._on else text


def printable(text: str) -> str:
    """Return `text` without anything that could steer a terminal: model names come from servers."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def aligned(rows: Iterable[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """Return one line a row, its cells padded to their column's width.

    Args:
        rows: All of the same length.
        right: For each column, whether its cells stand on the right.
    """
    rows = list(rows)
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    return [_GAP.join(_padded(*cell) for cell in zip(row, widths, right, strict=True)).rstrip() for row in rows]


def _padded(text: str, width: int, right: bool) -> str:
    padding = " " * (width - _width(text))
    return padding + text if right else text + padding


def _width(text: str) -> int:
    """Return the number of a terminal's cells that `text` takes."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    combining = sum(bool(unicodedata.combining(character)) for character in text)
    return len(text) + wide - combining
