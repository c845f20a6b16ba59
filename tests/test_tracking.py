"""`track_costs`: attribution where calls are metered already, and records where nobody else makes one."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import gc
import inspect
import io
import json
import os
import pickle
import sqlite3
import subprocess
import sys
import tempfile
import threading
import types
import urllib.request
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai
import pytest
from sources import (
    ASYNC,
    CLAUDE,
    GEMINI,
    GPT,
    MESSAGES,
    READABLE_ASYNC,
    READABLE_SYNC,
    SYNC,
    Source,
    async_clients_of,
    clients_of,
)
from versions import CRASHES_HALF_READ, came_later

from llm_toll_autopatch import (
    JSONLinesSink,
    MemorySink,
    Usage,
    flush,
    patched,
    scope,
    settings,
    status,
    track_costs,
    tracking,
)
from llm_toll_autopatch.records import CallRecord
from llm_toll_autopatch.settings import Settings
from llm_toll_autopatch.simulator import Simulator

pytestmark = pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning")

EIGHT = Usage(input_tokens=25, output_tokens=8)


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> MemorySink:
    """Where the records of the test go while nothing is patched."""
    records = MemorySink()
    monkeypatch.setattr(tracking, "_configuration", Settings.resolve(sink=records))
    return records


def tracked(function: Any) -> Any:
    """The function, decorated: what has no type needs another way in."""
    return track_costs(function)


def only(sink: MemorySink) -> CallRecord:
    """The one record that there is."""
    flush(5)
    (record,) = sink.records
    return record


def project() -> str:
    """The project that would pay for a call here and now."""
    base = settings.in_force() or tracking._stand_in()
    overlay = settings.overlay()
    merged = base if overlay is None else overlay.over(base)
    assert merged is not None
    return merged.project


def chat_chunk(text: str | None = None, **fields: Any) -> dict[str, Any]:
    """A chunk of a chat, as it is on the wire."""
    choices = [] if text is None else [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": GPT, "choices": choices, **fields}


def last_chunk(inputs: int, outputs: int, **fields: Any) -> dict[str, Any]:
    """The last chunk of a chat, with its usage."""
    choices = [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    return chat_chunk(choices=choices, usage={"prompt_tokens": inputs, "completion_tokens": outputs}, **fields)


def sse(url: str, body: dict[str, Any], **headers: str) -> Iterator[dict[str, Any]]:
    """The events of a stream, by another HTTP client than those of the SDKs."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json", **headers})
    with urllib.request.urlopen(request) as response:
        for line in response:
            data = line.decode().strip().removeprefix("data: ")
            if data.startswith("{"):
                yield json.loads(data)


# What a decorated function looks like


def plain(text: str, *, times: int = 1) -> str:
    """Say it."""
    return text * times


async def coroutine(text: str) -> str:
    return text


def generator(text: str) -> Iterator[str]:
    yield text


async def async_generator(text: str) -> AsyncIterator[str]:
    yield text


@pytest.mark.parametrize("bare", [plain, coroutine, generator, async_generator], ids=lambda bare: bare.__name__)
@pytest.mark.parametrize(
    "decorate", [track_costs, track_costs(), track_costs(project="acme")], ids=["bare", "empty", "arguments"]
)
def test_a_decorated_function_looks_like_the_bare_one(bare: Any, decorate: Any) -> None:
    """Whatever `inspect` says of the bare function it says of the decorated one, with and without parentheses."""
    tracked = decorate(bare)
    assert inspect.signature(tracked) == inspect.signature(bare)
    assert tracked.__wrapped__ is bare
    for says in (
        inspect.isfunction,
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
    ):
        assert says(tracked) is says(bare), says
    assert (tracked.__name__, tracked.__doc__, tracked.__module__) == (bare.__name__, bare.__doc__, bare.__module__)
    assert copy.copy(tracked) is copy.deepcopy(tracked) is tracked


async def test_a_decorated_function_gives_what_the_bare_one_gives(sink: MemorySink) -> None:
    """Results that are no responses pass, of the type that they have, and leave no record."""
    assert track_costs(plain)("a", times=3) == "aaa"
    awaited = track_costs(coroutine)("a")
    assert inspect.iscoroutine(awaited)
    assert awaited.__name__ == "coroutine"
    assert await awaited == "a"
    iterated = track_costs(generator)("a")
    assert inspect.isgenerator(iterated)
    assert list(iterated) == ["a"]
    streamed = track_costs(async_generator)("a")
    assert inspect.isasyncgen(streamed)
    assert [each async for each in streamed] == ["a"]
    with pytest.raises(TypeError, match="unexpected keyword"):
        tracked(coroutine)("a", nonsense=1)
    assert not sink.records
    assert status().open_calls == 0


@track_costs
def pickled(text: str) -> str:
    return text


class Bot:
    """Methods of all kinds."""

    name = "bot"

    @track_costs(project="method")
    def method(self) -> tuple[str, str]:
        return self.name, project()

    @classmethod
    @track_costs(project="class")
    def below(cls) -> tuple[str, str]:
        return cls.name, project()

    @track_costs(project="class")
    @classmethod
    def above(cls) -> tuple[str, str]:
        return cls.name, project()

    @staticmethod
    @track_costs(project="static")
    def static_below() -> tuple[str, str]:
        return "static", project()

    @track_costs(project="static")
    @staticmethod
    def static_above() -> tuple[str, str]:
        return "static", project()

    @track_costs(project="async")
    async def wait(self) -> tuple[str, str]:
        return self.name, project()

    def __call__(self, text: str) -> tuple[str, str]:
        return text, project()


