"""Caps that an operator sets in the ledger hold in every process, without a line of code."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from keepers import KEEPERS, LEDGERS, as_dead_process, reservation
from sources import GPT, MESSAGES, async_clients_of, clients_of
from specimens import record

from llm_toll_autopatch import BudgetExceededError, LocalRateLimitError, MemorySink, SQLiteLedger, patched, scope
from llm_toll_autopatch.budgets import caps
from llm_toll_autopatch.budgets.limits import AMOUNT_MAX, Limit, window_of
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.ledger.errors import LedgerError
from llm_toll_autopatch.ledger.schema import APPLICATION_ID, MIGRATIONS
from llm_toll_autopatch.simulator import Simulator

USD = Limit("acme", "usd", 1_000, "total")
DAILY = Limit("acme", "usd", 500, "daily")
CALLS = Limit("acme", "calls", 2, "minute")


@pytest.fixture(params=LEDGERS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Each of the ledgers."""
    return KEEPERS[request.param](tmp_path)


def ask(clients: Any) -> Any:
    return clients.openai.chat.completions.create(model=GPT, messages=MESSAGES)


def spend(ledger: Any, *limits: Limit, cost: int, on_time: bool = True) -> str:
    """A call of acme's that was admitted under `limits`, and has ended if it is `on_time`."""
    at = datetime.now(UTC)
    asked = reservation(*((limit, cost if limit.unit == "usd" else 1) for limit in limits), at=at)
    assert ledger.reserve(asked) is None
    if on_time:
        ledger.emit(record(id=asked.call_id, project="acme", started_at=at, cost_usd=Decimal(cost).scaleb(-9)))
    return asked.call_id


