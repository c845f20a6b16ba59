"""`ConsoleSink`: one quiet line a call on stderr, and a sum at the end."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

from llm_toll_autopatch.ledger.money import format_usd, sum_usd
from llm_toll_autopatch.sinks.forking import watch_forks

if TYPE_CHECKING:
    from collections.abc import Callable

    from llm_toll_autopatch.records import CallRecord

    Paint = Callable[[str, str], str]

__all__ = ["ConsoleSink"]

_CYAN, _GREEN, _YELLOW, _RED, _DIM = "36", "32", "33", "31", "2"


class ConsoleSink:
    """Prints a line for every call on stderr, and the sum of all when the program ends.

    `~` stands before what is estimated, `$?` where a cost is not known, and how the call ended where that was not at
    its end. Coloured on a terminal, unless `NO_COLOR` is set. Never prints on stdout. A stderr that is closed or broken
    prints nothing, and breaks nothing.

    Args:
        file: Where to instead; None is `sys.stderr` at the time of each call.
        summary: Whether to print the sum.
    """

    def __init__(self, file: TextIO | None = None, *, summary: bool = True) -> None:
        self._file = file
        self._summary = summary
        self._cost = sum_usd(())
        self._reset()
        watch_forks(self)

    def __repr__(self) -> str:
        return f"ConsoleSink(summary={self._summary})"

    def emit(self, record: CallRecord) -> None:
        """Print the line of `record`."""
        usage = record.usage
        self._calls += 1
        self._input += usage.input_tokens
        self._output += usage.output_tokens
        self._estimated += record.usage_source in ("estimated", "partial")
        if record.cost_usd is None:
            self._unknown += 1
        else:
            self._cost = sum_usd((self._cost, record.cost_usd))
        self._print(lambda paint: _line(record, paint))

    def close(self) -> None:
        """Print the sum of the calls since the last one, if there are any. Happens at exit by itself."""
        if not self._summary or not self._calls:
            return
        mark = "~" if self._estimated else ""
        calls = f"{self._calls:,} call{'' if self._calls == 1 else 's'}"
        unknown = f" and {self._unknown:,} of unknown cost" if self._unknown else ""
        text = f"{calls}, {mark}{self._input:,} in, {mark}{self._output:,} out, {mark}{format_usd(self._cost)}{unknown}"
        self._print(lambda paint: f"{paint('[llm-toll] total', _DIM)} {text}")
        self._reset()

    def after_fork_in_child(self) -> None:
        """Sum up the child's own calls only."""
        self._reset()

    def _reset(self) -> None:
        self._calls = self._input = self._output = self._unknown = self._estimated = 0
        self._cost = sum_usd(())

    def _print(self, line: Callable[[Paint], str]) -> None:
        file = sys.stderr if self._file is None else self._file
        if file is None:  # a program without a console
            return
        try:
            file.write(line(_painted if _coloured(file) else _plain) + "\n")
            file.flush()
        except (OSError, ValueError, RuntimeError):  # closed, broken, or within a write of this very thread
            return


def _line(record: CallRecord, paint: Paint) -> str:
    mark = "~" if record.usage_source in ("estimated", "partial") else ""
    usage = record.usage
    ended = "" if record.outcome == "completed" else f", {record.outcome}"
    error = f" {record.error_type}" if record.error_type else ""
    if usage.total_tokens or record.usage_source != "missing":
        tokens = f"{mark}{usage.input_tokens:,} in, {mark}{usage.output_tokens:,} out"
    else:
        tokens = "no usage"
    usd = record.cost_usd
    cost = paint("$?", _YELLOW) if usd is None else paint(f"{mark}{format_usd(usd)}", _GREEN)
    trouble = paint(f"{ended}{_printable(error)}", _RED if record.outcome == "error" else _YELLOW) if ended else ""
    model = _printable(record.response_model or record.model or record.method)
    return f"{paint('[llm-toll]', _DIM)} {paint(model, _CYAN)}: {tokens}, {cost}, {record.duration_s:.1f} s{trouble}"


def _printable(text: str) -> str:
    """Return `text` without what a terminal would take for a command: a server chooses the name of its model."""
    return text if text.isprintable() else "".join(each if each.isprintable() else "?" for each in text)


def _coloured(file: TextIO) -> bool:
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return file.isatty()


def _painted(text: str, code: str) -> str:
    return f"\033[{code}m{text}\033[0m"


def _plain(text: str, _code: str) -> str:
    return text
