"""A PostgreSQL server of the tests' own, on loopback, from the binaries that Debian's package `postgresql` installs."""

from __future__ import annotations

import atexit
import itertools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from services import missing

PASSWORD = "canary:/@ %&pässwörd"  # with all that a URL has to escape
_USERS = ("postgres", "nobody")  # the server refuses to run as root
_PATIENCE_S = 30


class Server:
    """A server, its data in a directory that is removed at the end. `url()` is where one can connect to it.

    Args:
        durable: Whether a commit is forced to the disk, as it is by default. Most tests do not need it.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self._binaries = binaries()
        self._user = next(map(pwd.getpwnam, _USERS)) if os.getuid() == 0 else None
        self.directory = Path(tempfile.mkdtemp(prefix="toll-postgres-"))
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()
        self._run = secrets.token_hex(4)
        password = self.directory / "password"
        password.write_text(PASSWORD, encoding="utf-8")
        self._own(self.directory, password)
        self._call(
            "initdb",
            *["--auth=scram-sha-256", "--username=toll", f"--pwfile={password}", "--encoding=UTF8", "--no-locale"],
            "--no-sync",
        )
        switch = "on" if durable else "off"
        with (self.directory / "data" / "postgresql.conf").open("a") as settings:
            settings.write(
                f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = '{self.directory}'\n"
                f"fsync = {switch}\nsynchronous_commit = {switch}\nfull_page_writes = {switch}\n"
                "max_connections = 60\nshared_buffers = 16MB\nlog_statement = none\n"
            )
        self.start()

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        import psycopg

        log = (self.directory / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self.directory / "data"],
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,  # ^C in the terminal is for the tests, which then stop the server
                **self._as_user(),
            )
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"PostgreSQL did not start: {error}\n{(self.directory / 'log').read_text()}")
                time.sleep(0.02)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop the server: SIGQUIT is `pg_ctl stop -m immediate`, a crash; SIGINT is `-m fast`."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_PATIENCE_S)
            self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Have no process of the server do anything, as if its machine had gone without a word."""
        assert self._process is not None
        found = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self._process.pid)], capture_output=True, text=True, check=False
        )
        pids = [self._process.pid, *map(int, found.stdout.split())]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in reversed(pids):
                os.kill(pid, signal.SIGCONT)

    def url(self, database: str, user: str = "toll", password: str = PASSWORD) -> str:
        """Return the URL of a database."""
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"test_{self._run}_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, statement: str, url: str | None = None) -> list[tuple[object, ...]]:
        """Have the superuser run `statement`, by a connection that has nothing to do with what is tested."""
        import psycopg

        with psycopg.connect(url or self.url("postgres"), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def remove(self) -> None:
        """Stop the server and remove its data."""
        self.stop()
        shutil.rmtree(self.directory)

    def _call(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._binaries / program, "-D", self.directory / "data", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.directory,
            **self._as_user(),
        )
        assert done.returncode == 0, done.stderr

    def _as_user(self) -> dict[str, Any]:
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}

    def _own(self, *paths: Path) -> None:
        if self._user is not None:
            for path in paths:
                os.chown(path, self._user.pw_uid, self._user.pw_gid)


def binaries() -> Path:
    """Return the directory of `initdb` and `postgres`, the newest there is; end the test when there is none."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    for directory in [*debian, *([Path(on_path).resolve().parent] if on_path else [])]:
        if (directory / "initdb").exists() and (directory / "postgres").exists():
            return directory
    return missing("the PostgreSQL server", "Debian, Ubuntu: apt-get install postgresql (its own service is not used)")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@cache
def server() -> Server:
    """Return the one server of the whole run."""
    made = Server()
    atexit.register(made.remove)
    return made


@pytest.fixture(scope="session")
def postgres() -> Server:
    """The one server of the whole run."""
    return server()


@pytest.fixture
def database(postgres: Server) -> str:
    """The URL of an empty database."""
    return postgres.new_database()


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server for one test alone, which may crash it. What it has committed is on the disk."""
    made = Server(durable=True)
    yield made
    made.remove()
