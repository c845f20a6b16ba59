"""The PostgreSQL ledger keeps every record once, whatever happens to the processes, the server and the network."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import openai
import psycopg
import pytest
import test_ledger
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keepers import reservation
from postgres import PASSWORD, Server
from specimens import NOON, any_record, record

import llm_toll_autopatch
from llm_toll_autopatch import LocalRateLimitError, PostgresLedger
from llm_toll_autopatch.budgets.keeper import Standing
from llm_toll_autopatch.budgets.limits import Limit
from llm_toll_autopatch.cli import main
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.ledger import LedgerError, postgres_holds
from llm_toll_autopatch.ledger.money import from_nano_usd
from llm_toll_autopatch.ledger.postgres_schema import INSERT, MIGRATIONS
from llm_toll_autopatch.ledger.rows import row_of
from llm_toll_autopatch.records import CallRecord, new_id
from llm_toll_autopatch.simulator import Simulator
from llm_toll_autopatch.sinks import Sink, SinkUnavailableError
from llm_toll_autopatch.sinks.resolve import resolve_sink

HERE = str(Path(__file__).parent)
SECRETS = (PASSWORD, quote(PASSWORD, safe=""), "canary")


@pytest.fixture
def ledger(database: str) -> Any:
    """A ledger in an empty database, closed after the test."""
    with PostgresLedger(database, timeout_s=5) as ledger:
        yield ledger


def ids(ledger: PostgresLedger) -> list[str]:
    """The ids of all records, in the order in which they started."""
    return [each.id for each in ledger.records()]


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A process that has `ledger`, `record` and its `arguments` as `arguments`."""
    beginning = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from test_postgres import *\n"
        "ledger, arguments = PostgresLedger(sys.argv[2], timeout_s=20), sys.argv[3:]\n"
    )
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", beginning + code, HERE, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def together(code: str, arguments: list[str], count: int) -> list[subprocess.Popen[str]]:
    """So many such processes, which begin with `code` at the same moment."""
    processes = [start("print('ready', flush=True); input()\n" + code, *arguments) for _ in range(count)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return processes


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a process writes until it ends, to stdout and stderr. `communicate` loses what `readline` has buffered."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process, process.stdin:
        return process.stdout.read(), process.stderr.read()


def run(code: str, *arguments: str) -> str:
    """Run such a process to its end; return what it wrote to stdout. It has nothing to complain of."""
    process = start(code, *arguments)
    output, errors = ended(process)
    assert (process.returncode, errors) == (0, "")
    return output


def without_nul(value: Any) -> Any:
    """What PostgreSQL, whose texts have no NUL, keeps of a value of a record."""
    if isinstance(value, str):
        return value.replace("\0", "\\x00")
    return {without_nul(k): without_nul(v) for k, v in value.items()} if isinstance(value, dict) else value


TEXTS = (
    "provider", "operation", "method", "model", "response_model", "service_tier", "project", "tags", "response_id",
    "error_type", "endpoint",
)  # fmt: skip
records = any_record(
    st.builds(new_id),
    st.integers(-(2**63) + 1, 2**63 - 1).map(from_nano_usd),
    counts=st.integers(0, 2**63 - 1),
)


class TestKeeping:
    """What goes in comes out."""

    test_once = test_ledger.TestKeeping.test_once
    test_odd_records = test_ledger.TestKeeping.test_odd_records

    @settings(
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        max_examples=60,
        deadline=None,
    )
    @given(original=records)
    def test_round_trip(self, ledger: PostgresLedger, original: CallRecord) -> None:
        """A record comes back as it was, with its cost to the nano-USD; but for NULs, which are spelt out."""
        ledger.emit(original)
        usage = replace(original.usage, details=without_nul(original.usage.details))
        kept = {name: without_nul(getattr(original, name)) for name in TEXTS}
        expected = replace(original, **kept, usage=usage)
        assert [each for each in ledger.records() if each.id == original.id] == [expected]

    def test_odd_details(self, ledger: PostgresLedger) -> None:
        """What no JSON can hold is kept as text."""
        original = record(tags={"team": "a\0b\ud800", "ratio": float("nan"), "list": ["x"]})
        ledger.emit(original)
        [kept] = ledger.records()
        assert kept == replace(original, tags={"team": "a\\x00b\\ud800", "ratio": "nan", "list": '["x"]'})

    def test_is_a_sink(self, ledger: PostgresLedger) -> None:
        """A ledger can be given as a sink."""
        assert isinstance(ledger, Sink)

    def test_together(self, ledger: PostgresLedger) -> None:
        """Several records are added together, those that are there already are not, and their number is told."""
        first, second, odd = record(), record(), record(model="gpt\0")
        ledger.emit(first)
        assert ledger.add([first, second, odd]) == 2
        assert sorted(ids(ledger)) == sorted([first.id, second.id, odd.id])

    def test_goes_on_after_close(self, ledger: PostgresLedger) -> None:
        """A closed ledger connects again for the next record."""
        ledger.emit(record())
        ledger.close()
        ledger.close()
        ledger.emit(record())
        assert len(ids(ledger)) == 2

    def test_removed_tables(self, ledger: PostgresLedger, postgres: Server, database: str) -> None:
        """Tables that are dropped under a ledger in use are made anew."""
        ledger.emit(record())
        postgres.execute("DROP SCHEMA llm_toll_autopatch CASCADE", database)
        later = record()
        ledger.emit(later)
        assert ids(ledger) == [later.id]

    def test_after_exit_handlers(self, database: str) -> None:
        """A record that comes when the interpreter is closing down is kept, and nothing is left open."""
        run("import atexit; atexit.register(lambda: ledger.emit(record())); ledger.emit(record())", database)
        assert len(ids(PostgresLedger(database))) == 2

    def test_few_connections(self, ledger: PostgresLedger, postgres: Server, database: str) -> None:
        """A thread alone uses one connection, however many records it writes."""
        for _ in range(5):
            ledger.emit(record())
        assert connections(postgres, database) == 1


def connections(server: Server, database: str) -> int:
    """How many connections to a database there are."""
    name = database.rpartition("/")[2]
    [(count,)] = server.execute(
        f"SELECT COUNT(*) FROM pg_stat_activity WHERE datname = '{name}' AND application_name = 'llm_toll_autopatch'"
    )
    assert isinstance(count, int)
    return count


class TestAnswers(test_ledger.TestAnswers):
    """It answers as the other ledger does."""

    def test_long(self, ledger: PostgresLedger) -> None:
        """An answer longer than what is fetched at once is complete, and in order."""
        ledger.add([record() for _ in range(2500)])
        found = list(ledger.records())
        assert len(found) == 2505
        assert found == sorted(found, key=lambda each: (each.started_at, each.id))

    def test_missing(self, database: str, postgres: Server) -> None:
        """Reading a ledger that is not there says so, and does not make it."""
        ledger = PostgresLedger(database)
        for read in (lambda: list(ledger.records()), lambda: ledger.totals(["model"])):
            with pytest.raises(LedgerError, match=r"no ledger at .*; has anything been metered yet"):
                read()
        assert postgres.execute("SELECT to_regnamespace('llm_toll_autopatch')", database) == [(None,)]

    def test_unreachable(self) -> None:
        """Nor can one be read where there is no server."""
        with pytest.raises(LedgerError, match="cannot be read"):
            list(PostgresLedger("postgresql://127.0.0.1:1/x").records())

    def test_strange_names(self, ledger: PostgresLedger) -> None:
        """What is asked for may have any characters, as records may."""
        ledger.emit(record(project="a\0%s'", tags={"te\0am%": "x\ud800"}))
        where: Any = {"project": ["a\0%s'"], "tag:te\0am%": "x\ud800"}
        assert [group.key for group in ledger.totals(["tag:te\0am%"], where=where)] == [("x\\ud800",)]


class TestArrivals:
    """What comes in, as it does."""

    def test_in_order(self, ledger: PostgresLedger) -> None:
        """First the latest, as many as were asked for, then what is new each time."""
        old = [record(project=name) for name in ("a", "b", "a")]
        ledger.add(old)
        arrivals = ledger.arrivals(2)
        assert next(arrivals) == old[1:]
        assert next(arrivals) == []
        new = [record(project=name) for name in ("b", "a")]
        for each in new:
            ledger.emit(each)
        assert next(arrivals) == new
        assert next(arrivals) == []
        assert next(ledger.arrivals()) == []
        assert next(ledger.arrivals(9, where={"project": "b"})) == [old[1], new[0]]

    def test_late_commit(self, ledger: PostgresLedger) -> None:
        """What was begun before another and is committed after it is not missed."""
        arrivals = ledger.arrivals()
        assert next(arrivals) == []
        slow, quick = record(), record()
        with ledger._connected(time.monotonic() + 5) as (connection, _):
            connection.run("BEGIN")
            connection.run(INSERT, row_of(slow))
            ledger.emit(quick)
            assert next(arrivals) == [quick]
            connection.run("COMMIT")
        assert next(arrivals) == [slow]
        assert next(arrivals) == []


class TestChanges:
    """What becomes of records later."""

    def test_other_costs(self, ledger: PostgresLedger, postgres: Server, database: str) -> None:
        """A cost is replaced where it is still the one that it was computed from, and the former one is kept."""
        known, unknown, changed = record(cost_usd=Decimal(1)), record(cost_usd=None), record(cost_usd=Decimal(2))
        ledger.add([known, unknown, changed])
        billion = 10**9
        ledger.replace_costs([(known.id, billion, 5), (unknown.id, None, 6), (changed.id, None, 7)])
        costs = {each.id: each.cost_usd for each in ledger.records()}
        assert costs == {known.id: from_nano_usd(5), unknown.id: from_nano_usd(6), changed.id: Decimal(2)}
        kept = postgres.execute("SELECT call_id, cost_nano_usd FROM llm_toll_autopatch.former_costs", database)
        assert sorted(kept) == sorted([(known.id, billion), (unknown.id, None)])

    def test_old_ones_are_deleted(self, ledger: PostgresLedger) -> None:
        """The oldest go first, of a project alone if that is asked for, and only those from before the moment."""
        days = [timedelta(days=number) for number in range(4)]
        ledger.add([record(started_at=NOON + day, project=name) for day in days for name in ("acme", "zeta")])
        assert ledger.delete_before(NOON + days[2], "acme") == 2
        assert ledger.delete_before(NOON + days[2], at_most=1) == 1
        assert sorted((each.project, each.started_at) for each in ledger.records(until=NOON + days[3])) == [
            ("acme", NOON + days[2]),
            ("zeta", NOON + days[1]),
            ("zeta", NOON + days[2]),
        ]


class TestCommandLine:
    """`autotoll` takes the URL of a ledger."""

    def test_commands(
        self, ledger: PostgresLedger, database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What works on a file works on a server; the password is nowhere in what is printed."""
        ledger.add([record(tags={"team": "search"}), record(started_at=NOON - timedelta(days=400))])
        lines = tmp_path / "calls.jsonl"
        for arguments in (
            ["report", "--by", "tag:team"],
            ["export", "--jsonl", "-o", str(lines)],
            ["prune", "--older-than", "30d", "--yes"],
            ["import", str(lines)],
            ["tail"],
            ["reprice", "--dry-run"],
            ["doctor"],
        ):
            code = main([*arguments, "--ledger", database])
            printed = capsys.readouterr()
            assert code == 0 or arguments == ["doctor"], printed
            assert not any(secret in printed.out + printed.err for secret in SECRETS)
        assert len(ids(ledger)) == 2

    def test_wrong_url(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A URL that cannot be understood is refused, and not repeated."""
        assert main(["report", "--ledger", "postgresql://user:can/canary@host/db"]) == 2
        assert "canary" not in capsys.readouterr().err

    def test_from_the_settings(
        self, ledger: PostgresLedger, database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Where the sink of the settings is such a ledger, it is the one that is asked."""
        ledger.emit(record(project="of-the-server"))
        monkeypatch.setenv("LLM_TOLL_AUTOPATCH_SINK", database)
        assert main(["report"]) == 0
        assert "of-the-server" in capsys.readouterr().out


class TestWithOthers:
    """Threads, processes, forks, kills and locks."""

    def test_threads(self, ledger: PostgresLedger, postgres: Server, database: str) -> None:
        """Records from many threads are all kept, over a few connections."""

        def emit_many() -> None:
            for _ in range(25):
                ledger.emit(record())

        threads = [threading.Thread(target=emit_many) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(ids(ledger))) == 400
        assert connections(postgres, database) <= 4

    def test_made_by_several_at_once(self, database: str) -> None:
        """Eight processes that make the same ledger at once all succeed, and each keeps its record."""
        processes = together("ledger.emit(record())", [database], 8)
        errors = [ended(process)[1] for process in processes]
        assert errors == [""] * 8
        assert len(ids(PostgresLedger(database))) == 8

    def test_kill(self, database: str) -> None:
        """Every record whose `emit` had returned when its process was killed is there, once."""
        code = "while True: each = record(); ledger.emit(each); print(each.id, flush=True)"
        processes = [start(code, database) for _ in range(2)]
        acknowledged = []
        for process in processes:
            assert process.stdout is not None
            acknowledged += [process.stdout.readline().strip() for _ in range(20)]
        for process in processes:
            process.send_signal(signal.SIGKILL)
            acknowledged += ended(process)[0].split("\n")[:-1]
        kept = ids(PostgresLedger(database))
        assert set(acknowledged) - set(kept) == set()
        assert len(kept) == len(set(kept))

    def test_fork(self, ledger: PostgresLedger) -> None:
        """A child that is forked while a connection is in use keeps its records too, on a connection of its own."""
        before, in_child, after = record(), record(), record()
        ledger.emit(before)
        with ledger._connected(time.monotonic() + 5) as (connection, _):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    ledger.emit(in_child)
                    mine = ledger._connections._idle
                    code = 0 if len(mine) == 1 and mine[0] is not connection else 2
                    ledger.close()
                finally:
                    os._exit(code)
            assert os.waitpid(child, 0)[1] == 0
            assert connection.run("SELECT 1").fetchone() == (1,)
        ledger.emit(after)
        assert sorted(ids(ledger)) == sorted([before.id, in_child.id, after.id])

    def test_fork_that_ends_normally(self, database: str) -> None:
        """A forked child that runs to the end of the interpreter leaves the parent's connection alone."""
        run(
            "ledger.emit(record())\n"
            "[kept] = ledger._connections._idle\n"
            "if os.fork() == 0: ledger.emit(record()); del kept; gc.collect(); sys.exit()\n"
            "assert os.wait()[1] == 0\n"
            "ledger.emit(record())\n"
            "assert ledger._connections._idle == [kept]\n",
            database,
        )
        assert len(ids(PostgresLedger(database))) == 3

    def test_locked(self, database: str) -> None:
        """A table that stays locked is unavailable after the bound, and takes the record once it is free."""
        ledger = PostgresLedger(database, timeout_s=0.3).open()
        original = record()
        with psycopg.connect(database) as other:
            other.execute("LOCK TABLE llm_toll_autopatch.calls")
            began = time.monotonic()
            with pytest.raises(SinkUnavailableError):
                ledger.emit(original)
            assert time.monotonic() - began < 10
        ledger.emit(original)
        assert ids(ledger) == [original.id]
        ledger.close()

    def test_all_connections_in_use(self, database: str) -> None:
        """A thread that does not give its connection back is waited for within the bound."""
        ledger = PostgresLedger(database, timeout_s=1.0, connections=1).open()
        held, release = threading.Event(), threading.Event()

        def hold() -> None:
            with ledger._connected(time.monotonic() + 5):
                held.set()
                release.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        with pytest.raises(SinkUnavailableError, match="all connections are in use"):
            ledger.emit(record())
        release.set()
        thread.join()
        ledger.emit(record())
        ledger.close()

    def test_within_itself(self, database: str) -> None:
        """A record that comes while this thread is inside `emit` is refused for now, instead of waiting for itself."""
        refusals: list[str] = []
        original = record()

        class Cycle:
            """Something that only the collector frees, and that then does as a dropped stream would."""

            def __init__(self) -> None:
                self.me = self

            def __del__(self) -> None:
                with pytest.raises(SinkUnavailableError) as caught:
                    alone.emit(record())
                refusals.append(str(caught.value))
                alone.close()

        with PostgresLedger(database, connections=1) as alone:
            Cycle()
            alone._do(lambda _: gc.collect())
            alone.emit(original)
            assert ["on this thread" in refusal for refusal in refusals] == [True]
            assert ids(alone) == [original.id]


class TestOutages:
    """The server goes away, and comes back or not."""

    def test_restart_between(self, own_server: Server) -> None:
        """A server that was started anew since the last record costs nobody a record, nor even a second try."""
        ledger = PostgresLedger(own_server.new_database())
        held = [ledger._connections.take(time.monotonic() + 5)[0] for _ in range(3)]
        for connection in held:
            ledger._connections.give_back(connection, sound=True)
        first, second = record(), record()
        ledger.emit(first)
        own_server.stop()
        own_server.start()
        ledger.emit(second)
        assert sorted(ids(ledger)) == sorted([first.id, second.id])
        ledger.close()

    def test_down(self, own_server: Server) -> None:
        """A server that is down is unavailable: at once for calls that come soon after, and it takes records again."""
        ledger = PostgresLedger(own_server.new_database()).open()
        own_server.stop()
        with pytest.raises(SinkUnavailableError):
            ledger.emit_now(record())
        with pytest.raises(SinkUnavailableError, match="a moment ago"):
            ledger.emit_now(record())
        own_server.start()
        ledger.emit(record())
        ledger.emit_now(record())
        assert len(ids(ledger)) == 2
        ledger.close()

    def test_silent(self, own_server: Server) -> None:
        """A server that takes what is sent and never answers is given up after the bound."""
        ledger = PostgresLedger(own_server.new_database(), timeout_s=0.3).open()
        original = record()
        with own_server.frozen():
            began = time.monotonic()
            with pytest.raises(SinkUnavailableError, match="no answer"):
                ledger.emit(original)
            assert time.monotonic() - began < 10
        ledger.emit(original)
        assert ids(ledger) == [original.id]
        ledger.close()

    def test_crashes_while_four_write(self, own_server: Server) -> None:
        """Of four processes that write through two crashes of the server no acknowledged record is lost or doubled."""
        database = own_server.new_database()
        code = (
            "for _ in range(150):\n"
            "    each = record()\n"
            "    while True:\n"
            "        try: ledger.emit(each)\n"
            "        except SinkUnavailableError: time.sleep(0.02)\n"
            "        else: break\n"
            "    print(each.id, flush=True)\n"
            "    time.sleep(0.005)\n"
        )
        processes = [start(code, database) for _ in range(4)]
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        for _ in range(2):
            time.sleep(0.2)
            own_server.stop()
            own_server.start()
        outputs = [ended(process) for process in processes]
        assert [errors for _, errors in outputs] == [""] * 4
        acknowledged = [each for output, _ in outputs for each in output.split()]
        kept = ids(PostgresLedger(database))
        assert len(acknowledged) == 4 * 149
        assert set(acknowledged) <= set(kept)
        assert len(kept) == len(set(kept)) == 4 * 150

    def test_no_call_is_broken_or_lost(self, own_server: Server, sim: Simulator) -> None:
        """A program's calls go on while the server is down, and their records are written once it is back."""
        sink = PostgresLedger(own_server.new_database(), timeout_s=0.5).open()
        client = openai.OpenAI(base_url=f"{sim.url}/v1", api_key="none")
        own_server.stop()
        with llm_toll_autopatch.patched(sink=sink):
            for _ in range(3):
                client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "Hi"}])
            own_server.start()
            llm_toll_autopatch.flush(20)
            assert len(ids(sink)) == 3
        sink.close()
        client.close()
        failures.reset()


