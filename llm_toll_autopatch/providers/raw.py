"""Raw responses: `with_raw_response` and `with_streaming_response` of the SDKs that Stainless generates.

A body that has been read already is read again from memory. One that has not is metered as the user reads it: that one
response is given a class in which `iter_bytes`, through which all other ways of reading go, lets the decoded bytes pass
here on their way. What he parses into a `Stream` gets the proxy that it would get otherwise, and
the bytes are left alone. Nothing is read that the user does not read. (`iter_raw` is the wire's own bytes and passes
by: such a call is estimated.)
"""

from __future__ import annotations

import json
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, get_args

from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.metering import outcome_of

if TYPE_CHECKING:
    from llm_toll_autopatch.metering import Call
    from llm_toll_autopatch.records import Outcome

__all__ = ["deliver"]

_AWS_EVENTS = "application/vnd.amazon.eventstream"
_BLANK_LINES = (b"\n\n", b"\r\n\r\n", b"\r\r")


def deliver(call: Call, raw: Any, stream: Callable[[Any], Any]) -> Any:
    """Deliver a raw response.

    Args:
        call: The call that it answers.
        raw: The SDK's `APIResponse`, sync or async, or its legacy form.
        stream: Puts the metering proxy around a `Stream` that the user parses the response into.
    """
    http = raw.http_response
    # The legacy form and the newer one have different names for this.
    streams = bool(getattr(raw, "_stream", False) or getattr(raw, "_is_sse_stream", False))
    if http.is_closed and not streams:  # the body is in memory, nothing more is awaited
        call.finish(_parsed(http))
        return raw
    call.reader.hold_nothing()
    tap = _Events(call, raw) if streams else _Body(call, http)
    _hook_parse(raw, tap, stream)
    _tap(http, tap)
    weakref.finalize(http, tap.end, "abandoned", from_finalizer=True)
    return raw


def _is_json(http: Any) -> bool:
    kind: str
    kind, _, _ = http.headers.get("content-type", "").partition(";")
    return kind.strip().lower().endswith("json")


def _parsed(http: Any) -> Any:
    """Return the JSON of a body that has been read; None when it is something else: text, or a recording."""
    if not _is_json(http):
        return None
    try:
        return http.json()
    except ValueError:
        return None


class _Tap:
    """Sees the decoded bytes of one body on their way to the user. Never raises."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.inside = False
        """Whether the response is being asked for its next bytes: at the end of the body it closes itself."""
        self.parsed: weakref.ref[Any] | None = None
        """The `Stream` that the user had the body parsed into, whose proxy does the metering."""

    def feed(self, data: bytes) -> None:
        if self.parsed is not None or not self._call.open:
            return
        try:
            self._take(data)
        except Exception as error:
            failures.note(f"reading the body of {self._call.method}", error)

    def stop_if_dear(self) -> None:
        """Raise `BudgetExceededError` if what has passed has reached a budget that cuts streams off."""
        call = self._call
        allowance = call.allowance
        if allowance is not None and call.open and call.reader.output_chars > allowance.chars:
            allowance.renew(call, call.reader.output_chars)

    def end(self, outcome: Outcome, error: BaseException | None = None, *, from_finalizer: bool = False) -> None:
        if not self._call.open or (self.parsed is not None and not self._closed_from_outside(outcome)):
            return
        if outcome == "completed":
            self._complete()
        else:
            self._call.end(outcome, error, from_finalizer=from_finalizer)

    def _closed_from_outside(self, outcome: Outcome) -> bool:
        """Return whether the user closes the response below a parsed stream, which closes it too when it has ended."""
        stream = None if self.parsed is None else self.parsed()
        if outcome != "closed" or stream is None:
            return False
        steps = vars(stream).get("_iterator")  # a generator, async in an async stream; there is none before the first
        running = getattr(steps, "gi_running", False) or getattr(steps, "ag_running", False)
        over = (
            steps is not None and getattr(steps, "gi_frame", None) is None and getattr(steps, "ag_frame", None) is None
        )
        return not running and not over

    def take_parsed(self, parsed: Any) -> None:
        """Take what the user had the body parsed into; of a body that passed here nothing is left to learn."""
        if self._call.open:
            self._call.finish(parsed)

    def _take(self, data: bytes) -> None:
        raise NotImplementedError

    def _complete(self) -> None:
        raise NotImplementedError


class _Body(_Tap):
    """A body that is one JSON value, or else has nothing to say about usage."""

    def __init__(self, call: Call, http: Any) -> None:
        super().__init__(call)
        self._parts: list[bytes] | None = [] if _is_json(http) else None

    def _take(self, data: bytes) -> None:
        if self._parts is not None:
            self._parts.append(data)

    def _complete(self) -> None:
        parts, self._parts = self._parts, None
        try:
            response = None if parts is None else json.loads(b"".join(parts))
        except ValueError:
            response = None
        self._call.finish(response)


class _Events(_Tap):
    """A body of server-sent events, which become chunks in the SDK's own way, event by event."""

    def __init__(self, call: Call, raw: Any) -> None:
        super().__init__(call)
        call.stream = True
        self._client = raw._client
        self._synthesizes = bool(getattr(raw._options, "synthesize_event_and_data", False))
        self._decoder = self._client._make_sse_decoder()
        self._chunk_type = next(iter(get_args(raw._stream_cls)), object)
        aws = raw.http_response.headers.get("content-type", "").startswith(_AWS_EVENTS)
        self._whole = _whole_frames if aws else _whole_events
        self._pending = b""
        self._failed = False

    def _take(self, data: bytes) -> None:
        data = self._pending + data
        end = self._whole(data)
        self._pending = data[end:]
        if end:
            self._decode(data[:end])

    def _decode(self, data: bytes) -> None:
        for event in self._decoder.iter_bytes(iter((data,))):
            if event.data.startswith("[DONE]"):
                self._complete()
            elif event.data and event.event != "ping":
                self._chunk(event.event, json.loads(event.data))

    def _chunk(self, name: str | None, data: Any) -> None:
        if isinstance(data, Mapping) and data.get("error"):
            self._failed = True
            return
        named = self._synthesizes or (name or "").startswith("thread.")
        value = {"data": data, "event": name} if named else data
        # The last argument is the response, which the SDK only puts into its errors.
        self._call.feed(self._client._process_response_data(data=value, cast_to=self._chunk_type, response=None))

    def _complete(self) -> None:
        if self._pending:
            data, self._pending = self._pending, b""
            self._decode(data)
        self._call.end("error" if self._failed else "completed")


