"""What calls can be grouped and chosen by, whatever database holds them. Each ledger has its own SQL for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["GROUPINGS", "MEASURES", "PERIODS", "TAG", "Where", "check_groupings", "check_measure", "values_of"]

TAG = "tag:"
"""`tag:team` is the value of the tag `team`."""

GROUPINGS: dict[str, str] = {
    "project": "who pays",
    "model": "the model that served, or else the one asked for",
    "provider": "openai, anthropic, google, azure …",
    "day": "UTC: 2026-11-23",
    "week": "the ISO 8601 week, from Monday to Sunday, UTC: 2026-W48",
    "month": "UTC: 2026-11",
    "hour": "UTC: 2026-11-23T09:00",
    "method": "the resource method: chat.completions.create",
    "operation": "chat, responses, messages …",
    "outcome": "completed, closed, abandoned, error or cancelled",
    "endpoint": "the host that was called",
    "usage_source": "reported, partial, estimated or missing",
}
"""The names, and what each one is. All are text, empty where a call has no such thing; `tag:NAME` is one more for every
tag. Periods are those in which a call started."""

PERIODS = ("hour", "day", "week", "month")
"""Those that stand in the order of time."""

MEASURES = ("cost", "duration")
"""What the greatest calls can be asked by: their cost, or how long they took."""

Where = Mapping[str, str | Sequence[str]]
"""Which calls: for each grouping that is named, the value that it must have, or several of which it must have one."""


def check_groupings(names: Sequence[str]) -> None:
    """Check that all `names` are groupings.

    Raises:
        ValueError: One is not; the message says what is accepted.
    """
    for name in names:
        if name not in GROUPINGS and not (name.startswith(TAG) and name != TAG):
            which = "which tag? by tag:NAME, " if name in {"tag", TAG} else ""
            raise ValueError(f"cannot group by {name!r}; {which}by any of: {', '.join(GROUPINGS)}, tag:NAME")


def check_measure(name: str) -> None:
    """Check that `name` is a measure.

    Raises:
        ValueError: It is not; the message says what is accepted.
    """
    if name not in MEASURES:
        raise ValueError(f"no greatest calls by {name!r}; by any of: {', '.join(MEASURES)}")


def values_of(wanted: str | Sequence[str]) -> list[str]:
    """Return the values that a grouping may have, as a ledger stores text."""
    values = [wanted] if isinstance(wanted, str) else wanted
    return [value.encode("utf-8", "backslashreplace").decode("utf-8") for value in values]
