"""Whoever keeps limits knows what is spent and held, whatever happens to the calls."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from keepers import KEEPERS, LEDGERS, as_dead_process, dead_process, reservation
from specimens import NOON, record

from llm_toll_autopatch.budgets.keeper import Keeper, Reservation, Standing
from llm_toll_autopatch.budgets.limits import Limit, window_of
from llm_toll_autopatch.budgets.owner import current_owner, is_dead
from llm_toll_autopatch.budgets.rolling import room_after
from llm_toll_autopatch.ledger.sqlite import SQLiteLedger
from llm_toll_autopatch.records import CallRecord, Usage

USD = Limit("acme", "usd", 1_000, "total")
CALLS = Limit("acme", "calls", 2, "minute")
TOKENS = Limit("acme", "tokens", 100, "minute")


@pytest.fixture(params=KEEPERS)
def keeper(request: pytest.FixtureRequest, tmp_path: Path) -> Keeper:
    """Each of the keepers."""
    return KEEPERS[request.param](tmp_path)


@pytest.fixture(params=LEDGERS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Each of the ledgers that keep limits."""
    return KEEPERS[request.param](tmp_path)


def nano(amount: int) -> Decimal:
    return Decimal(amount).scaleb(-9)


def of(asked: Reservation, **changes: Any) -> CallRecord:
    """The record of a call that was reserved."""
    return record(id=asked.call_id, started_at=asked.at, **changes)


def standing(keeper: Keeper, limit: Limit, at: datetime = NOON) -> tuple[int, int]:
    (found,) = keeper.standings([limit], at)
    return found.spent, found.held


def test_what_is_held_becomes_what_it_cost(keeper: Keeper) -> None:
    """A reservation is held until it is settled, and then what the call cost is spent."""
    asked = reservation((USD, 600), at=NOON)
    assert keeper.reserve(asked) is None
    assert standing(keeper, USD) == (0, 600)
    keeper.settle(of(asked, cost_usd=nano(250)))
    assert standing(keeper, USD) == (250, 0)


def test_all_or_nothing(keeper: Keeper) -> None:
    """When one of several limits has no room, nothing is held of the others, and it is named."""
    other = Limit("other", "usd", 10, "total")
    refusal = keeper.reserve(reservation((USD, 600), (other, 11), at=NOON))
    assert refusal is not None
    assert refusal.standing == Standing(other, 0)
    assert standing(keeper, USD) == (0, 0)


@pytest.mark.parametrize(
    ("amounts", "admitted"), [([500, 500], 2), ([500, 501], 1), ([1_000, 0], 1), ([0, 0, 0], 3)], ids=str
)
def test_there_is_room_up_to_the_limit(keeper: Keeper, amounts: list[int], admitted: int) -> None:
    """What is spent and held is never more than the limit, and asking for nothing asks whether any is left."""
    assert sum(keeper.reserve(reservation((USD, amount), at=NOON)) is None for amount in amounts) == admitted


def test_what_is_due_is_never_refused(keeper: Keeper) -> None:
    """Work that is under way is charged, whatever is left."""
    keeper.reserve(reservation((USD, 1_000), at=NOON))
    asked = reservation((USD, 0), at=NOON, is_due=True)
    assert keeper.reserve(asked) is None
    keeper.settle(of(asked, project="elsewhere", cost_usd=nano(70)))
    assert standing(keeper, USD) == (70, 1_000)


def test_what_was_not_sent_is_released(keeper: Keeper) -> None:
    """A call that was not sent leaves nothing behind, not even in a limit on calls."""
    asked = reservation((USD, 600), (CALLS, 1), at=NOON)
    keeper.reserve(asked)
    keeper.release(asked.call_id)
    assert standing(keeper, USD) == (0, 0)
    assert standing(keeper, CALLS) == (0, 0)
    keeper.release(asked.call_id)
    assert standing(keeper, USD) == (0, 0)


