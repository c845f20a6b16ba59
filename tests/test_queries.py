"""Ledgers answer by any grouping, choose by the same names, and say what comes in."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from specimens import NOON, record

from llm_toll_autopatch.ledger import LedgerError, SQLiteLedger
from llm_toll_autopatch.ledger.pruning import prune, vacuum
from llm_toll_autopatch.sinks import SinkUnavailableError

FIRST = datetime(2, 1, 1)  # noqa: DTZ001 - hypothesis adds the time zone
LAST = datetime(9998, 12, 31)  # noqa: DTZ001 - as above


@pytest.fixture
def ledger(tmp_path: Path) -> SQLiteLedger:
    """A ledger that has not been written to."""
    return SQLiteLedger(tmp_path / "ledger.db", busy_timeout_s=0.1)


def keys(ledger: SQLiteLedger, by: str, **chosen: Any) -> dict[str, int]:
    """The groups and how many calls each has."""
    return {group.key[0]: group.calls for group in ledger.totals([by], **chosen)}


class TestPeriods:
    """Calls by when they started."""

    @pytest.mark.parametrize(
        ("by", "expected"),
        [
            ("hour", {"2026-11-23T12:00": 1, "2026-11-23T23:00": 1, "2026-12-01T00:00": 1}),
            ("day", {"2026-11-23": 2, "2026-12-01": 1}),
            ("week", {"2026-W48": 2, "2026-W49": 1}),
            ("month", {"2026-11": 2, "2026-12": 1}),
        ],
    )
    def test_utc(self, ledger: SQLiteLedger, by: str, expected: dict[str, int]) -> None:
        """Periods are those of UTC, wherever the program ran."""
        east = timezone(timedelta(hours=9))
        ledger.emit(record())
        ledger.emit(record(started_at=datetime(2026, 11, 24, 8, 59, 59, 999999, tzinfo=east)))
        ledger.emit(record(started_at=datetime(2026, 12, 1, tzinfo=UTC)))
        assert keys(ledger, by) == expected

    @given(st.lists(st.datetimes(FIRST, LAST, timezones=st.just(UTC)), max_size=50))
    def test_weeks(self, tmp_path_factory: pytest.TempPathFactory, starts: list[datetime]) -> None:
        """Weeks are those of ISO 8601, also around New Year."""
        starts = [
            *starts,
            *(
                datetime(year, 1, 1, tzinfo=UTC) - timedelta(days=day)
                for year in range(2015, 2032)
                for day in range(-3, 4)
            ),
        ]
        ledger = SQLiteLedger(tmp_path_factory.mktemp("weeks") / "ledger.db")
        with ledger:
            ledger.add(record(started_at=start) for start in starts)
        weeks = [start.isocalendar() for start in starts]
        assert set(keys(ledger, "week")) == {f"{week.year:04}-W{week.week:02}" for week in weeks}


class TestTags:
    """Calls by what they were for."""

    @pytest.mark.parametrize("name", ["team", "a.b", 'say "x"', "$", "caf\u00e9", "a'b", "\U0001f600"])
    def test_any_name(self, ledger: SQLiteLedger, name: str) -> None:
        """The value of a tag is a group, whatever the tag is called; calls without it are the group of no value."""
        ledger.emit(record(tags={name: "search", "other": "x"}))
        ledger.emit(record(tags={"other": "search"}))
        assert keys(ledger, f"tag:{name}") == {"": 1, "search": 1}
        assert keys(ledger, "project", where={f"tag:{name}": "search"}) == {"acme": 1}

    def test_which(self, ledger: SQLiteLedger) -> None:
        """A tag without a name leads on to how it is said."""
        for name in ("tag", "tag:"):
            with pytest.raises(ValueError, match="which tag\\? by tag:NAME, by any of: project"):
                ledger.totals([name])

    def test_beside_others(self, ledger: SQLiteLedger) -> None:
        """Tags stand beside other groupings and conditions, each with its own value."""
        for team, environment in (("a", "prod"), ("a", "test"), ("b", "prod")):
            ledger.emit(record(tags={"team": team, "env": environment}))
        groups = ledger.totals(["tag:env", "project", "tag:team"], where={"tag:env": "prod"}, since=NOON)
        assert [(group.key, group.calls) for group in groups] == [
            (("prod", "acme", "a"), 1),
            (("prod", "acme", "b"), 1),
        ]


class TestWhere:
    """Calls of certain values."""

    @pytest.fixture
    def ledger(self, ledger: SQLiteLedger) -> SQLiteLedger:
        """Four calls."""
        ledger.emit(record())
        ledger.emit(record(provider="azure", response_model="gpt-5-mini-2026-08-07", outcome="error"))
        ledger.emit(record(provider="anthropic", model="claude", usage_source="estimated", endpoint="example.org"))
        ledger.emit(record(project="zeta", started_at=NOON + timedelta(days=40)))
        return ledger

    @pytest.mark.parametrize(
        ("where", "count"),
        [
            ({}, 4),
            ({"provider": "openai"}, 2),
            ({"provider": ["openai", "azure"]}, 3),
            ({"provider": []}, 0),
            ({"provider": ["openai", "azure"], "outcome": "error"}, 1),
            ({"model": "gpt-5-mini"}, 2),
            ({"model": "gpt-5-mini-2026-08-07"}, 1),
            ({"month": "2026-11"}, 3),
            ({"endpoint": ""}, 3),
            ({"usage_source": "estimated"}, 1),
            ({"project": "' OR 1 --"}, 0),
            ({"project": "\udcff"}, 0),
        ],
    )
    def test_values(self, ledger: SQLiteLedger, where: dict[str, Any], count: int) -> None:
        """A condition is a grouping with its value, or several of which one will do; all conditions hold."""
        assert len(list(ledger.records(where=where))) == count
        assert sum(group.calls for group in ledger.totals(where=where)) == count
        assert len(next(ledger.arrivals(9, where=where))) == count

    def test_what_is_shown_can_be_asked_for(self, ledger: SQLiteLedger) -> None:
        """The records of each group are as many as it has calls."""
        for by in ("project", "model", "provider", "week", "hour", "method", "operation", "outcome", "endpoint"):
            for group in ledger.totals([by]):
                assert len(list(ledger.records(where={by: group.key[0]}))) == group.calls

    def test_unknown(self, ledger: SQLiteLedger) -> None:
        """An unknown name is an error at once, not when the records are read."""
        for ask in (ledger.records, ledger.totals, lambda **chosen: next(ledger.arrivals(**chosen))):
            with pytest.raises(ValueError, match="'colour'"):
                ask(where={"colour": "red"})

    def test_project(self, ledger: SQLiteLedger) -> None:
        """`project` is one more condition."""
        assert list(ledger.records(project="zeta", where={"provider": "azure"})) == []

    def test_newest_first(self, ledger: SQLiteLedger) -> None:
        """The latest calls come first if asked for."""
        assert list(ledger.records(newest_first=True)) == list(ledger.records())[::-1]
        assert [each.project for each in ledger.records(limit=1, newest_first=True)] == ["zeta"]


class TestAdd:
    """Many at once."""

    def test_once(self, ledger: SQLiteLedger) -> None:
        """What is there already is not new and stays as it is."""
        first, second = record(), record()
        ledger.emit(first)
        assert ledger.add([record(id=first.id, project="other"), second, second]) == 1
        assert list(ledger.records()) == sorted([first, second], key=lambda each: each.id)

    def test_waits(self, tmp_path: Path) -> None:
        """Another process that writes is waited for up to the bound, and then told."""
        ledger = SQLiteLedger(tmp_path / "ledger.db", busy_timeout_s=0.05).open()
        with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(SinkUnavailableError):
                ledger.add([record()])
            other.execute("ROLLBACK")
        assert ledger.add([record()]) == 1


class TestArrivals:
    """What comes in."""

    def test_in_order(self, ledger: SQLiteLedger) -> None:
        """The last ones come first, then what is new, in the order of coming and not of starting."""
        one, two, early = record(), record(), record(started_at=NOON - timedelta(days=1))
        for each in (record(), one, two):
            ledger.emit(each)
        arrivals = ledger.arrivals(2)
        assert next(arrivals) == [one, two]
        assert next(arrivals) == []
        ledger.emit(early)
        assert next(arrivals) == [early]
        assert next(arrivals) == []

    def test_from_nothing(self, ledger: SQLiteLedger) -> None:
        """An empty ledger fills up."""
        with ledger:
            arrivals = ledger.arrivals()
            assert next(arrivals) == []
            first = record()
            ledger.emit(first)
            assert next(arrivals) == [first]

    def test_others_pass_by(self, ledger: SQLiteLedger) -> None:
        """Calls that are not asked for are passed over."""
        with ledger:
            arrivals = ledger.arrivals(where={"project": "zeta"})
            next(arrivals)
            wanted = record(project="zeta")
            for each in (record(), wanted, record()):
                ledger.emit(each)
            assert (next(arrivals), next(arrivals)) == ([wanted], [])

    def test_rows_are_numbered_anew(self, ledger: SQLiteLedger) -> None:
        """A prune and a VACUUM in between neither repeat nor lose what comes in."""
        for day in range(5):
            ledger.emit(record(started_at=NOON + timedelta(days=day)))
        arrivals = ledger.arrivals()
        next(arrivals)
        prune(ledger, NOON + timedelta(days=3))
        vacuum(ledger)
        new = record()
        ledger.emit(new)
        assert (next(arrivals), next(arrivals)) == ([new], [])

    def test_all_is_pruned(self, ledger: SQLiteLedger) -> None:
        """Where the last one seen has gone, what comes in afterwards still shows up."""
        ledger.emit(record())
        arrivals = ledger.arrivals()
        next(arrivals)
        prune(ledger, NOON + timedelta(days=3))
        assert next(arrivals) == []
        new = record()
        ledger.emit(new)
        assert next(arrivals) == [new]

    def test_missing(self, ledger: SQLiteLedger) -> None:
        """Without a ledger there is nothing to wait for."""
        with pytest.raises(LedgerError, match="no ledger at"):
            next(ledger.arrivals())


class TestPrune:
    """Old calls go."""

    def test_before(self, ledger: SQLiteLedger) -> None:
        """What started before goes with its former costs, in steps; the rest stays."""
        old = [record(started_at=NOON - timedelta(seconds=number)) for number in range(1, 4)]
        kept = record()
        ledger.add([*old, kept])
        with ledger.transaction() as connection:
            connection.executemany("INSERT INTO former_costs VALUES (?, '', NULL)", [(old[0].id,), (kept.id,)])
        steps: list[int] = []
        assert prune(ledger, NOON, progress=steps.append) == 3
        assert (list(ledger.records()), sum(steps)) == ([kept], 3)
        with closing(sqlite3.connect(ledger.path)) as connection:
            assert connection.execute("SELECT call_id FROM former_costs").fetchall() == [(kept.id,)]

    def test_project(self, ledger: SQLiteLedger) -> None:
        """Only a project's calls go if asked for."""
        ledger.add([record(), record(project="zeta")])
        assert prune(ledger, NOON + timedelta(days=1), project="zeta") == 1
        assert keys(ledger, "project") == {"acme": 1}

    def test_missing(self, ledger: SQLiteLedger) -> None:
        """No ledger is an error, and not made."""
        with pytest.raises(LedgerError):
            prune(ledger, NOON)
        assert not ledger.path.exists()

    def test_vacuum(self, ledger: SQLiteLedger) -> None:
        """The file gets smaller, and another process may have it open meanwhile."""
        ledger.add(record(error_type="x" * 500) for _ in range(1000))
        with closing(sqlite3.connect(ledger.path)) as other:
            assert other.execute("SELECT COUNT(*) FROM calls").fetchone() == (1000,)
            vacuum(ledger)
            size = ledger.path.stat().st_size
            prune(ledger, NOON + timedelta(days=1))
            vacuum(ledger)
        assert ledger.path.stat().st_size < size / 4
