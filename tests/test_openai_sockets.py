"""OpenAI's websockets, by the real clients, against a server that says what the test tells it to."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import openai
import pytest
from sockets import (
    CREATED,
    FREE,
    LIVE,
    REALTIME,
    RESPONSES,
    ROADS,
    SESSION,
    SPOKEN,
    STARTED,
    Event,
    async_client,
    delta,
    heard,
    lasted,
    method,
    response,
    served,
    spoken,
    sync_client,
    talk,
    tokens,
)  # fmt: skip
from websockets.exceptions import ConnectionClosed

from llm_toll_autopatch import (
    BudgetExceededError,
    BudgetOverrunWarning,
    MemorySink,
    flush,
    patched,
    scope,
    status,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning"),
    pytest.mark.filterwarnings("ignore::llm_toll_autopatch.UnknownPriceWarning"),
    # The SDK's own: websockets would have it open its connections in another way.
    pytest.mark.filterwarnings("ignore:connect.. must be used:DeprecationWarning"),
]


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def sink() -> Iterator[MemorySink]:
    """Where the records of a patched test go."""
    with patched() as sink:
        assert isinstance(sink, MemorySink)
        yield sink


def figures(sink: MemorySink) -> list[tuple[str, str, str, int, int]]:
    """What was recorded, and how it ended."""
    flush(5)
    return [
        (each.operation, each.outcome, each.usage_source, each.usage.input_tokens, each.usage.output_tokens)
        for each in sink
    ]


TALKS: dict[str, tuple[tuple[str, ...], list[Event], list[tuple[str, str, str, int, int]]]] = {
    "responses one after the other, told twice": (
        RESPONSES,
        [
            response("created", "r1"),
            delta("Falling"),
            response("completed", "r1", tokens(10, 5)),
            response("completed", "r1", tokens(10, 5)),
            response("created", "r2"),
            response("incomplete", "r2", tokens(20, 6)),
            response("failed", "r3", tokens(30, 7)),
        ],
        [("responses", "completed", "reported", *each) for each in ((10, 5), (20, 6), (30, 7))],
    ),
    "responses side by side in lanes": (
        RESPONSES,
        [
            response("created", "r1", stream_id="a"),
            response("created", "r2", stream_id="b"),
            delta("Falling water", stream_id="a"),
            response("completed", "r2", tokens(20, 6), stream_id="b"),
            delta(" speeds up", stream_id="a"),
        ],
        [("responses", "completed", "reported", 20, 6), ("responses", "closed", "estimated", 0, 5)],
    ),
    "realtime responses": (
        REALTIME,
        [CREATED, spoken("created", "r1"), spoken("done", "r1", SPOKEN), spoken("done", "r1", SPOKEN)],
        [("realtime", "completed", "reported", 100, 20)],
    ),
    "a realtime response that is left": (
        REALTIME,
        [
            spoken("created", "r1"),
            {"type": "response.function_call_arguments.delta", "response_id": "r1", "delta": "four" * 3},
            {"type": "response.output_audio.delta", "response_id": "r1", "delta": "UklGRg=="},
        ],
        [("realtime", "closed", "estimated", 0, 3)],
    ),
    "transcriptions by tokens and by seconds": (
        REALTIME,
        [
            CREATED,
            heard("delta", "i1", delta="Why is"),
            heard("completed", "i1", transcript="Why", usage={"type": "tokens", "input_tokens": 9, "output_tokens": 3}),
            heard("completed", "i2", transcript="Why", usage={"type": "duration", "seconds": 1.5}),
            heard("failed", "i3", error={"message": "noise"}),
        ],
        [("transcriptions", "completed", "reported", 9, 3), ("transcriptions", "completed", "reported", 0, 0)],
    ),
    "a live session to its end, its seconds growing": (
        LIVE,
        [STARTED, lasted(10), lasted(20), lasted(25, "session.closed", session=SESSION, reason="close_requested")],
        [("live", "completed", "reported", 0, 0)],
    ),
    "a live session that is left": (LIVE, [STARTED, lasted(10), lasted(25)], [("live", "closed", "partial", 0, 0)]),
    "a live session after another": (
        LIVE,
        [STARTED, lasted(10), {**STARTED, "session": {**SESSION, "id": "sess_2"}}, lasted(5)],
        [("live", "closed", "partial", 0, 0)] * 2,
    ),
    "what a live session delegates": (
        LIVE,
        [
            STARTED,
            *(
                {"type": "response.event", "event_id": "e", "delegation_id": "d", "event": each}
                for each in (response("created", "r1"), delta("x"), response("completed", "r1", tokens(8, 4)))
            ),
        ],
        [("responses", "completed", "reported", 8, 4)],
    ),
    "free events": ((*RESPONSES, *REALTIME, *LIVE), FREE, []),
}
CASES = [pytest.param(road, *talk[1:], id=f"{road}: {name}") for name, talk in TALKS.items() for road in talk[0]]


@pytest.mark.parametrize(("road", "events", "expected"), CASES)
def test_each_piece_of_work_is_one_record(
    kind: str, road: str, events: list[Event], expected: list[tuple[str, str, str, int, int]]
) -> None:
    """Each response, transcription and session is recorded once, free events never, and the user sees no difference."""
    bare = [repr(event) for event in talk(kind, road, events)]
    with patched() as sink:
        assert [repr(event) for event in talk(kind, road, events)] == bare
        assert isinstance(sink, MemorySink)
        assert figures(sink) == expected
    assert all((each.method, each.provider, each.endpoint) == (road, "openai", "127.0.0.1") for each in sink)
    assert all(each.stream for each in sink)


def test_the_figures_of_a_realtime_response(kind: str, sink: MemorySink) -> None:
    """Audio, images and what was cached of them are told apart, with the models asked for and served."""
    talk(kind, "realtime.connect", [CREATED, spoken("done", "r1", SPOKEN)])
    (record,) = sink.records
    usage = record.usage
    assert (usage.input_audio_tokens, usage.input_image_tokens, usage.cache_read_tokens) == (60, 10, 50)
    assert usage.output_audio_tokens == 15
    assert dict(usage.details) == {"cache_read_audio_tokens": 40, "cache_read_image_tokens": 3}
    assert (record.model, record.response_model) == ("gpt-realtime", "gpt-realtime-2025-08-28")
    assert record.response_id == "r1"
    assert record.cost_usd


def test_the_figures_of_a_response(kind: str, sink: MemorySink) -> None:
    """A response on a websocket is read as any other."""
    talk(kind, "responses.connect", [response("completed", "r1", tokens(10, 5))])
    (record,) = sink.records
    assert (record.model, record.response_model, record.response_id) == ("gpt-5-mini", "gpt-5-mini", "r1")
    assert (record.usage.cache_read_tokens, record.usage.reasoning_tokens) == (4, 2)
    assert record.cost_usd


def test_the_figures_of_a_transcription(kind: str, sink: MemorySink) -> None:
    """A transcription has its own model, which the session names, and seconds are rounded up."""
    hearing: Event = {"audio": {"input": {"transcription": {"model": "whisper-1"}}}}
    created = {**CREATED, "session": {**CREATED["session"], **hearing}}
    talk(kind, "realtime.connect", [created, heard("completed", "i", usage={"type": "duration", "seconds": 1.5})])
    (record,) = sink.records
    assert (record.model, record.response_id, dict(record.usage.details)) == ("whisper-1", "i", {"seconds": 2})
    assert record.cost_usd == Decimal("0.0002")  # USD 0.006 a minute


def test_the_figures_of_a_live_session(kind: str, sink: MemorySink) -> None:
    """The last of the growing seconds are the session's."""
    talk(kind, "live.connect", [STARTED, lasted(10), lasted(25, "session.closed", session=SESSION)])
    (record,) = sink.records
    assert (record.model, record.response_id) == ("gpt-live-1", "sess_1")
    assert dict(record.usage.details) == {"seconds": 25, "active_seconds": 24}
    assert record.cost_usd


