"""Budgets and limits, through the real clients: what is refused is not sent, what was sent is delivered and counted."""

from __future__ import annotations

import asyncio
import pickle
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from roads import ROADS, Road
from sources import ASYNC, CLAUDE, GPT, MESSAGES, SYNC, Source, async_clients_of, clients_of
from test_lasting import work

from llm_toll_autopatch import (
    BudgetExceededError,
    BudgetOverrunWarning,
    BudgetUnavailableError,
    LocalRateLimitError,
    MemorySink,
    SQLiteLedger,
    UnboundedCostError,
    flush,
    lasting,
    patch_all,
    patched,
    scope,
    settings,
    status,
)
from llm_toll_autopatch.budgets.keeper import Refusal, Reservation
from llm_toll_autopatch.budgets.limits import Limit
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.simulator import Simulator
from llm_toll_autopatch.sinks import SinkUnavailableError

pytestmark = [
    pytest.mark.filterwarnings("ignore::llm_toll_autopatch.TokenEstimateWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # some of the methods are
]

ONE = Decimal("0.00002225")
"""What one short chat costs: 25 input and 8 output tokens of gpt-5-mini."""


def ask(clients: Any, model: str = GPT, **more: Any) -> Any:
    return clients.openai.chat.completions.create(model=model, messages=MESSAGES, **more)


# Before the call


@pytest.mark.parametrize("road", ROADS, ids=str)
def test_nothing_is_sent_when_nothing_is_left(road: Road, sim: Simulator) -> None:
    """Every method, plain and streamed, is refused before any request leaves, and leaves no record and nothing open."""
    with patched(max_budget=0) as sink, clients_of(sim) as clients:
        for stream in (False, True)[: 1 + road.streams]:
            with pytest.raises(BudgetExceededError) as refused:
                road.on(clients)(**road.arguments(stream=stream))
            assert refused.value.project == "default"
    assert not sim.requests
    assert isinstance(sink, MemorySink)
    assert not sink.records
    assert status().open_calls == 0


@pytest.mark.parametrize("road", ROADS, ids=str)
async def test_nothing_is_sent_async(road: Road, sim: Simulator) -> None:
    """The same, async."""
    with patched(max_budget=0):
        async with async_clients_of(sim) as clients:
            for stream in (False, True)[: 1 + road.streams]:
                with pytest.raises(BudgetExceededError):
                    await road.on(clients)(**road.arguments(stream=stream))
    assert not sim.requests


@pytest.mark.parametrize("source", SYNC, ids=str)
def test_no_stream_is_opened(source: Source, sim: Simulator) -> None:
    """Streams of every kind are refused as well, Google's when their first chunk is asked for."""
    with patched(max_budget=0), clients_of(sim) as clients, pytest.raises(BudgetExceededError):
        next(iter(source.open(clients, source.model)))
    assert not sim.requests


@pytest.mark.parametrize("source", ASYNC, ids=str)
async def test_no_async_stream_is_opened(source: Source, sim: Simulator) -> None:
    """The same, async."""
    with patched(max_budget=0):
        async with async_clients_of(sim) as clients:
            with pytest.raises(BudgetExceededError):
                await anext(aiter(await source.open(clients, source.model)))
    assert not sim.requests


def test_google_plain(sim: Simulator) -> None:
    """Google's plain calls pass the gate too."""
    with patched(max_budget=0), clients_of(sim) as clients, pytest.raises(BudgetExceededError):
        clients.google.models.generate_content(model="gemini-3.8-flash", contents="Hi")
    assert not sim.requests


def test_the_answer_that_breaches_the_budget_is_delivered(sim: Simulator) -> None:
    """The call that crosses the budget is answered and counted, with a warning; the next one is refused."""
    with patched(max_budget="0.00003") as sink, clients_of(sim) as clients:
        assert ask(clients).usage
        with pytest.warns(BudgetOverrunWarning, match=r"\$0\.0000445 of \$0\.00003 is spent") as warned:
            assert ask(clients).usage
        assert warned[0].filename == __file__
        with pytest.raises(BudgetExceededError, match="nothing was sent") as refused:
            ask(clients)
    assert refused.value.current_cost == 2 * ONE
    assert refused.value.max_budget == Decimal("0.00003")
    assert len(sim.requests) == 2
    assert isinstance(sink, MemorySink)
    assert [record.cost_usd for record in sink.records] == [ONE, ONE]


def test_the_warning_cannot_break_a_call(sim: Simulator) -> None:
    """Where warnings are errors, the answer is delivered all the same."""
    with patched(max_budget="0.00001"), clients_of(sim) as clients, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ask(clients).usage


def test_errors_can_be_pickled_and_read() -> None:
    """The errors cross process boundaries as they are, and say what they are about."""
    for error in (
        BudgetExceededError("acme", Decimal(2), Decimal(1), "why"),
        UnboundedCostError("acme", None, Decimal(1), "pass max_tokens="),
        LocalRateLimitError("tpm", 1_000, 2.5),
    ):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
    assert str(BudgetExceededError("acme", Decimal(2), Decimal(1))) == (
        "the budget of project 'acme' is used up: $2.00 of $1.00"
    )


def test_a_failed_call_costs_nothing(sim: Simulator) -> None:
    """A call that the provider refuses leaves the budget as it was."""
    import openai

    with patched(max_budget="0.00001", strict_budget=False), clients_of(sim) as clients:
        for _ in range(3):
            with pytest.raises(openai.APIStatusError):
                ask(clients, GPT + "+error=500")
        with pytest.warns(BudgetOverrunWarning):
            ask(clients)


# Who shares a budget


def test_a_budget_is_the_projects_in_every_process(tmp_path: Path, sim: Simulator) -> None:
    """What another process has written to the ledger counts, and what this one wrote before it had a budget."""
    path = tmp_path / "ledger.db"
    with patched(sink=SQLiteLedger(path), project="acme"), clients_of(sim) as clients:
        ask(clients)
    with patched(sink=SQLiteLedger(path), project="acme", max_budget=ONE, reset="daily"), clients_of(sim) as clients:
        with pytest.raises(BudgetExceededError, match="starts anew at"):
            ask(clients)
        with scope("other"), pytest.raises(BudgetExceededError):  # it is the process's too
            ask(clients)
    with patched(sink=SQLiteLedger(path), project="other", max_budget=ONE, reset="daily"), clients_of(sim) as clients:
        ask(clients)


def test_calls_in_other_projects_scopes_count(tmp_path: Path, sim: Simulator) -> None:
    """What is spent in scopes of other projects counts against the budget of `patch_all`; all must agree."""
    with patched(sink=SQLiteLedger(tmp_path / "ledger.db"), max_budget=3 * ONE), clients_of(sim) as clients:
        with scope("a", max_budget=ONE):
            ask(clients)
            with pytest.raises(BudgetExceededError) as refused:
                ask(clients)
            assert refused.value.project == "a"
        with scope("b"):
            ask(clients)
        ask(clients)
        with scope("c"), pytest.raises(BudgetExceededError) as refused:
            ask(clients)
    assert refused.value.project == "default"
    assert len(sim.requests) == 3


def test_the_budget_of_a_block(tmp_path: Path, sim: Simulator) -> None:
    """A scope without a project limits its own block, inner scopes and streams that are read later included."""
    with patched(sink=SQLiteLedger(tmp_path / "ledger.db")), clients_of(sim) as clients:
        for _ in range(2):
            with scope(max_budget=2 * ONE) as spend:
                ask(clients)
                with scope("inner"):
                    ask(clients)
                    with pytest.raises(BudgetExceededError, match="this block") as refused:
                        ask(clients)
                assert refused.value.project is None
            assert spend.calls == 2
        ask(clients)


def test_a_recursive_scope_is_one_limit(tmp_path: Path, sim: Simulator) -> None:
    """The same limit several times is one, and the smallest counts."""
    with patched(sink=SQLiteLedger(tmp_path / "ledger.db")), clients_of(sim) as clients:
        with scope("a", max_budget=2 * ONE), scope("a", max_budget=9 * ONE), scope("a", max_budget=2 * ONE):
            ask(clients)
            ask(clients)
            with pytest.raises(BudgetExceededError):
                ask(clients)


def test_records_that_go_elsewhere_count(tmp_path: Path, sim: Simulator) -> None:
    """A scope's own sink gets the record, and the ledger counts it against the limits all the same."""
    elsewhere = MemorySink()
    ledger = SQLiteLedger(tmp_path / "ledger.db")
    with patched(sink=ledger, max_budget=ONE), clients_of(sim) as clients, scope(sink=elsewhere):
        ask(clients)
        with pytest.raises(BudgetExceededError):
            ask(clients)
    assert len(elsewhere.records) == 1
    assert not list(ledger.records())


def test_a_budget_survives_a_new_configuration(sim: Simulator) -> None:
    """Calling `patch_all` again does not forget what was spent, where the process's memory keeps it."""
    with clients_of(sim) as clients:
        patch_all(sink=MemorySink(), max_budget=ONE)
        ask(clients)
        patch_all(sink=MemorySink(), max_budget=ONE)
        with pytest.raises(BudgetExceededError):
            ask(clients)
        patch_all(sink=MemorySink(), max_budget=3 * ONE)
        ask(clients)


# Rate limits


def test_calls_and_tokens_in_60_seconds(sim: Simulator) -> None:
    """More calls, or tokens, than the limit are refused with the time to wait."""
    with patched() as sink, clients_of(sim) as clients:
        with scope(rate_limit=2):
            ask(clients)
            ask(clients)
            with pytest.raises(LocalRateLimitError, match="2 calls in 60 seconds") as refused:
                ask(clients)
            assert refused.value.limit_type == "rpm"
            assert refused.value.retry_after is not None
            assert 0 < refused.value.retry_after <= 60
        with scope(tpm_limit=60):
            ask(clients)
            ask(clients)
            with pytest.raises(LocalRateLimitError) as refused:
                ask(clients)
            assert (refused.value.limit_type, refused.value.limit_value) == ("tpm", 60)
    assert isinstance(sink, MemorySink)
    assert len(sink.records) == len(sim.requests) == 4


def test_what_the_sdk_refuses_takes_no_room(sim: Simulator) -> None:
    """Arguments that the SDK itself refuses are no call, and hold nothing."""
    with patched(max_budget=1, rate_limit=1), clients_of(sim) as clients:
        for _ in range(3):
            with pytest.raises(TypeError):
                clients.openai.chat.completions.create(model=GPT, messages=MESSAGES, nonsense=1)
        ask(clients)


# Strict budgets

BOUND: dict[str, Any] = {"max_completion_tokens": 8}
OWN = {"gpt-5-mini*": {"input": "0.25", "output": 2}}
"""The real price, for names with the simulator's flags too."""


@pytest.mark.parametrize(
    ("model", "more", "reason"),
    [
        (GPT, {}, "max_completion_tokens="),
        ("nobody-knows-1", BOUND, "no price is known for model 'nobody-knows-1'"),
        (GPT, {**BOUND, "web_search_options": {}}, "web"),
    ],
)
@pytest.mark.filterwarnings("ignore::llm_toll_autopatch.UnknownPriceWarning")
def test_what_has_no_upper_bound_is_refused(model: str, more: dict[str, Any], reason: str, sim: Simulator) -> None:
    """Under a strict budget a call is refused of which nobody can say what it may cost, and the error says what to do."""
    if "web_search_options" in more:
        more = {**more, "web_search_options": {"search_context_size": "low"}}
    with patched(max_budget=1, strict_budget=True), clients_of(sim) as clients:
        with pytest.raises(UnboundedCostError, match=reason):
            ask(clients, model, **more)
    assert not sim.requests
    assert status().open_calls == 0


def test_a_strict_budget_holds_the_worst_case(tmp_path: Path, sim: Simulator) -> None:
    """What a call may cost at most is held until it ends, and then what it cost is spent."""
    with (
        patched(sink=SQLiteLedger(tmp_path / "l.db"), max_budget="0.001", strict_budget=True),
        clients_of(sim) as clients,
    ):
        with pytest.raises(BudgetExceededError, match=r"this call may cost up to \$0\.\d+"):
            ask(clients, max_completion_tokens=10_000)
        stream = clients.openai.chat.completions.create(
            model=GPT, messages=MESSAGES, stream=True, max_completion_tokens=150
        )
        with pytest.raises(BudgetExceededError, match="is held for calls that are under way"):
            ask(clients, max_completion_tokens=150)
        assert list(stream)
        for _ in range(3):
            ask(clients, max_completion_tokens=150)


@pytest.mark.parametrize("on_disk", [True, False])
def test_work_that_nobody_fetches_is_charged_what_was_held(on_disk: bool, tmp_path: Path, sim: Simulator) -> None:
    """The provider may bill all of it, so a strict budget does not take back any of it."""
    sink = SQLiteLedger(tmp_path / "l.db") if on_disk else MemorySink()
    with patched(sink=sink, project="acme", max_budget=1, strict_budget=True), clients_of(sim) as clients:
        in_force = settings.in_force()
        assert in_force is not None
        ((limit, keeper),) = in_force.limits
        clients.openai.responses.create(model=GPT, input="hi", background=True, max_output_tokens=1_000)
        (under_way,) = keeper.standings([limit], datetime.now(UTC))
        lasting.give_up()
        flush(5)
        (over,) = keeper.standings([limit], datetime.now(UTC))
    assert (under_way.spent, over.held) == (0, 0)
    assert over.spent == under_way.held > 1_000
    (record,) = sink.records() if isinstance(sink, SQLiteLedger) else sink.records
    assert (record.usage_source, record.cost_usd) == ("missing", None)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_threads_cannot_overspend(kind: str, tmp_path: Path, sim: Simulator) -> None:
    """However many threads call at once, what the provider bills is never more than the cap."""
    sink: Any = MemorySink() if kind == "memory" else SQLiteLedger(tmp_path / "ledger.db", busy_timeout_s=30)
    with patched(sink=sink, max_budget="0.002", strict_budget=True, prices=OWN), clients_of(sim) as clients:

        def work(_: int) -> int:
            done = refused = 0
            while refused < 10:
                try:
                    ask(clients, GPT + "+first=20", **BOUND)
                except BudgetExceededError:
                    refused += sim.wait_idle(0)  # what calls under way hold may come back
                    time.sleep(0.02)
                else:
                    done, refused = done + 1, 0
            return done

        with ThreadPoolExecutor(16) as threads:
            sent = sum(threads.map(work, range(16)))
    assert sent == len(sim.requests)
    assert 0.8 * 0.002 <= sent * float(ONE) <= 0.002


async def test_a_cancelled_call_holds_nothing(tmp_path: Path, sim: Simulator) -> None:
    """A task that is cancelled while it waits for the answer is charged what was held, for nobody knows what it cost."""
    ledger = SQLiteLedger(tmp_path / "ledger.db")
    with patched(sink=ledger, max_budget="0.001", strict_budget=True, prices=OWN):
        async with async_clients_of(sim) as clients:
            task = asyncio.create_task(ask(clients, GPT + "+first=5000", **BOUND))
            while not sim.requests:  # noqa: ASYNC110 - the simulator is of another thread
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    flush(5)
    with ledger.transaction() as connection:
        assert connection.execute("SELECT held, spent > 0 FROM budgets").fetchall() == [(0, 1)]


# When the ledger cannot say


class _Broken(SQLiteLedger):
    """A ledger that takes records and has lost its budgets."""

    def reserve(self, reservation: Reservation) -> Refusal | None:
        raise SinkUnavailableError("on fire")

    reserve_now = reserve


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ({}, False), ({"strict_budget": True}, True), ({"on_ledger_error": "refuse"}, True),
        ({"strict_budget": True, "on_ledger_error": "allow"}, False),
    ],
    ids=str,
)  # fmt: skip
def test_when_the_ledger_cannot_say(options: dict[str, Any], refused: bool, tmp_path: Path, sim: Simulator) -> None:
    """Strict budgets refuse a call when nobody knows what is left, others let it pass; `on_ledger_error` says otherwise."""
    with patched(sink=_Broken(tmp_path / "ledger.db"), max_budget=1, **options), clients_of(sim) as clients:
        if refused:
            with pytest.raises(BudgetUnavailableError, match="on fire"):
                ask(clients, **BOUND)
        else:
            ask(clients, **BOUND)
    assert failures.last == "asking what is left of the limits: SinkUnavailableError"
    failures.reset()
    assert len(sim.requests) == (0 if refused else 1)


