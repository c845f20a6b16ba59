"""Records as JSON Lines and as CSV."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.records import USAGE_COUNTS, CallRecord
from llm_toll_autopatch.sinks.rows import record_to_dict

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import IO

__all__ = ["COLUMNS", "flat", "write_csv", "write_jsonl"]

COLUMNS = (
    *(field.name for field in fields(CallRecord) if field.name not in {"usage", "tags"}),
    *USAGE_COUNTS,
    "details",
    "tags",
)
"""The columns of a record that is laid flat: those of its usage stand beside the others."""


def write_jsonl(records: Iterable[CallRecord], file: IO[bytes]) -> None:
    """Write one line of JSON a record, as `JSONLinesSink` does."""
    for record in records:
        file.write(json.dumps(record_to_dict(record), separators=(",", ":")).encode() + b"\n")


def write_csv(records: Iterable[CallRecord], file: IO[bytes]) -> None:
    """Write a header row and one row a record. Tags and details are JSON objects; what is not known is empty."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    try:
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for record in records:
            row = flat(record)
            writer.writerow({**row, "details": json.dumps(row["details"]), "tags": json.dumps(row["tags"])})
    finally:
        text.detach()


def flat(record: CallRecord) -> dict[str, Any]:
    """Return the values of `COLUMNS`, as `record_to_dict` has them."""
    row = record_to_dict(record)
    row.update(row.pop("usage"))
    return row
