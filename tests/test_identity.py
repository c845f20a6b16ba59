"""What the user sees with the patches on equals what the bare SDK shows in the same scenario."""

from __future__ import annotations

import contextlib
import copy
import inspect
import pickle
import re
from collections.abc import Callable, Iterator
from types import AsyncGeneratorType, GeneratorType
from typing import Any

import anthropic
import openai
import pytest
from sources import ASYNC, CLAUDE, GEMINI, GPT, MESSAGES, PROMPT, SYNC, Source, async_clients_of, clients_of

from llm_toll_autopatch import MemorySink, patched
from llm_toll_autopatch.simulator import Simulator

pytestmark = pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning")

SCENARIOS = (
    "", "+no-usage", "+bad-usage", "+tools", "+empty", "+refusal", "+reasoning=20", "+cached=10", "+error=429", "+error=500",
    "+error-after=2", "+cut=2", "+chunks=0",
)  # fmt: skip

VOLATILE = {
    "created",
    "created_at",
    "id",
    "response_id",
    "sdk_http_response",
    "_request_id",
    "completed_at",
    "obfuscation",
    "thought_signature",
    "updated",
}
"""Fields that differ between two runs of the same scenario."""


def masked(text: str) -> str:
    """Text without what looks like an id, a signature or padding: these are random."""
    return re.sub(r"[\w+/=-]{16,}|(?=[\w+/=-]*\d)[\w+/=-]{10,}", "*", text)


def dumped(value: Any) -> Any:
    """A comparable form of what the user gets: class and fields, set ones included, without what differs by itself."""
    if hasattr(value, "model_fields_set"):
        fields = {name: dumped(getattr(value, name)) for name in sorted(value.model_fields_set - VOLATILE)}
        return type(value).__name__, fields, dumped(value.model_extra)
    if isinstance(value, dict):
        return {key: dumped(each) for key, each in value.items() if key not in VOLATILE}
    if isinstance(value, list | tuple):
        return [dumped(each) for each in value]
    return masked(value) if isinstance(value, str) else value


def told(error: BaseException) -> tuple[str, str]:
    """A comparable form of an exception."""
    return type(error).__qualname__, masked(str(error))


def twice(run: Callable[[], Any]) -> tuple[Any, Any]:
    """The outcome of `run` bare, and with the patches on."""
    bare = run()
    with patched():
        return bare, run()


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("source", SYNC, ids=str)
def test_sync_streams_show_the_same(source: Source, scenario: str, sim: Simulator) -> None:
    """Chunks, their types and set fields, and exceptions are the bare SDK's."""

    def run() -> list[Any]:
        seen: list[Any] = []
        with clients_of(sim) as clients, contextlib.suppress(Exception):
            try:
                seen.extend(dumped(chunk) for chunk in source.open(clients, source.model + scenario))
            except Exception as error:
                seen.append(told(error))
                raise
        return seen

    bare, ours = twice(run)
    assert ours == bare


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("source", ASYNC, ids=str)
async def test_async_streams_show_the_same(source: Source, scenario: str, sim: Simulator) -> None:
    """The same, async."""

    async def run() -> list[Any]:
        seen: list[Any] = []
        with contextlib.suppress(Exception):
            async with async_clients_of(sim) as clients:
                try:
                    async for chunk in await source.open(clients, source.model + scenario):
                        seen.append(dumped(chunk))  # noqa: PERF401 - those before an error must not be lost
                except Exception as error:
                    seen.append(told(error))
                    raise
        return seen

    bare = await run()
    with patched():
        ours = await run()
    assert ours == bare


def described(stream: Any) -> list[Any]:
    """What a stream says of its module and its purpose; a generator has no module."""
    return [getattr(stream, name, None) for name in ("__module__", "__doc__", "__class__")]


@pytest.mark.parametrize("source", SYNC, ids=str)
def test_streams_describe_themselves_as_the_sdk_s(source: Source, sim: Simulator) -> None:
    """Module, docstring and class are the stream's; the proxy's own class has its own, for whoever asks the class."""

    def run() -> tuple[list[Any], type]:
        with clients_of(sim) as clients:
            stream = source.open(clients, source.model)
            try:
                return described(stream), type(stream)
            finally:
                stream.close()

    (bare, _), (ours, cls) = twice(run)
    assert ours == bare
    assert cls.__module__.startswith("llm_toll_autopatch.")
    assert cls.__doc__ is not None
    assert "stream" in cls.__doc__ or "generator" in cls.__doc__


@pytest.mark.parametrize("source", ASYNC, ids=str)
async def test_async_streams_describe_themselves_as_the_sdk_s(source: Source, sim: Simulator) -> None:
    """The same, async."""

    async def run() -> list[Any]:
        async with async_clients_of(sim) as clients:
            stream = await source.open(clients, source.model)
            async for _ in stream:
                pass
            return described(stream)

    bare = await run()
    with patched():
        assert await run() == bare


PLAIN: dict[str, Callable[[Any, str], Any]] = {
    "chat": lambda clients, flags: clients.openai.chat.completions.create(model=GPT + flags, messages=MESSAGES),
    "responses": lambda clients, flags: clients.openai.responses.create(model=GPT + flags, input=PROMPT),
    "messages": lambda clients, flags: clients.anthropic.messages.create(
        model=CLAUDE + flags, max_tokens=99, messages=MESSAGES
    ),
    "generate": lambda clients, flags: clients.google.models.generate_content(model=GEMINI + flags, contents=PROMPT),
    "talk": lambda clients, flags: clients.google.chats.create(model=GEMINI + flags).send_message(PROMPT),
}