def test_an_unknown_cost_counts_as_what_was_held(keeper: Keeper) -> None:
    """When nobody can say what a call cost, the budget takes the worst case."""
    asked = reservation((USD, 600), at=NOON)
    keeper.reserve(asked)
    keeper.settle(of(asked, cost_usd=None))
    assert standing(keeper, USD) == (600, 0)


def test_every_account_is_charged(keeper: Keeper) -> None:
    """A call counts against every limit that it was asked of, whoever its project is."""
    other = Limit("other", "usd", 1_000, "daily")
    asked = reservation((USD, 10), (other, 10), at=NOON)
    keeper.reserve(asked)
    keeper.settle(of(asked, project="acme", cost_usd=nano(7)))
    assert (standing(keeper, USD), standing(keeper, other)) == ((7, 0), (7, 0))


@pytest.mark.parametrize(
    ("period", "inside", "outside"),
    [
        ("daily", datetime(2026, 11, 23, 23, 59, 59, 999_999, UTC), datetime(2026, 11, 24, tzinfo=UTC)),
        ("weekly", datetime(2026, 11, 29, 23, 59, tzinfo=UTC), datetime(2026, 11, 30, tzinfo=UTC)),
        ("monthly", datetime(2026, 11, 30, 23, 59, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)),
        ("total", datetime(2033, 1, 1, tzinfo=UTC), None),
    ],
)  # fmt: skip
def test_a_budget_starts_anew(keeper: Keeper, period: Any, inside: datetime, outside: datetime | None) -> None:
    """A window is a calendar day, a week from Monday, or a month, in UTC; without one the budget is for ever."""
    limit = Limit("acme", "usd", 100, period)
    asked = reservation((limit, 100), at=NOON)
    keeper.reserve(asked)
    keeper.settle(of(asked, cost_usd=nano(100)))
    assert keeper.reserve(reservation((limit, 1), at=inside)) is not None
    if outside is not None:
        assert keeper.reserve(reservation((limit, 100), at=outside)) is None


def test_a_call_counts_in_the_window_in_which_it_began(keeper: Keeper) -> None:
    """What began before midnight and ends after it is yesterday's."""
    limit = Limit("acme", "usd", 100, "daily")
    asked = reservation((limit, 60), at=NOON)
    keeper.reserve(asked)
    keeper.settle(of(asked, cost_usd=nano(50), duration_s=86_400.0))
    assert standing(keeper, limit) == (50, 0)
    assert standing(keeper, limit, NOON + timedelta(days=1)) == (0, 0)


def test_calls_in_any_60_seconds(keeper: Keeper) -> None:
    """So many calls pass in any 60 seconds; the next one is told when there is room, and that is true."""
    for second in (0, 20):
        assert keeper.reserve(reservation((CALLS, 1), at=NOON + timedelta(seconds=second))) is None
    refusal = keeper.reserve(reservation((CALLS, 1), at=NOON + timedelta(seconds=50)))
    assert refusal is not None
    assert refusal.retry_after_s == pytest.approx(10)
    assert keeper.reserve(reservation((CALLS, 1), at=NOON + timedelta(seconds=59.9))) is not None
    assert keeper.reserve(reservation((CALLS, 1), at=NOON + timedelta(seconds=60.001))) is None


def test_tokens_in_any_60_seconds(keeper: Keeper) -> None:
    """Tokens count from the moment on which they are known."""
    now = datetime.now(UTC)
    asked = reservation((TOKENS, 0), at=now)
    assert keeper.reserve(asked) is None
    keeper.settle(of(asked, usage=Usage(input_tokens=80, output_tokens=30)))
    assert standing(keeper, TOKENS, now) == (110, 0)
    refusal = keeper.reserve(reservation((TOKENS, 0), at=now + timedelta(seconds=1)))
    assert refusal is not None
    assert refusal.retry_after_s == pytest.approx(59, abs=5)
    assert keeper.reserve(reservation((TOKENS, 0), at=now + timedelta(seconds=90))) is None