class TestLedger:
    """What the ledgers keep of it."""

    def test_set_and_removed(self, ledger: Any) -> None:
        """Caps are kept, replaced and removed, each by project, unit and period."""
        assert ledger.caps() == []
        for limit in (USD, CALLS, DAILY, Limit("acme", "usd", 2_000, "total")):
            ledger.set_cap(limit)
        assert sorted(map(str, ledger.caps())) == sorted(map(str, [Limit("acme", "usd", 2_000), CALLS, DAILY]))
        assert ledger.remove_cap("acme", "usd", "daily")
        assert not ledger.remove_cap("acme", "usd", "daily")
        assert DAILY not in ledger.caps()

    def test_no_block(self, ledger: Any) -> None:
        """A block of code cannot be capped from outside."""
        with pytest.raises(ValueError, match="block of code"):
            ledger.set_cap(Limit("x", "usd", 1, is_block=True))

    def test_budgets(self, ledger: Any) -> None:
        """Of every budget there is what is spent and held, by how many calls, and since when."""
        assert ledger.budgets() == []
        at = datetime.now(UTC)
        spend(ledger, USD, DAILY, CALLS, cost=100)
        spend(ledger, USD, cost=250, on_time=False)
        total, daily, calls = sorted(ledger.budgets(at), key=lambda each: (each.limit.period == "minute", each.start))
        assert (total.limit, total.spent, total.held, total.holds) == (USD, 100, 250, 1)
        assert abs(total.oldest - at) < timedelta(minutes=1)
        assert (daily.limit, daily.spent, daily.held, daily.holds, daily.oldest) == (DAILY, 100, 0, 0, None)
        assert (daily.start, daily.end) == window_of("daily", at)
        assert (calls.limit, calls.spent) == (CALLS, 1)
        assert not total.is_used_up
        assert not calls.is_used_up
        spend(ledger, CALLS, cost=0)
        assert [each.limit for each in ledger.budgets(at) if each.is_used_up] == [CALLS]

    def test_earlier_windows(self, ledger: Any) -> None:
        """Windows that are over are there when all are asked for."""
        yesterday = datetime.now(UTC) - timedelta(days=1)
        assert ledger.reserve(reservation((DAILY, 0), at=yesterday)) is None
        assert ledger.budgets(datetime.now(UTC)) == []
        assert [each.start for each in ledger.budgets()] == [window_of("daily", yesterday)[0]]

    def test_cap_of_a_budget(self, ledger: Any) -> None:
        """A budget shows its cap anew as soon as that is changed, and none when it is removed; code's stays."""
        ledger.set_cap(USD)
        spend(ledger, USD, DAILY, cost=1)
        ledger.set_cap(Limit("acme", "usd", 3_000))
        ledger.set_cap(Limit("acme", "usd", 9_000, "daily"))
        assert {each.limit.amount for each in ledger.budgets()} == {3_000, DAILY.amount}
        ledger.remove_cap("acme", "usd", "total")
        assert {each.limit.amount for each in ledger.budgets()} == {AMOUNT_MAX, DAILY.amount}
        assert [each.is_capped for each in ledger.budgets()].count(False) == 1

    def test_reset(self, ledger: Any) -> None:
        """From a reset on nothing is spent; what is held stays so, and settles to what it costs."""
        spend(ledger, USD, CALLS, cost=2)
        open_call = spend(ledger, USD, cost=300, on_time=False)
        spend(ledger, Limit("other", "usd", 10), cost=1)
        (before,) = ledger.reset_budget("acme")
        assert (before.limit, before.spent, before.held) == (USD, 3, 300)
        assert [(each.spent, each.held) for each in ledger.standings([USD], datetime.now(UTC))] == [(0, 300)]
        ledger.emit(record(id=open_call, project="acme", cost_usd=Decimal(20).scaleb(-9)))
        assert [(each.spent, each.held) for each in ledger.standings([USD], datetime.now(UTC))] == [(20, 0)]
        assert ledger.reset_budget("nobody") == []
        assert ledger.reset_budget("acme", "usd", "daily") == []

    def test_reset_of_orphans(self, ledger: Any) -> None:
        """What was charged for a dead process goes with a reset; a record that comes late counts what it cost."""
        with as_dead_process():
            orphan = spend(ledger, USD, cost=400, on_time=False)
        assert ledger.sweep() == 1
        (before,) = ledger.reset_budget("acme")
        assert (before.spent, before.held) == (400, 0)
        ledger.emit(record(id=orphan, project="acme", cost_usd=Decimal(30).scaleb(-9)))
        assert [(each.spent, each.held) for each in ledger.standings([USD], datetime.now(UTC))] == [(30, 0)]

    def test_reset_of_a_cap_that_no_call_has_met(self, ledger: Any) -> None:
        """A cap that was just set can be reset: what its project has cost before does not count."""
        ledger.emit(record(project="acme", cost_usd=Decimal(700).scaleb(-9)))
        ledger.set_cap(USD)
        assert [each.spent for each in ledger.reset_budget("acme")] == [700]
        assert [each.spent for each in ledger.standings([USD], datetime.now(UTC))] == [0]

    def test_looking_makes_no_ledger(self, tmp_path: Path) -> None:
        """Where there is no ledger there are no caps, and looking for them makes none."""
        ledger = SQLiteLedger(tmp_path / "none.db")
        assert (ledger.caps(), ledger.budgets()) == ([], [])
        assert not ledger.path.exists()

    @pytest.mark.parametrize("version", [1, 2, 3])
    def test_older_ledger(self, version: int, tmp_path: Path) -> None:
        """An older ledger has none, stays as it is, and takes them when one is set."""
        with sqlite3.connect(tmp_path / "old.db") as connection:
            for statements in MIGRATIONS[:version]:
                for statement in statements:
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {version}")
        connection.close()
        ledger = SQLiteLedger(tmp_path / "old.db")
        assert (ledger.caps(), ledger.budgets()) == ([], [])
        ledger.set_cap(USD)
        assert ledger.caps() == [USD]


