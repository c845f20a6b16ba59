"""Google's other billed methods: embeddings, images, videos and batch jobs, by the real client."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from google import genai
from google.genai import types
from sources import GEMINI, PROMPT

from llm_toll_autopatch import MemorySink, flush, patched
from llm_toll_autopatch.records import CallRecord
from llm_toll_autopatch.simulator import Simulator

pytestmark = [
    pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning"),
    pytest.mark.filterwarnings("ignore::llm_toll_autopatch.UnknownPriceWarning"),
    # The SDK's own: it calls these methods deprecated or experimental.
    pytest.mark.filterwarnings("ignore:The (generate|edit)_:google.genai._common.ExperimentalWarning"),
    pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning"),
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
    options: Any = {"base_url": sim.google_base_url}
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


_EMBED = ("models.embed_content", "embeddings")
ROWS = {
    "embed": Row(embed, *_EMBED, EMBEDDING, "google", (25, 0), priced=True),
    "embed, multimodal": Row(embed_multimodal, *_EMBED, "gemini-embedding-2", "google", (25, 0), priced=True),
    "embed, vertex": Row(embed_vertex, *_EMBED, EMBEDDING, "vertex", (25, 0), priced=True),
    "embed several, vertex": Row(embed_batch_vertex, *_EMBED, EMBEDDING, "vertex", (25, 0), priced=True),
    "embed, vertex predict": Row(
        embed_predict, *_EMBED, TEXT_EMBEDDING, "vertex", (50, 0), (("input_characters", 100),)
    ),
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
_EMBEDDINGS_COUNT = "usage_metadata" in types.EmbedContentResponse.model_fields
_COUNTED = {"embed", "embed, multimodal", "embed, vertex", "embed several, vertex"}
_OLD = pytest.mark.skipif(not _EMBEDDINGS_COUNT, reason="came later in google-genai 1: usage of embeddings")
ROW = pytest.mark.parametrize(
    "row", [pytest.param(row, id=name, marks=_OLD if name in _COUNTED else ()) for name, row in ROWS.items()]
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
    with pytest.raises(genai.errors.APIError):
        row.call(clients, "+error=429")
    record = only(sink, sim)
    assert (record.outcome, record.usage_source) == ("error", "missing")
    assert record.cost_usd == 0
    assert not record.usage.details


@ROW
def test_a_call_returns_what_it_does_bare(row: Row, clients: Clients) -> None:
    """The answer is the bare SDK's."""
    bare = row.call(clients, "")
    with patched():
        ours = row.call(clients, "")
    for answer in (bare, ours):
        if hasattr(answer, "name"):
            answer.name = ""
    assert ours == bare
    assert type(ours) is type(bare)


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


async def test_async_batch_results_are_recorded_once(aclients: Clients, sink: MemorySink) -> None:
    """The same, async."""
    for _ in range(2):
        await aclients.gemini.batches.get(name=f"batches/{GEMINI}+in=41")
    flush(5)
    (record,) = sink
    assert (record.operation, record.usage.input_tokens) == ("batch", 41)
