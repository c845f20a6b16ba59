"""A PostgreSQL server for as long as a benchmark takes, on loopback, configured as it comes: commits wait for disks."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MissingServerError", "server"]

_USERS = ("postgres", "nobody")  # the server refuses to run as root
_PATIENCE_S = 60


class MissingServerError(Exception):
    """There is no PostgreSQL on this machine, or it does not start; it says why."""


@contextmanager
def server() -> Iterator[str]:
    """Run a server of our own; yield the URL of its database, which is empty.

    Raises:
        MissingServerError: There is none on this machine, or it does not start.
    """
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="toll-bench-"))
    owner: dict[str, Any] = {}
    if os.getuid() == 0:
        user = next(map(pwd.getpwnam, _USERS))
        owner = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        os.chown(folder, user.pw_uid, user.pw_gid)
    data, port = folder / "data", _free_port()

    def call(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", str(data), *arguments]
        with (folder / "said").open("w+", encoding="utf-8") as said:  # the server inherits it: no pipe would end
            done = subprocess.run(  # noqa: S603 - found above
                command, stdout=said, stderr=said, check=False, timeout=_PATIENCE_S, cwd=folder, **owner
            )
            said.seek(0)
            if done.returncode:
                raise MissingServerError(f"{program}: {said.read().strip()[-200:]}")

    try:
        call("initdb", "--auth=trust", "--username=toll", "--encoding=UTF8", "--no-locale", "--no-sync")
        call("pg_ctl", "-w", "-o", f"-p {port} -k {folder} -c listen_addresses=127.0.0.1", "start")
        try:
            yield f"postgresql://toll@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    for folder in [*debian, *([Path(on_path).resolve().parent] if on_path else [])]:
        if (folder / "initdb").exists() and (folder / "pg_ctl").exists():
            return folder
    raise MissingServerError("there is no PostgreSQL server here; Debian, Ubuntu: apt-get install postgresql")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