async def test_methods_partials_and_callables(sink: MemorySink) -> None:
    """Methods get their object or class, by the object and by the class; partials and callable objects are called."""
    bot = Bot()
    assert bot.method() == Bot.method(bot) == ("bot", "method")
    assert bot.below() == Bot.below() == bot.above() == Bot.above() == ("bot", "class")
    assert bot.static_below() == Bot.static_below() == bot.static_above() == Bot.static_above() == ("static", "static")
    assert await bot.wait() == ("bot", "async")
    assert track_costs(project="object")(bot)("hi") == ("hi", "object")
    partial = track_costs(project="partial")(functools.partial(bot, "hi"))
    assert partial() == ("hi", "partial")
    waiting = track_costs(functools.partial(coroutine, "a"))
    assert inspect.iscoroutinefunction(waiting)
    assert await waiting() == "a"
    assert not sink.records


def test_a_decorated_function_can_be_pickled() -> None:
    """By its name, as the bare one, so that it can be sent to another process; bound methods and partials too."""
    assert pickle.loads(pickle.dumps(pickled)) is pickled
    assert pickle.loads(pickle.dumps(Bot().method))()[0] == "bot"
    assert pickle.loads(pickle.dumps(track_costs(functools.partial(plain, "a"))))() == "a"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"project": ""}, TypeError),
        ({"project": 1}, TypeError),
        ({"tags": {1: "a"}}, TypeError),
        ({"tags": "a"}, TypeError),
        ({"model": ""}, TypeError),
        ({"extract_usage": 1}, TypeError),
        ({"nonsense": 1}, TypeError),
    ],
)
def test_bad_arguments_are_refused_when_decorating(arguments: Any, error: type[Exception]) -> None:
    """A bad argument raises where the function is decorated, not where it is called."""
    with pytest.raises(error):
        track_costs(**arguments)


@pytest.mark.parametrize(
    "thing", ["project name", Bot, 3, property(lambda _: 1)], ids=lambda thing: type(thing).__name__
)
def test_only_functions_are_decorated(thing: Any) -> None:
    """What cannot be called is refused, and so is a class."""
    with pytest.raises(TypeError, match="function or method"):
        track_costs(thing)


# Unpatched: what a function returns is recorded


def looks_alike(source: Source) -> bool:
    """Whether a stream that the SDK is not patched for can pass for the SDK's own."""
    return source.name != "anthropic create" or not came_later("anthropic", "isinstance by class")


@pytest.mark.parametrize("source", READABLE_SYNC, ids=str)
@pytest.mark.parametrize("is_generator", [False, True], ids=["returned", "yielded"])
def test_an_unpatched_stream_is_recorded(source: Source, is_generator: bool, sim: Simulator, sink: MemorySink) -> None:
    """A stream that a function returns, or a generator passes on, is one record at its end, with reported figures."""
    with clients_of(sim) as clients:

        @track_costs(project="acme", tags={"for": "test"})
        def returned() -> Any:
            return source.open(clients, source.model)

        @track_costs(project="acme", tags={"for": "test"})
        def yielded() -> Any:
            yield from source.open(clients, source.model)

        stream = (yielded if is_generator else returned)()
        bare = source.open(clients, source.model)
        if looks_alike(source):
            assert isinstance(stream, types.GeneratorType if is_generator else type(bare))
        assert len(list(stream)) == len(list(bare))
    record = only(sink)
    assert (record.usage_source, record.outcome, record.stream) == ("reported", "completed", True)
    assert (record.usage, record.model, record.provider) == (EIGHT, source.model, source.provider)
    assert (record.project, dict(record.tags)) == ("acme", {"for": "test"})
    assert record.cost_usd is not None
    assert record.method.endswith("yielded" if is_generator else "returned")


@pytest.mark.parametrize("source", READABLE_ASYNC, ids=str)
@pytest.mark.parametrize("is_generator", [False, True], ids=["returned", "yielded"])
async def test_an_unpatched_async_stream_is_recorded(
    source: Source, is_generator: bool, sim: Simulator, sink: MemorySink
) -> None:
    """The same for what a coroutine function returns and an async generator passes on."""
    async with async_clients_of(sim) as clients:

        @track_costs(project="acme")
        async def returned() -> Any:
            return await source.open(clients, source.model)

        @track_costs(project="acme")
        async def yielded() -> Any:
            async for chunk in await source.open(clients, source.model):
                yield chunk

        stream = yielded() if is_generator else await returned()
        bare = await source.open(clients, source.model)
        if looks_alike(source):
            assert isinstance(stream, types.AsyncGeneratorType if is_generator else type(bare))
        assert len([chunk async for chunk in stream]) == len([chunk async for chunk in bare])
    record = only(sink)
    assert (record.usage_source, record.outcome, record.usage) == ("reported", "completed", EIGHT)
    assert (record.project, record.provider) == ("acme", source.provider)


SLOW = "+chunks=40+delay=10"


@pytest.mark.parametrize("source", READABLE_SYNC, ids=str)
def test_leaving_an_unpatched_stream_early_records_and_closes_it(
    source: Source, sim: Simulator, sink: MemorySink
) -> None:
    """A break is recorded at once, though a variable keeps the stream; the server sees the client go."""
    with clients_of(sim) as clients:
        stream = tracked(source.open)(clients, source.model + SLOW)
        for number, _ in enumerate(stream):
            if number == 5:
                break
        (record,) = sink.records
    assert record.outcome == "closed"
    assert record.usage_source in ("estimated", "partial")
    assert record.usage.output_tokens > 0
    (request,) = sim.requests
    assert request.wait(5)
    assert request.hung_up


