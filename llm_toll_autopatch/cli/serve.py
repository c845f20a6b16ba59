"""`autotoll serve`: the page, live, for browsers of this machine."""

from __future__ import annotations

import argparse
import errno
import signal
import sys
from typing import TYPE_CHECKING

from llm_toll_autopatch.cli import chosen
from llm_toll_autopatch.cli.exits import OK, CommandError
from llm_toll_autopatch.cli.report import groupings
from llm_toll_autopatch.cli.tail import add_interval

if TYPE_CHECKING:
    from llm_toll_autopatch.page.server import PageServer

__all__ = ["configure", "run"]

_PORT = 8765
_PORT_MAX = 65_535
_TERMINATED = 128 + signal.SIGTERM


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `serve`."""
    parser.add_argument(
        "--port", type=_port, default=_PORT, metavar="N", help=f"0 is any that is free (default: {_PORT})"
    )
    parser.add_argument("--open", action="store_true", help="open it in your browser")
    parser.add_argument(
        "--by", action="extend", type=groupings, metavar="NAME[,NAME]", help="tags to divide by, as tag:NAME"
    )
    add_interval(parser)
    chosen.add_period(parser)
    chosen.add_ledger(parser)
    chosen.add_filters(parser)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= _PORT_MAX):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, from 0 to {_PORT_MAX}")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C, and return the exit code."""
    from llm_toll_autopatch.page.live import Live
    from llm_toll_autopatch.page.server import PageServer

    asked = chosen.asked(arguments, chosen.calls(arguments))
    try:
        server = PageServer(Live(asked), asked, arguments.port, arguments.interval)
    except OSError as error:
        if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
            raise
        raise CommandError(f"port {arguments.port} cannot be had: {error.strerror}; try --port 0") from error
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    try:
        with server:
            _serve(server, opened=arguments.open)
    except KeyboardInterrupt:  # the way to end it
        return OK
    finally:
        signal.signal(signal.SIGTERM, before)
    return OK


def _serve(server: PageServer, *, opened: bool) -> None:
    print(f"{server.url}\nOnly for this machine; the URL is a secret. Ctrl-C ends it.", flush=True)
    if opened:
        import webbrowser

        webbrowser.open(server.url)
    server.serve_forever(poll_interval=0.1)
