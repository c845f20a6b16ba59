"""When the text of a request and of an answer is counted, and how long it is referred to until then."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from anthropic._models import construct_type as construct_anthropic
from google.genai import types as google
from openai._models import construct_type as construct_openai
from openai.types import Completion, CreateEmbeddingResponse
from roads import RAW, ROADS, STREAMING, Road
from sources import CLAUDE, GEMINI, GPT, clients_of
from test_usage import chat, message, response
from versions import needs

from llm_toll_autopatch import MemorySink, answers, flush, patched
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.metering import Call
from llm_toll_autopatch.readers.chat import ChatCompletions
from llm_toll_autopatch.readers.completions import Completions
from llm_toll_autopatch.readers.embeddings import Embeddings
from llm_toll_autopatch.readers.generate_content import GenerateContent
from llm_toll_autopatch.readers.messages import Messages
from llm_toll_autopatch.readers.reader import Reader
from llm_toll_autopatch.readers.responses import Responses
from llm_toll_autopatch.records import CallRecord
from llm_toll_autopatch.settings import Settings
from llm_toll_autopatch.simulator import Simulator

pytestmark = [
    pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # some of the methods are
]

ASKED = "x" * 40
WRITTEN = "Falling water speeds up, so it gets thinner."


class Estimator:
    """One token for each text; remembers what it was given."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, text: str) -> int:
        self.texts.append(text)
        return 1


# What is counted


@pytest.mark.parametrize("road", ROADS, ids=str)
def test_nothing_is_counted_where_all_is_reported(road: Road, sim: Simulator) -> None:
    """An answer that tells what was used costs no estimate: the estimator is not asked about either side."""
    estimator = Estimator()
    with patched(estimator=estimator) as sink, clients_of(sim) as clients:
        road.on(clients)(**road.arguments())
    assert isinstance(sink, MemorySink)
    assert [record.usage_source for record in sink.records] == ["reported"]
    assert estimator.texts == []


@pytest.mark.parametrize("road", RAW, ids=str)
def test_nor_in_an_answer_that_is_left_raw(road: Road, sim: Simulator) -> None:
    """A body that the SDK has read tells as much."""
    estimator = Estimator()
    with patched(estimator=estimator) as sink, clients_of(sim) as clients:
        road.on(clients, "with_raw_response")(**road.arguments()).parse()
    assert isinstance(sink, MemorySink)
    assert [record.usage_source for record in sink.records] == ["reported"]
    assert estimator.texts == []


def generated(clients: Any, model: str) -> None:
    clients.google.models.generate_content(model=model, contents=ASKED)


def embedded(clients: Any, model: str) -> None:
    clients.google.models.embed_content(model=model, contents=ASKED)


@pytest.mark.parametrize(
    ("call", "model"),
    [
        (generated, GEMINI),
        pytest.param(embedded, "gemini-embedding-001", marks=needs("google", "usage of embeddings")),
    ],
)
def test_nor_by_google(call: Callable[[Any, str], None], model: str, sim: Simulator) -> None:
    """The same of Google's SDK."""
    estimator = Estimator()
    with patched(estimator=estimator) as sink, clients_of(sim) as clients:
        call(clients, model)
    assert isinstance(sink, MemorySink)
    assert [record.usage_source for record in sink.records] == ["reported"]
    assert estimator.texts == []


def asked_chat(clients: Any) -> None:
    clients.openai.chat.completions.create(
        model=GPT + "+no-usage", messages=[{"role": "user", "content": ASKED}, {"role": "user", "content": "y"}]
    )


def asked_completions(clients: Any) -> None:
    clients.openai.completions.create(model="gpt-3.5-turbo-instruct+no-usage", prompt=[ASKED, "y"])


def asked_responses(clients: Any) -> None:
    clients.openai.responses.create(model=GPT + "+no-usage", input=ASKED, instructions="y")


