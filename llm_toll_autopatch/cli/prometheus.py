"""A ledger's sums in Prometheus' text format: right for any number of processes, which all write into the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from llm_toll_autopatch.ledger.totals import Totals

__all__ = ["LABELS", "write_prometheus"]

LABELS = ("provider", "operation", "model", "project", "outcome")
"""The labels of every series: groupings of the ledger."""

_METRICS: tuple[tuple[str, str, Callable[[Totals], Iterable[tuple[str, str]]]], ...] = (
    ("llm_toll_calls_total", "Calls.", lambda group: [("", str(group.calls))]),
    (
        "llm_toll_tokens_total",
        "Tokens that were billed, cached and reasoning ones included.",
        lambda group: [
            (',token_type="input"', str(group.input_tokens)),
            (',token_type="output"', str(group.output_tokens)),
        ],
    ),
    (
        "llm_toll_cost_usd_total",
        "Cost in USD, as far as it is known.",
        lambda group: [] if group.cost_usd is None else [("", format(group.cost_usd, "f"))],
    ),
    (
        "llm_toll_unknown_cost_calls_total",
        "Calls whose cost is not known.",
        lambda group: [("", str(group.unknown_cost_calls))],
    ),
    (
        "llm_toll_estimated_calls_total",
        "Calls whose tokens are estimated, wholly or in part.",
        lambda group: [("", str(group.estimated_calls))],
    ),
)
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def write_prometheus(groups: Sequence[Totals]) -> Iterator[str]:
    """Yield the lines for groups by `LABELS`."""
    for name, meaning, values in _METRICS:
        yield f"# HELP {name} {meaning}"
        yield f"# TYPE {name} counter"
        for group in groups:
            pairs = zip(LABELS, group.key, strict=True)
            labels = ",".join(f'{label}="{value.translate(_ESCAPES)}"' for label, value in pairs)
            yield from (f"{name}{{{labels}{more}}} {value}" for more, value in values(group))
