"""Live sessions, by the real client, against a websocket server that says what the test tells it to."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import websockets
from google import genai

from llm_toll_autopatch import MemorySink, flush, patched

pytestmark = [
    pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning"),
    pytest.mark.filterwarnings("ignore::llm_toll_autopatch.UnknownPriceWarning"),
]

MODEL = "gemini-3.8-flash-live"
DONE: dict[str, Any] = {"serverContent": {"turnComplete": True}}


def said(text: str) -> dict[str, Any]:
    return {"serverContent": {"modelTurn": {"parts": [{"text": text}]}}}


def used(given: int, written: int) -> dict[str, Any]:
    return {
        "usageMetadata": {
            "promptTokenCount": given,
            "responseTokenCount": written,
            "totalTokenCount": given + written,
            "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": given - 1}],
            "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": written}],
        }
    }


@asynccontextmanager
async def session(*messages: dict[str, Any], close: int | None = None) -> AsyncIterator[Any]:
    """A session that sends these messages, and then waits or closes with a code."""

    async def serve(connection: Any) -> None:
        await connection.recv()
        await connection.send(json.dumps({"setupComplete": {}}))
        for message in messages:
            await connection.send(json.dumps(message))
        if close is not None:
            await connection.close(close, "no more")
        await connection.wait_closed()

    async with websockets.serve(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = genai.Client(api_key="sim", http_options={"base_url": f"http://127.0.0.1:{port}"})
        # With a key the SDK insists on wss, for which there is no certificate here.
        client._api_client._websocket_base_url = lambda _options=None: f"ws://127.0.0.1:{port}"
        client._api_client._websocket_ssl_ctx = {}
        try:
            async with client.aio.live.connect(model=MODEL) as opened:
                yield opened
        finally:
            await client.aio.aclose()
            client.close()


@pytest.fixture
def sink() -> Iterator[MemorySink]:
    """Where the records of a patched test go."""
    with patched() as sink:
        assert isinstance(sink, MemorySink)
        yield sink


def figures(sink: MemorySink) -> list[tuple[str, str, int, int]]:
    """How the calls ended, and their figures."""
    flush(5)
    return [(each.outcome, each.usage_source, each.usage.input_tokens, each.usage.output_tokens) for each in sink]


async def test_each_turn_is_one_record(sink: MemorySink) -> None:
    """A turn is a record when it ends, with the figures that came last in it, wherever they come."""
    messages = (
        said("Falling"), used(10, 3), {**DONE, **used(10, 7)},  # growing, and with the end
        said("water"), used(30, 5), DONE,  # before the end
        {"sessionResumptionUpdate": {"newHandle": "x", "resumable": True}},
        said("speeds up"), DONE, used(50, 2),  # behind the end
    )  # fmt: skip
    async with session(*messages) as live:
        assert len([message async for message in live.receive()]) == 3
        assert figures(sink) == [("completed", "reported", 10, 7)]
        assert len([message async for message in live.receive()]) == 3
        assert len([message async for message in live.receive()]) == 3
        assert len(sink) == 2
        await live._receive()
    assert figures(sink)[1:] == [("completed", "reported", 30, 5), ("completed", "reported", 50, 2)]
    record = sink.records[0]
    assert (record.operation, record.method, record.model, record.provider) == ("live", "live.connect", MODEL, "google")
    assert (record.usage.input_audio_tokens, record.usage.output_audio_tokens) == (9, 7)
    assert record.stream
    assert record.endpoint == "127.0.0.1"


async def test_a_turn_without_usage_is_estimated(sink: MemorySink) -> None:
    """Nothing is lost where the session ends before the figures come."""
    async with session(said("Falling water speeds up"), DONE) as live:
        assert [message async for message in live.receive()]
    assert figures(sink) == [("completed", "estimated", 0, 5)]


async def test_leaving_a_session_in_mid_turn_closes_the_turn(sink: MemorySink) -> None:
    """Leaving `async with`, by itself or by an exception, is a break."""
    async with session(said("Falling water"), used(9, 1)) as live:
        await live._receive()

    async def leave_by_an_exception() -> None:
        async with session(said("Falling water"), used(9, 1)) as live:
            await live._receive()
            await live._receive()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await leave_by_an_exception()
    assert figures(sink) == [("closed", "estimated", 0, 3), ("closed", "partial", 9, 3)]


async def test_one_who_stops_waiting_does_not_end_the_turn(sink: MemorySink) -> None:
    """A wait that is cancelled leaves the turn open for the next one."""
    async with session(said("Falling water")) as live:
        await live._receive()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(live._receive(), 0.05)
        assert figures(sink) == []
    assert [each.outcome for each in sink] == ["closed"]


async def test_a_connection_that_breaks_ends_the_turn(sink: MemorySink) -> None:
    """The SDK's own error comes through, once; a session that is idle then has no record."""
    for messages in ((said("Falling water"),), ()):
        async with session(*messages, close=1011) as live:
            for _ in messages:
                await live._receive()
            with pytest.raises((genai.errors.APIError, websockets.ConnectionClosed)):
                await live._receive()
    assert [each.outcome for each in sink] == ["error"]


async def test_a_session_opened_before_is_metered_without_its_model(sink: MemorySink) -> None:
    """Only `connect` knows the model: a session that was open before is metered, and its model is not known."""
    with patched(providers=[]):
        manager = session({**said("Falling"), **used(4, 2)}, DONE)
        live = await manager.__aenter__()
    assert [message async for message in live.receive()]
    await manager.__aexit__(None, None, None)
    gc.collect()
    assert figures(sink) == [("completed", "reported", 4, 2)]
    assert not sink.records[0].model