@pytest.mark.parametrize("source", READABLE_ASYNC, ids=str)
async def test_leaving_an_unpatched_async_stream_early_records_and_closes_it(
    source: Source, sim: Simulator, sink: MemorySink
) -> None:
    """The same for `async for`."""
    async with async_clients_of(sim) as clients:
        stream = await tracked(source.open)(clients, source.model + SLOW)
        number = 0
        async for _ in stream:
            number += 1
            if number == 6:
                break
        (record,) = sink.records
        assert record.outcome == "closed"
        assert record.usage.output_tokens > 0
        (request,) = sim.requests
        assert await asyncio.to_thread(request.wait, 5)


@pytest.mark.parametrize(
    ("ask", "model", "operation"),
    [
        (lambda c: c.openai.chat.completions.create(model=GPT, messages=MESSAGES), GPT, "chat"),
        (lambda c: c.openai.responses.create(model=GPT, input="hi"), GPT, "responses"),
        (lambda c: c.anthropic.messages.create(model=CLAUDE, max_tokens=9, messages=MESSAGES), CLAUDE, "messages"),
        (lambda c: c.google.models.generate_content(model=GEMINI, contents="hi"), GEMINI, "generate_content"),
    ],
    ids=["chat", "responses", "messages", "generate_content"],
)
@pytest.mark.parametrize("as_dict", [False, True], ids=["model", "dict"])
async def test_an_unpatched_response_is_recorded(
    ask: Any, model: str, operation: str, *, as_dict: bool, sim: Simulator, sink: MemorySink
) -> None:
    """A whole response is recognised, as the SDK's object and as a dict, of a function and of a coroutine function."""
    with clients_of(sim) as clients:

        @track_costs
        def answer() -> Any:
            whole = ask(clients)
            return whole.model_dump() if as_dict else whole

        @track_costs
        async def awaited() -> Any:
            whole = ask(clients)
            return whole.model_dump(by_alias=True) if as_dict else whole

        given = answer()
        assert isinstance(given, dict if as_dict else type(ask(clients)))
        await awaited()
    flush(5)
    first, second = sink.records
    for record in (first, second):
        assert (record.operation, record.model, record.usage, record.stream) == (operation, model, EIGHT, False)
        assert (record.usage_source, record.outcome) == ("reported", "completed")
        assert record.cost_usd


def test_embeddings_and_completions_are_recognised(sim: Simulator, sink: MemorySink) -> None:
    """So are embeddings and legacy completions, whole and streamed."""
    with clients_of(sim) as clients:
        openai_client = clients.openai
        tracked(openai_client.embeddings.create)(model="text-embedding-3-small", input="hi")
        tracked(openai_client.completions.create)(model="gpt-3.5-turbo-instruct", prompt="hi")
        stream = tracked(openai_client.completions.create)(model="gpt-3.5-turbo-instruct", prompt="hi", stream=True)
        assert list(stream)
    flush(5)
    assert [(record.operation, record.stream) for record in sink.records] == [
        ("embeddings", False),
        ("completions", False),
        ("completions", True),
    ]


WIRES: dict[str, Any] = {
    "chat": lambda sim, model: sse(
        f"{sim.openai_base_url}/chat/completions",
        {"model": model, "messages": MESSAGES, "stream": True, "stream_options": {"include_usage": True}},
    ),
    "responses": lambda sim, model: sse(
        f"{sim.openai_base_url}/responses", {"model": model, "input": "hi", "stream": True}
    ),
    "messages": lambda sim, model: sse(
        f"{sim.anthropic_base_url}/v1/messages",
        {"model": model, "max_tokens": 9, "messages": MESSAGES, "stream": True},
        **{"x-api-key": "sim", "anthropic-version": "2023-06-01"},
    ),
    "generate_content": lambda sim, model: sse(
        f"{sim.google_base_url}/v1beta/models/{model}:streamGenerateContent?alt=sse",
        {"contents": [{"parts": [{"text": "hi"}]}]},
        **{"x-goog-api-key": "sim"},
    ),
}
MODELS = {"chat": GPT, "responses": GPT, "messages": CLAUDE, "generate_content": GEMINI}


@pytest.mark.parametrize("operation", WIRES)
@pytest.mark.parametrize("is_patched", [False, True], ids=["unpatched", "patched"])
def test_another_client_is_counted(operation: str, is_patched: bool, sim: Simulator, sink: MemorySink) -> None:
    """Chunks that are dicts off the wire, got by any HTTP client, are counted, also while the SDKs are patched."""
    fetch: Any = track_costs(project="wire")(WIRES[operation])
    with patched(sink=sink) if is_patched else contextlib.nullcontext():
        chunks = list(fetch(sim, MODELS[operation]))
        for chunk in fetch(sim, MODELS[operation]):
            assert isinstance(chunk, dict)
            break
    assert len(chunks) > 5
    flush(5)
    whole, broken = sink.records
    assert (whole.operation, whole.model, whole.usage) == (operation, MODELS[operation], EIGHT)
    assert (whole.usage_source, whole.outcome, whole.chunks) == ("reported", "completed", len(chunks))
    assert (broken.outcome, broken.chunks, broken.project) == ("closed", 1, "wire")
    assert broken.usage_source in ("estimated", "partial")


def test_each_response_of_a_generator_is_a_record(sim: Simulator, sink: MemorySink) -> None:
    """A generator that passes on several streams one after the other gives one record for each."""

    @track_costs
    def rounds(operation: str) -> Iterator[Any]:
        yield from WIRES[operation](sim, MODELS[operation] + "+out=5")
        yield from WIRES[operation](sim, MODELS[operation] + "+out=6")

    for operation in WIRES:
        sink.clear()
        assert list(rounds(operation))
        flush(5)
        assert [(record.operation, record.usage.output_tokens) for record in sink.records] == [
            (operation, 5),
            (operation, 6),
        ]


