"""What arrived, and how its answer ended."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llm_toll_autopatch.simulator.scenario import Scenario

__all__ = ["ReceivedRequest"]


@dataclass(slots=True, kw_only=True, eq=False)
class ReceivedRequest:
    """A request that the simulator received. It is filled in while the answer is written: `wait()` first.

    Attributes:
        method: HTTP method.
        path: Path without the query, percent-decoded.
        query: The query's parameters, the last value of each.
        headers: Header values by lower-case name.
        body: The parsed JSON; None without one.
        scenario: What the model's name stood for; None where there was no such name.
        status: HTTP status of the answer; 0 before it began.
        events_sent: Server-sent events that were written in full.
        completed: Whether the answer was written to its end. An answer that the scenario cuts never is.
        hung_up: Whether the client closed the connection before that.
        hung_up_after_s: Seconds from the request's arrival until that was noticed.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any = None
    scenario: Scenario | None = None
    status: int = 0
    events_sent: int = 0
    completed: bool = False
    hung_up: bool = False
    hung_up_after_s: float | None = None
    _arrived: float = field(default_factory=time.monotonic, repr=False)
    _ended: threading.Event = field(default_factory=threading.Event, repr=False)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the answer has ended, one way or another.

        Args:
            timeout: Seconds to wait at the most; None for ever.

        Returns:
            Whether it has ended.
        """
        return self._ended.wait(timeout)

    def note_hang_up(self) -> None:
        """Record that the client is gone."""
        self.hung_up_after_s = time.monotonic() - self._arrived
        self.hung_up = True

    def note_end(self) -> None:
        """Let `wait()` return."""
        self._ended.set()
