"""The SQLite ledger keeps every record once, whatever happens to the process, and sums it exactly."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields, replace
from datetime import timedelta, timezone
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from specimens import NOON, any_record, record

import llm_toll_autopatch
from llm_toll_autopatch.budgets.limits import Limit
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.ledger import LedgerError, SQLiteLedger, Totals
from llm_toll_autopatch.ledger.groupings import GROUPINGS
from llm_toll_autopatch.ledger.location import default_path, path_from_url
from llm_toll_autopatch.ledger.money import NANO_USD_MAX, decimals_for, format_usd, from_nano_usd, sum_usd, to_nano_usd
from llm_toll_autopatch.ledger.rows import COLUMNS
from llm_toll_autopatch.ledger.totals import sum_totals
from llm_toll_autopatch.records import CallRecord, Usage, new_id
from llm_toll_autopatch.sinks import Sink, SinkUnavailableError

nano_usd = st.integers(-NANO_USD_MAX, NANO_USD_MAX)
records = any_record(st.builds(new_id), nano_usd.map(from_nano_usd), counts=st.integers(0, 2**63 - 1))


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    """A ledger in a new directory, closed after the test."""
    with SQLiteLedger(tmp_path / "new" / "ledger.db", busy_timeout_s=0.2) as ledger:
        yield ledger


def descriptors(path: Path) -> int | None:
    """How many descriptors this process has on `path`; None where that cannot be found out."""
    own = Path("/proc/self/fd")
    if not own.exists():
        return None
    return sum(os.path.realpath(each) == os.path.realpath(path) for each in own.iterdir())


def ids(ledger: SQLiteLedger) -> list[str]:
    """The ids of all records, in the order in which they started."""
    return [each.id for each in ledger.records()]


class TestMoney:
    """USD in and out of integers."""

    @given(nano_usd)
    def test_round_trip(self, nano: int) -> None:
        """An integer of nano-USD becomes an amount and the same integer again."""
        assert to_nano_usd(from_nano_usd(nano)) == nano

    @pytest.mark.parametrize(
        ("usd", "nano"),
        [
            ("0", 0),
            ("1", 1_000_000_000),
            ("0.0000000005", 0),
            ("0.0000000015", 2),
            ("0.0000000025", 2),
            ("-0.0000000015", -2),
            ("1E-400", 0),
            ("9223372036.854775807", NANO_USD_MAX),
        ],
    )
    def test_rounds_half_to_even(self, usd: str, nano: int) -> None:
        """Half a nano-USD goes to the even neighbour, so that roundings do not add up to one side."""
        assert to_nano_usd(Decimal(usd)) == nano

    def test_is_exact_in_any_context(self) -> None:
        """A program that computes with three digits does not round our money."""
        with localcontext(prec=3):
            assert to_nano_usd(Decimal("1234.567890123")) == 1_234_567_890_123
            assert str(from_nano_usd(1_234_567_890_123)) == "1234.567890123"

    def test_sums_are_exact_in_any_context(self) -> None:
        """Nor does it round our sums."""
        with localcontext(prec=3):
            assert str(sum_usd([Decimal("1234.5"), Decimal("0.000000001")])) == "1234.500000001"
            totals = Totals(calls=1, cost_usd=Decimal("1234.567"))
            assert str(sum_totals([totals, totals]).cost_usd) == "2469.134"

    @pytest.mark.parametrize("usd", ["9223372036.854775808", "-1E+10", "1E+999999"])
    def test_too_much(self, usd: str) -> None:
        """What 64 bits cannot hold is an OverflowError, at once."""
        with pytest.raises(OverflowError):
            to_nano_usd(Decimal(usd))

    @pytest.mark.parametrize("usd", ["NaN", "sNaN", "Infinity"])
    def test_no_number(self, usd: str) -> None:
        """What is not an amount is a ValueError."""
        with pytest.raises(ValueError, match="amount"):
            to_nano_usd(Decimal(usd))

    @pytest.mark.parametrize(
        ("usd", "shown"),
        [
            ("0", "$0.00"),
            ("1234.5", "$1,234.50"),
            ("12.3456", "$12.35"),
            ("0.5", "$0.50"),
            ("0.0123456", "$0.0123"),
            ("0.000045", "$0.000045"),
            ("0.000000001", "$0.000000001"),
            ("-0.00123", "-$0.00123"),
        ],
    )
    def test_shown(self, usd: str, shown: str) -> None:
        """Three significant digits below a dollar, cents above, and no more zeros than cents need."""
        assert format_usd(Decimal(usd)) == shown

    @given(st.integers(1, NANO_USD_MAX).map(from_nano_usd))
    def test_never_shown_as_zero(self, usd: Decimal) -> None:
        """An amount other than 0 never reads as 0, alone or in a column."""
        assert Decimal(format_usd(usd).replace("$", "").replace(",", "")) > 0
        assert Decimal(format_usd(usd, decimals_for([Decimal(100), usd])).replace("$", "").replace(",", "")) > 0


class TestKeeping:
    """What goes in comes out."""

    @settings(
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        max_examples=60,
        deadline=None,
    )
    @given(original=records)
    def test_round_trip(self, ledger: SQLiteLedger, original: CallRecord) -> None:
        """A record comes back as it was, with its cost to the nano-USD."""
        ledger.emit(original)
        assert [each for each in ledger.records() if each.id == original.id] == [original]

    def test_nothing_but_the_record(self) -> None:
        """Every field has its column, and there is no column for anything else."""
        kept = {field.name for field in (*fields(CallRecord), *fields(Usage))}
        assert set(COLUMNS) == kept - {"usage", "cost_usd"} | {"cost_nano_usd"}

    @pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 37), reason="SQLite has no STRICT tables before 3.37")
    def test_strict(self, ledger: SQLiteLedger) -> None:
        """Not even another program can put text where a number belongs."""
        ledger.emit(record())
        with closing(sqlite3.connect(ledger.path)) as other, pytest.raises(sqlite3.IntegrityError):
            other.execute("UPDATE calls SET cost_nano_usd = 'much'")

    def test_once(self, ledger: SQLiteLedger) -> None:
        """The same record twice is one."""
        original = record()
        ledger.emit(original)
        ledger.emit(original)
        assert list(ledger.records()) == [original]

    def test_is_a_sink(self, ledger: SQLiteLedger) -> None:
        """A ledger can be given as a sink."""
        assert isinstance(ledger, Sink)

    @pytest.mark.parametrize(
        ("changes", "kept"),
        [
            ({"cost_usd": Decimal("1E+30")}, {"cost_usd": None}),
            ({"cost_usd": Decimal("NaN")}, {"cost_usd": None}),
            ({"chunks": 2**80}, {"chunks": 2**63 - 1}),
            ({"model": None}, {"model": ""}),
            ({"model": 4, "response_model": 4.5}, {"model": "4", "response_model": "4.5"}),
            ({"model": "gpt\ud800"}, {"model": "gpt\\ud800"}),
            ({"usage": Usage(input_tokens=3.0)}, {"usage": Usage(input_tokens=3)}),  # type: ignore[arg-type]
            ({"duration_s": float("nan")}, {"duration_s": 0.0}),
            ({"tags": {"user": 7}}, {"tags": {"user": 7}}),
        ],
    )
    def test_odd_records(self, ledger: SQLiteLedger, changes: dict[str, Any], kept: dict[str, Any]) -> None:
        """What a strange server or program put into a record is made to fit: a bill is not lost for it."""
        original = record(**changes)
        ledger.emit(original)
        assert list(ledger.records()) == [replace(original, **kept)]
        failures.reset()

    def test_a_cost_that_no_ledger_holds_is_noted(self, ledger: SQLiteLedger) -> None:
        """It is kept as unknown, and counted as a failure of ours."""
        failures.reset()
        ledger.emit(record(cost_usd=Decimal("1E+30")))
        assert (failures.total, failures.last) == (1, "the ledger: cost: OverflowError")
        failures.reset()

    def test_private(self, ledger: SQLiteLedger) -> None:
        """Only the owner may read the ledger, its side files and the directory that was made for it."""
        ledger.emit(record())
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in ledger.path.parent.iterdir()}
        assert modes == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}
        assert stat.S_IMODE(ledger.path.parent.stat().st_mode) == 0o700

    def test_lazy(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing is made before the first record, and a later change of directory does not move the file."""
        monkeypatch.chdir(tmp_path)
        ledger = SQLiteLedger("ledger.db")
        assert list(tmp_path.iterdir()) == []
        monkeypatch.chdir("/")
        ledger.emit(record())
        ledger.close()
        assert (tmp_path / "ledger.db").exists()

    def test_goes_on_after_close(self, ledger: SQLiteLedger) -> None:
        """A closed ledger opens again for the next record."""
        ledger.emit(record())
        ledger.close()
        ledger.close()
        ledger.emit(record())
        assert len(ids(ledger)) == 2

    def test_removed_file(self, ledger: SQLiteLedger) -> None:
        """A file that is removed while it is open is made anew: no record goes where nobody can read it."""
        ledger.emit(record())
        for path in ledger.path.parent.iterdir():
            path.unlink()
        later = record()
        ledger.emit(later)
        assert ids(ledger) == [later.id]

    def test_after_exit_handlers(self, tmp_path: Path) -> None:
        """A record that comes when the interpreter is closing down is kept, and nothing is left open."""
        code = (
            "import atexit, sys; sys.path.insert(0, sys.argv[2]); from test_ledger import SQLiteLedger, record\n"
            "atexit.register(lambda: ledger.emit(record()))\n"  # runs last
            "ledger = SQLiteLedger(sys.argv[1]); ledger.emit(record())\n"
        )
        path = tmp_path / "ledger.db"
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, str(path), str(Path(__file__).parent)],
            check=True,
            capture_output=True,
            text=True,
        )
        assert (len(ids(SQLiteLedger(path))), done.stderr) == (2, "")