def test_a_server_that_gives_every_chunk_an_id_has_one_record(sink: MemorySink) -> None:
    """Ids that change from chunk to chunk do not make a record of each."""

    @track_costs
    def odd() -> Iterator[Any]:
        for number in range(5):
            yield chat_chunk("word", id=f"chatcmpl-{number}")
        yield last_chunk(11, 5, id="chatcmpl-6")
        yield chat_chunk(id="chatcmpl-7", usage={"prompt_tokens": 12, "completion_tokens": 5})

    assert len(list(odd())) == 7
    assert only(sink).usage == Usage(input_tokens=12, output_tokens=5)


def test_objects_that_resemble_chunks_are_read(sink: MemorySink) -> None:
    """Objects with the fields of chunks are, though no SDK made them and some fields are not there."""

    @track_costs
    def chat() -> Iterator[Any]:
        delta = SimpleNamespace(content="four" * 4)
        yield SimpleNamespace(model=GPT, choices=[SimpleNamespace(delta=delta)])

    @track_costs
    def gemini() -> Iterator[Any]:
        part = SimpleNamespace(text="hi")
        metadata = SimpleNamespace(prompt_token_count=7, candidates_token_count=3)
        content = SimpleNamespace(parts=[part])
        yield SimpleNamespace(
            candidates=[SimpleNamespace(content=content)], usage_metadata=metadata, model_version=GEMINI
        )

    @track_costs
    def claude() -> Iterator[Any]:
        usage = SimpleNamespace(input_tokens=9)
        yield SimpleNamespace(type="message_start", message=SimpleNamespace(model=CLAUDE, usage=usage))
        yield SimpleNamespace(type="content_block_delta", delta=SimpleNamespace(text="hi"))
        yield SimpleNamespace(type="message_delta", usage=SimpleNamespace(output_tokens=4), delta=SimpleNamespace())

    for read in (chat, gemini, claude):
        assert list(read())
    flush(5)
    assert [
        (record.model, record.usage.input_tokens, record.usage.output_tokens, record.usage_source) for record in sink
    ] == [
        (GPT, 0, 4, "estimated"),
        (GEMINI, 7, 3, "reported"),
        (CLAUDE, 9, 4, "reported"),
    ]


@pytest.mark.parametrize(
    "result",
    [
        None, "text", b"bytes", 3, True, [1], {"choices": ["a", "b"], "model": "T-800"}, {"candidates": ["Ada", "Bob"]},
        {"type": "message", "text": "hi"}, {"usage": {"prompt_tokens": 3}}, {"type": "response.created"}, object(),
    ],
    ids=lambda result: str(result)[:30].partition(" at ")[0],
)  # fmt: skip
async def test_what_is_no_response_is_no_record(result: Any, sink: MemorySink) -> None:
    """A result of the user's own is passed on, the same object, and leaves no record, though it has similar fields."""

    async def later() -> Any:
        return result

    assert track_costs(lambda: result)() is result
    assert await track_costs(later)() is result
    assert not sink.records


def test_plain_iterators_and_files_are_left_alone(tmp_path: Path, sink: MemorySink) -> None:
    """`map`, `filter`, `zip`, files and their wrappers are handed out as they are."""
    path = tmp_path / "file"
    path.write_text("line\n")
    with path.open() as file, tempfile.NamedTemporaryFile() as temporary, io.StringIO("text") as text:
        for result in (map(str, [1]), filter(None, [1]), zip([1], [2], strict=True), iter([1]), file, temporary, text):
            assert track_costs(lambda result=result: result)() is result
    assert not sink.records


def test_a_generator_of_something_else_is_not_closed_by_a_break(sink: MemorySink) -> None:
    """A generator in which there is nothing of a model goes on after a break, as the bare one does."""

    @track_costs
    def numbers() -> Iterator[int]:
        yield from range(5)

    counting = numbers()
    for number in counting:
        if number == 2:
            break
    assert list(counting) == [3, 4]
    assert not sink.records
    assert status().open_calls == 0


async def test_an_async_generator_of_something_else_is_not_closed_by_a_break(sink: MemorySink) -> None:
    """The same for `async for`."""

    @track_costs
    async def numbers() -> AsyncIterator[int]:
        for number in range(5):
            yield number

    counting = numbers()
    async for number in counting:
        if number == 2:
            break
    await asyncio.sleep(0)
    assert [number async for number in counting] == [3, 4]
    assert not sink.records


def test_a_stream_that_cannot_be_read_is_missing_and_said_so(sim: Simulator, sink: MemorySink) -> None:
    """A stream of objects without a known shape is recorded as missing, with a warning and without a cost."""

    @track_costs
    def strange() -> Iterator[Any]:
        yield {"delta": "hi"}

    with pytest.warns(UserWarning, match="extract_usage= can tell"):
        assert list(strange()) == [{"delta": "hi"}]
    record = only(sink)
    assert (record.usage_source, record.cost_usd, record.usage) == ("missing", None, Usage())
    with patched(sink=sink):  # what is sent is known then
        assert list(strange())
    assert len(sink.records) == 1


def test_a_stream_that_is_never_read_is_recorded(sim: Simulator, sink: MemorySink) -> None:
    """A stream that the SDK has opened has been paid for; it is abandoned when it is dropped."""
    with clients_of(sim) as clients:
        stream = tracked(clients.openai.chat.completions.create)(model=GPT, messages=MESSAGES, stream=True)
        with pytest.warns(UserWarning, match="can read nothing"):  # noqa: PT031
            del stream
            gc.collect()
            flush(5)
    record = only(sink)
    assert (record.outcome, record.provider, record.usage_source) == ("abandoned", "openai", "missing")


