"""Text in columns, for terminals and pipes alike."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from rich.table import Table

__all__ = ["Columns", "aligned", "bar", "printable", "rich_table"]

_GAP = "  "
_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")


def printable(text: str) -> str:
    """Return `text` without anything that could steer a terminal: model names come from servers."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


class Columns:
    """Lines up cells, also those of rows that come later: columns only ever grow.

    Args:
        right: For each column, whether its cells stand on the right.
    """

    def __init__(self, right: Sequence[bool]) -> None:
        self._right = right
        self._widths = [0] * len(right)

    def lines(self, rows: Iterable[Sequence[str]]) -> list[str]:
        """Return one line a row, its cells padded to their column's width."""
        rows = list(rows)
        for number, column in enumerate(zip(*rows, strict=True)):
            self._widths[number] = max(self._widths[number], *map(_width, column))
        return [_GAP.join(map(_padded, row, self._widths, self._right)).rstrip() for row in rows]


def aligned(rows: Iterable[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """Return one line a row, its cells padded to their column's width.

    Args:
        rows: All of the same length.
        right: For each column, whether its cells stand on the right.
    """
    return Columns(right).lines(rows)


def bar(share: float, width: int, encoding: str | None) -> str:
    """Return a bar of at most `width` cells for a share from 0 to 1, of eighths of a cell if `encoding` has them."""
    eighths = round(max(0.0, min(share, 1.0)) * width * 8) or (1 if share > 0 else 0)
    blocks = "█" * (eighths // 8) + _EIGHTHS[eighths % 8]
    try:
        blocks.encode(encoding or "ascii")
    except UnicodeEncodeError:
        return "#" * (-(-eighths // 8))
    return blocks


_NAME = 8
"""How many columns of a narrow terminal a name gets at least."""


def rich_table(
    header: Sequence[str],
    right: Sequence[bool],
    rows: Iterable[Sequence[str]],
    *,
    names: Container[int] = (),
    bars: int | None = None,
    last: Sequence[str] | None = None,
) -> Table:
    """Return a table of `rich`, which fits into the terminal: where that is narrow, cells are broken or cut short.

    Args:
        header: The columns' names.
        right: For each column, whether its cells stand on the right.
        rows: The cells.
        names: The numbers of the columns whose cells may be broken.
        bars: The number of the column that has bars.
        last: One more row, in bold.
    """
    from rich.table import Table
    from rich.text import Text

    rows = list(rows)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for number, (name, is_right) in enumerate(zip(header, right, strict=True)):
        table.add_column(
            Text(name),
            justify="right" if is_right else "left",
            no_wrap=number not in names,
            overflow="fold" if number in names else "ellipsis",
            # Else the figures, which are not broken, would take all there is.
            min_width=min(_NAME, max(_width(row[number]) for row in (header, *rows))) if number in names else None,
            style="cyan" if number == bars else "",
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    if last is not None:
        table.add_row(*(Text(cell) for cell in last), style="bold")
    return table


def _padded(text: str, width: int, right: bool) -> str:
    padding = " " * (width - _width(text))
    return padding + text if right else text + padding


def _width(text: str) -> int:
    """Return the number of a terminal's cells that `text` takes."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    combining = sum(bool(unicodedata.combining(character)) for character in text)
    return len(text) + wide - combining
