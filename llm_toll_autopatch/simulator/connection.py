"""One client's connection: HTTP/1.1 requests one after another, and their answers."""

from __future__ import annotations

import contextlib
import email.message
import email.parser
import json
import socket
import urllib.parse
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.simulator.received import ReceivedRequest

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from llm_toll_autopatch.simulator.answer import Answer

__all__ = ["Connection"]

_RECEIVE_SIZE = 1 << 16
_MAX_HEAD = 1 << 16
_END = b""  # a chunk of no bytes is what ends a chunked body


class _HungUpError(Exception):
    """The client is gone."""


class Connection:
    """A connection, served by the thread that calls `serve()`.

    Args:
        sock: The accepted socket; the connection closes it.
        answer: Gives the answer to a request.
        receive: Told of each request before it is answered.
        stopping: Set when the server stops; then whoever set it shuts the socket down, which wakes the thread.
    """

    def __init__(
        self,
        sock: socket.socket,
        answer: Callable[[ReceivedRequest], Answer],
        receive: Callable[[ReceivedRequest], None],
        stopping: threading.Event,
    ) -> None:
        self._socket = sock
        self._answer = answer
        self._receive = receive
        self._stopping = stopping
        self._buffer = b""

    def shut_down(self) -> None:
        """End the connection at once, from another thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def serve(self) -> None:
        """Answer requests until the client, the scenario or the server ends the connection."""
        with self._socket, contextlib.suppress(OSError, _HungUpError):
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while self._serve_one():
                pass

    def _serve_one(self) -> bool:
        """Read one request and answer it. Return whether another may follow."""
        head = self._read_until(b"\r\n\r\n")
        if head is None:
            return False
        request = _parse(head)
        if request is None:
            self._socket.sendall(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            return False
        if request.headers.get("expect", "").lower() == "100-continue":
            self._socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.body = _parsed(self._read_body(request), request.headers.get("content-type", ""))
        keep = request.headers.get("connection", "").lower() != "close"
        self._receive(request)
        try:
            answer = self._answer(request)
            request.status = answer.status
            if answer.events is None:
                request.completed = self._send_body(answer, keep=keep)
            else:
                request.completed = self._send_events(answer, request, keep=keep)
        except (OSError, _HungUpError):
            if not self._stopping.is_set():
                request.note_hang_up()
            return False
        finally:
            request.note_end()
        return keep and request.completed

    def _send_body(self, answer: Answer, *, keep: bool) -> bool:
        """Write a whole answer. Return whether that was all of it."""
        if answer.first_s:
            self._pause(answer.first_s)
        head = _head(answer, f"content-length: {len(answer.body)}", keep=keep)
        body = answer.body[: len(answer.body) // 2] if answer.cut else answer.body
        self._socket.sendall(head + body)
        return not answer.cut

    def _send_events(self, answer: Answer, request: ReceivedRequest, *, keep: bool) -> bool:
        """Write a stream, one event a chunk. Return whether it reached its end."""
        assert answer.events is not None
        pending = _head(answer, "transfer-encoding: chunked", keep=keep)
        wait = answer.first_s
        event = next(answer.events, _END)
        while event:
            if wait and pending:
                self._socket.sendall(pending)
                pending = b""
            self._pause(wait)
            following = next(answer.events, _END)
            # The end goes out with the last event: a client that has seen that may close at once.
            end = b"0\r\n\r\n" if following == _END else b""
            self._socket.sendall(b"%b%x\r\n%b\r\n%b" % (pending, len(event), event, end))
            request.events_sent += 1
            event, pending, wait = following, b"", answer.delay_s
        if pending:
            self._socket.sendall(pending if event is None else pending + b"0\r\n\r\n")
        return event is not None

    def _pause(self, seconds: float) -> None:
        """Wait; notice a client that closes its end.

        Raises:
            _HungUpError: It did.
            OSError: It reset the connection.
        """
        self._socket.settimeout(seconds)
        try:
            if not self._socket.recv(1, socket.MSG_PEEK):
                raise _HungUpError
        except (TimeoutError, BlockingIOError):
            return
        finally:
            self._socket.settimeout(None)
        # The next request is here already, so that the socket cannot tell us any more.
        if self._stopping.wait(seconds):
            raise _HungUpError

    def _read_until(self, mark: bytes) -> bytes | None:
        """Return what comes before the mark; None when the client closed, or sent too much without it."""
        while mark not in self._buffer:
            received = self._socket.recv(_RECEIVE_SIZE) if len(self._buffer) < _MAX_HEAD else b""
            if not received:
                return None
            self._buffer += received
        before, self._buffer = self._buffer.split(mark, 1)
        return before

    def _read(self, size: int) -> bytes:
        """Return exactly `size` bytes."""
        parts = [self._buffer]
        have = len(self._buffer)
        while have < size:
            received = self._socket.recv(_RECEIVE_SIZE)
            if not received:
                raise _HungUpError
            parts.append(received)
            have += len(received)
        whole = b"".join(parts)
        self._buffer = whole[size:]
        return whole[:size]

    def _read_body(self, request: ReceivedRequest) -> bytes:
        """Return a request's body, however it is framed."""
        if "chunked" not in request.headers.get("transfer-encoding", "").lower():
            length = request.headers.get("content-length", "0")
            return self._read(int(length) if length.isdigit() else 0)
        parts = []
        while True:
            size = self._read_until(b"\r\n")
            if size is None:
                raise _HungUpError
            length_ = int(size.split(b";")[0], 16)
            parts.append(self._read(length_))
            self._read_until(b"\r\n")
            if not length_:
                return b"".join(parts)


def _parse(head: bytes) -> ReceivedRequest | None:
    """Return the request that a head announces; None when it is not HTTP/1."""
    first, *lines = head.decode("latin-1").split("\r\n")
    method, _, rest = first.partition(" ")
    target, _, version = rest.rpartition(" ")
    if not version.startswith("HTTP/1."):
        return None
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    path, _, query = target.partition("?")
    return ReceivedRequest(
        method=method,
        path=urllib.parse.unquote(path),
        query=dict(urllib.parse.parse_qsl(query, keep_blank_values=True)),
        headers=headers,
    )


def _parsed(body: bytes, kind: str) -> Any:
    """Return a body's JSON, or the fields of a form, of whose files the names are kept; None when it is neither."""
    if kind.startswith("multipart/form-data"):
        form = email.parser.BytesParser().parsebytes(b"content-type: " + kind.encode("latin-1") + b"\r\n\r\n" + body)
        return dict(_field(part) for part in form.walk() if not part.is_multipart())
    try:
        return json.loads(body) if body else None
    except ValueError:
        return None


def _field(part: email.message.Message) -> tuple[str, str]:
    name = str(part.get_param("name", header="content-disposition"))
    payload = part.get_payload(decode=True)
    return name, part.get_filename() or (payload.decode() if isinstance(payload, bytes) else "")


def _head(answer: Answer, framing: str, *, keep: bool) -> bytes:
    """Return the status line and the headers of an answer, the blank line included."""
    try:
        phrase = HTTPStatus(answer.status).phrase
    except ValueError:
        phrase = "Overloaded"
    lines = [f"HTTP/1.1 {answer.status} {phrase}", *(f"{name}: {value}" for name, value in answer.headers.items())]
    lines += [framing, f"connection: {'keep-alive' if keep else 'close'}", "\r\n"]
    return "\r\n".join(lines).encode("latin-1")