def test_a_dropped_generator_is_recorded(sim: Simulator, sink: MemorySink) -> None:
    """A generator that is dropped half-read is abandoned; one that never began is nothing."""
    fetch = tracked(WIRES["chat"])
    stream = fetch(sim, GPT)
    next(stream)
    del stream
    gc.collect()
    assert only(sink).outcome == "abandoned"
    fetch(sim, GPT)
    gc.collect()
    flush(5)
    assert len(sink.records) == 1
    assert status().open_calls == 0


def test_a_warning_points_at_the_caller(sink: MemorySink) -> None:
    """A warning with which a function points at its caller's line does not point at ours."""

    @track_costs
    def old() -> None:
        warnings.warn("old", DeprecationWarning, stacklevel=2)

    with pytest.warns(DeprecationWarning, match="old") as seen:
        old()
    assert seen[0].filename == __file__


def test_exceptions_pass(sim: Simulator, sink: MemorySink) -> None:
    """What a function raises its caller gets, and it is no record; a stream that fails half-way is an error."""
    with clients_of(sim) as clients:
        ask = tracked(clients.openai.chat.completions.create)
        with pytest.raises(openai.InternalServerError):
            ask(model=GPT + "+error=500", messages=MESSAGES)
        assert not sink.records
        with pytest.raises(openai.APIError):
            list(ask(model=GPT + "+error-after=3", messages=MESSAGES, stream=True))
    record = only(sink)
    assert (record.outcome, record.error_type, record.usage_source) == ("error", "APIError", "estimated")


def test_a_background_response_is_counted_once(sink: MemorySink) -> None:
    """Work that goes on has nothing to bill yet, and a result that is fetched twice is billed once."""
    response = {"object": "response", "id": "resp_track_1", "model": GPT, "background": True, "output": []}
    fetch = tracked(lambda status, **more: {**response, "status": status, **more})
    fetch("queued")
    assert not sink.records
    for _ in range(3):
        fetch("completed", usage={"input_tokens": 4, "output_tokens": 2, "total_tokens": 6})
    assert only(sink).usage == Usage(input_tokens=4, output_tokens=2)


# The user's own word


def test_the_model_can_be_named(sim: Simulator, sink: MemorySink) -> None:
    """model= is recorded, and its price holds, whatever the response names and whoever served it."""

    @track_costs(model=CLAUDE)
    def proxied() -> Iterator[Any]:
        yield last_chunk(1_000_000, 0, model="house-model")

    list(proxied())
    record = only(sink)
    assert (record.model, record.response_model, record.provider) == (CLAUDE, None, "anthropic")
    assert record.cost_usd == Decimal(2)  # USD per million input tokens


@pytest.mark.parametrize(
    ("model", "provider"), [(GPT, "openai"), (CLAUDE, "anthropic"), (GEMINI, "google"), ("llama", "openai")]
)
def test_the_name_of_the_model_tells_whose_it_is(model: str, provider: str, sink: MemorySink) -> None:
    """A gateway speaks OpenAI's language for everybody's models: the price is that of the model's maker."""
    gateway = tracked(lambda: (each for each in [last_chunk(9, 2, model=model)]))
    with contextlib.nullcontext() if model != "llama" else pytest.warns(UserWarning, match="no price"):
        assert list(gateway())
    assert (only(sink).provider, only(sink).cost_usd is None) == (provider, model == "llama")


def test_usage_can_be_extracted(sink: MemorySink) -> None:
    """extract_usage tells the usage of any result: as a triple, or as a `Usage` beside model=."""
    triple = track_costs(extract_usage=lambda result: (GPT, result["in"], result["out"]))
    whole = track_costs(model=CLAUDE, extract_usage=lambda _: Usage(input_tokens=5, cache_read_tokens=2))
    nothing = track_costs(extract_usage=lambda _: None)
    assert triple(lambda: {"in": 7, "out": 3})() == {"in": 7, "out": 3}
    assert whole(lambda: "text")() == "text"
    assert nothing(lambda: {"in": 7})() == {"in": 7}
    assert [(record.model, record.usage, record.usage_source) for record in sink] == [
        (GPT, Usage(input_tokens=7, output_tokens=3), "reported"),
        (CLAUDE, Usage(input_tokens=5, cache_read_tokens=2), "reported"),
    ]
    assert [record.provider for record in sink] == ["openai", "anthropic"]
    assert all(record.cost_usd for record in sink)


async def test_usage_of_streams_can_be_extracted(sink: MemorySink) -> None:
    """Of a stream each chunk is asked, and the last that says something counts; text streams too."""

    def told(chunk: Any) -> Any:
        return (GPT, chunk["in"], chunk["out"]) if "in" in chunk else None

    @track_costs(extract_usage=told)
    def sync() -> Iterator[Any]:
        yield {"text": "a"}
        yield {"in": 1, "out": 1}
        yield {"in": 4, "out": 2}

    @track_costs(extract_usage=lambda text: (GPT, 0, len(text)))
    async def texts() -> AsyncIterator[str]:
        yield "abc"

    assert len(list(sync())) == 3
    assert [text async for text in texts()] == ["abc"]
    assert [(record.usage.input_tokens, record.usage.output_tokens, record.stream) for record in sink] == [
        (4, 2, True),
        (0, 3, True),
    ]


@pytest.mark.parametrize(
    "extract",
    [lambda result: result["nothing"], lambda _: "text", lambda _: (GPT, 1), lambda _: (GPT, "1", 2), lambda _: (GPT, -1, 2)],
)  # fmt: skip
def test_a_failing_extract_usage_warns_and_passes_on(extract: Callable[[Any], Any], sink: MemorySink) -> None:
    """What it raises or wrongly returns is a warning; the result is passed on, recorded by its shape or as missing."""
    track = track_costs(extract_usage=extract)
    answer: dict[str, Any] = {
        "object": "chat.completion",
        "id": "chatcmpl-x",
        "model": GPT,
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    }
    answer["choices"] = [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]
    with pytest.warns(UserWarning, match="extract_usage= of .* failed"):
        assert track(lambda: answer)() is answer
    with pytest.warns(UserWarning, match="extract_usage= of .* failed"):
        assert track(lambda: {"in": 1})() == {"in": 1}
    assert [(record.usage, record.usage_source) for record in sink] == [
        (Usage(input_tokens=3, output_tokens=2), "reported"),
        (Usage(), "missing"),
    ]