def asked_messages(clients: Any) -> None:
    clients.anthropic.messages.create(
        model=CLAUDE + "+no-usage", max_tokens=9, messages=[{"role": "user", "content": ASKED}], system="y"
    )


def asked_google(clients: Any) -> None:
    config = google.GenerateContentConfig(system_instruction="y")
    clients.google.models.generate_content(model=GEMINI + "+no-usage", contents=ASKED, config=config)


ALL_FIVE = [asked_chat, asked_completions, asked_responses, asked_messages, asked_google]


@pytest.mark.parametrize("call", ALL_FIVE)
@pytest.mark.parametrize("estimate_input", [True, False])
def test_each_text_is_counted_once(
    call: Callable[[Any], None],
    estimate_input: bool,
    sim: Simulator,
) -> None:
    """Where nothing is reported the estimator gets each text of the request and of the answer once, or of the answer."""
    estimator = Estimator()
    with patched(estimator=estimator, estimate_input=estimate_input) as sink, clients_of(sim) as clients:
        call(clients)
    assert isinstance(sink, MemorySink)
    (record,) = sink.records
    assert record.usage_source == "estimated"
    assert sorted(estimator.texts) == sorted([WRITTEN, *([ASKED, "y"] if estimate_input else [])])
    assert (record.usage.input_tokens, record.usage.output_tokens) == (2 if estimate_input else 0, 1)


# What is referred to


class Message(dict[str, Any]):
    """A message that can be referred to weakly."""


PROMPTS: Mapping[type[Reader], Callable[[Any], dict[str, Any]]] = {
    ChatCompletions: lambda part: {"messages": [part]},
    Completions: lambda part: {"prompt": [part]},
    Responses: lambda part: {"input": [part]},
    Messages: lambda part: {"messages": [part]},
    GenerateContent: lambda part: {"contents": [part], "config": {"system_instruction": part}},
    Embeddings: lambda part: {"input": [part]},
}
USED = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
USED_TOO = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
GENERATED = {"candidates": [{"content": {"parts": [{"text": WRITTEN}]}}]}
SAID = {**message(None).to_dict(), "content": [{"type": "text", "text": WRITTEN}]}


def spoken(usage: Any) -> Any:
    return construct_anthropic(type_=type(message(None)), value={**SAID, "usage": usage})


def completed(usage: Any) -> Any:
    value = {"id": "c", "model": "m", "usage": usage, "choices": [{"index": 0, "text": WRITTEN}]}
    return construct_openai(type_=Completion, value=value)


def generated_of(usage: Any) -> Any:
    return google.GenerateContentResponse.model_validate({**GENERATED, "usage_metadata": usage})


def embedding(usage: Any) -> Any:
    return construct_openai(type_=CreateEmbeddingResponse, value={"model": "m", "data": [], "usage": usage})


ANSWERS: dict[str, tuple[type[Reader], Any]] = {
    "chat": (ChatCompletions, chat(USED)),
    "chat, no usage": (ChatCompletions, chat(None)),
    "chat, no output figure": (ChatCompletions, chat({"prompt_tokens": 3})),
    "chat, figures that are none": (ChatCompletions, chat({"prompt_tokens": "3", "completion_tokens": -2})),
    "completions": (Completions, completed(USED)),
    "completions, no usage": (Completions, completed(None)),
    "responses": (Responses, response(USED_TOO)),
    "responses, no usage": (Responses, response(None)),
    "responses in the background": (Responses, response(None, background=True, status="queued")),
    "responses at work that tell figures": (Responses, response(USED_TOO, background=True, status="in_progress")),
    "messages": (Messages, spoken(USED_TOO)),
    "messages, no usage": (Messages, spoken(None)),
    "messages, no input figure": (Messages, spoken({"output_tokens": 2})),
    "google": (GenerateContent, generated_of({"prompt_token_count": 3, "candidates_token_count": 2})),
    "google, no usage": (GenerateContent, generated_of(None)),
    "google, no output figure": (GenerateContent, generated_of({"prompt_token_count": 3})),
    "embeddings": (Embeddings, embedding(USED)),
    "embeddings, no usage": (Embeddings, embedding(None)),
    "nothing that a reader knows": (GenerateContent, object()),
}