class TestWithOthers:
    """Threads, processes, forks, kills and locks."""

    def test_threads(self, tmp_path: Path) -> None:
        """Records from many threads are all kept."""
        ledger = SQLiteLedger(tmp_path / "ledger.db", busy_timeout_s=30)  # a shared disk may stall for seconds

        def emit_many() -> None:
            for _ in range(50):
                ledger.emit(record())

        threads = [threading.Thread(target=emit_many) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(ids(ledger))) == 200
        ledger.close()

    @staticmethod
    def writer(path: Path, count: int) -> subprocess.Popen[str]:
        """A process that emits `count` records and prints the id of each once `emit` has returned."""
        code = (
            "import sys; sys.path.insert(0, sys.argv[3]); from test_ledger import SQLiteLedger, record\n"
            "ledger = SQLiteLedger(sys.argv[1], busy_timeout_s=30)\n"
            "for _ in range(int(sys.argv[2])):\n"
            "    each = record(); ledger.emit(each); print(each.id, flush=True)\n"
        )
        command = [sys.executable, "-c", code, str(path), str(count), str(Path(__file__).parent)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def test_two_processes(self, tmp_path: Path) -> None:
        """Two processes that make the same ledger and write to it at once lose nothing, and it can be read meanwhile."""
        path = tmp_path / "ledger.db"
        with self.writer(path, 300) as one, self.writer(path, 300) as other:
            assert one.stdout is not None
            one.stdout.readline()
            assert SQLiteLedger(path).totals([])[0].calls >= 1
            outputs = [one.communicate()[0], other.communicate()[0]]
        assert [one.returncode, other.returncode] == [0, 0]
        assert [output.count("\n") for output in outputs] == [299, 300]
        assert len(set(ids(SQLiteLedger(path)))) == 600

    def test_kill(self, tmp_path: Path) -> None:
        """Every record whose `emit` had returned when the process was killed is there, once."""
        path = tmp_path / "ledger.db"
        with self.writer(path, 1_000_000) as process:
            assert process.stdout is not None
            first = [process.stdout.readline().strip() for _ in range(20)]
            process.send_signal(signal.SIGKILL)
            acknowledged = [*first, *process.stdout.read().split("\n")[:-1]]
        kept = ids(SQLiteLedger(path))
        assert set(acknowledged) - set(kept) == set()
        assert len(kept) == len(set(kept))

    def test_fork(self, ledger: SQLiteLedger) -> None:
        """A child that is forked while another thread is writing keeps its records too, on a connection of its own."""
        before, in_child, after = record(), record(), record()
        ledger.emit(before)
        with ledger._held():  # as another thread of the parent would
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    ledger.emit(in_child)
                    code = 0 if descriptors(ledger.path) in {2, None} else 2  # the parent's is still open
                    ledger.close()
                finally:
                    os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        ledger.emit(after)
        assert sorted(ids(ledger)) == sorted([before.id, in_child.id, after.id])

    def test_fork_that_ends_normally(self, tmp_path: Path) -> None:
        """A forked child that runs to the end of the interpreter leaves the parent's connection alone."""
        code = (
            "import os, sys; sys.path.insert(0, sys.argv[2]); from test_ledger import SQLiteLedger, record\n"
            "ledger = SQLiteLedger(sys.argv[1]); ledger.emit(record())\n"
            "if os.fork() == 0: ledger.emit(record()); sys.exit()\n"
            "assert os.wait()[1] == 0\n"
            "ledger.emit(record())\n"
        )
        path = tmp_path / "ledger.db"
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", "-c", code, str(path), str(Path(__file__).parent)],
            check=True,
            capture_output=True,
            text=True,
        )
        assert (len(ids(SQLiteLedger(path))), done.stderr) == (3, "")

    def test_locked(self, ledger: SQLiteLedger) -> None:
        """A database that stays locked is unavailable after the bound, and takes the record once it is free."""
        original = record()
        with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            start = time.monotonic()
            with pytest.raises(SinkUnavailableError, match="locked"):
                ledger.emit(original)
            assert time.monotonic() - start < 10
        ledger.emit(original)
        assert ids(ledger) == [original.id]

    def test_made_by_several_at_once(self, tmp_path: Path) -> None:
        """Ledgers that make the same file at the same time wait for each other, and each keeps its record."""
        for number in range(15):
            ledgers = [SQLiteLedger(tmp_path / f"{number}.db", busy_timeout_s=10) for _ in range(4)]
            start = threading.Barrier(len(ledgers))

            def emit_one(ledger: SQLiteLedger, start: threading.Barrier = start) -> None:
                start.wait()
                ledger.emit(record())
                ledger.close()

            threads = [threading.Thread(target=emit_one, args=[ledger]) for ledger in ledgers]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(ids(ledgers[0])) == len(ledgers)

    def test_made_while_another_reads(self, tmp_path: Path) -> None:
        """A reader of the file that is just being made is waited for."""
        ledger = SQLiteLedger(tmp_path / "ledger.db", busy_timeout_s=10)
        reader = sqlite3.connect(ledger.path, isolation_level=None, check_same_thread=False)
        with closing(reader):
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM sqlite_master").fetchall()
            timer = threading.Timer(0.1, reader.execute, ["COMMIT"])
            timer.start()
            ledger.emit(record())
            timer.join()
        assert len(ids(ledger)) == 1
        ledger.close()

    def test_opened_while_another_makes_the_tables(self, tmp_path: Path) -> None:
        """A process that is making the tables is waited for, whatever the first thing is that is wanted of the ledger."""
        wanted: list[Callable[[SQLiteLedger], object]] = [
            SQLiteLedger.open,
            lambda ledger: ledger.add([record()]),
            lambda ledger: ledger.standings([Limit("acme", "usd", 1, "total")], NOON),
        ]
        for number, work in enumerate(wanted):
            ledger = SQLiteLedger(tmp_path / f"{number}.db", busy_timeout_s=10)
            with closing(sqlite3.connect(ledger.path, isolation_level=None, check_same_thread=False)) as other:
                other.execute("PRAGMA journal_mode = WAL")
                other.execute("BEGIN IMMEDIATE")
                timer = threading.Timer(0.1, other.execute, ["COMMIT"])
                timer.start()
                work(ledger)
                timer.join()
            ledger.close()

    def test_locked_by_a_thread(self, ledger: SQLiteLedger) -> None:
        """A thread that does not let go of the ledger is waited for within the bound."""
        held, release = threading.Event(), threading.Event()

        def hold() -> None:
            with ledger._held():
                held.set()
                release.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        with pytest.raises(SinkUnavailableError, match="another thread"):
            ledger.emit(record())
        release.set()
        thread.join()

    def test_within_itself(self, ledger: SQLiteLedger) -> None:
        """A record that comes while this thread is inside `emit` is refused for now, instead of waiting for itself."""
        inner: list[BaseException] = []

        def as_a_finalizer_would(_: str) -> None:
            with pytest.raises(SinkUnavailableError) as caught:
                ledger.emit(record())
            inner.append(caught.value)
            ledger.close()  # not now

        assert ledger._cursor is not None
        ledger._cursor.connection.set_trace_callback(as_a_finalizer_would)
        original = record()
        ledger.emit(original)
        assert "on this thread" in str(inner[0])
        assert ids(ledger) == [original.id]

    def test_unwritable(self, tmp_path: Path) -> None:
        """A path where no file can be made may become available later."""
        (tmp_path / "file").touch()
        with pytest.raises(SinkUnavailableError):
            SQLiteLedger(tmp_path / "file" / "ledger.db").emit(record())