def test_extract_usage_is_not_asked_about_what_was_metered(sim: Simulator, sink: MemorySink) -> None:
    """With the patches on, a function whose calls were metered has nothing more to tell."""

    @track_costs(project="acme", extract_usage=lambda result: (GPT, result["tokens"], 0))
    def ask() -> dict[str, int]:
        answer = clients.openai.chat.completions.create(model=GPT, messages=MESSAGES)
        return {"tokens": answer.usage.prompt_tokens}

    with patched(sink=sink), clients_of(sim) as clients:
        assert ask() == {"tokens": 25}
    record = only(sink)
    assert (record.method, record.project) == ("chat.completions.create", "acme")


def test_extract_usage_of_a_stream_does_not_count_what_was_metered(sim: Simulator, sink: MemorySink) -> None:
    """The same for a generator that makes chunks of its own from metered ones."""

    @track_costs(extract_usage=lambda chunk: (GPT, chunk["so far"], 0))
    def ask() -> Iterator[Any]:
        for number, _ in enumerate(clients.openai.responses.create(model=GPT, input="hi", stream=True)):
            yield {"so far": number}

    with patched(sink=sink), clients_of(sim) as clients:
        assert list(ask())
    assert only(sink).method == "responses.create"


# Patched: nothing is counted twice


@pytest.mark.parametrize("source", SYNC, ids=str)
@pytest.mark.parametrize("breaks", [False, True], ids=["read", "broken off"])
@pytest.mark.parametrize("shape", ["returned", "yielded", "converted", "texts"])
def test_a_metered_stream_is_counted_once(
    source: Source, breaks: bool, shape: str, sim: Simulator, sink: MemorySink
) -> None:
    """However a function passes on a stream that the patches meter, there is the patches' one record, attributed."""
    with patched(sink=sink), clients_of(sim) as clients:

        @track_costs(project="acme")
        def returned() -> Any:
            return source.open(clients, source.model)

        @track_costs(project="acme")
        def yielded() -> Any:
            yield from source.open(clients, source.model)

        @track_costs(project="acme")
        def converted() -> Any:
            for chunk in source.open(clients, source.model):
                yield chunk.model_dump()

        @track_costs(project="acme")
        def texts() -> Any:
            for chunk in source.open(clients, source.model):
                yield repr(chunk)

        stream = {"returned": returned, "yielded": yielded, "converted": converted, "texts": texts}[shape]()
        for _ in stream:
            if breaks:
                break
        if breaks:
            assert len(sink.records) == 1, "at once, though the variable keeps the stream"
    record = only(sink)
    assert (record.method, record.project) == (source.method, "acme")
    assert record.outcome == ("closed" if breaks else "completed")
    assert status().open_calls == 0


@pytest.mark.parametrize("source", ASYNC, ids=str)
@pytest.mark.parametrize("breaks", [False, True], ids=["read", "broken off"])
@pytest.mark.parametrize("shape", ["returned", "yielded", "converted"])
async def test_a_metered_async_stream_is_counted_once(
    source: Source, breaks: bool, shape: str, sim: Simulator, sink: MemorySink
) -> None:
    """The same for coroutine functions and async generators."""
    with patched(sink=sink):
        async with async_clients_of(sim) as clients:

            @track_costs(project="acme")
            async def returned() -> Any:
                return await source.open(clients, source.model)

            @track_costs(project="acme")
            async def yielded() -> Any:
                async for chunk in await source.open(clients, source.model):
                    yield chunk

            @track_costs(project="acme")
            async def converted() -> Any:
                async for chunk in await source.open(clients, source.model):
                    yield chunk.model_dump()

            ways: dict[str, Any] = {"returned": returned, "yielded": yielded, "converted": converted}
            opened = ways[shape]()
            stream = await opened if shape == "returned" else opened
            async for _ in stream:
                if breaks:
                    break
            if breaks:
                await asyncio.sleep(0.05)
    record = only(sink)
    assert (record.method, record.project) == (source.method, "acme")
    assert record.outcome == ("closed" if breaks else "completed")


def test_a_metered_response_is_counted_once(sim: Simulator, sink: MemorySink) -> None:
    """Also as a dict, as a raw response's model, from a thread without the context, and from a cache."""
    with patched(sink=sink), clients_of(sim) as clients:
        create = clients.openai.chat.completions.create
        raw = clients.openai.chat.completions.with_raw_response.create
        box: list[Any] = []

        def ask() -> Any:
            return create(model=GPT, messages=MESSAGES)

        def in_a_thread() -> Any:
            thread = threading.Thread(target=lambda: box.append(ask()))
            thread.start()
            thread.join()
            return box[-1]

        for answer in (
            ask,
            lambda: ask().model_dump(),
            lambda: raw(model=GPT, messages=MESSAGES).parse(),
            in_a_thread,
            lambda: box[-1],
            track_costs(ask),
        ):
            track_costs(answer)()
        flush(5)
        assert len(sink.records) == len(sim.requests) == 5
        assert {record.method for record in sink} == {"chat.completions.create"}