def test_a_session_on_two_connections_is_billed_once(kind: str, sink: MemorySink) -> None:
    """A sideband tells of the same session: one record, when the last of the connections ends."""
    events = [STARTED, lasted(10)]
    with served(events, None) as url, sync_client(url) as client:
        with method(client, "live.connect")() as primary:
            for _ in events:
                primary.recv()
            with method(client, "live.sideband.connect")(session_id="sess_1") as sideband:
                for _ in events:
                    sideband.recv()
            assert figures(sink) == []
        assert figures(sink) == [("live", "closed", "partial", 0, 0)]


def test_who_opens_the_connection_pays(kind: str, sink: MemorySink) -> None:
    """What is active when a connection is opened counts for all that comes over it."""

    def elsewhere(live: Any) -> None:
        with scope("other"):
            live.parse_event(json.dumps(response("completed", "r2", tokens(1, 1))))

    with scope("opener"):
        talk(kind, "responses.connect", [response("completed", "r1", tokens(1, 1))], inside=elsewhere)
    with scope("quiet", enabled=False):
        talk(kind, "responses.connect", [response("completed", "r3", tokens(1, 1))])
    assert [(each.response_id, each.project) for each in sink] == [("r1", "opener"), ("r2", "opener")]


def test_a_connection_that_breaks_is_an_error(kind: str, sink: MemorySink) -> None:
    """A response under way when the connection breaks is one record, and the user gets the SDK's own error."""
    events = [response("created", "r1"), delta("Falling water")]

    def sync(live: Any) -> None:
        with pytest.raises(ConnectionClosed):
            live.recv()

    if kind == "async":
        with served(events, 1011) as url:
            asyncio.run(_read_all(url))
    else:
        talk(kind, "responses.connect", events, close=1011, inside=sync)
    assert figures(sink) == [("responses", "error", "estimated", 0, 3)]


