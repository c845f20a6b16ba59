"""Google's other billed methods: embeddings, images, videos and batch jobs, by the real client."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from google import genai
from google.genai import types
from sources import GEMINI, PROMPT, google_options
from versions import needs

from llm_toll_autopatch import MemorySink, flush, lasting, patched, status
from llm_toll_autopatch.records import CallRecord
from llm_toll_autopatch.simulator import Simulator

pytestmark = [
    pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning"),
    pytest.mark.filterwarnings("ignore::llm_toll_autopatch.UnknownPriceWarning"),
    # The SDK's own: it calls these methods deprecated or experimental.
    pytest.mark.filterwarnings("ignore:The (generate|edit)_:google.genai._common.ExperimentalWarning"),
    pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Interactions usage is experimental:UserWarning"),
]

EMBEDDING = "gemini-embedding-001"
TEXT_EMBEDDING = "text-embedding-005"
IMAGEN = "imagen-4.0-generate-001"
VEO = "veo-3.1-generate-001"
IMAGE = types.Image(image_bytes=b"png", mime_type="image/png")


@dataclass
class Clients:
    """The same client twice, once for each platform."""

    gemini: Any
    vertex: Any


def make(sim: Simulator) -> tuple[genai.Client, genai.Client]:
    options = google_options(sim)
    return (
        genai.Client(api_key="sim", http_options=options),
        genai.Client(vertexai=True, api_key="sim", http_options=options),
    )


@pytest.fixture
def clients(sim: Simulator) -> Iterator[Clients]:
    """Sync clients."""
    gemini, vertex = make(sim)
    with contextlib.closing(gemini), contextlib.closing(vertex):
        yield Clients(gemini, vertex)


@pytest.fixture
async def aclients(sim: Simulator) -> AsyncIterator[Clients]:
    """Async clients."""
    gemini, vertex = make(sim)
    with contextlib.closing(gemini), contextlib.closing(vertex):
        yield Clients(gemini.aio, vertex.aio)
        await gemini.aio.aclose()
        await vertex.aio.aclose()


@pytest.fixture
def sink() -> Iterator[MemorySink]:
    """Where the records of a patched test go."""
    with patched() as sink:
        assert isinstance(sink, MemorySink)
        yield sink


@dataclass(frozen=True)
class Row:
    """A method.

    Attributes:
        call: Calls it, given the clients and flags of the simulator.
        method: The record's, as are all that follow.
    """

    call: Callable[[Clients, str], Any]
    method: str
    operation: str
    model: str
    provider: str
    tokens: tuple[int, int] = (0, 0)
    details: tuple[tuple[str, int], ...] = ()
    source: str = "reported"
    priced: bool = False


def embed(clients: Clients, flags: str) -> Any:
    return clients.gemini.models.embed_content(model=EMBEDDING + flags, contents=[PROMPT, PROMPT])


def embed_multimodal(clients: Clients, flags: str) -> Any:
    return clients.gemini.models.embed_content(model="gemini-embedding-2" + flags, contents=[PROMPT])


def embed_vertex(clients: Clients, flags: str) -> Any:
    return clients.vertex.models.embed_content(model=EMBEDDING + flags, contents=PROMPT)


def embed_batch_vertex(clients: Clients, flags: str) -> Any:
    return clients.vertex.models.embed_content(model=EMBEDDING + flags, contents=[PROMPT, PROMPT])


def embed_predict(clients: Clients, flags: str) -> Any:
    return clients.vertex.models.embed_content(model=TEXT_EMBEDDING + flags, contents=[PROMPT, PROMPT])


def generate_images(clients: Clients, flags: str) -> Any:
    config = types.GenerateImagesConfig(number_of_images=3)
    return clients.vertex.models.generate_images(model=IMAGEN + flags, prompt=PROMPT, config=config)


def edit_image(clients: Clients, flags: str) -> Any:
    reference = types.RawReferenceImage(reference_id=1, reference_image=IMAGE)
    return clients.vertex.models.edit_image(model=IMAGEN + flags, prompt=PROMPT, reference_images=[reference])


def upscale_image(clients: Clients, flags: str) -> Any:
    return clients.vertex.models.upscale_image(model=IMAGEN + flags, image=IMAGE, upscale_factor="x2")


def recontext_image(clients: Clients, flags: str) -> Any:
    source = types.RecontextImageSource(prompt=PROMPT, person_image=IMAGE)
    return clients.vertex.models.recontext_image(model=IMAGEN + flags, source=source)


def segment_image(clients: Clients, flags: str) -> Any:
    source = types.SegmentImageSource(image=IMAGE)
    return clients.vertex.models.segment_image(model=IMAGEN + flags, source=source)


def generate_videos(clients: Clients, flags: str) -> Any:
    return clients.vertex.models.generate_videos(
        model=VEO + flags,
        source=types.GenerateVideosSource(prompt=PROMPT),
        config=types.GenerateVideosConfig(number_of_videos=2, duration_seconds=8),
    )


def generate_a_video(clients: Clients, flags: str) -> Any:
    return clients.vertex.models.generate_videos(
        model=VEO + flags, source=types.GenerateVideosSource(prompt=PROMPT), config={"duration_seconds": 6}
    )


def interact(clients: Clients, flags: str) -> Any:
    return clients.gemini.interactions.create(model=GEMINI + flags, input=PROMPT)


def interact_raw(clients: Clients, flags: str) -> Any:
    return clients.gemini.interactions.with_raw_response.create(model=GEMINI + flags, input=PROMPT)


def decide(clients: Clients, flags: str) -> Any:
    question = {"type": "noul", "instructions": "Is it blue?"}
    return clients.gemini.decisions.create(model=GEMINI + flags, input=PROMPT, questions={"blue": question})


_EMBED = ("models.embed_content", "embeddings")
ROWS = {
    "embed": Row(embed, *_EMBED, EMBEDDING, "google", (25, 0), priced=True),
    "embed, multimodal": Row(embed_multimodal, *_EMBED, "gemini-embedding-2", "google", (25, 0), priced=True),
    "embed, vertex": Row(embed_vertex, *_EMBED, EMBEDDING, "vertex", (25, 0), priced=True),
    "embed several, vertex": Row(embed_batch_vertex, *_EMBED, EMBEDDING, "vertex", (25, 0), priced=True),
    "embed, vertex predict": Row(
        embed_predict, *_EMBED, TEXT_EMBEDDING, "vertex", (50, 0), (("input_characters", 100),)
    ),
    "interaction": Row(interact, "interactions.create", "interactions", GEMINI, "google", (25, 8), priced=True),
    "raw interaction": Row(interact_raw, "interactions.create", "interactions", GEMINI, "google", (25, 8), priced=True),
    "decision": Row(decide, "decisions.create", "decisions", GEMINI, "google", (25, 1), priced=True),
    "images": Row(generate_images, "models.generate_images", "images", IMAGEN, "vertex", details=(("images", 3),)),
    "edit": Row(edit_image, "models.edit_image", "images", IMAGEN, "vertex", details=(("images", 1),)),
    "upscale": Row(upscale_image, "models.upscale_image", "images", IMAGEN, "vertex", details=(("images", 1),)),
    "recontext": Row(recontext_image, "models.recontext_image", "images", IMAGEN, "vertex", details=(("images", 1),)),
    "segment": Row(segment_image, "models.segment_image", "images", IMAGEN, "vertex", details=(("masks", 1),)),
    "videos": Row(
        generate_videos, "models.generate_videos", "videos", VEO, "vertex",
        details=(("video_seconds", 16), ("videos", 2)), source="partial",
    ),
    "a video": Row(
        generate_a_video, "models.generate_videos", "videos", VEO, "vertex",
        details=(("video_seconds", 6), ("videos", 1)), source="partial",
    ),
}  # fmt: skip
# Older versions ask Vertex for embeddings through `predict` alone, and drop what the Gemini API says of their tokens.
_COUNTED = {"embed", "embed, multimodal", "embed, vertex", "embed several, vertex"}
_OLD = needs("google", "usage of embeddings")
_NO_DECISIONS = needs("google", "decisions.create")
GENERATED = needs("google", "continued interactions")
ROW = pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=name, marks=_OLD if name in _COUNTED else _NO_DECISIONS if name == "decision" else ())
        for name, row in ROWS.items()
    ],
)


def only(sink: MemorySink, sim: Simulator) -> CallRecord:
    """The one record of the one request."""
    flush(5)
    assert len(sim.requests) == 1
    (record,) = sink
    return record


def check(row: Row, sink: MemorySink, sim: Simulator) -> None:
    """Assert that there is one record, and that it is the row's."""
    record = only(sink, sim)
    assert (record.method, record.operation, record.model, record.provider) == (
        row.method,
        row.operation,
        row.model,
        row.provider,
    )
    assert (record.outcome, record.stream, record.usage_source) == ("completed", False, row.source)
    assert (record.usage.input_tokens, record.usage.output_tokens) == row.tokens
    assert tuple(sorted(record.usage.details.items())) == row.details
    assert (record.cost_usd is not None) == row.priced
    assert record.cost_usd != 0
    assert record.endpoint == "127.0.0.1"