class TestEventLoop:
    """Nothing waits for the network on an event loop."""

    async def test_refuses(self, ledger: PostgresLedger) -> None:
        """On an event loop a record is not written at once, but left to the outbox; `emit` itself does what it says."""
        with pytest.raises(SinkUnavailableError, match="event loop"):
            ledger.emit_now(record())
        ledger.emit(record())
        assert len(ids(ledger)) == 1

    async def test_written_before_the_answer(self, ledger: PostgresLedger, sim: Simulator) -> None:
        """When a coroutine has its answer, the record is there, and the loop has turned while it was written."""
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.005)

        async with openai.AsyncOpenAI(base_url=f"{sim.url}/v1", api_key="none") as client:
            with llm_toll_autopatch.patched(sink=ledger), psycopg.connect(ledger_url(ledger)) as other:
                other.execute("LOCK TABLE llm_toll_autopatch.calls IN EXCLUSIVE MODE")
                ticker = asyncio.create_task(turn())
                call = asyncio.create_task(
                    client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "Hi"}])
                )
                while not other.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():  # noqa: ASYNC110 - the server's
                    await asyncio.sleep(0.01)
                before = turns
                while turns < before + 20:  # noqa: ASYNC110 - never got to if the loop stood still
                    await asyncio.sleep(0.01)
                assert not call.done()
                await asyncio.to_thread(other.commit)
                await call
                assert len(await asyncio.to_thread(ids, ledger)) == 1
                ticker.cancel()