def test_a_metered_response_in_another_guise_is_counted_once(sim: Simulator, sink: MemorySink) -> None:
    """One without an id is known by its kind, and one in another provider's format by its tokens."""

    def embed() -> Any:
        answer = clients.openai.embeddings.create(model="text-embedding-3-small", input="hi")
        return answer.model_dump()

    def convert() -> Any:
        answer = clients.anthropic.messages.create(model=CLAUDE, max_tokens=9, messages=MESSAGES)
        usage = {"prompt_tokens": answer.usage.input_tokens, "completion_tokens": answer.usage.output_tokens}
        choices = [{"index": 0, "message": {"content": answer.content[0].text}, "finish_reason": "stop"}]
        return {"object": "chat.completion", "id": "gateway-1", "model": CLAUDE, "choices": choices, "usage": usage}

    with patched(sink=sink), clients_of(sim) as clients:
        track_costs(embed)()
        track_costs(convert)()
    assert [record.method for record in sink] == ["embeddings.create", "messages.create"]


def test_chunks_of_a_metered_stream_from_another_thread_are_counted_once(sim: Simulator, sink: MemorySink) -> None:
    """A generator that passes on what a thread without the context reads is recognised by its first chunk."""
    with patched(sink=sink), clients_of(sim) as clients:

        @track_costs(project="acme")
        def bridged() -> Iterator[Any]:
            box: list[Any] = []
            read = lambda: box.extend(clients.openai.responses.create(model=GPT, input="hi", stream=True))  # noqa: E731
            thread = threading.Thread(target=read)
            thread.start()
            thread.join()
            yield from box

        assert list(bridged())
    assert only(sink).method == "responses.create"


def test_a_tracked_function_in_another_is_counted_once(sim: Simulator, sink: MemorySink) -> None:
    """Unpatched, the inner function makes the record, of objects and of dicts; the outer one adds none."""

    @track_costs(project="inner", tags={"a": "1"})
    def inner(*, as_dict: bool) -> Any:
        answer = clients.openai.chat.completions.create(model=GPT, messages=MESSAGES)
        return answer.model_dump() if as_dict else answer

    @track_costs(project="outer", tags={"b": "2"})
    def outer(*, as_dict: bool) -> Any:
        return inner(as_dict=as_dict)

    @track_costs(project="outer")
    def passed_on() -> Any:
        wire: Any = track_costs(project="inner")(WIRES["chat"])
        yield from wire(sim, GPT)

    with clients_of(sim) as clients:
        for as_dict in (False, True):
            outer(as_dict=as_dict)
        assert list(passed_on())
    flush(5)
    assert [record.project for record in sink] == ["inner"] * 3
    assert dict(sink.records[0].tags) == {"a": "1", "b": "2"}


def test_another_response_beside_a_metered_one_is_counted(sim: Simulator, sink: MemorySink) -> None:
    """A function that calls a patched SDK and another client is two records, of which it pays for both."""

    @track_costs(project="both")
    def both() -> Iterator[Any]:
        clients.openai.chat.completions.create(model=GPT, messages=MESSAGES)
        yield from WIRES["chat"](sim, GPT + "+out=6+in=9")

    with patched(sink=sink), clients_of(sim) as clients:
        assert list(both())
    flush(5)
    assert sorted((record.project, record.usage.output_tokens) for record in sink) == [("both", 6), ("both", 8)]


# The scope


def test_the_scope_of_a_generator_does_not_leak(sink: MemorySink) -> None:
    """Its own code runs in the scope, also for `send`, `throw` and `close`; its consumer's code does not."""
    seen: list[Any] = []

    @track_costs(project="inside", tags={"a": "1"})
    def steps() -> Iterator[Any]:
        try:
            seen.append(project())
            got = yield 1
            seen.append((project(), got))
            try:
                yield 2
            except KeyError as error:
                seen.append((project(), error.args))
            yield 3
        finally:
            seen.append(project())

    with scope("outside"):
        running = steps()
        assert project() == "outside"
        assert next(running) == 1
        assert project() == "outside"
        assert running.send("sent") == 2  # type: ignore[attr-defined]
        assert project() == "outside"
        assert running.throw(KeyError("thrown")) == 3  # type: ignore[attr-defined]
        running.close()  # type: ignore[attr-defined]
        assert project() == "outside"
    assert seen == ["inside", ("inside", "sent"), ("inside", ("thrown",)), "inside"]


async def test_the_scope_of_an_async_generator_does_not_leak(sink: MemorySink) -> None:
    """The same for `asend`, `athrow` and `aclose`, and while it waits."""
    seen: list[Any] = []

    @track_costs(project="inside")
    async def steps() -> Any:
        try:
            await asyncio.sleep(0)
            got = yield 1
            seen.append((project(), got))
            try:
                yield 2
            except KeyError:
                seen.append(project())
            yield 3
        finally:
            await asyncio.sleep(0)
            seen.append(project())

    with scope("outside"):
        running = steps()
        assert await anext(running) == 1
        assert project() == "outside"
        assert await running.asend("sent") == 2
        assert project() == "outside"
        assert await running.athrow(KeyError()) == 3
        await running.aclose()
        assert project() == "outside"
    assert seen == [("inside", "sent"), "inside", "inside"]


def test_a_generator_may_move_to_another_thread(sink: MemorySink) -> None:
    """It is begun in one thread, stepped in a second and closed in a third; the scope is its caller's."""
    seen: list[Any] = []

    @track_costs(tags={"a": "1"})
    def steps() -> Iterator[None]:
        try:
            while True:
                seen.append(project())
                yield
        finally:
            seen.append(project())

    with scope("caller"):
        running = steps()
        next(running)
    for act in (running.__next__, running.close):  # type: ignore[attr-defined]
        thread = threading.Thread(target=act)
        thread.start()
        thread.join()
    assert seen == ["caller", "caller", "caller"]


