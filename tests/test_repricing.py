"""Costs of past calls are computed again with what is known now, and the former ones stay beside them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, suppress
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from specimens import NOON
from test_cli import Shell, autotoll, ledger, record, write

from llm_toll_autopatch.ledger import LedgerError, SQLiteLedger
from llm_toll_autopatch.ledger.repricing import Repricing, reprice
from llm_toll_autopatch.ledger.schema import MIGRATIONS
from llm_toll_autopatch.pricing.prices import Prices
from llm_toll_autopatch.records import Usage
from llm_toll_autopatch.sinks import SinkUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["autotoll", "ledger"]  # fixtures

OWN = {"*": {"input": 1, "output": 10}}  # 1,200 input and 450 output tokens are 0.0057 USD


def costs(path: Path) -> list[Decimal | None]:
    """The costs in the ledger, oldest call first."""
    return [each.cost_usd for each in SQLiteLedger(path).records()]


def former(path: Path) -> list[tuple[str, int | None]]:
    """The former costs, in the order in which they were replaced."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT call_id, cost_nano_usd FROM former_costs ORDER BY rowid").fetchall()


def test_costs_are_replaced_and_kept(tmp_path: Path) -> None:
    """A new cost takes the place of the old one, known or not, and the old one can still be read."""
    old, unknown = record(), record(cost_usd=None, started_at=NOON + timedelta(hours=1))
    path = write(tmp_path / "ledger.db", old, unknown)
    done = reprice(SQLiteLedger(path), Prices(OWN))
    assert costs(path) == [Decimal("0.0057")] * 2
    assert former(path) == [(old.id, 12_300_000), (unknown.id, None)]
    assert (done.calls, done.before, done.after, done.unknown, done.kept) == (
        2,
        Decimal("0.0123"),
        Decimal("0.0114"),
        {},
        0,
    )
    again = reprice(SQLiteLedger(path), Prices(OWN))
    assert again == Repricing(calls=2, changed=(), unknown={}, kept=0)
    reprice(SQLiteLedger(path), Prices({"*": {"input": 0, "output": 0}}))
    assert costs(path) == [Decimal(0)] * 2
    assert len(former(path)) == 4


def test_what_is_known_is_never_lost(tmp_path: Path) -> None:
    """A cost that cannot be computed now stays; one that does not come from a price does too."""
    nothing = record(usage=Usage(), usage_source="missing", cost_usd=Decimal(0), outcome="error")
    advised = record(usage=Usage(input_tokens=5, details={"advisor_input_tokens": 3}), cost_usd=Decimal(3))
    gone = record(model="gone", provider="own", cost_usd=Decimal(1))
    path = write(tmp_path / "ledger.db", nothing, advised, gone, record(model="new", cost_usd=None))
    done = reprice(SQLiteLedger(path), Prices({"gpt-*": {"input": 1, "output": 1}}))
    assert (done.calls, done.changed, done.unknown, done.kept) == (3, (), {"new": 1}, 2)
    assert set(costs(path)) == {Decimal(0), Decimal(3), Decimal(1), None}


@pytest.mark.parametrize(
    ("choice", "changed"),
    [
        ({"since": NOON + timedelta(minutes=1)}, 2),
        ({"until": NOON + timedelta(minutes=1)}, 1),
        ({"project": "zeta"}, 1),
        ({"only_unknown": True}, 1),
        ({"dry_run": True}, 3),
    ],
)
def test_which_calls(choice: dict[str, Any], changed: int, tmp_path: Path) -> None:
    """A period, a project, or the unknown ones can be chosen; a dry run finds all and writes nothing."""
    later = NOON + timedelta(hours=1)
    path = write(
        tmp_path / "l.db", record(), record(started_at=later, project="zeta"), record(started_at=later, cost_usd=None)
    )
    done = reprice(SQLiteLedger(path), Prices(OWN), **choice)
    assert len(done.changed) == changed
    assert costs(path).count(Decimal("0.0057")) == (0 if choice.get("dry_run") else changed)


def test_many_calls_are_written_in_parts(tmp_path: Path) -> None:
    """More calls than fit into one transaction are all written."""
    path = write(tmp_path / "ledger.db", *(record() for _ in range(1_100)))
    assert len(reprice(SQLiteLedger(path), Prices(OWN)).changed) == 1_100
    assert set(costs(path)) == {Decimal("0.0057")}


def test_a_cost_that_changed_meanwhile_is_left_alone(tmp_path: Path) -> None:
    """Of two repricings at once the second one does not write over what it has not seen."""
    path = write(tmp_path / "ledger.db", record())

    class Slow(Prices):
        def cost(self, *args: Any, **kwargs: Any) -> int | None:
            reprice(SQLiteLedger(path), Prices({"*": {"input": 2, "output": 20}}))
            return super().cost(*args, **kwargs)

    reprice(SQLiteLedger(path), Slow(OWN))
    assert costs(path) == [Decimal("0.0114")]
    assert len(former(path)) == 1


