"""`autotoll budget` shows how budgets stand, and sets caps that hold."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from keepers import LEDGERS, as_dead_process, reservation
from postgres import PASSWORD, server
from specimens import record
from terminals import at_terminal, plain, run
from test_cli import Shell, autotoll

from llm_toll_autopatch import SQLiteLedger
from llm_toll_autopatch.budgets.limits import Limit, window_of
from llm_toll_autopatch.ledger.location import ledger_at

__all__ = ["autotoll"]  # a fixture

CENT = 10**7


@pytest.fixture(params=LEDGERS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What `--ledger` is given: each of the ledgers, not made yet."""
    return server().new_database() if request.param == "postgres" else str(tmp_path / "ledger.db")


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A ledger in a file, not made yet."""
    return str(tmp_path / "ledger.db")


def spend(place: str, limit: Limit, cents: int, at: datetime | None = None, *, ends: bool = True) -> None:
    """A call under a limit that code asks for."""
    at = datetime.now(UTC) if at is None else at
    with ledger_at(place) as ledger:
        asked = reservation((limit, cents * CENT if limit.unit == "usd" else 1), at=at)
        assert ledger.reserve(asked) is None
        if ends:
            cost = Decimal(cents) / 100
            ledger.emit(record(id=asked.call_id, project=limit.account, started_at=at, cost_usd=cost))


def listed(autotoll: Shell, place: str, *more: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The budgets by project and period, as programs get them."""
    rows = json.loads(autotoll("budget", "--json", *more, "--ledger", place))
    return {(row["project"], row["period"]): row for row in rows}


def test_set_and_shown(autotoll: Shell, place: str) -> None:
    """A cap that is set is there for every process, and is shown before any call has met it; no password is."""
    text = autotoll(
        "budget", "set", "acme", "20", "--reset", "monthly", "--rpm", 60, "--tpm", 90_000, "--ledger", place
    )
    assert text.splitlines()[:3] == [
        "acme, monthly: at most $20.00",
        "acme, any 60 s: at most 60 calls",
        "acme, any 60 s: at most 90,000 tokens",
    ]
    assert {(cap.unit, cap.period, cap.amount) for cap in ledger_at(place).caps()} == {
        ("usd", "monthly", 20 * 10**9), ("calls", "minute", 60), ("tokens", "minute", 90_000),
    }  # fmt: skip
    text += autotoll("budget", "--ledger", place)
    assert "$20.00" in text
    assert PASSWORD not in text


def test_list(autotoll: Shell, place: str) -> None:
    """What is spent and held is shown with the cap that holds, where that was set, and when it starts anew."""
    daily = Limit("acme", "usd", 100 * CENT, "daily")
    spend(place, daily, 25)
    spend(place, daily, 10, ends=False)
    spend(place, Limit("zeta", "calls", 7, "minute"), 1)
    autotoll("budget", "set", "zeta", "0.01", "--ledger", place)
    rows = listed(autotoll, place)
    end = window_of("daily", datetime.now(UTC))[1].isoformat()
    acme = rows["acme", "daily"]
    assert (acme["spent"], acme["held"], acme["cap"], acme["end"]) == ("0.25", "0.1", "1", end)
    assert (acme["set"], acme["used_up"], acme["calls_under_way"]) == ("code", False, 1)
    assert datetime.fromisoformat(acme["oldest_since"]) <= datetime.now(UTC)
    assert (rows["zeta", "minute"]["spent"], rows["zeta", "minute"]["cap"]) == (1, 7)
    assert (rows["zeta", "total"]["spent"], rows["zeta", "total"]["set"]) == ("0.01", "here")
    assert rows["zeta", "total"]["used_up"]


def test_the_smaller_one_is_shown(autotoll: Shell, place: str) -> None:
    """Of what code asks for and what is set the smaller one holds, and is shown; unset, code's is left."""
    limit = Limit("acme", "usd", 100 * CENT)
    spend(place, limit, 1)
    for usd, shown in (("5", ("1", "code")), ("0.5", ("0.5", "here"))):
        autotoll("budget", "set", "acme", usd, "--ledger", place)
        row = listed(autotoll, place)["acme", "total"]
        assert (row["cap"], row["set"]) == shown
    autotoll("budget", "unset", "acme", "--ledger", place)
    assert listed(autotoll, place)["acme", "total"]["cap"] == "1"


def test_a_cap_that_is_gone(autotoll: Shell, place: str) -> None:
    """A budget that nothing limits any more is shown among all of them only."""
    autotoll("budget", "set", "acme", "$2", "--ledger", place)
    spend(place, Limit("acme", "usd", 200 * CENT), 1)
    autotoll("budget", "unset", "acme", "--ledger", place)
    assert listed(autotoll, place) == {}
    row = listed(autotoll, place, "--all")["acme", "total"]
    assert (row["cap"], row["set"], row["used_up"]) == (None, "nowhere", False)


