"""What `Usage`, `Spend` and `MemorySink` look like in a notebook. Everything that a record says is escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from llm_toll_autopatch.ledger.money import decimals_for, format_usd
from llm_toll_autopatch.records import USAGE_COUNTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from decimal import Decimal

    from llm_toll_autopatch.records import CallRecord, Usage
    from llm_toll_autopatch.spend import Spend

__all__ = ["of_records", "of_spend", "of_usage"]

SHOWN = 50
"""The last so many records are shown, the others only added up."""

_ESTIMATED = "~ estimated wholly or in part: the provider did not report the tokens"
_UNKNOWN = "? without a known price: not in the cost"


def of_usage(usage: Usage) -> str:
    """Return the figures that are not 0, as a table."""
    counts = [(name, getattr(usage, name)) for name in USAGE_COUNTS]
    rows = [(name.replace("_", " "), f"{count:,}") for name, count in (*counts, *usage.details.items()) if count]
    return _table("usage", ("of", "count"), rows or [("nothing", "0")])


def of_spend(spend: Spend, caption: str = "spend") -> str:
    """Return the sums as a table of one row."""
    row = _figures(spend, decimals=None)
    return _table(caption, ("calls", "input", "output", "cost"), [row], notes=_notes(spend))


def of_records(records: Sequence[CallRecord]) -> str:
    """Return a table with a row for each of the last records, and their sums."""
    from llm_toll_autopatch.spend import Spend

    total = Spend()
    for record in records:
        total.add(record)
    shown = records[-SHOWN:]
    decimals = decimals_for(cost for cost in (*(each.cost_usd for each in shown), total.cost_usd) if cost is not None)
    rows = [_row(record, decimals) for record in shown]
    if len(records) > SHOWN:
        rows.insert(0, (f"… {len(records) - SHOWN:,} earlier", *[""] * 6))
    calls, *figures = _figures(total, decimals)
    rows.append((f"{calls} call{'' if calls == '1' else 's'}", "", "", "", *figures))
    headings = ("started (UTC)", "project", "model", "outcome", "input", "output", "cost")
    return _table("calls", headings, rows, notes=_notes(total))


def _row(record: CallRecord, decimals: int) -> tuple[str, ...]:
    mark = "~" if record.usage_source in ("estimated", "partial") else ""
    return (
        f"{record.started_at:%Y-%m-%d %H:%M:%S}",
        record.project,
        record.response_model or record.model,
        record.outcome,
        f"{mark}{record.usage.input_tokens:,}",
        f"{mark}{record.usage.output_tokens:,}",
        _cost(record.cost_usd, mark, decimals),
    )


def _figures(spend: Spend, decimals: int | None) -> tuple[str, str, str, str]:
    mark = "~" if spend.estimated_calls else ""
    cost = _cost(spend.cost_usd, mark, decimals)
    if spend.unknown_costs and spend.cost_usd is not None:
        cost += f" + {spend.unknown_costs:,} ?"
    usage = spend.usage
    return f"{spend.calls:,}", f"{mark}{usage.input_tokens:,}", f"{mark}{usage.output_tokens:,}", cost


def _cost(cost: Decimal | None, mark: str, decimals: int | None) -> str:
    return "?" if cost is None else mark + format_usd(cost, decimals)


def _notes(spend: Spend) -> list[str]:
    return [note for note, count in ((_ESTIMATED, spend.estimated_calls), (_UNKNOWN, spend.unknown_costs)) if count]


def _table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[str]], notes: Iterable[str] = ()) -> str:
    """Return a table in the colours of the page, figures to the right."""
    right = {"count", "calls", "input", "output", "cost"}
    sides = ["right" if heading in right else "left" for heading in headings]

    def line(tag: str, cells: Sequence[str]) -> str:
        scope = ' scope="col"' if tag == "th" else ""
        return "".join(
            f'<{tag}{scope} style="text-align:{side}">{escape(cell)}</{tag}>'
            for side, cell in zip(sides, cells, strict=True)
        )

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    under = "".join(f"<div><small>{escape(note)}</small></div>" for note in notes)
    head = f'<caption style="text-align:left">{escape(caption)}</caption><thead><tr>{line("th", headings)}</tr></thead>'
    return f"<div><table>{head}<tbody>{body}</tbody></table>{under}</div>"
