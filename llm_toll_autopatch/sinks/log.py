"""`LoggingSink`: one log line a call."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.ledger.money import format_usd
from llm_toll_autopatch.sinks.rows import record_to_dict

if TYPE_CHECKING:
    from llm_toll_autopatch.records import CallRecord

__all__ = ["LoggingSink"]

_DEFAULT_LOGGER = "llm_toll_autopatch.calls"
_PREFIX = "llm_"


class LoggingSink:
    """Logs every record: a line for people, and its fields as attributes of the log record for machines.

    The attributes are those of `record_to_dict` with `llm_` before their names, so that they collide with none of
    `logging`'s, and the usage's counts beside the others: `llm_project`, `llm_input_tokens`, `llm_cost_usd` ….

    Args:
        logger: Where to; `llm_toll_autopatch.calls` by default.
        level: `logging.INFO` by default, which Python shows only once logging is set up.
    """

    def __init__(self, logger: logging.Logger | None = None, level: int = logging.INFO) -> None:
        self._logger = logging.getLogger(_DEFAULT_LOGGER) if logger is None else logger
        self._level = level

    def __repr__(self) -> str:
        return f"LoggingSink({self._logger.name!r}, {logging.getLevelName(self._level)})"

    def emit(self, record: CallRecord) -> None:
        """Log `record`, if the level is enabled."""
        if self._logger.isEnabledFor(self._level):
            self._logger.log(self._level, "%s", _line(record), extra=_attributes(record))


def _line(record: CallRecord) -> str:
    mark = "~" if record.usage_source in {"estimated", "partial"} else ""
    cost = "unknown" if record.cost_usd is None else mark + format_usd(record.cost_usd)
    error = f" ({record.error_type})" if record.error_type else ""
    return (
        f"{record.provider} {record.method} {record.response_model or record.model}: {record.outcome}{error},"
        f" {mark}{record.usage.input_tokens:,} in, {mark}{record.usage.output_tokens:,} out, cost {cost},"
        f" {record.duration_s:.2f} s, project {record.project}"
    )


def _attributes(record: CallRecord) -> dict[str, Any]:
    row = record_to_dict(record)
    usage = row.pop("usage")
    return {_PREFIX + name: value for name, value in {**row, **usage}.items()}
