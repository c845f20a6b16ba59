"""Calls of a period in a SQLite ledger, whatever ids they have: by ids that tell their start, and an index of the others."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from specimens import NOON, record

from llm_toll_autopatch import patched
from llm_toll_autopatch.budgets.keeper import Claim, Reservation
from llm_toll_autopatch.budgets.limits import Limit, Period, window_of
from llm_toll_autopatch.ledger import SQLiteLedger, holds
from llm_toll_autopatch.ledger.reading import LedgerReader
from llm_toll_autopatch.ledger.rows import row_of
from llm_toll_autopatch.ledger.schema import APPLICATION_ID, INSERT, MIGRATIONS
from llm_toll_autopatch.ledger.starts import SINCE, STRAY, TOLD
from llm_toll_autopatch.records import CallRecord, new_id
from llm_toll_autopatch.simulator import Simulator
from llm_toll_autopatch.sinks import SinkUnavailableError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BLOCK = timedelta(milliseconds=1 << 16)
STRICT_ = "WITHOUT ROWID, STRICT" if sqlite3.sqlite_version_info >= (3, 37) else "WITHOUT ROWID"
ENOUGH = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SQLiteLedger]:
    """A ledger, closed after the test."""
    with SQLiteLedger(tmp_path / "ledger.db") as ledger:
        yield ledger


def minted(moment: datetime) -> str:
    """An id as `new_id` would have made it at some moment."""
    milliseconds = (moment - EPOCH) // timedelta(milliseconds=1) & 0xFFFF_FFFF_FFFF
    text = f"{milliseconds:012x}"
    return f"{text[:8]}-{text[8:]}{new_id()[13:]}"


def called(moment: datetime, **changes: Any) -> CallRecord:
    """A call whose id was minted when it started."""
    return record(**{"id": minted(moment), "started_at": moment, **changes})


def strays(path: Path) -> list[str]:
    """The starts in the index of those whose ids do not tell them."""
    with closing(sqlite3.connect(path)) as connection:
        query = f"SELECT started_at FROM calls INDEXED BY strays_by_start WHERE {STRAY} ORDER BY started_at"
        return [start for (start,) in connection.execute(query)]


def version(path: Path) -> int:
    """The schema version of a file."""
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def older(path: Path, records: list[CallRecord], upto: int = SINCE - 1) -> None:
    """Make a ledger as an older version of the package left it."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for statements in MIGRATIONS[:upto]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {upto}")
        connection.executemany(INSERT, [row_of(each) for each in records])


def starts(records: Iterator[CallRecord] | list[CallRecord]) -> list[tuple[datetime, str]]:
    """What records are in the order of."""
    return [(each.started_at, each.id) for each in records]


