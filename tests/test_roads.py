"""Every method that sends a billed request, plain and streamed, sync and async: one record, and as it is bare."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from roads import ROADS, STREAMS, Road
from sources import CLAUDE, GPT, MESSAGES, async_clients_of, clients_of
from test_identity import dumped
from test_raw import check, content, the_record

from llm_toll_autopatch import MemorySink, patched, status
from llm_toll_autopatch.simulator import Simulator

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # some of the methods are
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings"),  # usage of wrong types, in the SDK's own parse
]


@pytest.mark.parametrize("road", ROADS, ids=str)
def test_plain(road: Road, sim: Simulator) -> None:
    """A plain call is one record with the reported figures, and answers as it does bare."""
    with clients_of(sim) as clients:
        bare = content(road.on(clients)(**road.arguments()))
    with patched() as sink, clients_of(sim) as clients:
        assert content(road.on(clients)(**road.arguments())) == bare
    check(sink, road)
    assert isinstance(sink, MemorySink)
    (record,) = sink.records
    assert not record.stream
    # What is billed by another unit than the token has a price where the library knows that unit; unknown is never 0.
    assert record.cost_usd or not record.usage.total_tokens


@pytest.mark.parametrize("road", ROADS, ids=str)
async def test_async_plain(road: Road, sim: Simulator) -> None:
    """The same, async."""
    with patched() as sink:
        async with async_clients_of(sim) as clients:
            assert await road.on(clients)(**road.arguments())
    check(sink, road)


@pytest.mark.parametrize("road", STREAMS, ids=str)
def test_stream(road: Road, sim: Simulator) -> None:
    """A stream that is read to its end is one record with the reported figures, and gives the same chunks as bare."""
    with clients_of(sim) as clients:
        bare = [dumped(chunk) for chunk in road.on(clients)(**road.arguments(stream=True))]
    with patched() as sink, clients_of(sim) as clients:
        assert [dumped(chunk) for chunk in road.on(clients)(**road.arguments(stream=True))] == bare
    check(sink, road)
    assert isinstance(sink, MemorySink)
    assert sink.records[0].stream


@pytest.mark.parametrize("road", STREAMS, ids=str)
async def test_async_stream(road: Road, sim: Simulator) -> None:
    """The same, async."""
    with patched() as sink:
        async with async_clients_of(sim) as clients:
            assert [chunk async for chunk in await road.on(clients)(**road.arguments(stream=True))]
    check(sink, road)


@pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning")
@pytest.mark.parametrize("road", STREAMS, ids=str)
def test_a_stream_that_is_broken_off(road: Road, sim: Simulator) -> None:
    """Leaving the loop early closes the stream and is one record."""
    with patched() as sink, clients_of(sim) as clients:
        stream = road.on(clients)(**road.arguments("+delay=10", stream=True))
        for _ in stream:
            break
        assert the_record(sink, road).outcome == "closed"
        assert stream.response.is_closed


@pytest.mark.parametrize("road", ROADS, ids=str)
def test_an_error(road: Road, sim: Simulator) -> None:
    """A refused request is one record of an error, which costs nothing, and the SDK's own exception."""
    with patched() as sink, clients_of(sim) as clients:
        with pytest.raises(Exception, match="429") as caught:
            road.on(clients)(**road.arguments("+error=429"))
        assert type(caught.value).__name__ == "RateLimitError"
    record = the_record(sink, road)
    assert (record.outcome, record.error_type) == ("error", "RateLimitError")
    assert record.cost_usd == 0


@pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning")
@pytest.mark.parametrize("flags", ["+no-usage", "+usage-null", "+bad-usage"])
@pytest.mark.parametrize("road", ROADS, ids=str)
def test_strange_usage(road: Road, flags: str, sim: Simulator) -> None:
    """An answer without usage, or with usage of wrong types, is one record and no failure of ours."""
    with patched() as sink, clients_of(sim) as clients:
        assert road.on(clients)(**road.arguments(flags))
    assert the_record(sink, road).outcome == "completed"