class _Slow(SQLiteLedger):
    """A ledger that is not asked on the spot, as one across a network on an event loop."""

    def reserve_now(self, reservation: Reservation) -> Refusal | None:
        raise SinkUnavailableError("later")


@pytest.mark.parametrize("own", [True, False])
def test_work_that_is_under_way_is_charged_when_it_ends(own: bool, tmp_path: Path, sim: Simulator) -> None:
    """A ledger that cannot be asked on the spot learns of a batch's results, and of who pays, when they are recorded."""
    ledger = _Slow(tmp_path / "ledger.db")
    with patched(sink=ledger, project="acme", max_budget=1), clients_of(sim) as clients:
        elsewhere = MemorySink()
        with scope("other", sink=None if own else elsewhere):
            assert list(clients.anthropic.messages.batches.results(work("msgbatch", CLAUDE)))
    flush(5)
    (standing,) = ledger.standings([Limit("acme", "usd", 10**9)], datetime.now(UTC))
    records = list(ledger.records()) if own else elsewhere.records
    assert {record.project for record in records} == {"other"}
    cost = sum(record.cost_usd or 0 for record in records)
    assert (standing.spent, standing.held) == (int(cost * 10**9), 0)
    assert cost


# Streams that are cut off

LONG = "+chunks=400"
DEAR = {"*": {"input": 1, "output": 10}}
"""So that a stream of any model is dear after some 60 chunks."""