def test_yield_from_passes_everything_through(sink: MemorySink) -> None:
    """`yield from` a tracked generator sends, throws and takes its result, as from the bare one."""

    @track_costs
    def inner() -> Any:
        got = yield "first"
        try:
            yield got
        except KeyError:
            return "result"

    def outer() -> Any:
        return (yield from inner())

    running = outer()
    assert next(running) == "first"
    assert running.send("sent") == "sent"
    with pytest.raises(StopIteration) as end:
        running.throw(KeyError())
    assert end.value.value == "result"


def test_a_tracked_generator_can_be_a_context_manager(sink: MemorySink) -> None:
    """`contextmanager` on top of `track_costs` works, with and without an exception."""

    @contextlib.contextmanager
    @track_costs
    def block() -> Iterator[str]:
        with contextlib.suppress(KeyError):
            yield "inside"

    with block() as value:
        assert value == "inside"
    with block():
        raise KeyError


async def test_tasks_do_not_mix(sim: Simulator, sink: MemorySink) -> None:
    """Tracked coroutines that run at the same time each pay for their own calls."""
    with patched(sink=sink):
        async with async_clients_of(sim) as clients:

            async def ask() -> Any:
                await clients.openai.chat.completions.create(model=GPT + "+first=5", messages=MESSAGES)
                return await clients.openai.chat.completions.create(model=GPT + "+first=5", messages=MESSAGES)

            await asyncio.gather(*(track_costs(project=f"task {number}")(ask)() for number in range(10)))
    assert sorted(record.project for record in sink) == sorted(f"task {number}" for number in range(10) for _ in "ab")


async def test_a_sync_function_may_return_a_coroutine(sim: Simulator, sink: MemorySink) -> None:
    """What counts for its result is the function's scope, though somebody else awaits it."""
    with patched(sink=sink):
        async with async_clients_of(sim) as clients:

            @track_costs(project="acme")
            def ask() -> Any:
                return clients.openai.chat.completions.create(model=GPT, messages=MESSAGES)

            with scope("elsewhere"):
                await asyncio.create_task(ask())
    assert only(sink).project == "acme"


async def test_a_cancelled_coroutine_is_cancelled(sink: MemorySink) -> None:
    """Cancellation reaches the function, and what it does about it happens in its scope."""
    seen: list[Any] = []

    @track_costs(project="acme")
    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            seen.append(project())

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["acme"]


def test_the_default_project_leaves_it_to_the_scope(sim: Simulator, sink: MemorySink) -> None:
    """Without a project, the scope around the call says who pays, or else the configuration."""
    with patched(sink=sink, project="base"), clients_of(sim) as clients:
        ask: Any = tracked(lambda: clients.openai.responses.create(model=GPT, input="hi"))
        ask()
        with scope("outer"):
            ask()
            track_costs(project="mine")(ask)()
    assert [record.project for record in sink] == ["base", "outer", "mine"]


def test_a_scope_that_is_switched_off_tracks_nothing(sim: Simulator, sink: MemorySink) -> None:
    """In `scope(enabled=False)` a tracked function is the bare function."""
    with clients_of(sim) as clients, scope(enabled=False):
        stream = tracked(clients.openai.chat.completions.create)(model=GPT, messages=MESSAGES, stream=True)
        assert type(stream) is openai.Stream
        assert list(stream)
    assert not sink.records


def test_what_is_open_at_exit_is_recorded(sim: Simulator, tmp_path: Path) -> None:
    """A program that ends in the middle of a tracked stream leaves its record in the ledger, without any set-up."""
    program = tmp_path / "program.py"
    program.write_text(
        "import openai, llm_toll_autopatch as toll\n"
        f"client = openai.OpenAI(base_url={sim.openai_base_url!r}, api_key='sim')\n"
        "@toll.track_costs(project='script')\n"
        "def ask():\n"
        f"    return client.responses.create(model={GPT!r}, input='hi', stream=True)\n"
        "stream = ask()\n"
        "print(type(next(stream)).__name__)\n"
    )
    ledger = tmp_path / "ledger.db"
    env = {
        **os.environ,
        "LLM_TOLL_AUTOPATCH_SINK": f"sqlite:///{ledger}",
        "PYTHONPATH": str(Path(tracking.__file__).parents[1]),
    }
    sound = not CRASHES_HALF_READ  # with the SDK alone too; the record is there by then
    ran = subprocess.run([sys.executable, program], env=env, capture_output=True, text=True, timeout=60, check=sound)
    assert ran.stdout == "ResponseCreatedEvent\n"
    with contextlib.closing(sqlite3.connect(ledger)) as connection:
        (row,) = connection.execute("SELECT project, outcome, stream FROM calls").fetchall()
    assert row == ("script", "abandoned", 1)


def test_without_patching_records_go_where_patching_would_send_them(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration is that of `patch_all()`, looked up at the first call; then whatever is in force."""
    path = tmp_path / "calls.jsonl"
    monkeypatch.setattr(tracking, "_configuration", None)
    with clients_of(sim) as clients:
        ask = tracked(clients.openai.responses.create)
        monkeypatch.setenv("LLM_TOLL_AUTOPATCH_SINK", f"jsonl:{path}")
        monkeypatch.setenv("LLM_TOLL_AUTOPATCH_PROJECT", "from the environment")
        ask(model=GPT, input="hi")
        assert not hasattr(openai.resources.responses.Responses.create, "_self_wrapper"), "nothing is patched by it"
        with patched() as sink:
            clients.openai.responses.create(model=GPT, input="hi")
            ask(model=GPT, input="hi")
    assert isinstance(sink, MemorySink)
    assert len(sink.records) == 2
    configuration = tracking._configuration
    assert configuration is not None
    assert isinstance(configuration.sink, JSONLinesSink)
    configuration.sink.close()
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["project"] == "from the environment"
