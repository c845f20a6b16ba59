"""`JSONLinesSink`: one line of JSON a record, at the end of a file."""

from __future__ import annotations

import json
import os
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from llm_toll_autopatch.sinks import SinkUnavailableError
from llm_toll_autopatch.sinks.forking import watch_forks
from llm_toll_autopatch.sinks.rows import record_to_dict

if TYPE_CHECKING:
    from llm_toll_autopatch.records import CallRecord

__all__ = ["JSONLinesSink"]


class JSONLinesSink:
    """Appends every record to a file, as one line of JSON (see `record_to_dict`) in one `write`.

    Any number of threads and processes may share the file. It is opened at the first record, made with mode 0600, and
    made anew when it was moved away (log rotation). A line survives `kill -9`; it is not forced to the disk, so the
    last ones may be missing after a power cut.

    Args:
        path: The file. A leading `~` is the home directory; missing directories are made.

    Attributes:
        path: The file, absolute.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser().absolute()
        # Re-entrant, because a finalizer may emit while this thread emits: its line then simply comes first.
        self._lock = threading.RLock()
        self._file: int | None = None
        self._closer: weakref.finalize[..., JSONLinesSink] | None = None
        self._torn = False
        watch_forks(self)

    def __repr__(self) -> str:
        return f"JSONLinesSink({str(self.path)!r})"

    def emit(self, record: CallRecord) -> None:
        """Append `record`.

        Raises:
            SinkUnavailableError: It cannot be written now (a full disk, a missing permission).
        """
        line = json.dumps(record_to_dict(record), separators=(",", ":"), default=str).encode() + b"\n"
        try:
            with self._lock:
                file = self._opened()
                if self._torn:  # end the half line that a full disk left, so that it spoils no other
                    line = b"\n" + line
                written = os.write(file, line)
                self._torn = written < len(line)
        except OSError as error:
            raise SinkUnavailableError(f"{self}: {error}") from error
        if written < len(line):
            raise SinkUnavailableError(f"{self}: only a part of the line could be written")

    def close(self) -> None:
        """Close the file. A later `emit` opens it again."""
        with self._lock:
            if self._closer is not None:
                self._closer()
            self._file = self._closer = None

    def after_fork_in_child(self) -> None:
        """Open the file anew at the next record, and forget a lock that a thread of the parent held."""
        self._lock = threading.RLock()
        self.close()  # the child's copy of the descriptor only

    def _opened(self) -> int:
        if self._file is not None and self._closer is not None and self._closer.alive and self._is_current(self._file):
            return self._file
        self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._file = file
        self._closer = weakref.finalize(self, os.close, file)
        return file

    def _is_current(self, file: int) -> bool:
        try:
            return os.path.samestat(self.path.stat(), os.fstat(file))
        except FileNotFoundError:
            return False
