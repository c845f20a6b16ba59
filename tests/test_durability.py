"""`durability=` on both ledgers: what is waited for, what reaches the disk, and how it is asked for."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from postgres import Server
from sources import GPT, MESSAGES, async_clients_of, clients_of
from specimens import record

from llm_toll_autopatch import PostgresLedger, SQLiteLedger, flush, patched, status
from llm_toll_autopatch.lanes import deliver, lane_of
from llm_toll_autopatch.ledger.location import ledger_at
from llm_toll_autopatch.simulator import Simulator
from llm_toll_autopatch.sinks.resolve import resolve_sink


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Another connection holds the ledger's lock."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


@pytest.mark.parametrize(("durability", "synchronous"), [("commit", 1), ("full", 2), ("queue", 1)])
def test_what_sqlite_is_told(durability: Any, synchronous: int, tmp_path: Path) -> None:
    """`full` has SQLite force each commit to the disk, the others do not."""
    with SQLiteLedger(tmp_path / "ledger.db", durability=durability) as ledger, ledger.transaction() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (synchronous,)


@pytest.mark.parametrize("make", [resolve_sink, ledger_at])
def test_in_a_sqlite_url(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`?durability=` of a URL is understood as a sink and by the command line; without it a record is committed."""
    monkeypatch.chdir(tmp_path)
    assert [make(f"sqlite:///a.db{query}").durability for query in ("", "?durability=full", "?durability=queue")] == [
        "commit",
        "full",
        "queue",
    ]
    assert make("sqlite:///a.db?durability=full").path == tmp_path / "a.db"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:///a.db?durability=never", "commit, full, queue"),
        ("sqlite:///a.db?durability=", "commit, full, queue"),
        ("sqlite:///a.db?durability=full&durability=queue", "twice"),
        ("sqlite:///a.db?mode=ro", "durability= alone"),
        ("postgresql://u:secret@h/d?durability=never", "commit, full, queue"),
        ("postgresql://u:secret@h/d?options=&durability=full", "none is to be"),
    ],
)
def test_bad_urls(url: str, message: str) -> None:
    """What a URL cannot ask for is an error when it is configured, which shows no password."""
    with pytest.raises(ValueError, match=message) as caught, patched(sink=url):
        pass
    assert "secret" not in str(caught.value)


def test_bad_arguments(tmp_path: Path) -> None:
    """So is an argument that is none of the three, or not what the URL says."""
    with pytest.raises(ValueError, match="commit, full, queue"):
        SQLiteLedger(tmp_path / "ledger.db", durability="never")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="twice"):
        PostgresLedger("postgresql://h/d?durability=full", durability="queue")


def test_a_queue_is_not_waited_for(sim: Simulator, tmp_path: Path) -> None:
    """With `queue` a call does not wait for a ledger that is locked; the record is written when it can be."""
    ledger = SQLiteLedger(tmp_path / "ledger.db", durability="queue").open()
    with patched(sink=ledger), clients_of(sim) as clients:
        with locked(ledger.path):  # for longer than anybody waits, if the calls did not return
            for _ in range(3):
                clients.openai.chat.completions.create(model=GPT, messages=MESSAGES)
            assert status().queued == 3
            assert not lane_of(ledger).hopeless
            assert list(ledger.records()) == []
        flush(20)
        assert len(list(ledger.records())) == 3
    ledger.close()


def test_what_waits_is_written_together(tmp_path: Path) -> None:
    """A ledger's queue is written in few transactions, and a record that cannot be stored costs no other."""
    transactions: list[int] = []

    class Watched(SQLiteLedger):
        started, go_on = threading.Event(), threading.Event()

        def emit(self, each: Any) -> None:
            self.started.set()
            self.go_on.wait(20)
            super().emit(each)

        def add(self, records: Any) -> int:
            records = list(records)
            transactions.append(len(records))
            return super().add(records)

    ledger = Watched(tmp_path / "ledger.db", durability="queue")
    first, others = record(), [record() for _ in range(50)]
    deliver(ledger, first)
    assert ledger.started.wait(20)
    for each in others:
        deliver(ledger, each)
    ledger.go_on.set()
    assert lane_of(ledger).drain(None)
    assert transactions == [50]
    assert {each.id for each in ledger.records()} == {each.id for each in (first, *others)}
    assert (lane_of(ledger).written, lane_of(ledger).queued) == (51, 0)
    ledger.close()


async def test_full_does_not_hold_up_an_event_loop(sim: Simulator, tmp_path: Path) -> None:
    """With `full` the event loop's thread never writes; the coroutine has its answer when the record is there."""
    writers: list[str] = []

    class Watched(SQLiteLedger):
        def _emit(self, *arguments: Any) -> None:
            writers.append(threading.current_thread().name)
            super()._emit(*arguments)

    ledger = Watched(tmp_path / "ledger.db", durability="full")
    with patched(sink=ledger):
        async with async_clients_of(sim) as clients:
            await clients.openai.chat.completions.create(model=GPT, messages=MESSAGES)
        assert len(list(ledger.records())) == 1
    assert writers == ["llm-toll-Watched"]
    ledger.close()


def test_budgets_with_a_queue(sim: Simulator, tmp_path: Path) -> None:
    """Reservations are made before the call all the same; what it cost is known when its record is written."""
    ledger = SQLiteLedger(tmp_path / "ledger.db", durability="queue")
    with patched(sink=ledger, max_budget="10", strict_budget=True), clients_of(sim) as clients:
        clients.openai.chat.completions.create(model=GPT, messages=MESSAGES, max_tokens=20)
        flush(20)
        with closing(sqlite3.connect(ledger.path)) as books:
            [(spent, held)] = books.execute("SELECT spent, held FROM budgets WHERE unit = 'usd'").fetchall()
            [(cost,)] = books.execute("SELECT SUM(cost_nano_usd) FROM calls").fetchall()
    assert (spent, held) == (cost, 0)
    ledger.close()


@pytest.mark.parametrize(
    ("query", "durability", "switch"),
    [("", "commit", "off"), ("?durability=full", "full", "on"), ("?durability=queue", "queue", "off")],
)
def test_what_postgres_is_told(query: str, durability: str, switch: str, database: str, postgres: Server) -> None:
    """`full` turns `synchronous_commit` on where the server has it off; the URL's other parameters reach libpq."""
    more = "&" if query else "?"
    ledger = PostgresLedger(f"{database}{query}{more}application_name=mine")
    with ledger:
        found = ledger._do(lambda connection: connection.run("SHOW synchronous_commit").fetchone())
        name = ledger._do(lambda connection: connection.run("SHOW application_name").fetchone())
        ledger.emit(record())
        assert len(list(ledger.records())) == 1
    assert (ledger.durability, ledger.deferred, found, name) == (
        durability,
        durability == "queue",
        (switch,),
        ("mine",),
    )


def test_full_beats_the_options_of_a_url(database: str) -> None:
    """Options in the URL that turn `synchronous_commit` off do not count with `full`."""
    url = f"{database}?options=-c%20synchronous_commit%3Doff&durability=full"
    with PostgresLedger(url) as ledger:
        assert ledger._do(lambda connection: connection.run("SHOW synchronous_commit").fetchone()) == ("on",)
