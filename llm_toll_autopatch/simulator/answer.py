"""What a wire format hands to the server: a status, headers, and a body or a series of events."""

from __future__ import annotations

import json
import os
import string
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from llm_toll_autopatch.simulator.scenario import Scenario

__all__ = ["Answer", "Call", "Event", "compact", "new_id"]

_ALPHABET = (string.ascii_letters + string.digits).encode()
_TABLE = bytes(_ALPHABET[byte % len(_ALPHABET)] for byte in range(256))


def compact(value: Any) -> bytes:
    """Return JSON without spaces, as the services send it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def new_id(prefix: str, length: int = 24) -> str:
    """Return a random id of the services' kind: `prefix` and `length` letters and digits."""
    return prefix + os.urandom(length).translate(_TABLE).decode()


class Event(NamedTuple):
    """One server-sent event, ready for the wire.

    Attributes:
        data: All of its bytes, the blank line that ends it included.
        content: Whether it carries text, reasoning, a refusal or part of a tool call.
    """

    data: bytes
    content: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request, as far as a wire format looks at it.

    Attributes:
        body: The parsed JSON object.
        params: Named groups of the route's pattern.
        scenario: What the model's name stands for.
        query: The query's parameters.
        headers: The request's headers, by lower-case names.
        url: The simulator's own address, as the client called it.
    """

    body: Mapping[str, Any]
    params: Mapping[str, str]
    scenario: Scenario
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer.

    Attributes:
        status: HTTP status.
        headers: Its own headers; the server adds those of the transfer.
        body: The whole body; ignored when there are events.
        events: The events of a stream. None in their place cuts the connection.
        cut: Whether the connection is cut in the middle of the body.
        first_s: Seconds before the body or the first event.
        delay_s: Seconds between two events.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    events: Iterator[bytes | None] | None = None
    cut: bool = False
    first_s: float = 0.0
    delay_s: float = 0.0

    @classmethod
    def unary(cls, value: Any, scenario: Scenario, headers: Mapping[str, str]) -> Answer:
        """Answer with one JSON value."""
        return cls(
            headers={"content-type": "application/json", **headers},
            body=compact(value),
            cut=scenario.cut is not None,
            first_s=scenario.first_ms / 1000,
        )

    @classmethod
    def stream(
        cls,
        events: Iterator[Event],
        scenario: Scenario,
        headers: Mapping[str, str],
        *,
        error: Callable[[int], bytes],
    ) -> Answer:
        """Answer with a stream of events.

        Args:
            events: The events of an undisturbed stream.
            scenario: Where it is disturbed, and how fast it goes.
            headers: The answer's own headers.
            error: Gives the bytes of the wire format's error event, from the number of events before it.
        """
        return cls(
            headers={"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", **headers},
            events=_disturbed(events, scenario, error),
            first_s=scenario.first_ms / 1000,
            delay_s=scenario.delay_ms / 1000,
        )

    @classmethod
    def error(cls, status: int, value: Any, headers: Mapping[str, str] | None = None) -> Answer:
        """Answer with an error's JSON."""
        return cls(status=status, headers={"content-type": "application/json", **(headers or {})}, body=compact(value))


def _disturbed(events: Iterator[Event], scenario: Scenario, error: Callable[[int], bytes]) -> Iterator[bytes | None]:
    """Yield the events' bytes up to where the scenario cuts the stream or makes it fail.

    That is right behind the last content event that it lets pass; for 0 it is before the first.
    """
    contents = 0
    for number, event in enumerate(events):
        if event.content and 0 in (scenario.cut, scenario.error_after):
            yield None if scenario.cut == 0 else error(number)
            return
        yield event.data
        contents += event.content
        if event.content and contents in (scenario.cut, scenario.error_after):
            yield None if contents == scenario.cut else error(number + 1)
            return