async def _read_all(url: str) -> None:
    async with async_client(url) as client, method(client, "responses.connect")() as live:
        with pytest.raises(ConnectionClosed):
            async for _ in live:
                pass


def test_a_loop_over_events_and_handlers(sink: MemorySink) -> None:
    """Iterating and dispatching pass through the same method as `recv`."""
    events = [response("created", "r1"), response("completed", "r1", tokens(10, 5))]
    with served(events, 1000) as url, sync_client(url) as client:
        with method(client, "responses.connect")() as live:
            assert [event.type for event in live] == ["response.created", "response.completed"]
        with method(client, "responses.connect")() as live:
            seen: list[str] = []
            live.on("event", lambda event: seen.append(event.type))
            live.dispatch_events()
    assert seen == ["response.created", "response.completed"]
    assert figures(sink) == [("responses", "completed", "reported", 10, 5)] * 2


def test_a_connection_that_is_entered_by_hand(sink: MemorySink) -> None:
    """`enter()` and `close()` without `with` end what is open once, and dropping the connection then adds nothing."""
    events = [spoken("created", "r1"), {"type": "response.output_text.delta", "response_id": "r1", "delta": "Falling."}]
    with served(events, None) as url, sync_client(url) as client:
        live = client.realtime.connect(model="gpt-realtime").enter()
        for _ in events:
            live.recv()
        live.close()
        live.close()
        assert figures(sink) == [("realtime", "closed", "estimated", 0, 2)]
        live.parse_event(json.dumps(spoken("done", "r1", SPOKEN)))
        del live
        gc.collect()
    assert len(sink) == 1


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_connection_that_is_dropped_abandons_what_is_open(sink: MemorySink) -> None:
    """The garbage collector ends what nobody closed."""
    events = [response("created", "r1"), delta("Falling water")]
    with served(events, None) as url, sync_client(url) as client:
        live = method(client, "responses.connect")().enter()
        for _ in events:
            live.recv()
        transport = live._connection
        del live
        gc.collect()
        assert figures(sink) == [("responses", "abandoned", "estimated", 0, 3)]
        transport.close()


