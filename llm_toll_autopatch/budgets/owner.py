"""Who holds a reservation: a process, named so that another one of the same machine can tell whether it still lives."""

from __future__ import annotations

import os
import socket
from pathlib import Path

__all__ = ["current_owner", "is_dead"]

_PROC = Path("/proc")
_known: tuple[int, str] | None = None


def current_owner() -> str:
    """Return the name of this process: machine, process id, and when it started, for ids are used again."""
    global _known
    pid = os.getpid()
    if _known is None or _known[0] != pid:
        _known = (pid, f"{_machine()}|{pid}|{_started(pid) or ''}")
    return _known[1]


def is_dead(owner: str) -> bool:
    """Return whether the process that `owner` names is known to have ended; False for one of another machine."""
    machine, _, process = owner.partition("|")
    pid, _, started = process.partition("|")
    if machine != _machine() or not pid.isdigit():
        return False
    if started:
        return _started(int(pid)) != started
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _machine() -> str:
    """Return what two processes have in common that can see each other: the boot, and the namespace of process ids."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink(_PROC / 'self/ns/pid')}"  # noqa: PTH115 - it is no path
    except OSError:
        return socket.gethostname()


def _started(pid: int) -> str | None:
    """Return when a process started, in the kernel's ticks since the boot; None when there is no such process."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    state, *rest = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return None if state in ("Z", "X") else rest[18]  # proc(5): field 22; a zombie runs no more