def test_earlier_windows(autotoll: Shell, file: str) -> None:
    """Windows that are over are shown with --all, and are no reason to fail a check."""
    spend(file, Limit("acme", "usd", CENT, "daily"), 1, datetime.now(UTC) - timedelta(days=2))
    assert listed(autotoll, file) == {}
    assert "over" in autotoll("budget", "--all", "--ledger", file)
    autotoll("budget", "--all", "--check", "--ledger", file)


def test_check(file: str) -> None:
    """The exit code says when a budget is used up."""
    assert run("budget", "set", "acme", "1", "--ledger", file).returncode == 0
    assert run("budget", "--check", "--ledger", file).returncode == 0
    assert run("budget", "set", "acme", "0", "--ledger", file).returncode == 0
    done = run("budget", "--check", "--ledger", file)
    assert (done.returncode, done.stderr) == (3, "")
    assert "used up" in done.stdout
    assert run("budget", "--ledger", file).returncode == 0


def test_orphans_are_swept(autotoll: Shell, place: str) -> None:
    """What processes that have died were holding is charged before anything is shown."""
    with as_dead_process():
        spend(place, Limit("acme", "usd", 100 * CENT), 40, ends=False)
    row = listed(autotoll, place)["acme", "total"]
    assert (row["spent"], row["held"], row["calls_under_way"]) == ("0.4", "0", 0)


def test_reset(autotoll: Shell, place: str) -> None:
    """A reset says how the budget stood, and from then on nothing is spent; of another window it leaves all as it is."""
    spend(place, Limit("acme", "usd", 100 * CENT), 40)
    assert "no such budget" in autotoll(
        "budget", "reset", "acme", "--reset", "daily", "--yes", "--ledger", place, code=1
    )
    assert autotoll("budget", "reset", "acme", "--yes", "--ledger", place).splitlines() == [
        "acme, in all: $0.40 of $1.00 is spent",
        "acme, in all: $0.00 spent",
    ]
    assert listed(autotoll, place)["acme", "total"]["spent"] == "0"


@pytest.mark.parametrize(("answer", "code", "spent"), [("y", 0, 0), ("n", 1, 40 * CENT)])
def test_reset_asks(file: str, answer: str, code: int, spent: int) -> None:
    """Without --yes it asks; where nobody can be asked, nothing is changed."""
    spend(file, Limit("acme", "usd", 100 * CENT), 40)
    assert "--yes" in run("budget", "reset", "acme", "--ledger", file).stderr
    with at_terminal("budget", "reset", "acme", "--ledger", file) as terminal:
        terminal.wait_for("[y/N]")
        terminal.type(f"{answer}\n")
        assert terminal.end() == code
    assert [budget.spent for budget in SQLiteLedger(file).budgets()] == [spent]


@pytest.mark.parametrize("rich", [True, False])
def test_at_a_terminal(file: str, rich: bool) -> None:
    """At a terminal there are bars, with `rich` and without."""
    spend(file, Limit("acme", "usd", 100 * CENT), 90)
    with at_terminal("budget", "--ledger", file, rich=rich) as terminal:
        assert terminal.end() == 0
    text = plain(terminal.text)
    assert "90% used" in text
    assert "█" in text or "#" in text


def test_nothing_there(autotoll: Shell, file: str) -> None:
    """Where there is no ledger, nothing is listed, removed or reset, and none is made."""
    assert autotoll("budget", "--ledger", file).startswith("No budgets yet")
    assert "nothing is set here" in autotoll("budget", "unset", "acme", "--ledger", file, code=1)
    assert "no such budget" in autotoll("budget", "reset", "acme", "--yes", "--ledger", file, code=1)
    assert not Path(file).exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["set"], "whose budget"),
        (["set", "acme"], "how much"),
        (["set", "acme", "-1"], "0 or more"),
        (["set", "acme", "lots"], "an amount of USD"),
        (["set", "", "1"], "PROJECT is empty"),
        (["set", "acme", "--rpm", "0"], "--rpm takes a positive number"),
        (["set", "acme", "--rpm", "5", "--reset", "daily"], "give an amount of USD too"),
        (["set", "acme", "1", "--reset", "hourly"], "invalid choice"),
        (["list", "acme"], "takes no name"),
        (["list", "--yes"], "takes no --yes"),
        (["unset", "acme", "5"], "takes no amount"),
        (["raise", "acme"], "invalid choice"),
        (["list", "--ledger", "postgresql://user:can/canary@host/db"], "--ledger"),
    ],
)
def test_wrong(autotoll: Shell, arguments: list[str], message: str) -> None:
    """What makes no sense is refused, and the error says what would; a URL is not repeated."""
    text = autotoll("budget", *arguments, code=2)
    assert message in text
    assert "canary" not in text
