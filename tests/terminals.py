"""The command line as a process, at a pseudo-terminal or at pipes, with `rich` or without."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = ["Terminal", "at_terminal", "command", "plain", "run"]

_PATIENCE_S = 30
_START = "import sys\n{block}from llm_toll_autopatch.cli import main\nsys.exit(main(sys.argv[1:]))"
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def command(*arguments: object, rich: bool = True) -> list[str]:
    """What runs the command line; without `rich`, as if that was not installed."""
    code = _START.format(block="" if rich else "sys.modules['rich'] = None\n")
    return [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]


def run(
    *arguments: object, rich: bool = True, given: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The command at pipes, after it has ended."""
    return subprocess.run(
        command(*arguments, rich=rich),
        env={**os.environ, **environment},
        input=given,
        stdin=subprocess.DEVNULL if given is None else None,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=90,
        check=False,
    )


def plain(text: str) -> str:
    """The text without what steers a terminal."""
    return _ESCAPE.sub("", text).replace("\r", "")


class Terminal:
    """A command at a pseudo-terminal, which is its stdin, stdout and stderr.

    Attributes:
        process: The command.
        text: What it has written, with what steers the terminal.
    """

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self.text = ""
        self._master = master

    def wait_for(self, part: str) -> None:
        """Wait until `part` has been written."""
        deadline = time.monotonic() + _PATIENCE_S
        while part not in plain(self.text):
            assert time.monotonic() < deadline, f"no {part!r} in {plain(self.text)!r}"
            assert self._read() or self.process.poll() is None, f"ended without {part!r}: {plain(self.text)!r}"

    def type(self, text: str) -> None:
        """Type `text`; the character 3 is Ctrl-C."""
        os.write(self._master, text.encode())

    def end(self) -> int:
        """Read all that is still written, and return the exit code."""
        deadline = time.monotonic() + _PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, plain(self.text)
            self._read()
        while self._read():
            pass
        return self.process.returncode

    def _read(self) -> bool:
        if not select.select([self._master], [], [], 0.1)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # Linux: the other end has been closed
            return False
        self.text += data.decode("utf-8", "replace")
        return bool(data)


@contextmanager
def at_terminal(*arguments: object, rich: bool = True, columns: int = 140, **environment: str) -> Iterator[Terminal]:
    """A command at a terminal, until the block ends."""
    with _terminal(command(*arguments, rich=rich), columns, environment) as terminal:
        yield terminal


@contextmanager
def _terminal(arguments: Sequence[str], columns: int, environment: dict[str, str]) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    defaults = {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", "NO_COLOR": ""}
    hidden = {"COLUMNS", "LINES", "FORCE_COLOR"}
    process = subprocess.Popen(
        arguments,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no other thread is running
        env={**{name: value for name, value in os.environ.items() if name not in hidden}, **defaults, **environment},
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        os.close(master)