class TestStrays:
    """Which calls are in the index."""

    def test_a_call_of_ours(self, ledger: SQLiteLedger) -> None:
        """The ids that calls are given tell their start, so a record has no index of it to pay for."""
        moment = EPOCH + (NOON - EPOCH) // BLOCK * BLOCK + timedelta(seconds=1)
        for seconds in range(0, 64, 7):
            ledger.emit(called(moment + timedelta(seconds=seconds)))
        assert strays(ledger.path) == []

    @pytest.mark.parametrize(
        "id_",
        ["", "7", "resp_1", new_id().upper(), minted(NOON - BLOCK), minted(NOON + BLOCK), "0193\x00", "\udcff"],
        ids=["none", "a digit", "a response's", "capitals", "earlier", "later", "a null", "a surrogate"],
    )
    def test_any_other(self, id_: str, ledger: SQLiteLedger) -> None:
        """An id of another kind, or of another time, does not."""
        ledger.emit(record(id=id_, started_at=NOON))
        assert len(strays(ledger.path)) == 1

    def test_two_sides_of_the_end_of_a_block(self, ledger: SQLiteLedger) -> None:
        """A call that starts just after its id's block has ended is found all the same."""
        end = EPOCH + ((NOON - EPOCH) // BLOCK + 1) * BLOCK
        call = record(id=minted(end - timedelta(milliseconds=1)), started_at=end + timedelta(seconds=1))
        ledger.emit(call)
        assert starts(ledger.records(call.started_at)) == starts([call])
        assert [each.calls for each in ledger.totals([], call.started_at)] == [1]

    @pytest.mark.parametrize("text", ["now", "12:00", "2460000.5", "2026", "x"])
    def test_a_start_that_is_no_such_text(self, text: str, ledger: SQLiteLedger) -> None:
        """Somebody else's row, whatever it has for a start, is taken and found."""
        values = list(row_of(called(NOON)))
        values[-1] = text
        with ledger.transaction() as connection:
            connection.execute(INSERT, values)
        assert strays(ledger.path) == [text]
        assert [each.calls for each in ledger.totals([], datetime.min.replace(tzinfo=UTC))] == [1]

    def test_a_start_that_somebody_changes(self, ledger: SQLiteLedger) -> None:
        """A row that is changed with another tool is found where it is now."""
        call = called(NOON)
        ledger.emit(call)
        with closing(sqlite3.connect(ledger.path)) as connection, connection:
            connection.execute("UPDATE calls SET started_at = '2025-01-01T00:00:00.000000+00:00'")
        assert list(ledger.records(NOON)) == []
        assert len(list(ledger.records(datetime(2025, 1, 1, tzinfo=UTC), NOON))) == 1


class TestAnswers:
    """Answers are those of all rows, read one by one."""

    MOMENTS = (
        st.datetimes(datetime(2026, 11, 23), datetime(2026, 11, 23, 0, 10), timezones=st.just(UTC))  # noqa: DTZ001
        | st.datetimes(timezones=st.just(UTC))
        | st.integers(-(2**28), 2**28).map(lambda number: EPOCH + number * BLOCK)
    )
    IDS = (
        st.just(None)
        | st.timedeltas(-2 * BLOCK, 2 * BLOCK)
        | st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
    )

    @given(
        data=st.data(),
        made=st.lists(st.tuples(MOMENTS, IDS), max_size=12),
        period=st.tuples(MOMENTS | st.none(), MOMENTS | st.none()),
        limit=st.none() | st.integers(0, 5),
    )
    @settings(max_examples=150, suppress_health_check=ENOUGH, deadline=None)
    def test_anything(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        data: st.DataObject,
        made: list[tuple[datetime, timedelta | str | None]],
        period: tuple[datetime | None, datetime | None],
        limit: int | None,
    ) -> None:
        """Whatever ids and starts there are, each call of a period is found once, in the order of its start."""
        since, until = period
        calls: dict[str, CallRecord] = {}
        for moment, how in made:
            try:
                id_ = how if isinstance(how, str) else minted(moment + (how or timedelta()))
            except OverflowError:  # before the year 1
                id_ = minted(moment)
            project = data.draw(st.sampled_from("pq"))
            calls.setdefault(id_, called(moment, id=id_, duration_s=len(calls), project=project))
        with SQLiteLedger(tmp_path_factory.mktemp("any") / "ledger.db") as ledger:
            ledger.add(calls.values())
            found = sorted(
                (
                    each
                    for each in calls.values()
                    if (since is None or each.started_at >= since) and (until is None or each.started_at < until)
                ),
                key=lambda each: (each.started_at, each.id),
            )
            assert starts(ledger.records(since, until, limit=limit)) == starts(found)[:limit]
            assert starts(ledger.records(since, until, limit=limit, newest_first=True)) == starts(found[::-1])[:limit]
            for by in ([], ["day"], ["project", "hour"]):
                asked = (by, since, until)
                assert ledger.totals(*asked) == LedgerReader.totals(ledger, *asked)
            longest = sorted(found, key=lambda each: -each.duration_s)[: limit or 0]
            assert ledger.greatest("duration", limit or 0, since, until) == longest
            at = since or NOON
            periods: list[Period] = ["daily", "total"]
            for each_period in periods:
                start, end = window_of(each_period, at)
                spent = sum(start <= each.started_at < end and each.project == "p" for each in calls.values())
                assert ledger.standings([Limit("p", "calls", 9, each_period)], at)[0].spent == spent
            if until is not None:
                old = [each.id for each in calls.values() if each.started_at < until]
                assert ledger.delete_before(until) == len(old)
                assert {each.id for each in ledger.records()} == calls.keys() - set(old)

    def test_the_oldest_go_first(self, ledger: SQLiteLedger) -> None:
        """Of old calls that are deleted some at a time, the oldest are."""
        days = [timedelta(days=number) for number in range(6)]
        for number in (3, 0, 5, 1, 4, 2):
            ledger.emit(
                called(NOON + days[number]) if number % 2 else record(started_at=NOON + days[number], id=str(number))
            )
        for left in (4, 2, 1):
            ledger.delete_before(NOON + days[5], at_most=2)
            assert [each.started_at for each in ledger.records()] == [NOON + day for day in days[-left:]]

    @pytest.mark.parametrize(
        ("ask", "uses"),
        [
            (lambda ledger: ledger.totals([], NOON), {"id>?", "strays_by_start"}),
            (lambda ledger: ledger.totals([], NOON, NOON + BLOCK), {"id>? AND id<?", "strays_by_start"}),
            (lambda ledger: ledger.greatest("cost", 3, NOON), {"id>?", "strays_by_start"}),
            (lambda ledger: list(ledger.records(NOON)), {"id>?", "strays_by_start"}),
            (lambda ledger: list(ledger.records(limit=1, newest_first=True)), {"autoindex", "strays_by_start"}),
            (lambda ledger: ledger.standings([Limit("p", "usd", 9, "daily")], NOON), {"id>?", "strays_by_start"}),
            (lambda ledger: ledger.delete_before(NOON), {"id<?", "strays_by_start"}),
        ],
    )
    def test_rows_are_looked_up(
        self, ask: Any, uses: set[str], ledger: SQLiteLedger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who asks for a period does not read the whole ledger."""
        asked: list[str] = []
        connect = sqlite3.connect

        def connected(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*arguments, **options)
            connection.set_trace_callback(asked.append)
            return connection

        ledger.emit(called(NOON))
        ledger.close()
        monkeypatch.setattr(sqlite3, "connect", connected)
        ask(ledger)
        monkeypatch.undo()
        queries = [text for text in asked if text.lstrip().startswith("SELECT") and "FROM calls" in text]
        with closing(sqlite3.connect(ledger.path)) as connection:
            plan = [row[3] for query in queries for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
        assert [step for step in plan if step == "SCAN calls"] == []
        for used in uses:
            assert any(used in step for step in plan), plan

    def test_both_conditions_are_opposites(self, ledger: SQLiteLedger) -> None:
        """Each call is told by its id or a stray, also where its start is nothing that SQLite knows."""
        ledger.add([called(NOON), record(id="1"), record(id="2", started_at=datetime.max.replace(tzinfo=UTC))])
        with ledger.transaction() as connection:
            connection.execute("UPDATE calls SET started_at = 'x' WHERE id = '1'")
            both = connection.execute(f"SELECT SUM({TOLD}), SUM({STRAY}) FROM calls").fetchone()
        assert both == (1, 2)


class TestOlderLedgers:
    """A file from before it."""

    CALLS = [called(NOON + timedelta(hours=number)) for number in range(5)] + [record(id="own", started_at=NOON)]

    @pytest.mark.parametrize("upto", range(1, SINCE))
    def test_brought_up_to_date(self, upto: int, tmp_path: Path) -> None:
        """Its answers are the same before it is brought up to date and after."""
        path = tmp_path / "old.db"
        older(path, self.CALLS, upto)
        ledger = SQLiteLedger(path)
        since = NOON + timedelta(minutes=1)

        def answers() -> Any:
            return starts(ledger.records()), ledger.totals(["hour"], since), ledger.greatest("cost", 9, since)

        before = answers()
        assert version(path) == upto
        with ledger:
            assert answers() == before
        assert version(path) == len(MIGRATIONS)
        assert len(strays(path)) == 1
        with closing(sqlite3.connect(path)) as connection:
            names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert "calls_by_start" not in names

    def test_what_is_held_stays_held(self, tmp_path: Path) -> None:
        """Reservations that were made before are settled after it."""
        path = tmp_path / "old.db"
        older(path, [])
        at = datetime.now(UTC)
        limit = Limit("acme", "usd", 10**12, "daily")
        call, other = record(started_at=at), record(started_at=at)
        with closing(sqlite3.connect(path)) as before, before:
            for each in (call, other):
                asked = Reservation(each.id, (Claim(limit, 1_000),), at, at + timedelta(hours=1))
                assert holds.reserve(before, asked) is None
        with SQLiteLedger(path) as ledger:
            assert [(each.spent, each.held) for each in ledger.standings([limit], at)] == [(0, 2_000)]
            ledger.emit(call)
            assert [(each.spent, each.held) for each in ledger.standings([limit], at)] == [(1_230_000, 1_000)]
            ledger.release(other.id)
            assert [(each.spent, each.held) for each in ledger.standings([limit], at)] == [(1_230_000, 0)]
        with closing(sqlite3.connect(path)) as after:
            tables = dict(after.execute("SELECT name, sql FROM sqlite_master WHERE name LIKE '%holds'"))
        assert [(name, text.split(") ")[-1]) for name, text in tables.items()] == [("holds", STRICT_)]

    def test_a_process_of_the_older_version(self, tmp_path: Path) -> None:
        """One that has the file open already goes on writing to it, and what it writes is found."""
        path = tmp_path / "old.db"
        older(path, self.CALLS)
        first, second, other = called(NOON - BLOCK), called(NOON + BLOCK), record(id="other", started_at=NOON + BLOCK)
        with closing(sqlite3.connect(path, isolation_level=None)) as before:
            before.execute(INSERT, row_of(first))
            with SQLiteLedger(path) as ledger:
                for each in (second, other):
                    before.execute(INSERT, row_of(each))
                found = starts(ledger.records(NOON + BLOCK, NOON + 2 * BLOCK))
                assert found == sorted(starts([second, other]))
                assert starts(ledger.records(until=NOON)) == starts([first])

    def test_two_processes_at_once(self, tmp_path: Path) -> None:
        """Processes that come upon it at the same moment bring it up to date once, and lose nothing."""
        path = tmp_path / "old.db"
        older(path, [called(NOON + timedelta(seconds=number)) for number in range(20_000)])
        code = (
            "import sys; from specimens import record; from llm_toll_autopatch import SQLiteLedger\n"
            "ledger = SQLiteLedger(sys.argv[1], busy_timeout_s=30); print('ready', flush=True); sys.stdin.readline()\n"
            "for _ in range(20): ledger.emit(record())"
        )
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(path)],
                cwd=Path(__file__).parent,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(3)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.communicate("\n", timeout=60)
            assert process.returncode == 0
        assert version(path) == len(MIGRATIONS)
        assert SQLiteLedger(path).totals()[0].calls == 20_060

    def test_not_while_a_caller_hardly_waits(self, tmp_path: Path) -> None:
        """That may take a while, so it is not done where an event loop could be held up."""
        path = tmp_path / "old.db"
        older(path, self.CALLS)
        with closing(SQLiteLedger(path)) as ledger:
            call = called(NOON)
            with pytest.raises(SinkUnavailableError, match="up to date first"):
                ledger.emit_now(call)
            assert version(path) == SINCE - 1
            ledger.emit(call)
            ledger.emit_now(called(NOON))
            assert version(path) == len(MIGRATIONS)
            assert ledger.totals()[0].calls == len(self.CALLS) + 2

    def test_a_call(self, tmp_path: Path, sim: Simulator) -> None:
        """The record of the first call is there when the call returns."""
        path = tmp_path / "old.db"
        older(path, self.CALLS)
        with openai.OpenAI(base_url=f"{sim.url}/v1", api_key="none") as client, patched(sink=SQLiteLedger(path)):
            client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "hello"}])
            assert SQLiteLedger(path).totals()[0].calls == len(self.CALLS) + 1
        assert version(path) == len(MIGRATIONS)
