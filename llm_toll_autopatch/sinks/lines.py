"""A line of JSON as a record, checked: the way back from what `JSONLinesSink` and `autotoll export --jsonl` write."""

from __future__ import annotations

import json
from decimal import InvalidOperation
from typing import TYPE_CHECKING, Any, get_args

from llm_toll_autopatch.records import USAGE_COUNTS, CallRecord, Outcome, UsageSource
from llm_toll_autopatch.sinks.rows import record_from_dict

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["record_from_line"]

_TEXTS = ("id", "provider", "operation", "method", "model", "project")
_MAYBE_TEXTS = ("response_model", "service_tier", "response_id", "error_type", "endpoint")
_KNOWN = {"outcome": get_args(Outcome), "usage_source": get_args(UsageSource)}


def record_from_line(line: str | bytes) -> CallRecord:
    """Return the record that a line holds.

    Raises:
        ValueError: It holds none. The message says why, and quotes nothing but names of fields.
    """
    try:
        row = json.loads(line)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.colno}") from None
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - one error for all that may be wrong
    cost = row.get("cost_usd")
    if isinstance(cost, bool | list | dict):
        raise ValueError("cost_usd is not a number")  # noqa: TRY004 - as above
    if isinstance(cost, float):  # as other tools write it: the decimals that stand there
        row["cost_usd"] = repr(cost)
    try:
        record = record_from_dict(row)
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is missing") from None
    except InvalidOperation:
        raise ValueError("cost_usd is not a number") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(_why(row, error)) from None
    wrong = _wrong(record)
    if wrong is not None:
        raise ValueError(wrong)
    return record


def _why(row: Mapping[str, Any], error: Exception) -> str:
    """Say in the file's terms why a row is no record."""
    missing = [name for name in (*_TEXTS, "started_at") if name not in row and name != "project"]
    if missing:
        return f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    usage = row.get("usage", {})
    objects = {"usage": usage, "tags": row.get("tags", {})}
    if isinstance(usage, dict):
        objects["usage.details"] = usage.get("details", {})
    wrong = [name for name, value in objects.items() if not isinstance(value, dict)]
    if wrong:
        return f"{wrong[0]} is not a JSON object"
    return "started_at is not an ISO 8601 time" if isinstance(error, ValueError) else "a value is not of its kind"


def _wrong(record: CallRecord) -> str | None:
    """Return what is wrong with a record, None if it is sound."""
    counts = {name: getattr(record.usage, name) for name in USAGE_COUNTS}
    counts |= {"chunks": record.chunks} | {f"details.{name}": value for name, value in record.usage.details.items()}
    problems = [
        *(f"{name} is not a text" for name in _TEXTS if not isinstance(getattr(record, name), str)),
        *(f"{name} is not a text" for name in _MAYBE_TEXTS if not isinstance(getattr(record, name), str | None)),
        *(
            f"{name} is none of {', '.join(known)}"
            for name, known in _KNOWN.items()
            if getattr(record, name) not in known
        ),
        *(f"{name} is not a whole number" for name, value in counts.items() if type(value) is not int),
    ]
    if not record.id:
        problems.append("id is empty")
    if record.started_at.tzinfo is None:
        problems.append("started_at has no time zone")
    if record.cost_usd is not None and not record.cost_usd.is_finite():
        problems.append("cost_usd is not a number")
    if not isinstance(record.stream, bool):
        problems.append("stream is neither true nor false")
    if not isinstance(record.duration_s, int | float):
        problems.append("duration_s is not a number")
    if not isinstance(record.time_to_first_chunk_s, int | float | None):
        problems.append("time_to_first_chunk_s is not a number")
    if any(not isinstance(value, str) for value in record.tags.values()):
        problems.append("the value of a tag is not a text")
    return problems[0] if problems else None
