"""Work that outlasts its request: one record by its id, however often it is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from sources import CLAUDE, GPT, PROMPT, async_clients_of, clients_of
from versions import needs

from llm_toll_autopatch import lasting, patched, status
from llm_toll_autopatch.simulator import Simulator

pytestmark = [
    pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Assistants are
]

_numbers = count()


@pytest.fixture(autouse=True)
def _nothing_waits() -> Iterator[None]:
    yield
    assert not lasting._waiting


def work(prefix: str, model: str = GPT) -> str:
    """The id of work that the simulator has not been asked about yet."""
    return f"{prefix}_{model}~{next(_numbers)}"


def test_a_background_response_is_one_record(sim: Simulator) -> None:
    """A background response is recorded when it is found to be done, once, under the method that began it."""
    with patched() as sink, clients_of(sim) as clients:
        begun = clients.openai.responses.create(model=GPT, input=PROMPT, background=True)
        assert not sink.records  # type: ignore[attr-defined]
        assert status().open_calls == 1
        assert clients.openai.responses.retrieve(begun.id).status == "in_progress"
        for _ in range(3):
            assert clients.openai.responses.retrieve(begun.id).status == "completed"
        assert clients.openai.responses.with_raw_response.retrieve(begun.id).parse().usage
    (record,) = sink.records  # type: ignore[attr-defined]
    assert (record.method, record.usage_source, record.usage.output_tokens) == ("responses.create", "reported", 8)
    assert record.response_id == begun.id


async def test_a_background_response_async_and_begun_elsewhere(sim: Simulator) -> None:
    """A background response that another process began is recorded by who finds it done."""
    with patched() as sink:
        async with async_clients_of(sim) as clients:
            response = work("resp")
            for _ in range(3):
                await clients.openai.responses.retrieve(response)
    (record,) = sink.records  # type: ignore[attr-defined]
    assert (record.method, record.model, record.usage.input_tokens) == ("responses.retrieve", GPT, 25)


def test_a_stream_that_resumes(sim: Simulator) -> None:
    """A background stream that is broken off and resumed is one record with the final figures."""
    with patched() as sink, clients_of(sim) as clients:
        response = work("resp")
        for number, _ in enumerate(clients.openai.responses.retrieve(response, stream=True)):
            if number == 3:
                break
        assert not sink.records  # type: ignore[attr-defined]
        assert list(clients.openai.responses.retrieve(response, stream=True, starting_after=3))
        assert list(clients.openai.responses.retrieve(response, stream=True))
        clients.openai.responses.retrieve(response)
        clients.openai.responses.retrieve(response)
        with clients.openai.responses.stream(response_id=response, starting_after=3) as stream:
            assert list(stream)
    (record,) = sink.records  # type: ignore[attr-defined]
    assert (record.usage_source, record.usage.output_tokens, record.stream) == ("reported", 8, True)


def test_a_run_is_one_record(sim: Simulator) -> None:
    """A run that is polled, and needs its tools' results in between, is one record."""
    with patched() as sink, clients_of(sim) as clients:
        runs = clients.openai.beta.threads.runs
        run = runs.create_and_poll(
            thread_id="thread_1", assistant_id="asst_1", model=f"{GPT}+tools", poll_interval_ms=1
        )
        assert run.status == "requires_action"
        assert not sink.records  # type: ignore[attr-defined]
        outputs: Any = [{"tool_call_id": "x", "output": "Rain."}]
        with runs.submit_tool_outputs_stream(run_id=run.id, thread_id="thread_1", tool_outputs=outputs) as stream:
            stream.until_done()
        for _ in range(2):
            runs.retrieve(run.id, thread_id="thread_1")
    (record,) = sink.records  # type: ignore[attr-defined]
    assert (record.operation, record.usage.input_tokens, record.usage_source) == ("runs", 25, "reported")


def test_a_streamed_run_is_one_record(sim: Simulator) -> None:
    """create(stream=True) of a run reports at its end, and its steps' usage is not added."""
    with patched() as sink, clients_of(sim) as clients:
        runs = clients.openai.beta.threads.runs
        events = list(runs.create(thread_id="thread_1", assistant_id="asst_1", model=GPT, stream=True))
        runs.retrieve(events[0].data.id, thread_id="thread_1")
        runs.retrieve(events[0].data.id, thread_id="thread_1")
    (record,) = sink.records  # type: ignore[attr-defined]
    assert (record.usage.input_tokens, record.usage.output_tokens, record.stream) == (25, 8, True)


