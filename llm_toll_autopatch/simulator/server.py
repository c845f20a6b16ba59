"""The simulator: a listening socket, a thread for each connection, and a list of what arrived."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
from typing import TYPE_CHECKING, Self

from llm_toll_autopatch.simulator.connection import Connection
from llm_toll_autopatch.simulator.routes import answer

if TYPE_CHECKING:
    from types import TracebackType

    from llm_toll_autopatch.simulator.received import ReceivedRequest

__all__ = ["Simulator"]

_HOST = "127.0.0.1"
_BACKLOG = 1024
_KEY = "simulated"
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class Simulator:
    """A local server that answers as OpenAI, Anthropic and Gemini do. It listens on 127.0.0.1 only.

    How it answers is a matter of the model's name: see `Scenario`. Use it as a context manager, or call `start()` and
    `stop()`. What arrived can still be read after it has stopped.

    Args:
        port: TCP port; 0 picks a free one.
    """

    def __init__(self, port: int = 0) -> None:
        self._wanted_port = port
        self._port: int | None = None
        self._lock = threading.Lock()
        self._requests: list[ReceivedRequest] = []
        self._connections: dict[threading.Thread, Connection] = {}
        self._stopping = threading.Event()
        self._acceptor: threading.Thread | None = None
        self._waker: socket.socket | None = None

    def start(self) -> Self:
        """Begin to listen.

        Returns:
            The simulator itself.

        Raises:
            RuntimeError: It is running.
            OSError: The port is taken.
        """
        if self._acceptor is not None:
            raise RuntimeError("The simulator is running.")
        # create_server lets a port be used again right after a stop, but not while another server has it.
        listener = socket.create_server((_HOST, self._wanted_port), backlog=_BACKLOG)
        listener.setblocking(False)
        self._port = listener.getsockname()[1]
        self._stopping = threading.Event()
        self._waker, wakened = socket.socketpair()
        self._acceptor = threading.Thread(
            target=self._accept, args=(listener, wakened), name="simulator-accept", daemon=True
        )
        self._acceptor.start()
        return self

    def stop(self) -> None:
        """End all connections and threads at once. Does nothing when the simulator is not running."""
        acceptor, waker, self._acceptor, self._waker = self._acceptor, self._waker, None, None
        if acceptor is None or waker is None:
            return
        self._stopping.set()
        waker.close()
        acceptor.join()
        with self._lock:
            connections = dict(self._connections)
        for connection in connections.values():
            connection.shut_down()
        for thread in connections:
            thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The address of the server, with its scheme and port.

        Raises:
            RuntimeError: The simulator was never started.
        """
        if self._port is None:
            raise RuntimeError("The simulator has no address before start().")
        return f"http://{_HOST}:{self._port}"

    @property
    def openai_base_url(self) -> str:
        """What `OpenAI(base_url=…)` takes."""
        return f"{self.url}/v1"

    @property
    def anthropic_base_url(self) -> str:
        """What `Anthropic(base_url=…)` takes."""
        return self.url

    @property
    def google_base_url(self) -> str:
        """What `genai.Client(http_options={"base_url": …})` takes."""
        return self.url

    def environment(self) -> dict[str, str]:
        """Return the environment variables that point the three SDKs here, with keys that are none.

        Where the environment names a proxy, `NO_PROXY` excludes this host from it.
        """
        variables = {
            "OPENAI_BASE_URL": self.openai_base_url,
            "OPENAI_API_KEY": _KEY,
            "ANTHROPIC_BASE_URL": self.anthropic_base_url,
            "ANTHROPIC_API_KEY": _KEY,
            "GOOGLE_GEMINI_BASE_URL": self.google_base_url,
            "GEMINI_API_KEY": _KEY,
        }
        if any(os.environ.get(name) or os.environ.get(name.lower()) for name in _PROXIES):
            excluded = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
            variables["NO_PROXY"] = variables["no_proxy"] = f"{excluded},{_HOST}" if excluded else _HOST
        return variables

    @property
    def requests(self) -> list[ReceivedRequest]:
        """The requests so far, in order of arrival: a new list each time."""
        with self._lock:
            return list(self._requests)

    def clear(self) -> None:
        """Forget the requests so far."""
        with self._lock:
            self._requests.clear()

    def wait_idle(self, timeout: float = 5.0) -> bool:
        """Wait until the answers to all requests that have arrived have ended.

        Args:
            timeout: Seconds to wait at the most.

        Returns:
            Whether they have.
        """
        deadline = time.monotonic() + timeout
        return all(request.wait(max(0.0, deadline - time.monotonic())) for request in self.requests)

    def _accept(self, listener: socket.socket, wakened: socket.socket) -> None:
        """Give each connection a thread, until the waker is closed."""
        with listener, wakened, selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(wakened, selectors.EVENT_READ)
            while True:
                selector.select()
                if self._stopping.is_set():
                    return
                # The client may be gone again, or there may be no file descriptor or thread left at the moment.
                with contextlib.suppress(OSError, RuntimeError):
                    self._connect(listener.accept()[0])

    def _connect(self, sock: socket.socket) -> None:
        connection = Connection(sock, answer, self._receive, self._stopping)
        thread = threading.Thread(target=self._serve, args=(connection,), name="simulator-connection", daemon=True)
        with self._lock:
            thread.start()
            self._connections[thread] = connection

    def _serve(self, connection: Connection) -> None:
        try:
            connection.serve()
        finally:
            with self._lock:
                self._connections.pop(threading.current_thread(), None)

    def _receive(self, request: ReceivedRequest) -> None:
        with self._lock:
            self._requests.append(request)