@ROW
def test_a_call_is_one_record(row: Row, clients: Clients, sink: MemorySink, sim: Simulator) -> None:
    """Each billed method gives one record, with the units that it is billed by."""
    row.call(clients, "")
    check(row, sink, sim)


@ROW
async def test_an_async_call_is_one_record(row: Row, aclients: Clients, sink: MemorySink, sim: Simulator) -> None:
    """The same, async."""
    await row.call(aclients, "")
    check(row, sink, sim)


@ROW
def test_a_call_that_fails_is_one_record(row: Row, clients: Clients, sink: MemorySink, sim: Simulator) -> None:
    """The SDK's own error comes through, and the record costs nothing."""
    with pytest.raises(Exception, match="429"):
        row.call(clients, "+error=429")
    flush(5)
    (record,) = sink  # older versions send interactions once more
    assert (record.outcome, record.usage_source) == ("error", "missing")
    assert record.cost_usd == 0
    assert not record.usage.details


@ROW
def test_a_call_returns_what_it_does_bare(row: Row, clients: Clients) -> None:
    """The answer is the bare SDK's."""
    bare = row.call(clients, "")
    with patched():
        ours = row.call(clients, "")
    assert type(ours) is type(bare)
    if hasattr(bare, "parse"):
        bare, ours = bare.parse(), ours.parse()
    volatile = {"name", "id", "created", "updated", "continuation_ids"}
    assert ours.model_dump(exclude=volatile) == bare.model_dump(exclude=volatile)