@pytest.mark.parametrize("source", SYNC, ids=str)
def test_a_stream_is_cut_off(source: Source, sim: Simulator) -> None:
    """A stream that reaches the budget is closed: what had come was delivered, the record is written, the server sees it."""
    _check_cut_off(source, sim, *_read(source, sim))


def _read(source: Source, sim: Simulator) -> tuple[MemorySink, list[Any], list[Any]]:
    with clients_of(sim) as clients:
        bare = list(source.open(clients, source.model + LONG))
    sim.wait_idle()
    sim.clear()
    sink, chunks = MemorySink(), []
    with patched(sink=sink, max_budget="0.0009", stop_streams=True, prices=DEAR), clients_of(sim) as clients:
        stream = source.open(clients, source.model + LONG + "+delay=1")
        with pytest.raises(BudgetExceededError, match="cut off"), warnings.catch_warnings():  # noqa: PT012
            warnings.simplefilter("ignore", BudgetOverrunWarning)
            for chunk in stream:
                chunks.append(chunk)  # noqa: PERF402 - a list would keep none of them
    return sink, chunks, bare


def _check_cut_off(source: Source, sim: Simulator, sink: MemorySink, chunks: list[Any], bare: list[Any]) -> None:
    assert 3 < len(chunks) < len(bare)
    (record,) = sink.records
    assert (record.outcome, record.error_type, record.method) == ("closed", "BudgetExceededError", source.method)
    assert record.cost_usd is not None
    assert Decimal("0.0008") < record.cost_usd < Decimal("0.0011")
    sim.wait_idle()
    (request,) = sim.requests
    assert request.hung_up


