"""Sums that a SQLite ledger keeps of its calls: every answer is what the rows say, whatever happens to them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from specimens import NOON, record

from llm_toll_autopatch.budgets.limits import Limit, Period, Unit, window_of
from llm_toll_autopatch.ledger import SQLiteLedger, Totals, rollups
from llm_toll_autopatch.ledger.groupings import GROUPINGS
from llm_toll_autopatch.ledger.money import to_nano_usd
from llm_toll_autopatch.ledger.pruning import vacuum
from llm_toll_autopatch.ledger.reading import LedgerReader
from llm_toll_autopatch.ledger.rows import row_of
from llm_toll_autopatch.ledger.schema import APPLICATION_ID, INSERT, MIGRATIONS
from llm_toll_autopatch.records import CallRecord, Usage, new_id

APART = 20_000
"""How far rows are put apart, so that three of them make a segment."""
ALL = 1e9


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of a few rows are worth it, and two values of a tag are many."""
    monkeypatch.setattr(rollups, "_WORTH_IT", 1)
    monkeypatch.setattr(rollups, "_TAG_VALUES_MAX", 2)


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    """A ledger, closed after the test."""
    with SQLiteLedger(tmp_path / "ledger.db") as ledger:
        yield ledger


def put_apart(ledger: SQLiteLedger) -> None:
    """Number the rows as if there were many more between them."""
    with ledger.transaction() as connection:
        rows = [row for (row,) in connection.execute("SELECT rowid FROM calls ORDER BY rowid")]
        top = max([0, *(row for row in rows if row % APART == 0)])
        for row in rows:
            if row % APART:
                top += APART
                connection.execute("UPDATE calls SET rowid = ? WHERE rowid = ?", (top, row))


def segments(ledger: SQLiteLedger) -> list[int]:
    """The segments whose sums the whole ledger's answer is made of."""
    with ledger._connected() as connection:
        parts = rollups.parts_of(connection, None, None, [])
    return [] if parts is None else parts.segments


def by_rows(ledger: SQLiteLedger, *asked: Any, **where: Any) -> list[Totals]:
    """The answer that the rows alone give."""
    return LedgerReader.totals(ledger, *asked, **where)


def filled(ledger: SQLiteLedger, count: int = 20) -> list[CallRecord]:
    """Calls of ten hours each after the other, summed up."""
    records = [
        record(started_at=NOON + timedelta(hours=10 * number), tags={"team": "ab"[number % 2], "user": f"u{number}"})
        for number in range(count)
    ]
    ledger.add(records)
    put_apart(ledger)
    ledger._sum_up(ALL)
    return records