@pytest.mark.parametrize("call", [embed, embed_vertex, embed_batch_vertex, embed_predict])
def test_embeddings_without_usage_are_estimated(
    call: Callable[[Clients, str], Any], clients: Clients, sink: MemorySink, sim: Simulator
) -> None:
    """Where no figures come back, the text that was sent is what the input is estimated from."""
    call(clients, "+no-usage")
    record = only(sink, sim)
    assert record.usage_source == "estimated"
    number = 1 if call is embed_vertex else 2
    assert (record.usage.input_tokens, record.usage.output_tokens) == (number * len(PROMPT) // 4, 0)


def figures(sink: MemorySink) -> list[tuple[str, str, int, int]]:
    """How the calls ended, and their figures."""
    flush(5)
    return [(each.outcome, each.usage_source, each.usage.input_tokens, each.usage.output_tokens) for each in sink]


@GENERATED
@pytest.mark.parametrize("stream", [False, True])
def test_each_request_of_an_interaction_is_one_record(
    stream: bool, clients: Clients, sink: MemorySink, sim: Simulator
) -> None:
    """Automatic continuation gives one record a request, with its own figures, where the SDK sums or takes the last."""
    answer = clients.gemini.interactions.create(
        model=GEMINI + "+continue=2+reasoning=3+cached=7", input=PROMPT, stream=stream
    )
    if stream:
        assert [event.event_type for event in answer].count("interaction.completed") == 3
    else:
        assert (answer.usage.total_input_tokens, answer.usage.total_thought_tokens) == (75, 9)
    assert figures(sink) == [("completed", "reported", 25, 11)] * 3
    assert {each.usage.cache_read_tokens for each in sink} == {7}
    assert {each.usage.reasoning_tokens for each in sink} == {3}
    assert len({each.response_id for each in sink}) == len(sim.requests) == 3
    assert {each.stream for each in sink} == {stream}


@GENERATED
@pytest.mark.parametrize("stream", [False, True])
async def test_each_request_of_an_async_interaction_is_one_record(
    stream: bool, aclients: Clients, sink: MemorySink, sim: Simulator
) -> None:
    """The same, async."""
    answer = await aclients.gemini.interactions.create(model=GEMINI + "+continue=2", input=PROMPT, stream=stream)
    if stream:
        assert [event async for event in answer]
    assert figures(sink) == [("completed", "reported", 25, 8)] * 3
    assert len({each.response_id for each in sink}) == len(sim.requests) == 3


@GENERATED
def test_a_break_in_a_later_request_of_an_interaction(clients: Clients, sink: MemorySink, sim: Simulator) -> None:
    """What was answered in full before a break is completed, what was under way is closed and its connection too."""
    stream = clients.gemini.interactions.create(
        model=GEMINI + "+continue=2+chunks=40+delay=5", input=PROMPT, stream=True
    )
    for _ in stream:
        if len(sim.requests) == 2:
            break
    flush(5)
    assert [each.outcome for each in sink] == ["completed", "closed"]
    assert sim.requests[1].wait(5)
    assert sim.requests[1].hung_up


@GENERATED
async def test_a_break_in_a_later_request_of_an_async_interaction(
    aclients: Clients, sink: MemorySink, sim: Simulator
) -> None:
    """The same, async."""
    stream = await aclients.gemini.interactions.create(
        model=GEMINI + "+continue=2+chunks=40+delay=5", input=PROMPT, stream=True
    )
    async for _ in stream:
        if len(sim.requests) == 2:
            break
    flush(5)
    assert [each.outcome for each in sink] == ["completed", "closed"]
    for _ in range(2000):
        if sim.requests[1].wait(0):
            break
        await asyncio.sleep(0.01)
    assert sim.requests[1].hung_up


def test_an_interaction_in_the_background_is_recorded_when_it_is_fetched(
    clients: Clients, sink: MemorySink, sim: Simulator
) -> None:
    """What it used is told by `get`: that makes one record, however often it is fetched, and fetching itself is free."""
    begun = clients.gemini.interactions.create(model=GEMINI, input=PROMPT, background=True)
    assert figures(sink) == []
    for _ in range(2):
        assert clients.gemini.interactions.get(begun.id).status == "completed"
    assert figures(sink) == [("completed", "reported", 25, 8)]
    (record,) = sink
    assert record.response_id == begun.id


def test_an_interaction_that_is_cancelled_or_looked_at_by_other_roads(
    clients: Clients, sink: MemorySink, sim: Simulator
) -> None:
    """Cancelling tells what had been used; a stream of it, resumed, and a raw response too: one record each, once."""
    interactions = clients.gemini.interactions
    begun = [interactions.create(model=GEMINI, input=PROMPT, background=True).id for _ in range(3)]
    assert status().open_calls == 3
    assert interactions.cancel(begun[0]).status == "cancelled"
    for number, _ in enumerate(interactions.get(begun[1], stream=True)):
        if number == 1:
            break
    assert [record.response_id for record in sink.records] == begun[:1]
    assert list(interactions.get(begun[1], stream=True))
    interactions.with_raw_response.get(begun[2]).parse()
    assert figures(sink) == [("completed", "reported", 25, 8)] * 3
    assert [record.response_id for record in sink.records] == begun
    assert status().open_calls == 0


def test_an_interaction_that_nobody_fetches(clients: Clients, sink: MemorySink) -> None:
    """What runs in the background and is never looked at again is recorded at the end: nothing of it is known."""
    clients.gemini.interactions.create(model=GEMINI, input=PROMPT, background=True)
    assert not sink.records
    lasting.give_up()
    flush(5)
    [record] = sink.records
    assert (record.outcome, record.usage_source, record.cost_usd) == ("abandoned", "missing", None)


@pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning")
def test_an_error_in_the_stream_of_an_interaction(clients: Clients, sink: MemorySink) -> None:
    """The SDK hands out the event of an error like any other: the record is that of an error all the same."""
    events = clients.gemini.interactions.create(model=f"{GEMINI}+error-after=2", input=PROMPT, stream=True)
    assert [event.event_type for event in events][-1] == "error"
    assert [record.outcome for record in sink.records] == ["error"]


async def test_an_async_interaction_in_the_background_is_recorded_when_it_is_fetched(
    aclients: Clients, sink: MemorySink
) -> None:
    """The same, async."""
    begun = await aclients.gemini.interactions.create(model=GEMINI, input=PROMPT, background=True)
    for _ in range(2):
        await aclients.gemini.interactions.get(begun.id)
    assert figures(sink) == [("completed", "reported", 25, 8)]


@pytest.mark.parametrize("accessor", ["with_raw_response", "with_streaming_response"])
def test_what_a_raw_interaction_is_parsed_into_is_metered(
    accessor: str, clients: Clients, sink: MemorySink, sim: Simulator
) -> None:
    """Both raw accessors, plain and streamed, with the raw response dropped while its stream is read."""
    create = getattr(clients.gemini.interactions, accessor).create
    with contextlib.ExitStack() as stack:

        def parsed(**options: Any) -> Any:
            raw = create(model=GEMINI, input=PROMPT, **options)
            return (stack.enter_context(raw) if accessor == "with_streaming_response" else raw).parse()

        assert parsed().usage.total_tokens == 33
        stream = parsed(stream=True)
        gc.collect()
        assert len(list(stream)) == 12
    assert figures(sink) == [("completed", "reported", 25, 8)] * 2
    assert [each.stream for each in sink] == [False, True]


@GENERATED
def test_a_raw_interaction_that_is_read_unparsed_is_metered(clients: Clients, sink: MemorySink) -> None:
    """The body of a streaming response that is read as JSON is looked at when the response is gone."""
    with clients.gemini.interactions.with_streaming_response.create(model=GEMINI, input=PROMPT) as raw:
        assert raw.json()["usage"]["total_tokens"] == 33
    del raw
    gc.collect()
    with clients.gemini.interactions.with_streaming_response.create(model=GEMINI, input=PROMPT):
        pass
    gc.collect()
    assert figures(sink) == [("completed", "reported", 25, 8), ("abandoned", "estimated", 5, 0)]


async def test_what_a_raw_async_interaction_is_parsed_into_is_metered(
    aclients: Clients, sink: MemorySink, sim: Simulator
) -> None:
    """The same, async."""
    create = aclients.gemini.interactions.with_raw_response.create
    assert (await (await create(model=GEMINI, input=PROMPT)).parse()).usage.total_tokens == 33
    stream = await (await create(model=GEMINI, input=PROMPT, stream=True)).parse()
    gc.collect()
    assert len([event async for event in stream]) == 12
    assert figures(sink) == [("completed", "reported", 25, 8)] * 2


@GENERATED
def test_an_interaction_stream_stays_what_it_is(clients: Clients, sink: MemorySink) -> None:
    """It is an instance of the SDK's class, has its attributes, and `with` gives it back."""
    bare_class = type(clients.gemini.interactions.create(model=GEMINI, input=PROMPT, stream=True).__wrapped__)
    flush(5)  # what is dropped is recorded by another thread
    stream = clients.gemini.interactions.create(model=GEMINI, input=PROMPT, stream=True)
    assert isinstance(stream, bare_class)
    assert stream.response.status_code == 200
    with stream as same:
        assert same is stream
        assert next(stream).event_type == "interaction.created"
    assert list(stream) == []
    flush(5)
    assert [each.outcome for each in sink] == ["abandoned", "closed"]


def test_filtered_images_are_not_counted(clients: Clients, sink: MemorySink, sim: Simulator) -> None:
    """An entry that says why there is no image is no image."""
    generate_images(clients, "+refusal")
    assert only(sink, sim).usage.details == {"images": 2}


def test_batch_results_are_recorded_once(clients: Clients, sink: MemorySink, sim: Simulator) -> None:
    """A job's results are one record each when they are there, at the batch price, however often they are fetched."""
    job = GEMINI + "+in=40+chunks=5"
    assert clients.gemini.batches.get(name=f"batches/{job}+incomplete").dest is None
    flush(5)
    assert not sink.records
    for _ in range(2):
        assert len(clients.gemini.batches.get(name=f"batches/{job}").dest.inlined_responses) == 2
    flush(5)
    (record,) = sink
    assert (record.operation, record.method, record.service_tier) == ("batch", "batches.get", "batch")
    assert (record.model, record.response_model) == (f"models/{GEMINI}", GEMINI)
    assert (record.usage.input_tokens, record.usage.output_tokens, record.usage_source) == (40, 5, "reported")
    assert record.response_id


def test_results_of_a_batch_of_embeddings(clients: Clients, sink: MemorySink) -> None:
    """Each embedding of a batch is one record, at the batch price, once."""
    for _ in range(2):
        job = clients.gemini.batches.get(name="batches/gemini-embedding-001+in=43")
        assert len(job.dest.inlined_embed_content_responses) == 2
    flush(5)
    assert [(record.operation, record.service_tier, record.usage.input_tokens) for record in sink] == [
        ("batch", "batch", 43)
    ] * 2


async def test_async_batch_results_are_recorded_once(aclients: Clients, sink: MemorySink) -> None:
    """The same, async."""
    for _ in range(2):
        await aclients.gemini.batches.get(name=f"batches/{GEMINI}+in=41")
    flush(5)
    (record,) = sink
    assert (record.operation, record.usage.input_tokens) == ("batch", 41)
