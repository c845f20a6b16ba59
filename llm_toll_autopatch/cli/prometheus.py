"""A ledger's sums in Prometheus' text format: right for any number of processes, which all write into the ledger.

The names and labels are those of `PrometheusSink`, so that one dashboard shows both.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from llm_toll_autopatch.ledger.totals import sum_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from llm_toll_autopatch.ledger.totals import Totals

__all__ = ["BY", "write_prometheus"]

_LABELS = ("project", "provider", "model", "operation")
BY = (*_LABELS, "outcome")
"""What the sums have to be grouped by."""

_Values = tuple[tuple[str, ...], str]
"""Values of the labels of a metric's own, and the sample's."""

_METRICS: tuple[tuple[str, str, tuple[str, ...], Callable[[Totals], Iterable[_Values]]], ...] = (
    (
        "llm_toll_tokens_total",
        "Tokens that were used",
        ("direction",),
        lambda sums: ((("input",), str(sums.input_tokens)), (("output",), str(sums.output_tokens))),
    ),
    (
        "llm_toll_cost_usd_total",
        "Cost in USD of the calls whose price is known",
        (),
        lambda sums: () if sums.cost_usd is None else (((), format(sums.cost_usd, "f")),),
    ),
    (
        "llm_toll_unknown_cost_calls_total",
        "Calls whose cost is not known",
        (),
        lambda sums: (((), str(sums.unknown_cost_calls)),),
    ),
    (
        "llm_toll_estimated_calls_total",
        "Calls whose tokens are wholly or partly estimated",
        (),
        lambda sums: (((), str(sums.estimated_calls)),),
    ),
)
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def write_prometheus(groups: Sequence[Totals]) -> Iterator[str]:
    """Yield the lines for groups by `BY`, in the order of their keys."""
    yield from _head("llm_toll_calls_total", "Calls that have ended")
    for group in groups:
        yield _sample("llm_toll_calls_total", BY, group.key, str(group.calls))
    whole = [(key, sum_totals(parts)) for key, parts in groupby(groups, lambda group: group.key[: len(_LABELS)])]
    for name, meaning, labels, values in _METRICS:
        yield from _head(name, meaning)
        for key, sums in whole:
            for own, value in values(sums):
                yield _sample(name, (*_LABELS, *labels), (*key, *own), value)


def _head(name: str, meaning: str) -> Iterator[str]:
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} counter"


def _sample(name: str, labels: Sequence[str], values: Sequence[str], value: str) -> str:
    pairs = (f'{label}="{text.translate(_ESCAPES)}"' for label, text in zip(labels, values, strict=True))
    return f"{name}{{{','.join(pairs)}}} {value}"