def test_what_never_fits_has_no_time_to_retry(keeper: Keeper) -> None:
    """A call that alone asks for more than the limit is told so."""
    refusal = keeper.reserve(reservation((TOKENS, 101), at=NOON))
    assert refusal is not None
    assert refusal.retry_after_s is None


@pytest.mark.parametrize(
    ("used", "amount", "after"),
    [
        ([], 10, 0.0), ([(50.0, 90)], 10, 0.0), ([(50.0, 90)], 11, 10.0), ([(50.0, 40), (70.0, 60)], 30, 10.0),
        ([(50.0, 40), (70.0, 60)], 50, 30.0), ([(50.0, 400)], 0, 10.0), ([], 101, None),
    ],
)  # fmt: skip
def test_when_there_is_room(used: list[tuple[float, int]], amount: int, after: float | None) -> None:
    """There is room as soon as enough of what was used is older than 60 seconds."""
    assert room_after(used, amount, 100, 100.0) == after


def test_threads_cannot_overspend_together(keeper: Keeper) -> None:
    """However many ask at the same moment, no more is held than there is."""
    start = threading.Barrier(16)

    def ask(_: int) -> bool:
        start.wait()
        return keeper.reserve(reservation((USD, 100), at=NOON)) is None

    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(ask, range(16))) == 10
    assert standing(keeper, USD) == (0, 1_000)


def test_a_budget_begins_with_what_was_spent_before(ledger: Any) -> None:
    """What the project's calls of the window have cost before anybody set a budget counts."""
    ledger.emit(record(cost_usd=nano(300)))
    ledger.emit(record(cost_usd=nano(40), started_at=NOON - timedelta(days=1)))
    ledger.emit(record(cost_usd=nano(5), project="other"))
    ledger.emit(record(cost_usd=None))
    daily = Limit("acme", "usd", 1_000, "daily")
    for _ in range(2):
        assert standing(ledger, USD) == (340, 0)
        assert standing(ledger, daily) == (300, 0)
        ledger.reserve(reservation((USD, 0), (daily, 0), at=NOON))


def test_calls_of_others_count(ledger: Any) -> None:
    """What processes without a budget write of the project is spent as well, each record once."""
    ledger.reserve(reservation((USD, 0), at=NOON))
    other = record(cost_usd=nano(70))
    for _ in range(2):
        ledger.emit(other)
    assert standing(ledger, USD) == (70, 0)


def test_writing_the_record_settles(ledger: Any) -> None:
    """The record settles what is held for its call, in the same transaction, and twice is once."""
    asked = reservation((USD, 600), at=NOON)
    ledger.reserve(asked)
    for _ in range(2):
        ledger.emit(of(asked, cost_usd=nano(250)))
    assert standing(ledger, USD) == (250, 0)


@pytest.mark.parametrize(("on_orphan", "spent"), [("charge", 600), ("release", 0)])
def test_what_a_dead_process_held(ledger: Any, on_orphan: str, spent: int) -> None:
    """A dead process's reservation is charged or released as soon as somebody needs the room; its record puts it right."""
    asked = reservation((USD, 600), at=NOON, on_orphan=on_orphan)
    with as_dead_process():
        assert ledger.reserve(asked) is None
    assert standing(ledger, USD) == (0, 600)
    refused = ledger.reserve(reservation((USD, 401), at=NOON))
    assert (refused is None) == (on_orphan == "release")
    assert standing(ledger, USD) == (spent, 0 if refused else 401)
    ledger.emit(of(asked, cost_usd=nano(123)))
    assert standing(ledger, USD)[0] == 123