def ledger_url(ledger: PostgresLedger) -> str:
    """The URL of a ledger, with its password."""
    parameters = ledger._address.parameters()
    return (
        f"postgresql://{parameters['user']}:{quote(parameters['password'], safe='')}"
        f"@{parameters['host']}:{parameters['port']}/{parameters['dbname']}"
    )


class TestSecrets:
    """Passwords are never shown."""

    @staticmethod
    def everything_about(error: BaseException, *, variables: bool = True) -> str:
        """What a careless handler could print of an error, of what it came from, and of our variables around it."""
        seen, text = error, ""
        while seen is not None:
            text += "".join(traceback.format_exception(seen)) + repr(seen) + str(vars(seen))
            if variables:
                frames = [frame for frame, _ in traceback.walk_tb(seen.__traceback__)]
                text += repr([frame.f_locals for frame in frames if "autopatch/" in frame.f_code.co_filename])
            seen = seen.__context__  # type: ignore[assignment]
        return text

    def test_shown(self, postgres: Server, database: str) -> None:
        """What a ledger shows of itself is where it is and whose."""
        ledger = resolve_sink(database + "?connect_timeout=3")
        assert isinstance(ledger, PostgresLedger)
        place = f"toll@127.0.0.1:{postgres.port}{database[database.rindex('/') :]}"
        assert ledger.location == f"postgresql://{place}"
        assert repr(ledger) == f"PostgresLedger('postgresql://{place}')"
        with llm_toll_autopatch.patched(sink=ledger):
            assert llm_toll_autopatch.status().ledger == ledger.location
            assert not any(secret in str(llm_toll_autopatch.status()) for secret in SECRETS)

    @pytest.mark.parametrize("how", ["wrong user", "wrong database", "wrong port", "wrong parameter"])
    def test_errors(self, postgres: Server, how: str, caplog: pytest.LogCaptureFixture) -> None:
        """What goes wrong with a connection is said without the password, in messages, causes and logs."""
        url = {
            "wrong user": postgres.url("postgres", user="nobody"),
            "wrong database": postgres.url("nowhere"),
            "wrong port": postgres.url("postgres").replace(str(postgres.port), "1"),
            "wrong parameter": postgres.url("postgres") + "?sslmode=canary",
        }[how]
        ledger = PostgresLedger(url)
        with caplog.at_level(logging.DEBUG):
            with pytest.raises(SinkUnavailableError) as caught:
                ledger.emit(record())
            failures.note("a test", caught.value)
        failures.reset()
        with pytest.raises(LedgerError) as read:
            list(ledger.records())
        if how != "wrong parameter":  # there the word is in the parameter, which is no secret
            for secret in SECRETS:
                assert secret not in str(caught.value) + str(read.value) + caplog.text
                assert secret not in self.everything_about(caught.value) + self.everything_about(read.value)
        assert PASSWORD not in self.everything_about(caught.value)

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql:canary",
            "postgres:ann:canary@host",
            "postgresql://user:canary%zz@host/db",
            "postgresql://user:can@canary@host/db",
            "postgresql://user:can/canary@host/db",
            "postgresql://user:12/canary@host/db",
            "postgresql://user:canary:canary@host:port/db",
            "postgresql://user:canary@host/db?canary=1",
            "postgres://user:canary@[::1/db",
        ],
    )
    def test_malformed(self, url: str) -> None:
        """A URL that cannot be understood, or could be misunderstood, is an error at once that does not quote it."""
        for make in (PostgresLedger, resolve_sink):
            with pytest.raises(ValueError, match="postgresql://user:password@host:5432/database") as caught:
                make(url)
            assert "canary" not in self.everything_about(caught.value, variables=False)


