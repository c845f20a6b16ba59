"""Sums of calls for other programs, exact, and for documents."""

from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.cli.spending import legend, spending
from llm_toll_autopatch.ledger.totals import sum_totals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llm_toll_autopatch.cli.chosen import Calls
    from llm_toll_autopatch.ledger.totals import Totals

__all__ = ["show_csv", "show_json", "show_markdown"]

_FIGURES = ("calls", "input_tokens", "output_tokens", "cost_usd", "unknown_cost_calls", "estimated_calls", "errors")


def show_json(by: Sequence[str], groups: Sequence[Totals], chosen: Calls) -> None:
    """Print a JSON object. A cost is a decimal string, null when none is known."""
    report = {
        "by": list(by),
        "since": chosen.since and chosen.since.isoformat(),
        "until": chosen.until and chosen.until.isoformat(),
        "groups": [{**dict(zip(by, group.key, strict=True)), **_figures(group)} for group in groups],
        "total": _figures(sum_totals(groups)),
    }
    json.dump(report, sys.stdout, indent=2)
    print()


def show_csv(by: Sequence[str], groups: Sequence[Totals], _chosen: Calls) -> None:
    """Print CSV with a header row. A cost that is not known is empty."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*by, *_FIGURES])
    writer.writerows([*group.key, *_figures(group).values()] for group in groups)


def show_markdown(by: Sequence[str], groups: Sequence[Totals], _chosen: Calls) -> None:
    """Print the table for people as Markdown."""
    cells = spending(by, groups)
    print(_row(name or " " for name in cells.header))
    print(_row("---:" if right else "---" for right in cells.right))
    for row in cells.rows:
        print(_row(row))
    print(_row(f"**{cell}**" if cell else "" for cell in cells.total))
    for line in legend(sum_totals(groups)):
        print(f"\n{_literal(line)}")


def _row(cells: Any) -> str:
    return f"| {' | '.join(map(_literal, cells))} |"


def _literal(text: str) -> str:
    """Return `text` so that Markdown neither ends the cell nor makes a tag or struck-out text of it."""
    for character in "\\|<~_":
        text = text.replace(character, "\\" + character)
    return text


def _figures(group: Totals) -> dict[str, Any]:
    figures = {name: getattr(group, name) for name in _FIGURES}
    figures["cost_usd"] = None if group.cost_usd is None else format(group.cost_usd.normalize(), "f")
    return figures
