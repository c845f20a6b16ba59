"""Arguments that several commands share: which calls of which ledger, and whose prices."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

from llm_toll_autopatch import sources
from llm_toll_autopatch.cli import periods
from llm_toll_autopatch.ledger.groupings import TAG
from llm_toll_autopatch.ledger.location import SCHEMES, ledger_at

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from llm_toll_autopatch.ledger.location import Ledger
    from llm_toll_autopatch.page.snapshot import Asked
    from llm_toll_autopatch.pricing.prices import Prices

__all__ = [
    "Calls",
    "add_filters",
    "add_ledger",
    "add_period",
    "add_prices",
    "asked",
    "calls",
    "ledger",
    "prices",
]

_T = TypeVar("_T")
FILTERS = ("project", "model", "provider", "method", "outcome")
"""Groupings that are an option of their own."""


class Calls(NamedTuple):
    """Which calls: those that started at `since` or later, and before `until` (None: all), and are as `where` says."""

    since: datetime | None
    until: datetime | None
    where: dict[str, list[str]]


def add_ledger(parser: argparse.ArgumentParser) -> None:
    """Add `--ledger`."""
    parser.add_argument(
        "--ledger",
        metavar="PATH",
        help="the ledger: a path, or a sqlite:/// or postgresql:// URL (default: the sink of the settings if that is"
        " such a URL, which `autotoll config` shows, or else the file in the user's data directory)",
    )
    parser.set_defaults(error=parser.error)


def ledger(arguments: argparse.Namespace) -> Ledger:
    """Return the ledger that `--ledger` or the environment names; end the program if they name none."""
    try:
        found = _given("--ledger", arguments.ledger, ledger_at)
        if found is None:
            found = _given(*_configured(), ledger_at)
        return ledger_at(None) if found is None else found
    except (ImportError, TypeError, ValueError) as error:
        _end(arguments, str(error))


def add_period(parser: argparse.ArgumentParser) -> None:
    """Add `--since` and `--until`."""
    parser.add_argument("--since", metavar="WHEN", help=f"only calls from then on: {periods.ACCEPTED}")
    parser.add_argument("--until", metavar="WHEN", help="only calls until then; a day that is named is within")
    parser.set_defaults(error=parser.error)


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add `--project` and its like. Each may be repeated: any of the values will do."""
    group = parser.add_argument_group("which calls", "Each may be given several times: any of its values will do.")
    for name in FILTERS:
        group.add_argument(f"--{name}", action="append", metavar="NAME", help=f"only those of this {name}")
    group.add_argument("--tag", action="append", metavar="NAME=VALUE", help="only those with this tag")


def calls(arguments: argparse.Namespace) -> Calls:
    """Return what `--since`, `--until` and the filters say, where there are any; end the program if it is nonsense."""
    now = datetime.now(UTC)
    where = {name: given for name in FILTERS if (given := getattr(arguments, name, None))}
    try:
        for text in getattr(arguments, "tag", None) or ():
            name, value = _tag(text)
            where.setdefault(TAG + name, []).append(value)
        return Calls(
            since=_given("--since", getattr(arguments, "since", None), lambda text: periods.since(text, now)),
            until=_given("--until", getattr(arguments, "until", None), lambda text: periods.until(text, now)),
            where=where,
        )
    except (TypeError, ValueError) as error:
        _end(arguments, str(error))


def asked(arguments: argparse.Namespace, calls: Calls) -> Asked:
    """Return what a page is asked to show: these calls, divided also by the tags that `--by` names."""
    from llm_toll_autopatch.page.snapshot import Asked

    tags = [name.removeprefix(TAG) for name in arguments.by or () if name.startswith(TAG)]
    return Asked(ledger(arguments), calls.since, calls.until, calls.where, list(dict.fromkeys(tags)))


def add_prices(parser: argparse.ArgumentParser) -> None:
    """Add `--prices`."""
    parser.add_argument(
        "--prices",
        metavar="FILE",
        help="your own prices, as patch_all(prices=...) takes them, in a JSON file:"
        ' {"my-model*": {"input": 2.5, "output": 10}}, USD per million tokens',
    )
    parser.set_defaults(error=parser.error)


def prices(arguments: argparse.Namespace) -> Prices:
    """Return the prices, with those of `--prices` first; end the program if these make no sense."""
    from llm_toll_autopatch.pricing.prices import Prices

    try:
        overrides: Any = None
        if arguments.prices:
            overrides = json.loads(Path(arguments.prices).read_text(encoding="utf-8"), parse_float=str)
        return Prices(overrides)
    except (OSError, TypeError, ValueError) as error:
        _end(arguments, f"--prices: {error}")


def _tag(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ValueError(f"--tag: {text!r} is not NAME=VALUE")
    return name, value


def _end(arguments: argparse.Namespace, message: str) -> NoReturn:
    arguments.error(message)
    raise SystemExit(2)  # argparse has ended the program already


def _given(source: str, text: str | None, read: Callable[[str], _T]) -> _T | None:
    """Return what `text` means, None if it is not given; name its `source` when it means nothing."""
    if not text:
        return None
    try:
        return read(text)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def _configured() -> tuple[str, str | None]:
    """Return where the sink of the settings is written, and its first ledger if it has one."""
    written = sources.find()["sink"]
    value = written.read()
    named = value if isinstance(value, list) else [value]
    return written.source, next((x for x in named if isinstance(x, str) and x.startswith(SCHEMES)), None)