def test_a_connection_that_was_open_before(sink: MemorySink) -> None:
    """A connection opened before patching is metered from then on, with the model of its handshake."""
    with patched(providers=[]):
        manager = served([spoken("done", "r1", SPOKEN)], None)
        client = sync_client(manager.__enter__())
        live = client.realtime.connect(model="gpt-realtime").enter()
    live.recv()
    live.close()
    client.close()
    manager.__exit__(None, None, None)
    assert figures(sink) == [("realtime", "completed", "reported", 100, 20)]
    assert sink.records[0].model == "gpt-realtime"


def test_a_platform_is_told_by_its_host(sink: MemorySink) -> None:
    """The handshake names the platform's host, and the deployment that stands for a model."""
    with served([spoken("done", "r1", SPOKEN)], None) as url:
        reached = socket.create_connection(("127.0.0.1", int(url.split(":")[2].removesuffix("/v1"))))
        client = openai.AzureOpenAI(
            azure_endpoint="https://mine.openai.azure.com",
            websocket_base_url="ws://mine.openai.azure.com/openai",
            api_key="sim",
            api_version="2025-04-01-preview",
        )
        options: Any = {"sock": reached}
        with client, client.realtime.connect(model="chosen", websocket_connection_options=options) as live:
            live.recv()
    assert [(each.provider, each.endpoint, each.model) for each in sink] == [
        ("azure", "mine.openai.azure.com", "chosen")
    ]


@pytest.mark.parametrize("road", ROADS)
def test_what_is_not_understood_is_left_alone(sink: MemorySink, road: str) -> None:
    """Nothing of ours is raised at events of no known shape."""
    events: list[Any] = [{"type": 7}, [], {"type": "response.completed", "response": []}, {"no": "type"}, 1]
    with served([], None) as url, sync_client(url) as client, method(client, road)(**ROADS[road]) as live:
        for event in events:
            live.parse_event(json.dumps(event))
    assert figures(sink) == []
    assert not status().failures


def test_methods_are_put_back() -> None:
    """What was wrapped is the SDK's own again, and a connection that is still open goes on, unmetered."""
    from openai.resources.realtime.realtime import RealtimeConnection

    bare = RealtimeConnection.__init__, RealtimeConnection.parse_event
    with served([spoken("done", "r1", SPOKEN)], None) as url, sync_client(url) as client:
        with patched() as sink:
            live = client.realtime.connect(model="gpt-realtime").enter()
        assert (RealtimeConnection.__init__, RealtimeConnection.parse_event) == bare
        assert live.recv().type == "response.done"
        live.close()
    assert isinstance(sink, MemorySink)
    assert not sink.records


@pytest.mark.parametrize("road", ROADS)
def test_no_session_is_opened_when_nothing_is_left(road: str, kind: str) -> None:
    """A connection is not opened when a budget is used up, nor, since nobody knows what it will cost, under a strict one."""
    limits: list[dict[str, Any]] = [{"max_budget": 0}, {"max_budget": 5, "strict_budget": True}]
    for options in limits:
        with patched(**options), pytest.raises(BudgetExceededError):
            talk(kind, road, [])


@pytest.mark.parametrize("road", RESPONSES)
def test_no_response_is_asked_for_when_nothing_is_left(road: str, kind: str) -> None:
    """On a connection that is open, a response is not asked for any more once the budget of its opener is used up."""

    def ask_for_more(live: Any) -> None:
        with scope("other"), pytest.raises(BudgetExceededError):  # noqa: PT012
            sent = live.send({"type": "response.create"})
            if kind == "async":
                sent.send(None)  # as awaiting it would

    with patched(max_budget="0.00000001") as sink, pytest.warns(BudgetOverrunWarning):
        talk(kind, road, [response("completed", "r1", tokens(10, 5))], inside=ask_for_more)
    assert isinstance(sink, MemorySink)
    assert len(sink.records) == 1
