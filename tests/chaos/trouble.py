"""What happens to the ledger: somebody else locks it, and its disk is full."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Locker", "full_disk", "small_disk"]

_LOCK = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
for line in sys.stdin:
    try:
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(float(line))
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        pass
    print("done", flush=True)
"""


class Locker:
    """Another program that locks the ledger. It is a process of its own: SQLite does not mix with fork."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LOCK, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._busy = False

    def lock(self, seconds: float) -> None:
        """Begin to hold the lock for a while; nothing while that goes on."""
        if not self._busy:
            assert self._process.stdin is not None
            self._process.stdin.write(f"{seconds}\n")
            self._process.stdin.flush()
            self._busy = True

    def wait(self) -> None:
        """Wait until the lock is let go of."""
        if self._busy:
            assert self._process.stdout is not None
            self._process.stdout.readline()
            self._busy = False

    def poll(self) -> None:
        """Take note if it has been let go of."""
        assert self._process.stdout is not None
        if self._busy and select.select([self._process.stdout], [], [], 0)[0]:
            self.wait()

    def end(self) -> None:
        """End it."""
        self.wait()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.terminate()  # the workers, which are forked, have its end of the pipe too
        self._process.wait(30)
        self._process.stdout.close()


@contextlib.contextmanager
def small_disk(directory: Path, megabytes: int) -> Iterator[bool]:
    """Have `directory` be on a small disk of its own, if this user may have one; say whether it is."""
    directory.mkdir()
    owner = os.getpid()
    mounted = (
        sys.platform == "linux"
        and os.geteuid() == 0
        and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", directory],
            check=False,
            capture_output=True,
        ).returncode
        == 0
    )
    try:
        yield mounted
    finally:
        if mounted and os.getpid() == owner:  # workers, which are forked, come by here when they exit
            subprocess.run(["umount", "-l", directory], check=True)


@contextlib.contextmanager
def full_disk(directory: Path) -> Iterator[None]:
    """Leave no room on the disk of `directory`."""
    ballast = directory / "ballast"
    file = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    try:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while os.write(file, bytes(size)):
                    pass
        yield
    finally:
        os.close(file)
        ballast.unlink()
