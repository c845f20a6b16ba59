"""The ledger's file, below SQLite: which one it is, and who may read it."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["identity", "make_private"]


def identity(path: Path | str) -> tuple[int, int] | None:
    """Return which file is at `path`; None when there is none. One that was replaced has another identity."""
    try:
        status = os.stat(path)  # noqa: PTH116 - half the time of Path.stat, at every call
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def make_private(path: Path) -> None:
    """Make an empty file that only its owner may read, unless there is one. SQLite gives its side files this mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        # Opening and closing the file here would drop the locks of another ledger of this process on it (POSIX).
        os.mknod(path, 0o600)
    except FileExistsError:
        return
    except OSError:  # macOS and some file systems do not let everyone do this
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