@pytest.mark.parametrize(
    "scenario", ["", "+no-usage", "+usage-null", "+bad-usage", "+tools", "+reasoning=9", "+error=400", "+empty"]
)
@pytest.mark.parametrize("call", PLAIN.values(), ids=PLAIN)
def test_plain_answers_show_the_same(call: Callable[[Any, str], Any], scenario: str, sim: Simulator) -> None:
    """The response, its type and set fields, and exceptions are the bare SDK's."""

    def run() -> Any:
        with clients_of(sim) as clients:
            try:
                return dumped(call(clients, scenario))
            except Exception as error:
                return told(error)

    bare, ours = twice(run)
    assert ours == bare


@pytest.mark.parametrize("call", PLAIN.values(), ids=PLAIN)
async def test_async_plain_answers_show_the_same(call: Callable[[Any, str], Any], sim: Simulator) -> None:
    """The same, async, and the coroutine has the method's name."""

    async def run() -> Any:
        async with async_clients_of(sim) as clients:
            coroutine = call(clients, "")
            return coroutine.__name__, coroutine.__qualname__, dumped(await coroutine)

    bare = await run()
    with patched():
        ours = await run()
    assert ours[2] == bare[2]
    assert ours[0] == bare[0]


def test_streams_stay_what_they_are(sim: Simulator) -> None:
    """A stream is an instance of the SDK's class, has its attributes, and copies, pickles and prints as it does bare."""
    with patched(), clients_of(sim) as clients:
        for source, cls in ((SYNC[0], openai.Stream), (SYNC[2], anthropic.Stream)):
            stream = source.open(clients, source.model)
            assert isinstance(stream, cls)
            assert stream.__class__ is cls
            assert stream.response.status_code == 200
            assert repr(stream) == repr(stream.__wrapped__)
            assert next(stream)
            assert list(copy.copy(stream))  # shares the cursor
            assert list(stream) == []
            with pytest.raises(TypeError):
                pickle.dumps(stream)
            with stream as same:
                assert same is stream


async def test_async_streams_stay_what_they_are(sim: Simulator) -> None:
    """An async stream is an instance of the SDK's class, and of no other."""
    with patched():
        async with async_clients_of(sim) as clients:
            for source, cls in ((ASYNC[0], openai.AsyncStream), (ASYNC[2], anthropic.AsyncStream)):
                stream = await source.open(clients, source.model)
                assert isinstance(stream, cls)
                assert not isinstance(stream, openai.Stream | anthropic.Stream)
                assert [chunk async for chunk in stream]


def test_helpers_stay_what_they_are(sim: Simulator) -> None:
    """What messages.stream() hands out is an instance of the SDK's classes."""
    with patched(), clients_of(sim) as clients:
        manager = clients.anthropic.messages.stream(model=CLAUDE, max_tokens=99, messages=MESSAGES)
        assert isinstance(manager, anthropic.lib.streaming.MessageStreamManager)
        with manager as stream:
            assert isinstance(stream, anthropic.MessageStream)
            assert stream.request_id == stream.response.headers.get("request-id")
            assert "".join(stream.text_stream) == stream.get_final_text()
            assert stream.get_final_message().usage.input_tokens == 25
            stream.until_done()


async def test_google_streams_stay_generators(sim: Simulator) -> None:
    """Google's streams are generators as they are bare; send and throw reach them."""
    with patched():
        with clients_of(sim) as clients:
            stream: Any = clients.google.models.generate_content_stream(model=GEMINI, contents=PROMPT)
            assert [isinstance(stream, GeneratorType), inspect.isgenerator(stream)] == [True, True]
            assert stream.send(None).text
            with pytest.raises(ZeroDivisionError):
                stream.throw(ZeroDivisionError())
            assert list(stream) == []
        async with async_clients_of(sim) as async_clients:
            chunks = await async_clients.google.models.generate_content_stream(model=GEMINI, contents=PROMPT)
            assert [isinstance(chunks, AsyncGeneratorType), inspect.isasyncgen(chunks)] == [True, True]
            assert [chunk.text async for chunk in chunks]


@pytest.mark.parametrize("source", SYNC[:4], ids=str)
def test_a_stream_left_by_a_break_says_that_it_is_closed(source: Source, sim: Simulator) -> None:
    """Iterating again after a break raises the SDK's own error for a closed stream, never a silently short answer."""
    with clients_of(sim) as clients:

        def run() -> str:
            stream = source.open(clients, source.model + "+chunks=40+delay=10")
            if hasattr(stream, "_self_meter"):
                for _ in stream:
                    break
            else:
                next(stream)
                stream.close()
            with pytest.raises(Exception) as caught:  # noqa: PT011 - the bare one is what it is compared with
                list(stream)
            return type(caught.value).__qualname__

        bare, ours = twice(run)
    assert ours == bare


def test_close_on_break_can_be_switched_off(sim: Simulator) -> None:
    """With close_on_break=False a loop after a break goes on where that was, and there is one record in the end."""
    sink = MemorySink()
    with patched(sink=sink, close_on_break=False), clients_of(sim) as clients:
        for source in SYNC:
            stream = source.open(clients, source.model)
            for _ in stream:
                break
            assert not sink.records
            assert list(stream)
            assert [record.outcome for record in sink] == ["completed"]
            sink.clear()


async def test_close_on_break_can_be_switched_off_async(sim: Simulator) -> None:
    """The same, async."""
    sink = MemorySink()
    with patched(sink=sink, close_on_break=False):
        async with async_clients_of(sim) as clients:
            for source in ASYNC:
                stream = await source.open(clients, source.model)
                async for _ in stream:
                    break
                assert [chunk async for chunk in stream]
                assert [record.outcome for record in sink] == ["completed"]
                sink.clear()


@pytest.fixture(autouse=True)
def _no_leftovers(sim: Simulator) -> Iterator[None]:
    yield
    sim.clear()
