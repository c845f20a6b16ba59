"""`--since` and `--until`: what they accept, and the moments that they mean."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

__all__ = ["ACCEPTED", "since", "until"]

ACCEPTED = (
    "a date (2026-11-23), a time (2026-11-23T09:00, UTC unless it says), 7d, 24h, 90m, today, yesterday, week, month"
)
"""What can be given, for help and errors."""

_DAY = timedelta(days=1)
_AGE = re.compile(r"(\d{1,6})([wdhm])")
_UNITS = {"w": timedelta(weeks=1), "d": _DAY, "h": timedelta(hours=1), "m": timedelta(minutes=1)}


def since(text: str, now: datetime) -> datetime:
    """Return the moment from which calls count: the start of the day, week or month that is named.

    Raises:
        ValueError: `text` is none of `ACCEPTED`.
    """
    return _span(text, now)[0]


def until(text: str, now: datetime) -> datetime:
    """Return the moment before which calls count: the end of the day, week or month that is named, which is within.

    Raises:
        ValueError: `text` is none of `ACCEPTED`.
    """
    return _span(text, now)[1]


def _span(text: str, now: datetime) -> tuple[datetime, datetime]:
    """Return where what `text` means begins and ends, in UTC; a moment is its own end."""
    text = text.strip()
    try:
        days = _days(text.lower(), now.astimezone(UTC).date())
        if days is not None:
            return _start(days[0]), _start(days[1])
        age = _AGE.fullmatch(text.lower())
        if age:
            moment = now - int(age[1]) * _UNITS[age[2]]
        else:
            moment = datetime.fromisoformat(text)
            moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no such moment; accepted: {ACCEPTED}") from None
    return moment, moment


def _days(text: str, today: date) -> tuple[date, date] | None:
    """Return the first day of what `text` names, and the first day after it; None when it names no days."""
    if text == "week":
        first = today - timedelta(days=today.weekday())
        return first, first + 7 * _DAY
    if text == "month":
        first = today.replace(day=1)
        return first, (first + 31 * _DAY).replace(day=1)
    day = {"today": today, "yesterday": today - _DAY}.get(text)
    if day is None and re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        day = date.fromisoformat(text)
    return None if day is None else (day, day + _DAY)


def _start(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)
