"""Where a command writes what it was asked for."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["output"]


@contextmanager
def output(path: str | None) -> Iterator[IO[bytes]]:
    """Give stdout, or a file that takes the place of the one at `path` once it is whole."""
    if path is None:
        yield sys.stdout.buffer
        return
    target = Path(path)
    if target.exists() and not target.is_file():  # a device, a pipe
        with target.open("wb") as file:
            yield file
        return
    # Beside it, for only within a file system can it be put in its place in one step.
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
