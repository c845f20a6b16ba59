"""Arguments that several commands share: which calls of which ledger, and whose prices."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

from llm_toll_autopatch import sources
from llm_toll_autopatch.cli import periods
from llm_toll_autopatch.ledger.location import SQLITE_SCHEME, path_from_url

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from llm_toll_autopatch.pricing.prices import Prices

__all__ = ["Calls", "add_calls", "add_prices", "calls", "prices"]

_T = TypeVar("_T")


class Calls(NamedTuple):
    """Which calls: those that started at `since` or later, and before `until`, in the ledger at `path`. None: all."""

    since: datetime | None
    until: datetime | None
    path: Path | None


def add_calls(parser: argparse.ArgumentParser) -> None:
    """Add `--since`, `--until` and `--ledger`."""
    parser.add_argument("--since", metavar="WHEN", help=f"only calls that started then or later: {periods.ACCEPTED}")
    parser.add_argument("--until", metavar="WHEN", help="only calls that started before; a day that is named is within")
    parser.add_argument(
        "--ledger",
        metavar="PATH",
        help="the ledger: a path or a sqlite:/// URL (default: the sink of the settings if that is such a URL, which"
        " `autotoll config` shows, or else the file in the user's data directory)",
    )
    parser.set_defaults(error=parser.error)


def calls(arguments: argparse.Namespace) -> Calls:
    """Return what `--since`, `--until` and `--ledger` say; end the program if they say nothing sensible."""
    now = datetime.now(UTC)
    try:
        return Calls(
            since=_given("--since", arguments.since, lambda text: periods.since(text, now)),
            until=_given("--until", arguments.until, lambda text: periods.until(text, now)),
            path=_given("--ledger", arguments.ledger, _path) or _given(*_configured(), path_from_url),
        )
    except (TypeError, ValueError) as error:
        _end(arguments, str(error))


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


def _end(arguments: argparse.Namespace, message: str) -> NoReturn:
    arguments.error(message)
    raise SystemExit(2)  # argparse has ended the program already


def _path(text: str) -> Path:
    return path_from_url(text) if text.startswith(SQLITE_SCHEME) else Path(text)


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
    return written.source, next((x for x in named if isinstance(x, str) and x.startswith(SQLITE_SCHEME)), None)