def _whole_events(data: bytes) -> int:
    """Return where the last whole event ends: at a blank line."""
    return max(found + len(line) if (found := data.rfind(line)) >= 0 else 0 for line in _BLANK_LINES)


def _whole_frames(data: bytes) -> int:
    """Return where the last whole frame of an AWS event stream ends: each begins with its length, in four bytes."""
    end = 0
    while len(data) >= end + 4 and (size := int.from_bytes(data[end : end + 4])) and len(data) >= end + size:
        end += size
    return end


def _hook_parse(raw: Any, tap: _Tap, stream: Callable[[Any], Any]) -> None:
    """Meter what `parse()` returns. The SDK keeps it, so that the same comes back each time."""
    options = raw._options
    parse_further = options.post_parser

    def hook(parsed: Any) -> Any:
        parsed = parse_further(parsed) if callable(parse_further) else parsed
        try:
            if hasattr(type(parsed), "__stream__"):
                tap.parsed = weakref.ref(parsed)
                return stream(parsed)
            tap.take_parsed(parsed)
        except Exception as error:
            failures.note("reading a raw response", error)
        return parsed

    options.post_parser = hook


@cache  # type: ignore[arg-type,unused-ignore]
def _tapped(cls: Any) -> Any:
    ours = {"iter_bytes": _iter_bytes, "aiter_bytes": _aiter_bytes, "close": _close, "aclose": _aclose}
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (cls,), {**ours, **names, "_toll_bare": cls})


def _tap(http: Any, tap: _Tap) -> None:
    """Put `tap` on the response."""
    # Methods on the object itself would make it refer to itself, and leave it to the garbage collector when dropped.
    http._toll_tap = tap
    bare: Any = type(http)
    http.__class__ = _tapped(bare)


def _bare(http: Any) -> Any:
    """Return the class that the response had."""
    return vars(type(http)).get("_toll_bare", type(http))


def _restore(http: Any) -> None:
    """Give the response back the class that it had, once nothing more is to be learnt from it."""
    http.__class__ = _bare(http)


def _iter_bytes(http: Any, *args: Any, **kwargs: Any) -> Iterator[bytes]:
    tap = http._toll_tap
    source = _bare(http).iter_bytes(http, *args, **kwargs)
    outcome: Outcome = "closed"
    failure: BaseException | None = None
    try:
        while True:
            tap.inside = True
            try:
                data = next(source)
            except StopIteration:
                outcome = "completed"
                return
            finally:
                tap.inside = False
            tap.feed(data)
            yield data
            tap.stop_if_dear()
    except GeneratorExit:
        source.close()
        raise
    except BaseException as error:
        outcome, failure = outcome_of(error), error
        source.close()
        raise
    finally:
        tap.end(outcome, failure)
        _restore(http)


async def _aiter_bytes(http: Any, *args: Any, **kwargs: Any) -> AsyncIterator[bytes]:
    tap = http._toll_tap
    source = _bare(http).aiter_bytes(http, *args, **kwargs)
    outcome: Outcome = "closed"
    failure: BaseException | None = None
    try:
        while True:
            tap.inside = True
            try:
                data = await anext(source)
            except StopAsyncIteration:
                outcome = "completed"
                return
            finally:
                tap.inside = False
            tap.feed(data)
            yield data
            tap.stop_if_dear()
    except GeneratorExit:
        tap.end(outcome)
        await source.aclose()
        raise
    except BaseException as error:
        outcome, failure = outcome_of(error), error
        tap.end(outcome, failure)
        await source.aclose()
        raise
    finally:
        tap.end(outcome, failure)
        _restore(http)


def _close(http: Any) -> None:
    tap = http._toll_tap
    try:
        _bare(http).close(http)
    finally:
        if not tap.inside:
            tap.end("closed")
            _restore(http)


async def _aclose(http: Any) -> None:
    tap = http._toll_tap
    try:
        await _bare(http).aclose(http)
    finally:
        if not tap.inside:
            tap.end("closed")
            _restore(http)