def called(reader: Reader, sink: MemorySink) -> Call:
    return Call(reader, Settings.resolve(sink=sink), provider="openai", method="m", endpoint=None)


@pytest.mark.parametrize(("make", "answer"), ANSWERS.values(), ids=ANSWERS)
def test_nothing_of_a_request_is_held_when_the_answer_has_come(make: type[Reader], answer: Any) -> None:
    """It is while the answer is awaited; the record is that of a request whose text was counted before it was sent."""
    sink = MemorySink()
    part = Message(content=ASKED)
    reader = make()
    reader.begin({"model": "m", **PROMPTS[make](part)}, later=True)
    held = weakref.ref(part)
    del part
    assert held() is not None
    call = called(reader, sink)
    call.finish(answer)
    assert held() is None
    call.give_up()
    flush(5)
    reader = make()
    reader.begin({"model": "m", **PROMPTS[make](Message(content=ASKED))})
    call = called(reader, sink)
    call.finish(answer)
    call.give_up()
    flush(5)
    first, second = sink.records
    assert (first.usage, first.usage_source) == (second.usage, second.usage_source)
    assert reader.output_chars in (0, len("Hello"), len(WRITTEN))
    failures.reset()


@pytest.mark.parametrize("make", PROMPTS)
def test_nothing_of_a_request_is_held_that_is_counted_at_once(make: type[Reader]) -> None:
    """Whoever does not say that the answer comes whole leaves nothing behind, and neither does who asks for the sum."""
    for later in (False, True):
        part = Message(content=ASKED)
        reader = make()
        reader.begin({"model": "m", **PROMPTS[make](part)}, later=later)
        assert bool(holding()) is later
        chars = reader.input_chars if later else 0
        held = weakref.ref(part)
        del part
        assert held() is None
        assert reader.input_chars == (chars or len(ASKED) * (2 if make is GenerateContent else 1))


class Broken(Mapping[str, Any]):
    """A part of a request that cannot be looked into."""

    def __getitem__(self, name: str) -> Any:
        raise KeyError(name)

    def __iter__(self) -> Any:
        raise RuntimeError("changed while it was read")

    def __len__(self) -> int:
        return 1