class TestSetUp:
    """What is needed, and who may do what."""

    def test_from_environment(self, monkeypatch: pytest.MonkeyPatch, database: str) -> None:
        """`LLM_TOLL_AUTOPATCH_SINK` takes the URL too, in both spellings."""
        for url in (database, database.replace("postgresql:", "postgres:")):
            monkeypatch.setenv("LLM_TOLL_AUTOPATCH_SINK", url)
            llm_toll_autopatch.patch_all()
            assert (llm_toll_autopatch.status().ledger or "").startswith("postgresql://toll@127.0.0.1")

    def test_without_psycopg(self) -> None:
        """Where psycopg is missing, configuring the ledger says how to install it; and importing us needs none."""
        code = (
            "import sys; sys.modules['psycopg'] = None\n"
            "from llm_toll_autopatch import PostgresLedger, patch_all\n"
            "try: patch_all(sink='postgresql://host/db')\n"
            "except ImportError as error: print(error)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "pip install 'llm-toll-autopatch[postgres]'" in done.stdout

    @pytest.mark.parametrize("arguments", [{"timeout_s": 0}, {"connections": 0}])
    def test_wrong_arguments(self, arguments: dict[str, Any]) -> None:
        """Arguments that make no sense are refused at once."""
        with pytest.raises(ValueError, match="positive number"):
            PostgresLedger("postgresql://host/db", **arguments)

    def test_newer_schema(self, ledger: PostgresLedger, postgres: Server, database: str) -> None:
        """A ledger of a newer version is neither written nor read, and the error says to upgrade."""
        postgres.execute("UPDATE llm_toll_autopatch.schema_version SET version = 99", database)
        other = PostgresLedger(database)
        for use in (other.open, lambda: other.emit(record()), lambda: list(other.records())):
            with pytest.raises(LedgerError, match=r"schema version 99.*upgrade"):
                use()

    def test_wrong_encoding(self, postgres: Server) -> None:
        """A database that cannot hold every text is refused with what is wrong."""
        postgres.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
        with pytest.raises(LedgerError, match="UTF8"):
            PostgresLedger(postgres.url("latin")).emit(record())

    def test_least_rights(self, postgres: Server, database: str) -> None:
        """A role that may use the tables and nothing else can write and read; one that may not, may be let later."""
        postgres.execute("CREATE ROLE app LOGIN PASSWORD 'canary'")
        ledger = PostgresLedger(database.replace("toll:", "app:").replace(quote(PASSWORD, safe=""), "canary"))
        with pytest.raises(SinkUnavailableError, match="permission denied"):
            ledger.emit(record())
        PostgresLedger(database).open().close()
        for right in (
            "USAGE ON SCHEMA llm_toll_autopatch",
            "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA llm_toll_autopatch",
        ):
            postgres.execute(f"GRANT {right} TO app", database)
        ledger.emit(record())
        assert len(ids(ledger)) == 1
        ledger.close()

    def test_schema_of_an_administrator(self, postgres: Server, database: str) -> None:
        """A role that may make no schemas can use one that was made for it."""
        postgres.execute("CREATE ROLE tenant LOGIN PASSWORD 'canary'")
        postgres.execute("CREATE SCHEMA llm_toll_autopatch AUTHORIZATION tenant", database)
        ledger = PostgresLedger(database.replace("toll:", "tenant:").replace(quote(PASSWORD, safe=""), "canary"))
        ledger.emit(record())
        assert len(ids(ledger)) == 1
        ledger.close()

    def test_server_settings(self, database: str) -> None:
        """The server is given our bound too, unless the URL has settings for it, of which none is one."""
        for options, timeout in (("", "300ms"), ("?options=", "0"), ("?options=-c%20statement_timeout%3D7s", "7s")):
            with PostgresLedger(database + options, timeout_s=0.3) as ledger:
                rows = ledger._do(lambda connection: connection.run("SHOW statement_timeout").fetchall())
                assert rows == [(timeout,)]
                ledger.emit(record())

    @pytest.mark.parametrize("version", [1, 2, 3, 4])
    def test_older_ledger(self, version: int, postgres: Server, database: str) -> None:
        """An older ledger keeps its records, and is brought up to date by the next one."""
        schema = "llm_toll_autopatch"
        postgres.execute(f"CREATE SCHEMA {schema}", database)
        postgres.execute(f"CREATE TABLE {schema}.schema_version (version INTEGER NOT NULL)", database)
        postgres.execute(f"INSERT INTO {schema}.schema_version VALUES ({version})", database)
        for statements in MIGRATIONS[:version]:
            for statement in statements:
                postgres.execute(statement.replace("{schema}", schema), database)
        old = record()
        with psycopg.connect(database) as connection:
            connection.execute(INSERT, row_of(old))
        with PostgresLedger(database) as ledger:
            new = record(started_at=NOON + timedelta(1))
            ledger.emit(new)
            assert ids(ledger) == [old.id, new.id]
            standing = ledger.standings([Limit("acme", "calls", 9, "total")], NOON)[0]
        assert standing.spent == 2
        assert postgres.execute(f"SELECT version FROM {schema}.schema_version", database) == [(len(MIGRATIONS),)]
        indices = postgres.execute(f"SELECT indexname FROM pg_indexes WHERE schemaname = '{schema}'", database)
        assert ("calls_by_project",) in indices

    def test_version(self, ledger: PostgresLedger, postgres: Server, database: str) -> None:
        """The tables say which version they are."""
        assert postgres.execute("SELECT version FROM llm_toll_autopatch.schema_version", database) == [
            (len(MIGRATIONS),)
        ]


class TestLimits:
    """Limits that hold across processes; what every keeper does is in test_keepers.py."""

    CAP = 4_000

    def usd(self) -> Limit:
        return Limit("acme", "usd", self.CAP, "total")

    def test_processes_cannot_overspend(self, database: str) -> None:
        """Eight processes of four threads hold and spend all that there is, and never more at any moment."""
        code = (
            "limit = Limit('acme', 'usd', int(arguments[0]), 'total')\n"
            "from concurrent.futures import ThreadPoolExecutor\n"
            "def call(number):\n"
            "    asked = reservation((limit, 100), at=NOON)\n"
            "    if ledger.reserve(asked) is not None: return 0\n"
            "    [standing] = ledger.standings([limit], NOON)\n"
            "    assert standing.spent + standing.held <= limit.amount, standing\n"
            "    ledger.emit(record(id=asked.call_id, cost_usd=Decimal(90).scaleb(-9)))\n"
            "    return 1\n"
            "with ThreadPoolExecutor(4) as threads: print(sum(threads.map(call, range(12))))\n"
        )
        processes = together(code, [database, str(self.CAP)], 8)
        outputs = [ended(process) for process in processes]
        assert [errors for _, errors in outputs] == [""] * 8
        admitted = sum(int(output) for output, _ in outputs)
        [standing] = PostgresLedger(database).standings([self.usd()], NOON)
        assert (standing.spent, standing.held) == (admitted * 90, 0)
        assert admitted == (self.CAP - 100) // 90 + 1  # the last one fits into 100

    def test_kill_while_holding(self, database: str) -> None:
        """What processes held that were killed is charged as soon as somebody needs the room; nothing stays held."""
        code = (
            "limit = Limit('acme', 'usd', 4000, 'total')\n"
            "for _ in range(5): assert ledger.reserve(reservation((limit, 100), at=NOON)) is None\n"
            "print('held', flush=True); time.sleep(60)\n"
        )
        processes = [start(code, database) for _ in range(4)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            process.send_signal(signal.SIGKILL)
            ended(process)
        with PostgresLedger(database) as ledger:
            assert ledger.standings([self.usd()], NOON) == [Standing(self.usd(), 0, 2000)]
            assert ledger.reserve(reservation((self.usd(), 3000), at=NOON)) is not None
            assert ledger.standings([self.usd()], NOON) == [Standing(self.usd(), 2000, 0)]

    def test_many_budgets_at_once(self, ledger: PostgresLedger) -> None:
        """Calls that ask several budgets in any order, are settled, released and swept, do not block one another."""
        limits = [Limit(name, "usd", 10**9, "total") for name in "abcdef"]
        limits += [Limit(name, "tokens", 10**9, "minute") for name in "abc"]

        def call(number: int) -> None:
            chosen = random.Random(number).sample(limits, 4)
            asked = reservation(*((limit, 10) for limit in chosen), at=datetime.now(UTC), on_orphan="release")
            assert ledger.reserve(asked) is None
            if number % 3 == 0:
                ledger.release(asked.call_id)
            else:
                ledger.emit(record(id=asked.call_id, project="abcdef"[number % 6], cost_usd=Decimal(1).scaleb(-9)))
            if number % 10 == 0:
                ledger._do(lambda connection: postgres_holds.sweep(connection, datetime.now(UTC)))

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(call, range(200)))
        assert [standing.held for standing in ledger.standings(limits, datetime.now(UTC))] == [0] * 9

    def test_budget_made_while_records_come(self, ledger: PostgresLedger) -> None:
        """A budget that is made while records of its project are being written counts each of them once."""
        for number in range(8):
            limit = Limit(f"project-{number}", "usd", 10**9, "total")
            barrier = threading.Barrier(4)

            def write(limit: Limit = limit, barrier: threading.Barrier = barrier) -> None:
                barrier.wait()
                for _ in range(12):
                    ledger.emit(record(project=limit.account, cost_usd=Decimal(1).scaleb(-9)))

            def ask(limit: Limit = limit, barrier: threading.Barrier = barrier) -> None:
                barrier.wait()
                time.sleep(0.005)
                assert ledger.reserve(reservation((limit, 0), at=NOON)) is None

            threads = [threading.Thread(target=each) for each in (write, write, write, ask)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert ledger.standings([limit], NOON) == [Standing(limit, 36, 0)]

    def test_lost_answer(self, ledger: PostgresLedger) -> None:
        """A reservation whose answer was lost on its way can be asked for again, and is held once."""
        calls = Limit("acme", "calls", 5, "minute")
        asked = reservation((self.usd(), 300), (calls, 1), at=NOON)
        for _ in range(3):
            assert ledger.reserve(asked) is None
        assert ledger.standings([self.usd(), calls], NOON) == [Standing(self.usd(), 0, 300), Standing(calls, 1, 0)]

    def test_a_new_price_changes_what_is_spent(self, ledger: PostgresLedger, postgres: Server, database: str) -> None:
        """When the cost of a record is computed again, the budget follows."""
        ledger.reserve(reservation((self.usd(), 0), at=NOON))
        ledger.emit(record(cost_usd=None))
        postgres.execute("UPDATE llm_toll_autopatch.calls SET cost_nano_usd = 55", database)
        assert ledger.standings([self.usd()], NOON) == [Standing(self.usd(), 55, 0)]

    async def test_not_on_an_event_loop(self, ledger: PostgresLedger) -> None:
        """On an event loop it is not waited for: whoever asks there asks again elsewhere."""
        asked = reservation((self.usd(), 300), at=NOON)
        with pytest.raises(SinkUnavailableError, match="event loop"):
            ledger.reserve_now(asked)
        assert await asyncio.to_thread(ledger.reserve, asked) is None

    @pytest.mark.parametrize("is_async", [False, True])
    async def test_through_the_clients(self, ledger: PostgresLedger, sim: Simulator, is_async: bool) -> None:
        """Calls are admitted while the ledger says that something is left; refused ones are never sent."""
        question: Any = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Hi"}]}
        with llm_toll_autopatch.patched(sink=ledger, project="acme", rate_limit=2):
            with openai.OpenAI(base_url=f"{sim.url}/v1", api_key="none") as client:
                async with openai.AsyncOpenAI(base_url=f"{sim.url}/v1", api_key="none") as async_client:
                    for number in range(4):
                        try:
                            if is_async:
                                await async_client.chat.completions.create(**question)
                            else:
                                await asyncio.to_thread(lambda: client.chat.completions.create(**question))
                        except LocalRateLimitError:
                            assert number >= 2
            assert len(sim.requests) == 2
        assert len(await asyncio.to_thread(ids, ledger)) == 2
