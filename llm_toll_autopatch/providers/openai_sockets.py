"""OpenAI's websockets: Responses, Realtime and Live.

All of the SDK's ways to receive pass every event through a connection's `parse_event`. What is sent is looked at only
when there are limits: a connection, or a response, is not begun when nothing is left.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import wrapt

from llm_toll_autopatch import settings
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.providers import calls
from llm_toll_autopatch.providers.asked import asking
from llm_toll_autopatch.providers.attached import Attached
from llm_toll_autopatch.providers.socket_session import Link, Session, Step
from llm_toll_autopatch.providers.target import Caller, Target
from llm_toll_autopatch.readers.fields import get, text
from llm_toll_autopatch.readers.live_session import LiveSessions
from llm_toll_autopatch.readers.realtime import InputTranscriptions, RealtimeResponses
from llm_toll_autopatch.readers.responses import Responses

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llm_toll_autopatch.providers.target import Wrapper, WrapperFactory
    from llm_toll_autopatch.records import Outcome
    from llm_toll_autopatch.settings import Settings

__all__ = ["TARGETS"]

_TRANSCRIPTION = "conversation.item.input_audio_transcription."
_TERMINAL = frozenset({"response.completed", "response.failed", "response.incomplete"})
_IN_ORDER = frozenset({1000, 1001, 1005})  # RFC 6455, section 7.4.1

_links: Attached[Link] = Attached()


def _of_responses(event: Any, session: Session) -> Step | None:
    """Say what an event of the Responses API is about: deltas do not name their response, but its lane."""
    lane = text(event, "stream_id")
    response = get(event, "response")
    work = text(response, "id") or session.lanes.get(lane)
    if work is None:
        return None
    ends: Outcome | None = None
    if event.type in _TERMINAL:
        session.lanes.pop(lane, None)
        ends = "completed"
    else:
        session.lanes[lane] = work
    return Step(work, Responses, event, response is not None, ends, {"model": text(response, "model")})


def _of_realtime(event: Any, session: Session) -> Step | None:
    """Say what an event of the Realtime API is about, and note the models that the session names."""
    kind: str = event.type
    if kind.startswith(_TRANSCRIPTION):
        what = kind.removeprefix(_TRANSCRIPTION)
        if what not in ("delta", "completed", "failed"):
            return None
        ends = _TRANSCRIBED.get(what)
        work = ("transcription", text(event, "item_id"), get(event, "content_index"))
        return Step(work, InputTranscriptions, event, what != "failed", ends, {"model": session.speech})
    if (about := get(event, "session")) is not None:
        _note_model(about, session)
        speech = get(get(get(about, "audio"), "input"), "transcription") or get(about, "input_audio_transcription")
        session.speech = text(speech, "model") or session.speech
        return None
    response = get(event, "response")
    work_id = text(response, "id") or text(event, "response_id")
    if work_id is None:
        return None
    request = {"model": session.model, "served": session.served}
    ends = "completed" if kind == "response.done" else None
    return Step(work_id, RealtimeResponses, event, response is not None, ends, request)


_TRANSCRIBED: Mapping[str, Outcome] = {"completed": "completed", "failed": "error"}


def _of_live(event: Any, session: Session) -> Step | None:
    """Say what an event of a Live session is about: the session, or a response that it delegates."""
    if event.type == "response.event":
        inner = get(event, "event")
        if not isinstance(inner, dict) or not isinstance(inner.get("type"), str):
            return None
        return _of_responses(SimpleNamespace(**{**inner, "stream_id": text(event, "delegation_id")}), session)
    about = get(event, "session")
    if about is not None:
        _note_model(about, session)
        session.name = text(about, "id") or session.name  # a reconnection may have begun another one, from 0 seconds
    if get(event, "usage") is None:
        return None
    request = {"model": session.model, "served": session.served, "session": session.name}
    ends: Outcome | None = "completed" if event.type == "session.closed" else None
    return Step(("session", session.name), LiveSessions, event, begins=True, ends=ends, request=request)


def _note_model(about: Any, session: Session) -> None:
    session.served = text(about, "model") or session.served
    session.model = session.model or session.served


def _opened(connection: Any) -> Link:
    """Return the link of a connection that is being opened. Its handshake says where to, and for which model."""
    host, model, joined = None, "", None
    request = get(get(connection, "_connection"), "request")
    if (path := text(request, "path")) is not None:
        url = urlsplit(path)
        query = parse_qs(url.query)
        model = next((query[name][0] for name in ("model", "deployment") if name in query), "")
        parts = url.path.split("/")
        if parts[-1] == "attach":  # a sideband: the session has another connection too
            joined = parts[-2]
        host = urlsplit(f"//{request.headers.get('Host', '')}").hostname
    label = next((each for each in ("azure", "bedrock") if each in (host or "")), "openai")
    link = Link(Session(settings.active(), Caller(label, host), model))
    link.join(joined)
    return link


def _outcome(connection: Any) -> Outcome:
    """Return how a connection ends that is about to be closed: it may be broken already."""
    code = get(get(connection, "_connection"), "close_code")
    return "closed" if code is None or code in _IN_ORDER else "error"


def _opening(target: Target, _caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap a connection's `__init__`: who opens it pays, whoever reads from it. Closing it ends what is open.

    `close` is watched on the instance, for most of these classes inherit theirs from one that has no other purpose
    in common with the API.
    """

    def wrapper(wrapped: Any, connection: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        wrapped(*args, **kwargs)
        try:
            link = _links.to(connection, lambda: _opened(connection))
            if link.session.active is not None:
                watch = _async_close(link) if target.is_async else _close(link)
                connection.close = wrapt.FunctionWrapper(connection.close, watch)
        except Exception as error:
            failures.note(f"opening a connection of {target.method}", error)

    return wrapper


def _close(link: Link) -> Wrapper:
    def wrapper(wrapped: Any, connection: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        link.end(_outcome(connection))
        return wrapped(*args, **kwargs)

    return wrapper


def _async_close(link: Link) -> Wrapper:
    async def close(wrapped: Any, connection: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        link.end(_outcome(connection))
        answer = await wrapped(*args, **kwargs)
        await link.session.written()
        return answer

    def wrapper(wrapped: Any, connection: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return calls.named_like(wrapped, close(wrapped, connection, args, kwargs))

    return wrapper


def _entering(target: Target, _caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap what opens a connection."""
    return asking(target, lambda _manager: settings.active())


def _sending(target: Target, _caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap what sends an event, which may ask for a response."""

    def configured(connection: Any, event: Any) -> Settings | None:
        if get(event, "type") != "response.create":
            return None
        return _links.to(connection, lambda: _opened(connection)).session.active

    return asking(target, configured)


def _parsing(route: Callable[[Any, Session], Step | None]) -> WrapperFactory:
    """Return what wraps the method that every event passes through, whichever way it is received."""

    def factory(target: Target, _caller: Callable[[Any], Caller]) -> Wrapper:
        def read(connection: Any, event: Any) -> None:
            if isinstance(event, dict):  # of a kind that this version of the SDK does not know
                event = SimpleNamespace(**event)
            if not isinstance(get(event, "type"), str):
                return
            link = _links.to(connection, lambda: _opened(connection))
            if (about := get(event, "session")) is not None:
                link.join(text(about, "id"))
            if (step := route(event, link.session)) is not None:
                link.session.take(step, target)

        def wrapper(wrapped: Any, connection: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
            event = wrapped(*args, **kwargs)
            try:
                read(connection, event)
            except Exception as error:
                failures.note(f"reading an event of {target.method}", error)
            return event

        return wrapper

    return factory


def _socket(module: str, name: str, method: str, route: Callable[[Any, Session], Step | None]) -> tuple[Target, ...]:
    """Return the rows of a class of connections, of what opens them, and of their async twins."""
    parsing = _parsing(route)
    return tuple(
        Target(f"openai.resources.{module}", path, method, wrapper, None, is_async, wrapper is not parsing)
        for cls, enter, is_async in ((name, "__enter__", False), (f"Async{name}", "__aenter__", True))
        for path, wrapper in (
            (f"{cls}Manager.{enter}", _entering),
            (f"{cls}Manager.enter", _entering),
            (f"{cls}.__init__", _opening),
            (f"{cls}.send", _sending),
            (f"{cls}.parse_event", parsing),
        )
    )


TARGETS = (
    *_socket("responses.responses", "ResponsesConnection", "responses.connect", _of_responses),
    *_socket("beta.responses.responses", "ResponsesConnection", "beta.responses.connect", _of_responses),
    *_socket("realtime.realtime", "RealtimeConnection", "realtime.connect", _of_realtime),
    *_socket("beta.realtime.realtime", "RealtimeConnection", "beta.realtime.connect", _of_realtime),
    *_socket("live.live", "LiveConnection", "live.connect", _of_live),
    *_socket("live.forks", "ForksConnection", "live.forks.connect", _of_live),
    *_socket("live.sideband", "SidebandConnection", "live.sideband.connect", _of_live),
)