class TestGate:
    """What the gate makes of it."""

    def test_holds_without_code(self, ledger: Any, sim: Simulator) -> None:
        """A call that a cap refuses is not sent, and the project of another is not concerned."""
        ledger.set_cap(Limit("acme", "usd", 0, "monthly"))
        with patched(sink=ledger, project="acme"), clients_of(sim) as clients:
            with pytest.raises(BudgetExceededError, match="project 'acme'"):
                ask(clients)
            assert not sim.requests
            with scope("other"):
                ask(clients)
        assert len(sim.requests) == 1

    async def test_async(self, ledger: Any, sim: Simulator) -> None:
        """The same, async."""
        ledger.set_cap(Limit("acme", "calls", 2, "minute"))
        with patched(sink=ledger, project="acme"):
            async with async_clients_of(sim) as clients:
                outcomes = await asyncio.gather(*(ask(clients) for _ in range(5)), return_exceptions=True)
        assert sum(isinstance(each, LocalRateLimitError) for each in outcomes) == 3
        assert len(sim.requests) == 2

    @pytest.mark.parametrize(("code", "operator"), [(0, 100), (100, 0)])
    def test_the_stricter_one_holds(self, code: int, operator: int, tmp_path: Path, sim: Simulator) -> None:
        """Code and operator may both limit a project, and neither can let through what the other refuses."""
        ledger = SQLiteLedger(tmp_path / "ledger.db")
        ledger.set_cap(Limit("acme", "usd", operator * 10**9))
        with (
            patched(sink=ledger, project="acme", max_budget=code),
            clients_of(sim) as clients,
            pytest.raises(BudgetExceededError),
        ):
            ask(clients)
        assert not sim.requests

    def test_changes_are_seen(self, tmp_path: Path, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
        """A cap that is set or removed while programs run holds once what they know has become too old."""
        ledger, operator = SQLiteLedger(tmp_path / "ledger.db"), SQLiteLedger(tmp_path / "ledger.db")
        now = time.monotonic()
        monkeypatch.setattr("llm_toll_autopatch.budgets.caps.time.monotonic", lambda: now)
        with patched(sink=ledger, project="acme"), clients_of(sim) as clients:
            ask(clients)
            operator.set_cap(Limit("acme", "usd", 0))
            ask(clients)  # not looked at again yet
            now += caps.FRESH_S + 0.1
            with pytest.raises(BudgetExceededError):
                ask(clients)
            operator.remove_cap("acme", "usd", "total")
            now += caps.FRESH_S + 0.1
            ask(clients)
        assert len(sim.requests) == 3

    def test_what_cannot_be_read_is_as_it_was(
        self, tmp_path: Path, sim: Simulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A ledger whose caps cannot be read fails no call; those that are known hold on."""
        ledger = SQLiteLedger(tmp_path / "ledger.db")
        now = time.monotonic()
        monkeypatch.setattr("llm_toll_autopatch.budgets.caps.time.monotonic", lambda: now)

        def broken() -> list[Limit]:
            raise LedgerError("no")

        with patched(sink=ledger, project="acme"), clients_of(sim) as clients:
            with monkeypatch.context() as patch:
                patch.setattr(ledger, "caps", broken)
                ask(clients)
            assert failures.last == "reading the caps in the ledger: LedgerError"
            failures.reset()
            ledger.set_cap(Limit("acme", "usd", 0))
            for _ in range(2):
                now += caps.FRESH_S + 0.1
                with pytest.raises(BudgetExceededError):
                    ask(clients)
                monkeypatch.setattr(ledger, "caps", broken)
        failures.reset()
        assert len(sim.requests) == 1

    def test_no_ledger_is_made(self, tmp_path: Path, sim: Simulator) -> None:
        """A call that is refused before anything was written leaves no ledger; nor does memory have caps."""
        ledger = SQLiteLedger(tmp_path / "none.db")
        with patched(sink=[MemorySink()]), clients_of(sim) as clients:
            ask(clients)
        with patched(sink=ledger, project="acme"):
            from llm_toll_autopatch.settings import active

            now = active()
            assert now is not None
            assert caps.capped(now) is now
        assert not ledger.path.exists()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
    def test_fork(self, tmp_path: Path) -> None:
        """A child that is forked while another thread looks at the ledger does not wait for that thread."""
        code = (
            "import os, sys, threading, time\n"
            "from llm_toll_autopatch import SQLiteLedger, patched\n"
            "from llm_toll_autopatch.budgets import caps\n"
            "from llm_toll_autopatch.budgets.limits import Limit\n"
            "from llm_toll_autopatch.settings import active\n"
            "ledger = SQLiteLedger(sys.argv[1]); ledger.set_cap(Limit('acme', 'usd', 7)); ledger.close()\n"
            "held = threading.Event()\n"
            "def slow():\n"
            "    held.set(); time.sleep(60)\n"
            "read, ledger.caps = ledger.caps, slow\n"
            "with patched(sink=ledger, project='acme'):\n"
            "    threading.Thread(target=lambda: caps.capped(active()), daemon=True).start(); held.wait()\n"
            "    child = os.fork()\n"
            "    if not child:\n"
            "        ledger.caps = read\n"
            "        began = time.monotonic(); limits = caps.capped(active()).limits\n"
            "        os._exit(0 if len(limits) == 1 and time.monotonic() - began < 30 else 1)\n"
            "    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        )
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "l.db")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
