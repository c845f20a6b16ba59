"""A sink that writes CSV: an example of a package that brings a sink."""

from __future__ import annotations

import csv
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from llm_toll_autopatch import SinkUnavailableError

if TYPE_CHECKING:
    from llm_toll_autopatch import CallRecord

__all__ = ["CSVSink"]

_COLUMNS = ("id", "started_at", "project", "model", "outcome", "input_tokens", "output_tokens", "cost_usd")


class CSVSink:
    """Appends a row for every call to a file; the cost is empty where it is not known.

    Args:
        path: The file.
    """

    def __init__(self, path: str = "calls.csv") -> None:
        self.path = Path(path).absolute()
        self._lock = threading.RLock()
        # A forked child must not wait for a lock that a thread of its parent held.
        os.register_at_fork(after_in_child=self._after_fork_in_child)

    def __repr__(self) -> str:
        return f"CSVSink({str(self.path)!r})"

    def emit(self, record: CallRecord) -> None:
        """Append `record`. What is raised here never reaches the program's call."""
        row = (
            record.id,
            record.started_at.isoformat(),
            _text(record.project),
            _text(record.response_model or record.model),
            record.outcome,
            record.usage.input_tokens,
            record.usage.output_tokens,
            "" if record.cost_usd is None else format(record.cost_usd, "f"),
        )
        try:
            with self._lock, self.path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                if file.tell() == 0:
                    writer.writerow(_COLUMNS)
                writer.writerow(row)
        except OSError as error:  # a full disk: worth another try
            raise SinkUnavailableError(f"{self}: {error}") from error

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()


def _text(text: str) -> str:
    """Return `text` as it can be written, and so that no spreadsheet takes it for a formula."""
    text = text.encode(errors="replace").decode()
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