class TestOtherFiles:
    """Files that are no ledger, or not of this version."""

    def test_newer_schema(self, ledger: SQLiteLedger) -> None:
        """A ledger of a newer version is neither written nor read, and the error says to upgrade."""
        ledger.close()
        with closing(sqlite3.connect(ledger.path)) as other:
            other.execute("PRAGMA user_version = 99")
        for use in (ledger.open, lambda: ledger.emit(record()), lambda: list(ledger.records())):
            with pytest.raises(LedgerError, match=r"schema version 99.*upgrade"):
                use()

    def test_somebody_elses_database(self, tmp_path: Path) -> None:
        """The database of another program is left as it is."""
        path = tmp_path / "app.db"
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE users (name TEXT)")
        before = path.read_bytes()
        with pytest.raises(LedgerError, match="not a ledger"):
            SQLiteLedger(path).emit(record())
        with pytest.raises(LedgerError, match="not a ledger"):
            list(SQLiteLedger(path).records())
        assert path.read_bytes() == before

    def test_no_database(self, tmp_path: Path) -> None:
        """A file that is no database at all cannot be read."""
        path = tmp_path / "notes.txt"
        path.write_text("not a database " * 100)
        with pytest.raises(SinkUnavailableError):
            SQLiteLedger(path).emit(record())
        with pytest.raises(LedgerError, match="cannot be read"):
            SQLiteLedger(path).totals([])

    def test_missing(self, tmp_path: Path) -> None:
        """Reading a ledger that is not there says so, and does not make it."""
        ledger = SQLiteLedger(tmp_path / "ledger.db")
        for read in (lambda: list(ledger.records()), lambda: ledger.totals(["model"])):
            with pytest.raises(LedgerError, match=r"no ledger at .*; has anything been metered yet"):
                read()
        assert not ledger.path.exists()

    def test_empty_file(self, tmp_path: Path) -> None:
        """A ledger that another process is just about to make is empty."""
        path = tmp_path / "ledger.db"
        path.touch()
        assert (ids(SQLiteLedger(path)), SQLiteLedger(path).totals(["model"])) == ([], [])

    def test_places(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The default is in the user's data directory; three slashes are relative and four absolute."""
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        assert default_path().name == "ledger.db"
        assert SQLiteLedger().path == default_path()
        assert path_from_url("sqlite:///a/b.db") == Path("a/b.db")
        assert path_from_url("sqlite:////a/b.db") == Path("/a/b.db")
        assert SQLiteLedger("~/b.db").path == Path.home() / "b.db"


DAY = timedelta(days=1)


class TestAnswers:
    """Records and sums of them."""

    @pytest.fixture
    def ledger(self, ledger: SQLiteLedger) -> SQLiteLedger:
        """A ledger with five calls of two projects on two days."""
        for each in (
            record(response_model="gpt-5-mini-2026-08-07"),
            record(started_at=NOON + DAY, usage_source="partial"),
            record(started_at=NOON + DAY, usage_source="estimated", cost_usd=None, model="own"),
            record(project="zeta", cost_usd=Decimal("0.1"), started_at=NOON + DAY),
            record(project="zeta", cost_usd=Decimal(0), outcome="error", usage=Usage(), usage_source="missing"),
        ):
            ledger.emit(each)
        return ledger

    def test_by_project(self, ledger: SQLiteLedger) -> None:
        """Known costs are summed exactly; unknown ones, estimates and errors are counted beside them."""
        assert ledger.totals(["project"]) == [
            Totals(
                key=("acme",),
                calls=3,
                input_tokens=3600,
                output_tokens=1350,
                cost_usd=Decimal("0.00246"),
                unknown_cost_calls=1,
                estimated_calls=2,
            ),
            Totals(key=("zeta",), calls=2, input_tokens=1200, output_tokens=450, cost_usd=Decimal("0.1"), errors=1),
        ]

    def test_unknown_is_not_zero(self, ledger: SQLiteLedger) -> None:
        """A group of which no cost is known has no cost, rather than 0."""
        costs = {group.key[0]: group.cost_usd for group in ledger.totals(["model"])}
        assert costs == {
            "gpt-5-mini": Decimal("0.10123"),
            "gpt-5-mini-2026-08-07": Decimal("0.00123"),
            "own": None,
        }

    @pytest.mark.parametrize("name", GROUPINGS)
    def test_every_grouping(self, ledger: SQLiteLedger, name: str) -> None:
        """Whatever calls are grouped by, the groups add up to all of them."""
        assert sum_totals(ledger.totals([name])) == ledger.totals([])[0]

    def test_several_groupings(self, ledger: SQLiteLedger) -> None:
        """Groups are keyed in the order that was asked for, and sorted."""
        assert [(group.key, group.calls) for group in ledger.totals(["day", "project"])] == [
            (("2026-11-23", "acme"), 1),
            (("2026-11-23", "zeta"), 1),
            (("2026-11-24", "acme"), 2),
            (("2026-11-24", "zeta"), 1),
        ]

    def test_unknown_grouping(self, ledger: SQLiteLedger) -> None:
        """What calls cannot be grouped by is refused with what they can be grouped by."""
        with pytest.raises(ValueError, match="'colour'; by any of: project, model, provider, day"):
            ledger.totals(["colour"])

    @pytest.mark.parametrize(
        ("arguments", "count"),
        [
            ({}, 5),
            ({"since": NOON}, 5),
            ({"since": NOON + timedelta(microseconds=1)}, 3),
            ({"until": NOON}, 0),
            ({"until": (NOON + DAY).astimezone(timezone(timedelta(hours=-8)))}, 2),
            ({"since": NOON + DAY, "until": NOON + 2 * DAY}, 3),
            ({"project": "zeta"}, 2),
            ({"limit": 4}, 4),
            ({"project": "acme", "since": NOON + DAY, "limit": 1}, 1),
        ],
    )
    def test_filters(self, ledger: SQLiteLedger, arguments: dict[str, Any], count: int) -> None:
        """`since` is within, `until` is not, in any time zone, and records come oldest first."""
        found = list(ledger.records(**arguments))
        assert len(found) == count
        assert found == sorted(found, key=lambda each: (each.started_at, each.id))
        if arguments.keys() <= {"since", "until"}:
            assert sum(group.calls for group in ledger.totals([], **arguments)) == count

    def test_beyond_64_bits(self, ledger: SQLiteLedger) -> None:
        """Sums larger than SQLite can compute are exact."""
        most = from_nano_usd(NANO_USD_MAX)
        for _ in range(3):
            ledger.emit(record(project="large", cost_usd=most, usage=Usage(input_tokens=2**63 - 1)))
        ledger.emit(record(project="large", cost_usd=Decimal(-1), usage=Usage()))
        [*_, large, _] = ledger.totals(["project"])
        assert (large.cost_usd, large.input_tokens) == (3 * most - 1, 3 * (2**63 - 1))

    def test_empty(self, tmp_path: Path) -> None:
        """A ledger without calls has no groups, and no calls cost exactly nothing."""
        with SQLiteLedger(tmp_path / "ledger.db") as empty:
            assert (empty.totals([]), empty.totals(["project"]), list(empty.records())) == ([], [], [])
        assert sum_totals([]).cost_usd == Decimal(0)

    def test_half_read(self, ledger: SQLiteLedger) -> None:
        """Reading that stops early leaves nothing open, and does not hold up writers."""
        reading = ledger.records()
        next(reading)
        ledger.emit(record())
        reading.close()  # type: ignore[attr-defined]
        assert len(ids(ledger)) == 6


def test_placeholders_have_no_numbers() -> None:
    """No statement numbers its placeholders: with a sequence, Python 3.12 warns of that, and 3.14 will raise."""
    package = Path(llm_toll_autopatch.__file__).parent
    sources = {path.name: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    assert [name for name, source in sources.items() if re.search(r"[(=<>] ?\?\d", source)] == []
