"""Records as Parquet, by `pyarrow`."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.cli.exits import CommandError
from llm_toll_autopatch.cli.formats import COLUMNS, flat
from llm_toll_autopatch.records import USAGE_COUNTS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import IO

    from llm_toll_autopatch.records import CallRecord

__all__ = ["write_parquet"]

_AT_ONCE = 50_000
"""Records in a row group."""


def write_parquet(records: Iterable[CallRecord], file: IO[bytes]) -> None:
    """Write a table whose costs are decimals, whose times are UTC, and whose tags and details are maps.

    Raises:
        CommandError: `pyarrow` is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise CommandError("Parquet needs pyarrow: pip install 'llm-toll-autopatch[parquet]'") from None
    schema = _schema(pa)
    waiting = iter(records)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while rows := [_row(record) for record in islice(waiting, _AT_ONCE)]:
            writer.write_table(pa.Table.from_pylist(rows, schema))


def _schema(pa: Any) -> Any:
    kinds = {
        **dict.fromkeys((*USAGE_COUNTS, "chunks"), pa.int64()),
        **dict.fromkeys(("duration_s", "time_to_first_chunk_s"), pa.float64()),
        "stream": pa.bool_(),
        "cost_usd": pa.decimal128(19, 9),
        "started_at": pa.timestamp("us", "UTC"),
        "tags": pa.map_(pa.string(), pa.string()),
        "details": pa.map_(pa.string(), pa.int64()),
    }
    return pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])


def _row(record: CallRecord) -> dict[str, Any]:
    row = flat(record) | {"cost_usd": record.cost_usd, "started_at": record.started_at}
    return row | {"tags": list(row["tags"].items()), "details": list(row["details"].items())}
