"""A websocket server that says what a test tells it to, OpenAI's clients that listen to it, and what it can say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from threading import Thread
from typing import Any

import openai
import pytest
from versions import came_later
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

Event = dict[str, Any]
ROADS: dict[str, Event] = {
    "responses.connect": {},
    "beta.responses.connect": {},
    "realtime.connect": {"model": "gpt-realtime"},
    "beta.realtime.connect": {"model": "gpt-realtime"},
    "live.connect": {},
    "live.forks.connect": {"session_id": "sess_parent"},
    "live.sideband.connect": {"session_id": "sess_1"},
}
RESPONSES = ("responses.connect", "beta.responses.connect")
REALTIME = ("realtime.connect", "beta.realtime.connect")
LIVE = ("live.connect", "live.forks.connect", "live.sideband.connect")


@contextmanager
def served(events: list[Event], close: int | None) -> Iterator[str]:
    """A server that sends these events, and then waits or closes with a code."""

    def handle(connection: Any) -> None:
        try:
            for event in events:
                connection.send(json.dumps(event))
            if close is not None:
                connection.close(close, "no more")
            for _ in connection:
                pass
        except ConnectionClosed:
            pass

    with serve(handle, "127.0.0.1", 0) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.socket.getsockname()[1]}/v1"
        finally:
            server.shutdown()
            thread.join()


def sync_client(url: str) -> Any:
    return openai.OpenAI(base_url=url, websocket_base_url=url.replace("http", "ws"), api_key="sim")


def async_client(url: str) -> Any:
    return openai.AsyncOpenAI(base_url=url, websocket_base_url=url.replace("http", "ws"), api_key="sim")


def method(client: Any, road: str) -> Any:
    """The method of a road, where this version of the SDK has it."""
    since = came_later("openai", road)
    if since is not None:
        pytest.skip(f"came with openai {since}: {road}")
    return reduce(getattr, road.split("."), client)


Inside = Callable[[Any], None]


def talk(
    kind: str, road: str, events: list[Event], *, close: int | None = None, inside: Inside | None = None
) -> list[Any]:
    """What the user receives of these events, in a `with` that he leaves then."""

    def sync(url: str) -> list[Any]:
        with sync_client(url) as client, method(client, road)(**ROADS[road]) as live:
            got = [live.recv() for _ in events]
            if inside is not None:
                inside(live)
            return got

    async def by_task(url: str) -> list[Any]:
        async with async_client(url) as client:
            async with method(client, road)(**ROADS[road]) as live:
                got = [await live.recv() for _ in events]
                if inside is not None:
                    inside(live)
                return got

    with served(events, close) as url:
        return sync(url) if kind == "sync" else asyncio.run(by_task(url))


def response(what: str, name: str, usage: Event | None = None, **more: Any) -> Event:
    """An event of the Responses API with the whole response."""
    body: Event = {"id": name, "object": "response", "model": "gpt-5-mini", "output": [], "usage": usage}
    return {"type": f"response.{what}", "sequence_number": 0, "response": body, **more}


def delta(text: str, **more: Any) -> Event:
    return {"type": "response.output_text.delta", "delta": text, "item_id": "msg", "sequence_number": 1, **more}


def tokens(given: int, written: int) -> Event:
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": given + written,
    }


def spoken(what: str, name: str, usage: Event | None = None) -> Event:
    """An event of the Realtime API with the whole response."""
    return {"type": f"response.{what}", "event_id": "e", "response": {"id": name, "usage": usage}}


SPOKEN: Event = {
    "input_tokens": 100,
    "input_token_details": {
        "audio_tokens": 60,
        "text_tokens": 30,
        "image_tokens": 10,
        "cached_tokens": 50,
        "cached_tokens_details": {"audio_tokens": 40, "text_tokens": 7, "image_tokens": 3},
    },
    "output_tokens": 20,
    "output_token_details": {"audio_tokens": 15, "text_tokens": 5},
    "total_tokens": 120,
}


def heard(what: str, item: str, **more: Any) -> Event:
    """An event of the transcription of what the user says."""
    kind = f"conversation.item.input_audio_transcription.{what}"
    return {"type": kind, "event_id": "e", "item_id": item, "content_index": 0, **more}


def lasted(seconds: int, what: str = "session.usage.updated", **more: Any) -> Event:
    return {"type": what, "event_id": "e", "usage": {"seconds": seconds, "active_seconds": seconds - 1}, **more}


SESSION: Event = {"id": "sess_1", "model": "gpt-live-1", "expires_at": 1, "status": "active"}
STARTED: Event = {"type": "session.started", "event_id": "e", "session": SESSION}
CREATED: Event = {
    "type": "session.created",
    "event_id": "e",
    "session": {
        "id": "sess_r",
        "type": "realtime",
        "model": "gpt-realtime-2025-08-28",
        "audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}},
        "input_audio_transcription": {"model": "gpt-4o-transcribe"},
    },
}
FREE: list[Event] = [
    {"type": "error", "event_id": "e", "error": {"type": "invalid_request_error", "message": "no"}},
    {"type": "rate_limits.updated", "event_id": "e", "rate_limits": []},
    {"type": "of.tomorrow", "event_id": "e"},
]