@pytest.mark.parametrize("source", ASYNC, ids=str)
async def test_an_async_stream_is_cut_off(source: Source, sim: Simulator) -> None:
    """The same, async."""
    async with async_clients_of(sim) as clients:
        bare = [chunk async for chunk in await source.open(clients, source.model + LONG)]
        await asyncio.to_thread(sim.wait_idle)
    sim.clear()
    sink, chunks = MemorySink(), []
    with patched(sink=sink, max_budget="0.0009", stop_streams=True, prices=DEAR):
        async with async_clients_of(sim) as clients:
            stream = await source.open(clients, source.model + LONG + "+delay=1")
            with pytest.raises(BudgetExceededError, match="cut off"), warnings.catch_warnings():  # noqa: PT012
                warnings.simplefilter("ignore", BudgetOverrunWarning)
                async for chunk in stream:
                    chunks.append(chunk)  # noqa: PERF401 - a list would keep none of them
    _check_cut_off(source, sim, sink, chunks, bare)


# What makes no sense


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_budget": -1}, "max_budget= takes an amount of USD that is 0 or more"),
        ({"max_budget": "much"}, "max_budget= takes an amount of USD"),
        ({"max_budget": float("nan")}, "max_budget="),
        ({"max_budget": True}, "max_budget="),
        ({"max_budget": 10**12}, "max_budget= is 1000000000000"),
        ({"max_budget": 1, "reset": "yearly"}, "reset= takes None, 'daily', 'weekly', 'monthly', not 'yearly'"),
        ({"reset": "daily"}, "reset= says when max_budget= starts anew"),
        ({"rate_limit": 0}, "rate_limit= takes a positive number of calls"),
        ({"rate_limit": 1.5}, "rate_limit= takes a number of calls"),
        ({"tpm_limit": "1"}, "tpm_limit= takes a number of tokens"),
        ({"strict_budget": 1}, "strict_budget= takes True or False"),
        ({"stop_streams": "yes"}, "stop_streams= takes True or False"),
    ],
    ids=str,
)
def test_limits_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    """A limit that makes no sense is an error when it is configured, everywhere the same."""
    for configure in (patch_all, lambda **kw: scope(**kw).__enter__()):
        with pytest.raises((TypeError, ValueError)) as error:
            configure(**options)
        assert message in str(error.value)


@pytest.mark.parametrize("options", [{"on_ledger_error": "ignore"}, {"on_orphan": "bury"}], ids=str)
def test_policies_that_do_not_exist(options: dict[str, Any]) -> None:
    """So is a policy that does not exist."""
    with pytest.raises(ValueError, match=r"takes '\w+' or '\w+'"):
        patch_all(**options)


def test_limits_from_the_environment(monkeypatch: pytest.MonkeyPatch, sim: Simulator) -> None:
    """Limits come from the environment like every option, and errors name the variable."""
    monkeypatch.setenv("LLM_TOLL_AUTOPATCH_MAX_BUDGET", "0")
    monkeypatch.setenv("LLM_TOLL_AUTOPATCH_RESET", "monthly")
    with patched(), clients_of(sim) as clients, pytest.raises(BudgetExceededError):
        ask(clients)
    monkeypatch.setenv("LLM_TOLL_AUTOPATCH_MAX_BUDGET", "lots")
    with pytest.raises(ValueError, match="LLM_TOLL_AUTOPATCH_MAX_BUDGET"):
        patch_all()
