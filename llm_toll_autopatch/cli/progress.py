"""How far a long piece of work is: a bar on stderr, if that is a terminal and `rich` is installed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Self

from llm_toll_autopatch.cli.terminal import rich_console

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Progress"]


class Progress:
    """Shows the bar within a `with` block.

    Args:
        label: What is being done.
        total: How much of it there is; None when that is not known.
    """

    def __init__(self, label: str, total: int | None) -> None:
        self._label = label
        self._total = total
        self._bar: Any = None

    def __enter__(self) -> Self:
        console = rich_console(sys.stderr)
        if console is not None:
            from rich.progress import Progress as Bar

            self._bar = Bar(console=console, transient=True)
            self._bar.start()
            self._bar.add_task(self._label, total=self._total)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, amount: int) -> None:
        """Say that so much more of the total is done."""
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0], amount)