def test_an_older_ledger_is_brought_up_to_date(tmp_path: Path) -> None:
    """A ledger of schema version 1 can be repriced; a dry run leaves its version as it is."""
    path = write(tmp_path / "ledger.db", record())
    with closing(sqlite3.connect(path)) as connection:
        for name, kind in connection.execute("SELECT name, type FROM sqlite_master WHERE sql NOT NULL").fetchall():
            if name != "calls":
                with suppress(sqlite3.OperationalError):  # gone with its table
                    connection.execute(f"DROP {kind} {name}")
        connection.execute("PRAGMA user_version = 1")
    reprice(SQLiteLedger(path), Prices(OWN), dry_run=True)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    reprice(SQLiteLedger(path), Prices(OWN))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    assert costs(path) == [Decimal("0.0057")]


def test_no_ledger_is_made(tmp_path: Path) -> None:
    """Where there is no ledger, there is none afterwards."""
    with pytest.raises(LedgerError):
        reprice(SQLiteLedger(tmp_path / "none.db"), Prices(OWN))
    assert not list(tmp_path.iterdir())


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    """What fails half-way leaves the ledger as it was, and usable."""
    path = write(tmp_path / "ledger.db", record())
    with SQLiteLedger(path) as opened:
        with pytest.raises(SinkUnavailableError), opened.transaction() as connection:
            connection.executemany("INSERT INTO former_costs VALUES (?, 'now', 1)", [("a",), ("b",), (None,)])
        opened.emit(record())
    assert len(costs(path)) == 2
    assert former(path) == []


# The command


def test_reprice_prints_a_summary(autotoll: Shell, ledger: Path, tmp_path: Path) -> None:
    """Old and new sums by model, what is still unknown, and where the old figures are."""
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({"gpt-*": {"input": 1, "output": 10}, "claude*": {"input": 0.5, "output": 10}}))
    write(ledger, record(cost_usd=None), record(model="my-model", cost_usd=None))
    before = costs(ledger)
    expected = [
        "model            calls       was       is",
        "claude-sonnet-5      1  $12.5000  $0.0051",
        "gpt-5-mini           3   $0.0246  $0.0171  1 was unknown",
        "total                4  $12.5246  $0.0222  1 was unknown",
        "",
    ]
    arguments = ("reprice", "--ledger", ledger, "--prices", prices)
    assert autotoll(*arguments, "--dry-run").splitlines() == [
        *expected,
        "5 looked at, 4 would change.",
        "Still unknown: 1 of my-model.",
    ]
    assert costs(ledger) == before
    assert autotoll(*arguments).splitlines() == [
        *expected,
        "5 looked at, 4 changed.",
        "The former costs are in the ledger's table former_costs.",
        "Still unknown: 1 of my-model.",
    ]
    assert autotoll(*arguments, "--project", "nobody").splitlines() == ["0 looked at, 0 changed."]


def test_reprice_says_why_it_cannot(autotoll: Shell, tmp_path: Path) -> None:
    """No ledger is exit code 1; prices that make no sense are 2, with the reason."""
    assert "no ledger at" in autotoll("reprice", "--ledger", tmp_path / "none.db", code=1)
    wrong = tmp_path / "wrong.json"
    for text, reason in (("{", "--prices: "), ('{"m": {"input": 1}}', "output"), ("[1]", "--prices: ")):
        wrong.write_text(text)
        assert reason in autotoll("reprice", "--prices", wrong, code=2)
    assert "--prices: " in autotoll("reprice", "--prices", tmp_path / "none.json", code=2)


def test_prices_shows_what_is_charged(autotoll: Shell, tmp_path: Path) -> None:
    """The user's own price is found by its glob, and named as the source; each kind has its unit."""
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"my-*": {"input": 2.5, "output": 10, "web_search": 7, "request": 0.01}}))
    assert autotoll("prices", "my-model", "--prices", own).splitlines() == [
        "my-model: prices='my-*'",
        "  input        $2.5  per million tokens",
        "  output        $10  per million tokens",
        "  web_search     $7  per 1,000",
        "  request     $0.01  each",
    ]


def test_prices_knows_the_library(autotoll: Shell) -> None:
    """What `genai-prices` has is shown with its source, its long prompts, and the tier that was asked for."""
    shown = autotoll("prices", "gemini-2.5-pro")
    assert "gemini-2.5-pro: genai-prices google/gemini-2.5-pro" in shown
    assert "prompts above 200,000 tokens" in shown
    standard, flex = (autotoll("prices", "gpt-5-mini", *tier) for tier in ((), ("--tier", "flex")))
    assert standard != flex
    assert autotoll("prices", "gpt-5-mini", "--provider", "openai") == standard


def test_prices_says_that_there_is_none(autotoll: Shell) -> None:
    """A model, a host or a tier without a price is exit code 1, and the reason."""
    for arguments in (
        ("nobody-knows-it",),
        ("gpt-5-mini", "--endpoint", "llm.example.org"),
        ("gpt-5-mini", "--tier", "odd"),
    ):
        assert "no price is known" in autotoll("prices", *arguments, code=1)
