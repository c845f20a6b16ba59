"""Serves the page to browsers of this machine: nothing can be changed by it, and no other site can read it."""

from __future__ import annotations

import json
import secrets
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llm_toll_autopatch.ledger.errors import LedgerError
from llm_toll_autopatch.page.document import document, policy
from llm_toll_autopatch.page.snapshot import encoded, nothing

if TYPE_CHECKING:
    from llm_toll_autopatch.page.live import Live
    from llm_toll_autopatch.page.snapshot import Asked

__all__ = ["PageServer"]

_LOOPBACK = "127.0.0.1"
_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
"""What a browser of this machine calls it. A name that a stranger's DNS leads here is none of them."""

_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class PageServer(ThreadingHTTPServer):
    """An HTTP server on loopback, for GET and HEAD.

    A ledger can be read by its owner alone, and loopback by every user of the machine: so the URL has a secret part.

    Args:
        live: Whom to ask.
        asked: Which calls of which ledger.
        port: 0 for any that is free.
        interval_s: How often the page asks, in seconds.

    Raises:
        OSError: The port cannot be had.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, live: Live, asked: Asked, port: int, interval_s: float) -> None:
        self.live = live
        self.asked = asked
        self.interval_s = interval_s
        self.path = f"/{secrets.token_urlsafe(16)}/"
        super().__init__((_LOOPBACK, port), _Handler)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{_LOOPBACK}:{self.server_address[1]}{self.path}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a browser that has gone away in the middle is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"
    server_version = "autotoll"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        if not self._is_local():
            self._refuse(HTTPStatus.FORBIDDEN, "This page is only for browsers of this machine: http://127.0.0.1 …")
            return
        path, secret = urlsplit(self.path).path, self.server.path
        if not secrets.compare_digest(path[: len(secret)].encode(), secret.encode()):
            self._refuse(HTTPStatus.FORBIDDEN, "Open the whole URL that `autotoll serve` has printed: part is secret.")
        elif path == secret:
            self._page()
        elif path == f"{secret}data.json":
            self._data()
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "There is nothing here.")

    do_HEAD = do_GET  # noqa: N815 - the base class looks for it by this name

    def _is_local(self) -> bool:
        hosts = self.headers.get_all("Host") or []
        try:
            return len(hosts) == 1 and urlsplit(f"//{hosts[0]}").hostname in _NAMES
        except ValueError:
            return False

    def _page(self) -> None:
        try:
            data = self.server.live.answer().data
        except LedgerError:  # the page will ask, and be told
            from datetime import UTC, datetime

            data = encoded(self.server.asked, nothing(datetime.now(UTC)))
        body = document(data, interval_s=self.server.interval_s)
        self._answer(HTTPStatus.OK, "text/html; charset=utf-8", body)

    def _data(self) -> None:
        try:
            answer = self.server.live.answer()
        except LedgerError as error:
            body = json.dumps({"error": str(error)}).encode()
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "application/json", body)
            return
        tag = f'"{answer.tag}"'
        if self.headers.get("If-None-Match") == tag:
            self._answer(HTTPStatus.NOT_MODIFIED, None, b"", tag)
        else:
            self._answer(HTTPStatus.OK, "application/json", answer.data.encode(), tag)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._answer(status, "text/plain; charset=utf-8", f"{why}\n".encode())

    def _answer(self, status: HTTPStatus, kind: str | None, body: bytes, tag: str | None = None) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Security-Policy", f"{policy(live=True)}; frame-ancestors 'none'")
        if tag is not None:
            self.send_header("ETag", tag)
        if kind is not None:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002 - the base class's signature
        """Answer with an error of the protocol: a method that is not served is 405."""
        status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
        self.close_connection = True
        body = f"{message or status.phrase}\n".encode("ascii", "replace")
        self.send_response(status)
        for name, value in {**_HEADERS, "Connection": "close", "Content-Type": "text/plain; charset=utf-8"}.items():
            self.send_header(name, value)
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if getattr(self, "command", None) != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class has it so
        """Print nothing: the terminal is for the URL."""
