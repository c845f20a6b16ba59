"""A ledger that cannot be written to: calls go on, the reason is told once, records wait and are written when it heals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from chaos.trouble import full_disk, small_disk
from sources import GPT, MESSAGES, async_clients_of, clients_of

from llm_toll_autopatch import SQLiteLedger, flush, patched, reporting, status
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.lanes import lane_of
from llm_toll_autopatch.simulator import Simulator

Trouble = Callable[[Path], "contextlib.AbstractContextManager[None]"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for what does not come in these tests."""
    monkeypatch.setattr(reporting, "PATIENCE_S", 0.2)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on a small disk of its own, which takes root."""
    directory = tmp_path / "disk"
    with small_disk(directory, 2) as mounted:
        if not mounted:
            pytest.skip("a disk of one's own takes root and Linux")
        yield directory


@contextlib.contextmanager
def locked_by_a_process(path: Path) -> Iterator[None]:
    """Another process holds the lock, and does not let go."""
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)\n"
        "c.execute('BEGIN IMMEDIATE'); print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline()
        yield
        other.stdin.close()
        other.wait(30)


@contextlib.contextmanager
def newer(path: Path) -> Iterator[None]:
    """A newer version of the package has migrated the file, and is taken back."""
    with closing(sqlite3.connect(path)) as other:
        version = other.execute("PRAGMA user_version").fetchone()[0]
        other.execute("PRAGMA user_version = 99")
    yield
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA user_version = {version}")


@contextlib.contextmanager
def corrupt(path: Path) -> Iterator[None]:
    """The file is overwritten with what is no database, and put back."""
    kept = path.read_bytes()
    path.unlink()
    path.write_bytes(b"not a database " * 500)
    yield
    path.unlink()
    path.write_bytes(kept)


@contextlib.contextmanager
def vanished(path: Path) -> Iterator[None]:
    """The directory is moved away, and there is a file in its place, until it is put back.

    It goes and comes in one step each, by way of a link: a ledger that looks in between would make a directory of its own.
    """
    home = path.parent
    real, empty, link = home.with_name("real"), home.with_name("empty"), home.with_name("link")
    home.rename(real)
    empty.touch()
    home.symlink_to(empty)
    yield
    link.symlink_to(real)
    link.replace(home)


TROUBLES = [
    pytest.param(locked_by_a_process, "locked", id="locked"),
    pytest.param(newer, "schema version 99", id="newer schema"),
    pytest.param(corrupt, "not a database", id="corrupt"),
    pytest.param(vanished, "File exists", id="vanished"),
]


def ask(sim: Simulator, times: int) -> None:
    """Send plain requests."""
    with clients_of(sim) as clients:
        for _ in range(times):
            assert clients.openai.chat.completions.create(model=GPT, messages=MESSAGES).id


def check(sim: Simulator, path: Path, trouble: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Call in the midst of `trouble`, and look at what is said and what becomes of the records."""
    with caplog.at_level(logging.WARNING, "llm_toll_autopatch"):
        ledger = SQLiteLedger(path, busy_timeout_s=0.05)
        with patched(sink=ledger):
            ask(sim, 1)
            ledger.close()
            with trouble:
                ask(sim, 3)
                while not status().failures:  # which is noted when it has been tried for a while
                    flush(0.05)
                [sink] = status().sinks
                assert (sink.state, sink.written, sink.queued, sink.dropped) == ("retrying", 1, 3, 0)
                assert status().last_failure in {
                    "writing to SQLiteLedger: SinkUnavailableError",
                    "writing to SQLiteLedger: UnusableLedgerError",
                }
                reason = sink.reason
                assert reason in str(status())
            flush(30)
            [sink] = status().sinks
            assert (sink.state, sink.written, sink.queued, sink.reason) == ("ok", 4, 0, "")
        assert len({each.id for each in ledger.records()}) == 4
        ledger.close()
    warnings = [entry for entry in caplog.records if "writing to SQLiteLedger failed" in entry.getMessage()]
    assert len(warnings) == 1
    assert warnings[0].exc_text is not None
    assert reason in warnings[0].exc_text
    failures.reset()


@pytest.mark.parametrize(("trouble", "reason"), TROUBLES)
def test_calls_go_on(
    trouble: Trouble, reason: str, sim: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is wrong with the file, calls return, records wait, the reason is logged once and shown, and it heals."""
    path = tmp_path / "home" / "ledger.db"
    SQLiteLedger(path).open().close()
    check(sim, path, trouble(path), caplog)
    assert reason in caplog.text


def test_a_full_disk(disk: Path, sim: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    """The same when there is no room left on the disk."""
    check(sim, disk / "ledger.db", full_disk(disk), caplog)
    assert "full" in caplog.text or "I/O" in caplog.text


def test_a_home_that_is_read_only(disk: Path, sim: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    """The same when nothing may be written there."""

    @contextlib.contextmanager
    def read_only() -> Iterator[None]:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        yield
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)

    check(sim, disk / "ledger.db", read_only(), caplog)


async def test_an_event_loop_goes_on(sim: Simulator, tmp_path: Path) -> None:
    """A ledger that is locked for longer than anybody waits stops neither the coroutine that calls nor another task."""
    path = tmp_path / "ledger.db"
    ledger = SQLiteLedger(path, busy_timeout_s=0.05).open()
    turns = 0
    while_locked: list[int] = []

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    with patched(sink=ledger):
        async with async_clients_of(sim) as clients:
            task = asyncio.create_task(other())
            with locked_by_a_process(path):
                before = turns
                await clients.openai.chat.completions.create(model=GPT, messages=MESSAGES)
                while_locked.append(turns - before)
                async for _ in await clients.openai.responses.create(model=GPT, input="hi", stream=True):
                    pass
                assert status().queued == 2
            task.cancel()
        flush(30)
        assert len(list(ledger.records())) == 2
    assert while_locked[0] > 50  # it waited for its record, and the other task had its turns
    ledger.close()
    failures.reset()


def test_the_memory_has_a_bound(sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a ledger that does not heal only so many records are kept; the rest is counted as dropped."""
    from llm_toll_autopatch import lane

    monkeypatch.setattr(lane, "QUEUE_BOUND", 2)
    path = tmp_path / "ledger.db"
    ledger = SQLiteLedger(path, busy_timeout_s=0.05).open()
    with patched(sink=ledger):
        with locked_by_a_process(path):
            ask(sim, 4)
            assert (lane_of(ledger).queued, lane_of(ledger).dropped) == (2, 2)
        flush(30)
    assert len(list(ledger.records())) == 2
    ledger.close()
    failures.reset()