def test_a_reservation_expires(ledger: Any) -> None:
    """What is held by a machine that cannot be looked at is an orphan's after its time."""
    ledger.reserve(reservation((USD, 1_000), at=NOON))
    assert ledger.reserve(reservation((USD, 1), at=NOON + timedelta(minutes=59))) is not None
    assert standing(ledger, USD) == (0, 1_000)
    assert ledger.reserve(reservation((USD, 1), at=NOON + timedelta(minutes=61))) is not None
    assert standing(ledger, USD) == (1_000, 0)


def test_who_is_dead() -> None:
    """A process that has ended is known to be dead, this one and those of other machines are not."""
    machine, pid, started = current_owner().split("|")
    assert is_dead(dead_process())
    assert is_dead(f"{machine}|{pid}|{int(started) + 1}")
    assert not is_dead(current_owner())
    assert not is_dead(f"elsewhere|{pid}|1")
    assert not is_dead("nonsense")


def test_amounts_beyond_all_reason(ledger: Any) -> None:
    """Costs and tokens that no ledger can add up do not lose the record."""
    ledger.reserve(reservation((USD, 0), (Limit("acme", "tokens", 5, "total"), 0), at=NOON))
    for _ in range(3):
        ledger.emit(record(cost_usd=Decimal(9_000_000_000), usage=Usage(input_tokens=2**62, output_tokens=2**62)))
    assert len(list(ledger.records())) == 3
    assert ledger.reserve(reservation((USD, 0), at=NOON)) is not None


def test_a_new_price_changes_what_is_spent(tmp_path: Path) -> None:
    """When the cost of a record is computed again, the budget follows."""
    ledger = SQLiteLedger(tmp_path / "ledger.db")
    ledger.reserve(reservation((USD, 0), at=NOON))
    ledger.emit(record(cost_usd=None))
    with ledger.transaction() as connection:
        connection.execute("UPDATE calls SET cost_nano_usd = 55")
    assert standing(ledger, USD) == (55, 0)


