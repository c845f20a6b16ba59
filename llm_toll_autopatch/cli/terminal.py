"""What is on the other end of a stream: a terminal for people, or a pipe; with `rich`, or without."""

from __future__ import annotations

import os
import shutil
import sys
from typing import IO, TYPE_CHECKING

from llm_toll_autopatch.cli.exits import CommandError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Styles", "confirmed", "is_terminal", "rich_console", "width"]


def is_terminal(stream: IO[str]) -> bool:
    """Return whether someone looks at `stream` in a terminal that can do more than print."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def width(stream: IO[str]) -> int:
    """Return how many columns `stream` has; many when it is no terminal."""
    return shutil.get_terminal_size().columns if stream.isatty() else 1000


def rich_console(stream: IO[str]) -> Console | None:
    """Return a console of `rich` on `stream`; None when it is not installed, or `stream` is no terminal."""
    if not is_terminal(stream):
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(file=stream, highlight=False, markup=False, emoji=False)


class Styles:
    """Bold and dim text for a terminal; plain text for anything else, and under `NO_COLOR` (no-color.org).

    Attributes:
        on: Whether there are styles.
    """

    def __init__(self, stream: IO[str]) -> None:
        self.on = is_terminal(stream) and not os.environ.get("NO_COLOR")

    def bold(self, text: str) -> str:
        """Return `text` in bold."""
        return self._styled("1", text)

    def dim(self, text: str) -> str:
        """Return `text` dimmed."""
        return self._styled("2", text)

    def red(self, text: str) -> str:
        """Return `text` in red."""
        return self._styled("31", text)

    def yellow(self, text: str) -> str:
        """Return `text` in yellow."""
        return self._styled("33", text)

    def _styled(self, style: str, text: str) -> str:
        return f"\033[{style}m{text}\033[0m" if self.on else text


def confirmed(question: str, instead: str = "--yes says yes beforehand, --dry-run only looks") -> bool:
    """Ask on the terminal, and return whether the answer is yes; `instead` is what helps where nobody can be asked.

    Raises:
        CommandError: There is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise CommandError(f"nobody to ask: stdin is no terminal; {instead}")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
