"""`--since` and `--until`: what they accept, and the moments that they mean."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

__all__ = ["ACCEPTED", "since", "until"]

ACCEPTED = "a date (2026-11-23), a time (2026-11-23T09:00, UTC unless it says), 7d, 24h, 90m, today, yesterday"
"""What can be given, for help and errors."""

_DAY = timedelta(days=1)
_AGE = re.compile(r"(\d{1,6})([wdhm])")
_UNITS = {"w": timedelta(weeks=1), "d": _DAY, "h": timedelta(hours=1), "m": timedelta(minutes=1)}


def since(text: str, now: datetime) -> datetime:
    """Return the moment from which calls count: the start of a day that is named.

    Raises:
        ValueError: `text` is none of `ACCEPTED`.
    """
    return _moment(text, now)[0]


def until(text: str, now: datetime) -> datetime:
    """Return the moment before which calls count: the end of a day that is named, so that the day is within.

    Raises:
        ValueError: `text` is none of `ACCEPTED`.
    """
    moment, is_day = _moment(text, now)
    return moment + _DAY if is_day else moment


def _moment(text: str, now: datetime) -> tuple[datetime, bool]:
    """Return what `text` means in UTC, and whether it names a whole day."""
    text = text.strip()
    days_ago = {"today": 0, "yesterday": 1}.get(text.lower())
    if days_ago is not None:
        return _start(now.astimezone(UTC).date()) - days_ago * _DAY, True
    try:
        age = _AGE.fullmatch(text.lower())
        if age:
            return now - int(age[1]) * _UNITS[age[2]], False
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            return _start(date.fromisoformat(text)), True
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC), False
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no such moment; accepted: {ACCEPTED}") from None


def _start(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)
