"""`autotoll report` for terminals, documents and any grouping."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from specimens import NOON
from terminals import at_terminal, plain, run
from test_cli import Shell, autotoll, ledger, record, write

from llm_toll_autopatch.cli import periods
from llm_toll_autopatch.cli.table import bar

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["autotoll", "ledger"]  # fixtures


class TestGroupings:
    """What is grouped by."""

    @pytest.mark.parametrize(
        ("by", "first"),
        [
            ("week", ["2026-W48", "3"]),
            ("month", ["2026-11", "3"]),
            ("hour", ["2026-11-23T12:00", "2"]),
            ("operation", ["chat", "3"]),
            ("usage_source", ["reported", "3"]),
            ("endpoint", ["-", "3"]),
            ("tag:team", ["-", "3"]),
        ],
    )
    def test_more(self, autotoll: Shell, ledger: Path, by: str, first: list[str]) -> None:
        """Weeks, months, hours and tags are groups, too; calls without such a thing are a dash."""
        lines = autotoll("report", "--by", by, "--ledger", ledger).splitlines()
        assert lines[0].split()[0] == by
        assert lines[1].split()[:2] == first

    def test_tags(self, autotoll: Shell, ledger: Path) -> None:
        """The values of a tag are groups, the most expensive first."""
        write(ledger, record(tags={"team": "search"}, cost_usd=Decimal(100)))
        lines = autotoll("report", "--by", "tag:team", "--ledger", ledger).splitlines()
        assert [line.split()[0] for line in lines] == ["tag:team", "search", "-", "total"]

    def test_periods_in_order(self, autotoll: Shell, ledger: Path) -> None:
        """Where there is a period, time goes before cost."""
        write(ledger, record(started_at=NOON - timedelta(days=60), cost_usd=Decimal("0.1")))
        lines = autotoll("report", "--by", "project,month", "--ledger", ledger).splitlines()[1:-1]
        assert [line.split()[:2] for line in lines] == [["acme", "2026-09"], ["acme", "2026-11"], ["zeta", "2026-11"]]

    def test_which_tag(self, autotoll: Shell) -> None:
        """A tag without a name is an error that leads on."""
        assert "which tag? by tag:NAME" in autotoll("report", "--by", "tag", code=2)


class TestFilters:
    """Which calls."""

    @pytest.mark.parametrize(
        ("arguments", "calls"),
        [
            (["--project", "acme"], 2),
            (["--project", "acme", "--project", "zeta"], 3),
            (["--provider", "anthropic", "--model", "claude-sonnet-5"], 1),
            (["--method", "chat.completions.create", "--outcome", "completed"], 3),
            (["--project", "acme", "--since", "2026-11-24"], 1),
        ],
    )
    def test_filters(self, autotoll: Shell, ledger: Path, arguments: list[str], calls: int) -> None:
        """All conditions hold; of several values of one, any will do."""
        assert autotoll("report", *arguments, "--ledger", ledger).splitlines()[-1].split()[1] == str(calls)

    def test_tag(self, autotoll: Shell, ledger: Path) -> None:
        """A tag is chosen by name and value; the value may have an equals sign."""
        write(ledger, record(project="tagged", tags={"team": "a=b"}))
        assert "tagged" in autotoll("report", "--tag", "team=a=b", "--ledger", ledger)
        assert autotoll("report", "--tag", "team=b", "--ledger", ledger) == "No such calls.\n"
        assert "--tag: 'team' is not NAME=VALUE" in autotoll("report", "--tag", "team", code=2)

    def test_nothing(self, autotoll: Shell, ledger: Path) -> None:
        """It is told that there are none."""
        out = autotoll("report", "--project", "none", "--since", "2026-01-01", "--ledger", ledger)
        assert out == "No such calls in this period.\n"


@pytest.mark.parametrize(
    ("text", "since", "until"),
    [
        ("week", "2026-11-23", "2026-11-30"),
        ("month", "2026-11-01", "2026-12-01"),
        ("Month", "2026-11-01", "2026-12-01"),
    ],
)
def test_calendar_periods(text: str, since: str, until: str) -> None:
    """The week that is running begins on Monday, the month on the first; both are within the period at both ends."""
    now = datetime(2026, 11, 25, 16, 30, tzinfo=UTC)
    expected = [datetime.fromisoformat(day).replace(tzinfo=UTC) for day in (since, until)]
    assert [periods.since(text, now), periods.until(text, now)] == expected
    december = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)
    assert periods.until("month", december) == datetime(2027, 1, 1, tzinfo=UTC)


class TestMarkdown:
    """The report for documents."""

    def test_table(self, autotoll: Shell, ledger: Path) -> None:
        """Figures stand on the right, the total is bold, and names cannot break the table."""
        write(ledger, record(project="a|b_c<d>", cost_usd=None, usage_source="estimated"))
        assert autotoll("report", "--by", "project", "--md", "--ledger", ledger).splitlines() == [
            "| project | calls | input | output | cost |   |",
            "| --- | ---: | ---: | ---: | ---: | --- |",
            "| zeta | 1 | 1,200 | 450 | $12.5000 |  |",
            "| acme | 2 | 2,400 | 900 | $0.0246 |  |",
            "| a\\|b\\_c\\<d> | 1 | \\~1,200 | \\~450 | unknown |  |",
            "| **total** | **4** | **\\~4,800** | **\\~1,800** | **\\~$12.5246** | **+ 1 unknown** |",
            "",
            ("\\~ 1 call with tokens, and so a cost, estimated wholly or in part: the provider did not report them"),
            "",
            (
                "unknown: 1 call not in the sums: the model has no known price (`autotoll prices MODEL`), "
                "or the call was interrupted before any answer came"
            ),
        ]


class TestBars:
    """Costs to look at."""

    def test_shares(self) -> None:
        """A bar is as long as its share, and never nothing where there is something."""
        assert [bar(share, 4, "utf-8") for share in (0, 0.0001, 0.5, 0.53125, 1, 2)] == [
            "",
            "▏",
            "██",
            "██▏",
            "████",
            "████",
        ]
        assert [bar(share, 4, "ascii") for share in (0, 0.0001, 0.5, 1)] == ["", "#", "##", "####"]

    def test_piped(self, ledger: Path) -> None:
        """At a pipe there are bars only when they are asked for, of signs that it can take, and no styles."""
        done = run("report", "--ledger", ledger)
        assert "█" not in done.stdout
        done = run("report", "--ledger", ledger, "--bars")
        assert done.stdout.splitlines()[1].endswith("$12.5000    " + "█" * 20)
        assert "\x1b" not in done.stdout
        done = run("report", "--ledger", ledger, "--bars", PYTHONIOENCODING="ascii")
        assert done.stdout.splitlines()[1].endswith("#" * 20)

    @pytest.mark.parametrize("rich", [True, False])
    def test_terminal(self, ledger: Path, rich: bool) -> None:
        """A terminal gets bars and styles, with `rich` and without, and the same figures."""
        with at_terminal("report", "--ledger", ledger, rich=rich) as terminal:
            assert terminal.end() == 0
        assert "\x1b[1m" in terminal.text
        lines = [line.split() for line in plain(terminal.text).splitlines() if line.strip()]
        assert lines == [
            ["project", "model", "calls", "input", "output", "cost"],
            ["zeta", "claude-sonnet-5", "1", "1,200", "450", "$12.5000", "█" * 20],
            ["acme", "gpt-5-mini", "2", "2,400", "900", "$0.0246", "▏"],
            ["total", "3", "3,600", "1,350", "$12.5246"],
        ]

    @pytest.mark.parametrize("rich", [True, False])
    def test_no_color(self, ledger: Path, rich: bool) -> None:
        """NO_COLOR takes the styles away and leaves the rest."""
        with at_terminal("report", "--no-bars", "--ledger", ledger, rich=rich, NO_COLOR="1") as terminal:
            assert terminal.end() == 0
        assert "\x1b" not in terminal.text
        assert terminal.text.replace("\r", "") == run("report", "--ledger", ledger).stdout

    def test_narrow(self, tmp_path: Path) -> None:
        """In a narrow terminal long names are broken, and figures are whole."""
        path = write(tmp_path / "ledger.db", record(model="a-model-with-a-name-that-goes-on-and-on-and-on-2026-11-23"))
        with at_terminal("report", "--ledger", path, columns=60) as terminal:
            assert terminal.end() == 0
        lines = plain(terminal.text).splitlines()
        assert max(map(len, lines)) <= 60
        assert "$0.0123" in lines[1]

    def test_very_narrow(self, tmp_path: Path) -> None:
        """Names do not vanish in a terminal that is narrower than the figures beside them."""
        path = write(tmp_path / "ledger.db", record(project="acme"), record(project="zeta"))
        with at_terminal("report", "--ledger", path, columns=40) as terminal:
            assert terminal.end() == 0
        lines = plain(terminal.text).splitlines()
        assert max(map(len, lines[:3])) <= 40
        assert [line.split()[0] for line in lines if line.startswith(("acme", "zeta"))] == ["acme", "zeta"]

    def test_markup_is_text(self, tmp_path: Path) -> None:
        """A name that looks like markup of `rich` is shown as it is."""
        path = write(tmp_path / "ledger.db", record(project="[red]x[/red]", model=":smile:"))
        with at_terminal("report", "--ledger", path) as terminal:
            assert terminal.end() == 0
        assert "[red]x[/red]" in plain(terminal.text)
        assert ":smile:" in plain(terminal.text)