def test_legacy_completions_are_asked_for_usage(sim: Simulator) -> None:
    """A stream of legacy completions reports usage only when asked, and what was asked in the user's place is hidden."""
    arguments = {"model": "gpt-3.5-turbo-instruct", "prompt": "Why?", "stream": True}
    with clients_of(sim) as clients:
        bare = [dumped(chunk) for chunk in clients.openai.completions.create(**arguments)]
    with patched(include_usage=True) as sink, clients_of(sim) as clients:
        assert [dumped(chunk) for chunk in clients.openai.completions.create(**arguments)] == bare
    assert isinstance(sink, MemorySink)
    assert [(record.usage_source, record.usage.output_tokens) for record in sink] == [("reported", 8)]


def test_units_that_are_not_tokens(sim: Simulator) -> None:
    """Seconds, rounded up, and images are kept in the details where the model is billed by them."""
    file = ("speech.mp3", b"ID3", "audio/mpeg")
    with patched() as sink, clients_of(sim) as clients:
        clients.openai.audio.transcriptions.create(model="whisper-1", file=file)
        clients.openai.images.generate(model="dall-e-3", prompt="a sky", n=3)
    assert isinstance(sink, MemorySink)
    assert [dict(record.usage.details) for record in sink] == [{"seconds": 4}, {"images": 3}]
    # USD 0.006 a minute; what an image costs depends on its size and quality, which are not recorded
    assert [record.cost_usd for record in sink] == [Decimal("0.0004"), None]


@pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning")
def test_a_transcript_that_is_plain_text(sim: Simulator) -> None:
    """Formats of plain text tell no usage: the record is an estimate that says so, and the user gets his string."""
    file = ("speech.mp3", b"ID3", "audio/mpeg")
    with patched() as sink, clients_of(sim) as clients:
        text = clients.openai.audio.transcriptions.create(model="gpt-4o-transcribe", file=file, response_format="text")
    assert isinstance(text, str)
    assert isinstance(sink, MemorySink)
    (record,) = sink.records
    assert (record.usage_source, record.usage.output_tokens) == ("estimated", len(text) // 4)


def test_free_calls_make_no_record(sim: Simulator) -> None:
    """Moderation, token counting, and fetching or listing what is stored are free: no record."""
    with patched() as sink, clients_of(sim) as clients:
        clients.openai.moderations.create(model="omni-moderation-latest", input="x")
        clients.openai.chat.completions.retrieve("chatcmpl_gpt-5-mini~1")
        clients.openai.responses.retrieve("resp_stored_gpt-5-mini~1")
        clients.anthropic.messages.count_tokens(model="claude-sonnet-5-5", messages=[{"role": "user", "content": "x"}])
        clients.anthropic.beta.messages.count_tokens(
            model="claude-sonnet-5-5", messages=[{"role": "user", "content": "x"}]
        )
    assert isinstance(sink, MemorySink)
    assert not sink.records
    assert len(sim.requests) == 5
    assert all(request.status == 200 for request in sim.requests)


REFUSED = (
    ("anthropic", {"model": CLAUDE, "messages": MESSAGES, "max_tokens": 100_000}, ValueError),  # has to be streamed
    ("anthropic", {"model": CLAUDE}, TypeError),
    ("openai", {"model": GPT}, TypeError),
    ("openai", {"model": GPT, "messages": MESSAGES, "unheard_of": 1}, TypeError),
)


@pytest.mark.parametrize(("sdk", "arguments", "error"), REFUSED)
async def test_what_the_sdk_refuses_is_no_record(
    sdk: str, arguments: dict[str, Any], error: type[Exception], sim: Simulator
) -> None:
    """A call whose arguments the SDK itself refuses was never sent, and is no record; one that the server refuses is."""
    method = "chat.completions.create" if sdk == "openai" else "messages.create"
    (road,) = [each for each in ROADS if each.method == method]
    with patched() as sink, clients_of(sim) as clients:
        with pytest.raises(error):
            road.on(clients)(**arguments)
        async with async_clients_of(sim) as async_clients:
            with pytest.raises(error):
                await road.on(async_clients)(**arguments)
        assert isinstance(sink, MemorySink)
        assert not sink.records
        assert status().open_calls == 0
        with pytest.raises(Exception, match="400"):
            road.on(clients)(**road.arguments("+error=400"))
    (record,) = sink.records
    assert record.outcome == "error"