def test_a_request_that_cannot_be_read_any_more_is_still_one_record() -> None:
    """Text that changes while it is counted is not counted, which is noted, and the output is estimated as ever."""
    sink = MemorySink()
    reader = ChatCompletions()
    reader.begin({"model": "m", "messages": [Broken()]}, later=True)
    called(reader, sink).finish(chat(None, WRITTEN))
    (record,) = sink.records
    assert (record.usage.input_tokens, record.usage.output_tokens) == (0, len(WRITTEN) // 4)
    assert failures.last == "counting the text of a request: RuntimeError"
    failures.reset()


# Streams


def streamed_chat(clients: Any, messages: Any) -> Any:
    return clients.openai.chat.completions.create(model=GPT + "+no-usage", messages=messages, stream=True)


def streamed_chat_by_the_helper(clients: Any, messages: Any) -> Any:
    manager = clients.openai.chat.completions.stream(model=GPT + "+no-usage", messages=messages)
    return clients.stack.enter_context(manager)


def streamed_responses(clients: Any, messages: Any) -> Any:
    return clients.openai.responses.create(model=GPT + "+no-usage", input=messages, stream=True)


def streamed_messages(clients: Any, messages: Any) -> Any:
    return clients.anthropic.messages.create(model=CLAUDE + "+no-usage", max_tokens=9, messages=messages, stream=True)


def streamed_messages_by_the_helper(clients: Any, messages: Any) -> Any:
    manager = clients.anthropic.messages.stream(model=CLAUDE + "+no-usage", max_tokens=9, messages=messages)
    return clients.stack.enter_context(manager)


def raw_chat(clients: Any, messages: Any) -> Any:
    method = clients.openai.chat.completions.with_streaming_response.create
    return clients.stack.enter_context(method(model=GPT + "+no-usage", messages=messages)).iter_lines()


def raw_messages(clients: Any, messages: Any) -> Any:
    method = clients.anthropic.messages.with_streaming_response.create
    answer = method(model=CLAUDE + "+no-usage", max_tokens=9, messages=messages)
    return clients.stack.enter_context(answer).iter_lines()


OPENED = [
    streamed_chat,
    streamed_chat_by_the_helper,
    streamed_responses,
    streamed_messages,
    streamed_messages_by_the_helper,
    raw_chat,
    raw_messages,
]


def holding() -> list[Reader]:
    """The readers that refer to the text of a request."""
    return [each for each in gc.get_objects() if isinstance(each, Reader) and isinstance(each._request, tuple)]


def the_record(sink: Any) -> CallRecord:
    flush(5)
    (record,) = sink.records
    assert isinstance(record, CallRecord)
    return record


@pytest.mark.parametrize("opened", OPENED)
def test_a_stream_counts_what_was_sent(opened: Callable[[Any, Any], Any], sim: Simulator) -> None:
    """Messages that the user adds or changes while he reads are not in the request; nor is anything of it held then."""
    part = Message(role="user", content=ASKED)
    messages: list[Any] = [part]
    with patched() as sink:
        with clients_of(sim) as clients:
            stream = iter(opened(clients, messages))
            part["content"] = "z" * 4_000
            messages.append({"role": "user", "content": "z" * 4_000})
            held = holding()
            try:
                list(stream)
            except AttributeError:
                assert opened is streamed_messages_by_the_helper  # it cannot do without usage
        record = the_record(sink)
    assert held == []
    assert record.usage.input_tokens == len(ASKED) // 4
    assert record.usage_source == "estimated"


@pytest.mark.parametrize("road", STREAMING, ids=str)
def test_a_body_that_the_user_reads_counts_what_was_sent(road: Road, sim: Simulator) -> None:
    """Of an answer that the user reads himself nothing of the request is held while he does."""
    with patched() as sink, clients_of(sim) as clients:
        with road.on(clients, "with_streaming_response")(**road.arguments()) as raw:
            assert holding() == []
            raw.read()
    assert the_record(sink).usage_source == "reported"


def test_a_stream_of_google_counts_what_was_sent(sim: Simulator) -> None:
    """The same of Google's SDK, which sends the request with the first chunk that is asked for."""
    contents: list[Any] = [{"role": "user", "parts": [{"text": ASKED}]}]
    with patched() as sink, clients_of(sim) as clients:
        stream = clients.google.models.generate_content_stream(model=GEMINI + "+no-usage", contents=contents)
        next(stream)
        contents.append({"role": "user", "parts": [{"text": "z" * 4_000}]})
        list(stream)
    record = the_record(sink)
    assert record.usage.input_tokens == len(ASKED) // 4


# Which answers were counted


def test_answers_are_known_while_they_live_and_forgotten_afterwards() -> None:
    """Those that live stay known among thousands that do not; of these next to nothing is left."""
    alive = [chat(USED) for _ in range(300)]
    for number in range(3_000):
        if number % 10 == 0:
            answers.note(alive[number // 10])
        gone = chat(USED)
        answers.note(gone)
    del gone
    assert all(answers.known(each) for each in alive)
    assert not answers.known(chat(USED))
    assert not answers.known({"id": "JSON cannot be referred to weakly"})
    alive.clear()
    for _ in range(1_000):
        answers.note(chat(USED))
    assert len(answers._known) < 300