def test_a_run_that_is_cancelled(sim: Simulator) -> None:
    """A run that is cancelled, or given its tools' results by a plain call, is one record when it is known to be over."""
    with patched() as sink, clients_of(sim) as clients:
        runs = clients.openai.beta.threads.runs
        run = runs.create(thread_id="thread_1", assistant_id="asst_1", model=GPT)
        runs.retrieve(run.id, thread_id="thread_1")
        assert runs.cancel(run.id, thread_id="thread_1").status == "completed"
        runs.cancel(run.id, thread_id="thread_1")
        waiting = runs.create_and_poll(
            thread_id="thread_1", assistant_id="asst_1", model=f"{GPT}+tools", poll_interval_ms=1
        )
        outputs: Any = [{"tool_call_id": "x", "output": "Rain."}]
        again = runs.submit_tool_outputs(run_id=waiting.id, thread_id="thread_1", tool_outputs=outputs)
        assert again.status == "queued"
        assert len(sink.records) == 1  # type: ignore[attr-defined]
        assert list(
            runs.submit_tool_outputs(run_id=waiting.id, thread_id="thread_1", tool_outputs=outputs, stream=True)
        )
    records = sink.records  # type: ignore[attr-defined]
    assert [(record.method, record.usage.input_tokens, record.usage_source) for record in records] == [
        ("beta.threads.runs.create", 25, "reported")
    ] * 2
    assert [record.response_id for record in records] == [run.id, waiting.id]


def test_the_older_name_of_a_helper(sim: Simulator) -> None:
    """`create_and_stream` is `stream` by another name, and is one record too."""
    with patched() as sink, clients_of(sim) as clients:
        runs = clients.openai.beta.threads.runs
        with runs.create_and_stream(thread_id="thread_1", assistant_id="asst_1", model=GPT) as stream:
            stream.until_done()
    (record,) = sink.records  # type: ignore[attr-defined]
    assert (record.method, record.usage.output_tokens) == ("beta.threads.runs.create_and_stream", 8)


@needs("openai", "beta.responses.create")
def test_a_beta_response_in_the_background(sim: Simulator) -> None:
    """The beta's background responses are found to be done, or cancelled, as the others are; each is one record."""
    with patched() as sink, clients_of(sim) as clients:
        beta = clients.openai.beta.responses
        done, cancelled = (beta.create(model=GPT, input=PROMPT, background=True).id for _ in range(2))
        for _ in range(3):
            beta.retrieve(done)
        for _ in range(3):
            beta.cancel(cancelled)
        assert list(beta.retrieve(done, stream=True))
    records = sink.records  # type: ignore[attr-defined]
    assert [(record.method, record.usage.output_tokens) for record in records] == [("beta.responses.create", 8)] * 2
    assert [record.response_id for record in records] == [done, cancelled]


def test_a_batch_is_one_record(sim: Simulator) -> None:
    """A batch is recorded when it has ended, once, at the batch tier."""
    with patched() as sink, clients_of(sim) as clients:
        batch = work("batch")
        for _ in range(3):
            clients.openai.batches.retrieve(batch)
    (record,) = sink.records  # type: ignore[attr-defined]
    assert (record.operation, record.model, record.service_tier) == ("batch", GPT, "batch")
    assert (record.usage.input_tokens, record.usage.output_tokens) == (25, 8)


def test_an_eval_run_is_a_record_a_model(sim: Simulator) -> None:
    """An eval's run is one record for each model that took part, once."""
    with patched() as sink, clients_of(sim) as clients:
        run = work("evalrun")
        for _ in range(3):
            clients.openai.evals.runs.retrieve(run, eval_id="eval_1")
    assert [record.model for record in sink.records] == [GPT, "gpt-5-nano"]  # type: ignore[attr-defined]
    assert {record.usage.cache_read_tokens for record in sink.records} == {3}  # type: ignore[attr-defined]


@pytest.mark.parametrize("api", ["messages", "beta.messages"])
def test_the_results_of_a_message_batch(api: str, sim: Simulator) -> None:
    """Each message of a batch's results is one record, however often they are fetched; what failed is none."""
    with patched() as sink, clients_of(sim) as clients:
        client = clients.anthropic.beta if api == "beta.messages" else clients.anthropic
        batch = work("msgbatch", CLAUDE)
        for _ in range(2):
            assert len(list(client.messages.batches.results(batch))) == 3
    records = sink.records  # type: ignore[attr-defined]
    assert [(record.operation, record.method) for record in records] == [("batch", f"{api}.batches.results")] * 2
    assert {(record.model, record.service_tier, record.usage.output_tokens) for record in records} == {
        (CLAUDE, "batch", 8)
    }


async def test_the_results_of_a_message_batch_async(sim: Simulator) -> None:
    """The same, async; results that are not read are not counted yet."""
    with patched() as sink:
        async with async_clients_of(sim) as clients:
            batch = work("msgbatch", CLAUDE)
            async for _ in await clients.anthropic.messages.batches.results(batch):
                break
            assert len(sink.records) == 1  # type: ignore[attr-defined]
            assert len([line async for line in await clients.anthropic.messages.batches.results(batch)]) == 3
    assert len(sink.records) == 2  # type: ignore[attr-defined]