class TestAnswers:
    """What comes of sums and rows together."""

    @pytest.mark.parametrize("by", [*GROUPINGS, "tag:team", "tag:user", "tag:none"])
    @pytest.mark.parametrize(
        ("since", "until"),
        [(None, None), (20, None), (None, 120), (25, 101), (400, None), (None, -1)],
        ids=str,
    )
    def test_every_grouping(self, ledger: SQLiteLedger, by: str, since: int | None, until: int | None) -> None:
        """Sums by anything, within any period, are those of the rows."""
        filled(ledger)
        assert segments(ledger)
        ends = [None if hours is None else NOON + timedelta(hours=hours) for hours in (since, until)]
        for where in ({}, {"project": "acme"}, {"tag:team": "a"}, {"tag:user": ["u3", "u4"]}, {"model": "none"}):
            assert ledger.totals([by], *ends, where=where) == by_rows(ledger, [by], *ends, where=where)
        assert ledger.totals([], *ends) == by_rows(ledger, [], *ends)

    def test_used(self, ledger: SQLiteLedger) -> None:
        """All but the last segment, which may grow, are answered by their sums."""
        filled(ledger)
        with ledger.transaction() as connection:
            sums = connection.execute("UPDATE rolled_calls SET calls = calls + 1000").rowcount
        assert ledger.totals()[0].calls == 20 + 1000 * sums
        assert segments(ledger) == list(range(6))

    def test_not_for_hours_and_many_values(self, ledger: SQLiteLedger) -> None:
        """What is not in the sums comes from the rows."""
        filled(ledger)
        with ledger.transaction() as connection:
            connection.execute("UPDATE rolled_calls SET calls = calls + 1000")
        for by in ("hour", "tag:user"):
            assert sum(group.calls for group in ledger.totals([by])) == 20

    @pytest.mark.parametrize("period", ["total", "monthly", "daily"])
    @pytest.mark.parametrize("unit", ["usd", "tokens", "calls"])
    def test_budgets(self, ledger: SQLiteLedger, unit: Unit, period: Period) -> None:
        """A budget begins with what its project has cost, of the sums too."""
        filled(ledger, 60)
        ledger.emit(record(project="other"))
        at = NOON + timedelta(days=9, hours=3)
        limit = Limit("acme", unit, 10**18, period)
        start, end = window_of(period, at)
        (expected,) = by_rows(ledger, [], start, end, where={"project": "acme"})
        amounts = {
            "usd": to_nano_usd(expected.cost_usd or Decimal(0)),
            "tokens": expected.input_tokens + expected.output_tokens,
            "calls": expected.calls,
        }
        assert [each.spent for each in ledger.standings([limit], at)] == [amounts[unit]]

    def test_large_sums(self, ledger: SQLiteLedger) -> None:
        """Sums beyond 64 bits, and of negative costs, are exact."""
        most = 2**63 - 1
        for number in range(12):
            ledger.emit(
                record(
                    usage=Usage(input_tokens=most, output_tokens=most - number),
                    cost_usd=Decimal((-1) ** (number // 4) * (most - number)).scaleb(-9),
                )
            )
        put_apart(ledger)
        ledger._sum_up(ALL)
        assert segments(ledger)
        assert ledger.totals() == by_rows(ledger)
        assert ledger.totals()[0].input_tokens == 12 * most

    def test_odd_tags(self, ledger: SQLiteLedger) -> None:
        """Tags that are no texts, or of which two have one name, count as they do in the rows."""
        odd = [
            '{"a":1,"u":"1"}',
            '{"a":"1","a":"2","u":"2"}',
            '{"a":null}',
            '{"a":{"b":[1]}}',
            '{"a":"x","u":"3"}',
            "{}",
        ]
        with ledger.transaction() as connection:
            for tags in odd * 3:
                row = list(row_of(record(id=new_id())))
                row[-4] = tags
                connection.execute(INSERT, row)
        put_apart(ledger)
        ledger._sum_up(ALL)
        assert segments(ledger)
        for by in (["tag:a"], ["tag:u", "tag:a"], ["project"]):
            assert ledger.totals(by) == by_rows(ledger, by)

    def test_not_worth_it(self, ledger: SQLiteLedger, monkeypatch: pytest.MonkeyPatch) -> None:
        """Calls that are all different have no sums, and are not looked at again."""
        monkeypatch.setattr(rollups, "_WORTH_IT", 2)
        for number in range(12):
            ledger.emit(record(model=f"m{number}"))
        put_apart(ledger)
        ledger._sum_up(ALL)
        assert segments(ledger) == []
        with ledger._connected() as connection:
            assert not rollups._missing(connection)
        assert ledger.totals(["model"]) == by_rows(ledger, ["model"])

    def test_asked_for(self, ledger: SQLiteLedger, monkeypatch: pytest.MonkeyPatch) -> None:
        """A question that takes long has the next one be answered by sums."""
        ledger.add(record() for _ in range(12))
        put_apart(ledger)
        assert ledger.totals()[0].calls == 12
        assert segments(ledger) == []
        monkeypatch.setattr("llm_toll_autopatch.ledger.sqlite_reading._LONG_S", -1.0)
        assert ledger.totals()[0].calls == 12
        assert segments(ledger)[-1] == 2  # the newest first


class TestChanges:
    """What happens to the rows after they were summed up."""

    def test_late(self, ledger: SQLiteLedger) -> None:
        """Calls that come late, as by `import`, count on the day on which they were made."""
        filled(ledger)
        late = [record(started_at=NOON - timedelta(days=day)) for day in range(30)]
        ledger.add(late)
        assert ledger.totals(["day"]) == by_rows(ledger, ["day"])
        put_apart(ledger)
        ledger._sum_up(ALL)
        since = NOON + timedelta(days=1)
        assert ledger.totals(["day"], since) == by_rows(ledger, ["day"], since)
        assert ledger.totals([], None, since) == by_rows(ledger, [], None, since)

    def test_new_costs(self, ledger: SQLiteLedger) -> None:
        """A new cost is in the next answer, and is summed up again."""
        records = filled(ledger)
        before = segments(ledger)
        ledger.replace_costs([(records[4].id, 1_230_000, 7)])
        assert segments(ledger) != before
        assert ledger.totals() == by_rows(ledger)
        ledger._sum_up(ALL)
        assert segments(ledger) == before
        assert ledger.totals() == by_rows(ledger)

    def test_prune(self, ledger: SQLiteLedger) -> None:
        """What is deleted is not in the next answer."""
        filled(ledger)
        ledger.delete_before(NOON + timedelta(hours=45))
        assert ledger.totals(["day"]) == by_rows(ledger, ["day"])
        assert ledger.totals()[0].calls == 15

    def test_deleted_in_the_middle(self, ledger: SQLiteLedger) -> None:
        """A row that another program deletes takes the sums of its segment with it, and of no other."""
        records = filled(ledger)
        with closing(sqlite3.connect(ledger.path)) as other, other:
            other.execute("DELETE FROM calls WHERE id = ?", [records[1].id])
        assert segments(ledger) == [1, 2, 3, 4, 5]
        assert ledger.totals() == by_rows(ledger)

    @pytest.mark.parametrize("place", [0, 2])
    def test_other_rows_of_the_same_numbers(self, ledger: SQLiteLedger, place: int) -> None:
        """Where other rows have come to the numbers of a segment's first and last ones its sums are not used."""
        filled(ledger)
        with ledger.transaction() as connection:
            connection.execute("DROP TRIGGER calls_changed")
            connection.execute("UPDATE calls SET id = 'other' WHERE rowid = ?", [(place + 1) * APART])
        assert segments(ledger) == [1, 2, 3, 4, 5]

    def test_all_deleted_at_the_end(self, ledger: SQLiteLedger) -> None:
        """New rows take the numbers of deleted ones, also within a segment that has been summed up."""
        filled(ledger)
        with ledger.transaction() as connection:
            connection.execute("DELETE FROM calls WHERE rowid > ?", [3 * APART])
        assert segments(ledger) == [0]
        ledger.emit(record())  # row 60,001, in the first segment
        assert ledger.totals() == by_rows(ledger)
        assert ledger.totals()[0].calls == 4

    def test_huge_numbers(self, ledger: SQLiteLedger) -> None:
        """Rows that somebody has given numbers of his own are read one by one."""
        filled(ledger)
        with ledger.transaction() as connection:
            connection.execute("UPDATE calls SET rowid = ? WHERE rowid = ?", [2**62, 20 * APART])
        assert segments(ledger) == []
        assert ledger.totals() == by_rows(ledger)
        ledger._sum_up(ALL)

    def test_vacuum(self, ledger: SQLiteLedger) -> None:
        """Rows may be numbered anew."""
        filled(ledger)
        vacuum(ledger)
        assert ledger.totals(["day"]) == by_rows(ledger, ["day"])
        with ledger.transaction() as connection:  # as older versions of SQLite do
            connection.execute("DROP TRIGGER calls_changed")
            for new, (old,) in enumerate(connection.execute("SELECT rowid FROM calls ORDER BY rowid").fetchall(), 1):
                connection.execute("UPDATE calls SET rowid = ? WHERE rowid = ?", (new, old))
        assert segments(ledger) == []
        assert ledger.totals(["day"]) == by_rows(ledger, ["day"])

    def test_changed_meanwhile(self, ledger: SQLiteLedger, monkeypatch: pytest.MonkeyPatch) -> None:
        """Sums of rows that are changed while they are summed up are not kept."""
        records = [record() for _ in range(12)]
        ledger.add(records)
        put_apart(ledger)
        rolled = rollups._rolled

        def interrupted(*arguments: Any) -> Any:
            found = rolled(*arguments)
            for each in records:
                ledger.replace_costs([(each.id, 1_230_000, 9)])
            return found

        monkeypatch.setattr(rollups, "_rolled", interrupted)
        ledger._sum_up(ALL)
        assert segments(ledger)[:1] != [2]  # the last of the closed ones was the first
        assert ledger.totals() == by_rows(ledger)
        assert ledger.totals()[0].cost_usd == Decimal("0.000000108")

    def test_locked(self, ledger: SQLiteLedger) -> None:
        """While somebody writes nothing is summed up, and nobody waits for it."""
        ledger.add(record() for _ in range(12))
        put_apart(ledger)
        with ledger.transaction():
            ledger._sum_up(ALL)
            assert ledger.totals()[0].calls == 12
        assert segments(ledger) == []

    @pytest.mark.parametrize("version", [1, 2, 3, 4])
    def test_older_ledger(self, version: int, tmp_path: Path) -> None:
        """An older ledger is answered by its rows, and has sums once it was written to."""
        path = tmp_path / "old.db"
        with closing(sqlite3.connect(path)) as connection, connection:
            for statements in MIGRATIONS[:version]:
                for statement in statements:
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {version}")
            for number in range(1, 13):
                connection.execute(INSERT, row_of(record()))
                connection.execute(
                    "UPDATE calls SET rowid = ? WHERE rowid = ?", (number * APART, max(1, (number - 1) * APART + 1))
                )
        ledger = SQLiteLedger(path)
        assert ledger.totals()[0].calls == 12
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (version,)
        with ledger:
            ledger.emit(record())
            ledger._sum_up(ALL)
        assert segments(ledger)
        assert ledger.totals() == by_rows(ledger)

    MOMENTS = st.datetimes(datetime(2026, 11, 1), datetime(2026, 11, 6), timezones=st.just(UTC))  # noqa: DTZ001
    CALLS = st.builds(
        lambda **changes: record(id=new_id(), **changes),
        started_at=MOMENTS,
        model=st.sampled_from(["m1", "m2"]),
        response_model=st.sampled_from([None, "", "m1-x"]),
        project=st.sampled_from(["p", "q"]),
        endpoint=st.sampled_from([None, "e"]),
        outcome=st.sampled_from(["completed", "error"]),
        usage_source=st.sampled_from(["reported", "partial", "estimated", "missing"]),
        usage=st.builds(Usage, input_tokens=st.integers(0, 2**63 - 1), output_tokens=st.integers(0, 9)),
        cost_usd=st.none() | st.integers(-9, 2**63 - 1).map(lambda nano: Decimal(nano).scaleb(-9)),
        tags=st.dictionaries(st.sampled_from(["t", "u"]), st.sampled_from(["1", "2", "3"])),
    )
    EVENTS = st.lists(
        st.tuples(st.just("add"), st.lists(CALLS, max_size=8))
        | st.tuples(st.sampled_from(["apart", "sum", "vacuum"]), st.none())
        | st.tuples(st.just("price"), st.integers(0, 99))
        | st.tuples(st.just("delete"), st.integers(0, 99))
        | st.tuples(st.just("prune"), MOMENTS),
        max_size=12,
    )

    @given(events=EVENTS, since=MOMENTS | st.none(), until=MOMENTS | st.none(), calls=st.lists(CALLS, min_size=8))
    @settings(
        max_examples=30,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        deadline=None,
    )
    def test_anything(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        calls: list[CallRecord],
        events: list[tuple[str, Any]],
        since: datetime | None,
        until: datetime | None,
    ) -> None:
        """Whatever happens, in whatever order, answers are those of the rows."""
        with SQLiteLedger(tmp_path_factory.mktemp("any") / "ledger.db") as ledger:
            for what, how in [("add", calls), ("apart", None), ("sum", None), *events]:
                happen(ledger, what, how)
                for by in ([], ["day", "tag:t"], ["model", "endpoint", "outcome"], ["tag:u", "usage_source", "week"]):
                    for where in ({}, {"tag:t": ["1", ""]}):
                        asked = (by, since, until)
                        assert ledger.totals(*asked, where=where) == by_rows(ledger, *asked, where=where)


def happen(ledger: SQLiteLedger, what: str, how: Any) -> None:
    """Have one thing happen to a ledger."""
    ids = [each.id for each in ledger.records()]
    if what == "add":
        ledger.add(how)
    elif what == "apart":
        put_apart(ledger)
    elif what == "sum":
        ledger._sum_up(ALL)
    elif what == "vacuum":
        vacuum(ledger)
    elif what == "prune":
        ledger.delete_before(how)
    elif ids and what == "price":
        with ledger.transaction() as connection:
            connection.execute("UPDATE calls SET cost_nano_usd = ? WHERE id = ?", (how, ids[how % len(ids)]))
    elif ids and what == "delete":
        with ledger.transaction() as connection:
            connection.execute("DELETE FROM calls WHERE id = ?", [ids[how % len(ids)]])