class Books(RuleBasedStateMachine):
    """A keeper beside a plain model of it: calls that were reserved, and what has become of them."""

    kind: str
    LIMITS = (Limit("a", "usd", 1_000, "total"), Limit("b", "usd", 500, "daily"))

    @initialize()
    def begin(self) -> None:
        self.folder = TemporaryDirectory()
        self.keeper: Any = KEEPERS[self.kind](Path(self.folder.name))
        self.at = NOON
        self.asked = 0
        self.open: dict[str, tuple[Reservation, bool]] = {}  # and whether its process is dead
        self.charged: dict[str, Reservation] = {}
        self.done: list[tuple[Reservation, str, int]] = []  # what was asked, the project, the cost
        self.others: list[tuple[str, datetime, int]] = []
        self.forgiven: dict[tuple[Limit, datetime], int] = {}  # spent before a reset, by window

    @property
    def is_ledger(self) -> bool:
        return self.kind != "memory"

    def expected(self, limit: Limit) -> tuple[int, int]:
        window = window_of(limit.period, self.at)

        def amount(asked: Reservation) -> int:
            if not window[0] <= asked.at < window[1]:
                return 0
            return sum(claim.amount for claim in asked.claims if claim.limit == limit)

        def counts(asked: Reservation, project: str) -> bool:
            return window[0] <= asked.at < window[1] and (
                any(claim.limit == limit for claim in asked.claims) or (self.is_ledger and project == limit.account)
            )

        spent = sum(cost for asked, project, cost in self.done if counts(asked, project))
        spent += sum(map(amount, self.charged.values()))
        spent += sum(c for project, at, c in self.others if project == limit.account and window[0] <= at < window[1])
        spent -= self.forgiven.get((limit, window[0]), 0)
        return spent, sum(amount(asked) for asked, _ in self.open.values())

    def has_room(self, asked: Reservation) -> bool:
        return all(
            sum(self.expected(claim.limit)) + max(claim.amount, 1) <= claim.limit.amount for claim in asked.claims
        )

    def sweep(self) -> None:
        for call_id, (asked, died) in list(self.open.items()):
            if died or asked.expires_at < self.at:
                del self.open[call_id]
                if asked.on_orphan == "charge":
                    self.charged[call_id] = asked

    @rule(
        amounts=st.tuples(*[st.none() | st.integers(0, 400)] * 2).filter(any),
        dies=st.booleans(),
        on_orphan=st.sampled_from(["charge", "release"]),
    )
    def reserve(self, amounts: tuple[int | None, ...], dies: bool, on_orphan: Any) -> None:
        claims = [(limit, amount) for limit, amount in zip(self.LIMITS, amounts, strict=True) if amount is not None]
        self.asked += 1  # random ids would make the choice among them random
        asked = reservation(*claims, at=self.at, on_orphan=on_orphan, call_id=f"call {self.asked}")
        if dies and self.is_ledger:
            with as_dead_process():
                refusal = self.keeper.reserve(asked)
        else:
            refusal = self.keeper.reserve(asked)
        if not self.has_room(asked) and self.is_ledger:
            self.sweep()
        assert (refusal is None) == self.has_room(asked)
        if refusal is None:
            self.open[asked.call_id] = (asked, dies and self.is_ledger)

    @precondition(lambda self: self.open or self.charged)
    @rule(data=st.data(), cost=st.integers(0, 400), project=st.sampled_from("abz"), twice=st.booleans())
    def settle(self, data: st.DataObject, cost: int, project: str, twice: bool) -> None:
        call_id = data.draw(st.sampled_from(sorted({**self.open, **self.charged})))
        asked = self.charged.pop(call_id) if call_id in self.charged else self.open.pop(call_id)[0]
        ended = of(asked, project=project, cost_usd=nano(cost))
        for _ in range(1 + (twice and self.is_ledger)):
            (self.keeper.emit if self.is_ledger else self.keeper.settle)(ended)
        self.done.append((asked, project, cost))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        call_id = data.draw(st.sampled_from(sorted(self.open)))
        del self.open[call_id]
        self.keeper.release(call_id)

    @precondition(lambda self: self.is_ledger)
    @rule(cost=st.integers(0, 100), project=st.sampled_from("abz"))
    def others_call(self, cost: int, project: str) -> None:
        self.keeper.emit(record(project=project, started_at=self.at, cost_usd=nano(cost)))
        self.others.append((project, self.at, cost))

    @precondition(lambda self: self.is_ledger)
    @rule(account=st.sampled_from("ab"))
    def reset(self, account: str) -> None:
        for budget in self.keeper.reset_budget(account, at=self.at):
            limit, (start, end) = budget.limit, window_of(budget.limit.period, self.at)
            for call_id, asked in self.charged.items():
                if start <= asked.at < end:
                    claims = tuple(claim for claim in asked.claims if claim.limit != limit)
                    self.charged[call_id] = replace(asked, claims=claims)
            spent, _ = self.expected(limit)
            self.forgiven[limit, start] = self.forgiven.get((limit, start), 0) + spent

    @rule(hours=st.sampled_from([1, 12, 25]))
    def time_passes(self, hours: int) -> None:
        self.at += timedelta(hours=hours, seconds=1)
        if not self.is_ledger:
            for call_id in [each for each, (asked, _) in self.open.items() if asked.expires_at < self.at]:
                self.keeper.release(call_id)
                del self.open[call_id]

    @invariant()
    def agrees(self) -> None:
        for limit in self.LIMITS:
            assert standing(self.keeper, limit, self.at) == self.expected(limit)

    def teardown(self) -> None:
        if self.is_ledger:
            self.keeper.close()
        self.folder.cleanup()


@pytest.mark.parametrize("kind", KEEPERS)
def test_the_books_are_what_a_plain_model_says(kind: str) -> None:
    """Spent and held are what a plain model says after any series of calls, deaths, late records, resets and new days."""
    machine = type(f"{kind.title()}Books", (Books,), {"kind": kind})
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
