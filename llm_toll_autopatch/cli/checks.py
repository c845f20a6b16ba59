"""What `autotoll doctor` looks at. A check yields what it finds."""

from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Literal, NamedTuple

from llm_toll_autopatch.cli.following import is_there
from llm_toll_autopatch.cli.spending import calls_text
from llm_toll_autopatch.ledger.errors import LedgerError
from llm_toll_autopatch.ledger.totals import sum_totals
from llm_toll_autopatch.sdks import SDKS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llm_toll_autopatch.health import ProviderStatus
    from llm_toll_autopatch.ledger.location import Ledger

__all__ = ["Finding", "activated", "ledger", "libraries", "prices", "sdks", "settings"]

_LIBRARIES = ("llm-toll-autopatch", "wrapt", "genai-prices", "rich")
_MOST_MODELS = 10


class Finding(NamedTuple):
    """Something that was found.

    Attributes:
        level: `ok`; `note`: worth knowing; `wrong`: something does not work.
        subject: What it is about.
        text: What it is, and what would help.
    """

    level: Literal["ok", "note", "wrong"]
    subject: str
    text: str


def libraries() -> Iterator[Finding]:
    """Say which versions there are."""
    import sqlite3

    found = [f"Python {sys.version.split()[0]}", f"SQLite {sqlite3.sqlite_version}"]
    for name in _LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    yield Finding("ok", "versions", ", ".join(found))


def settings() -> Iterator[Finding]:
    """Say whether the settings make sense."""
    from llm_toll_autopatch.settings import Settings

    try:
        chosen = Settings.resolve()
    except (TypeError, ValueError) as error:
        yield Finding("wrong", "settings", str(error))
    else:
        yield Finding("ok", "settings", f"project {chosen.project!r}, records go to {chosen.sink!r}")


def activated() -> Iterator[Finding]:
    """Say whether programs are metered without a line of their code."""
    from llm_toll_autopatch.activation import inspect

    yield Finding("ok", "activation", str(inspect()).partition(": ")[2])


def sdks() -> Iterator[Finding]:
    """Patch each SDK in this process, and say what came of it."""
    from llm_toll_autopatch.patching import patched, status
    from llm_toll_autopatch.providers import load

    broken: dict[str, str] = {}
    with warnings.catch_warnings(), patched():
        warnings.simplefilter("ignore")
        for name, provider in status().providers.items():
            if provider.version is not None:
                try:
                    import_module(SDKS[name].package)
                    _import_all(target.module for target in load(name).targets)
                except Exception as error:
                    broken[name] = f"{type(error).__name__}: {error}"
        now = status()
    for name, provider in now.providers.items():
        if name in broken:
            yield Finding("wrong", name, f"{provider.version} cannot be imported: {broken[name]}")
        else:
            yield from _sdk(name, provider)
    if now.failures:
        yield Finding("wrong", "patching", f"failed {now.failures} times, the last: {now.last_failure}")


def _import_all(modules: Iterator[str]) -> None:
    """Import what is there: a class can only be looked at then."""
    for module in dict.fromkeys(modules):
        try:
            import_module(module)
        except ImportError:  # not in this version, or for something that is not installed: `missing` tells
            continue


def _sdk(name: str, provider: ProviderStatus) -> Iterator[Finding]:
    if provider.version is None:
        yield Finding("ok", name, f"not installed: pip install 'llm-toll-autopatch[{name}]' if you need it")
        return
    level: Literal["ok", "wrong"] = "ok" if provider.patched else "wrong"
    later = f"; not in this version: {', '.join(provider.later)}" if provider.later else ""
    yield Finding(level, name, f"{provider.version}, {len(provider.patched)} methods are metered{later}")
    for method in provider.missing:
        yield Finding("wrong", name, f"{method} has moved, and is not metered: pip install -U llm-toll-autopatch")
    for module in provider.foreign:
        yield Finding("note", name, f"also wrapped by {module}")


def ledger(asked: Ledger, *, thorough: bool) -> Iterator[Finding]:
    """Say whether the ledger is sound, and what is in it."""
    from llm_toll_autopatch.ledger.sqlite import SQLiteLedger
    from llm_toll_autopatch.ledger.sqlite_health import examine

    if not isinstance(asked, SQLiteLedger):
        try:
            calls = sum_totals(asked.totals()).calls
        except LedgerError as error:
            yield Finding("wrong", "ledger", str(error))
        else:
            yield Finding("ok", "ledger", f"{asked.location}: {calls_text(calls)}")
        return
    if not asked.path.exists():
        place = _nearest(asked.path)
        if os.access(place, os.W_OK):
            yield Finding("note", "ledger", f"none at {asked.path} yet: nothing has been metered")
        else:
            yield Finding("wrong", "ledger", f"none at {asked.path}, and {place} cannot be written to")
        return
    try:
        health = examine(asked, thorough=thorough)
    except LedgerError as error:
        yield Finding("wrong", "ledger", str(error))
        return
    yield Finding(
        "ok",
        "ledger",
        f"{health.path}: {calls_text(health.records)}, {health.size_bytes:,} bytes, schema version"
        f" {health.schema_version}, last written {health.last_written_at:%Y-%m-%d %H:%M:%S}Z",
    )
    if health.schema_version < health.newest_schema_version:
        yield Finding("note", "ledger", f"the next write brings it to schema version {health.newest_schema_version}")
    if not health.writable:
        yield Finding("wrong", "ledger", "this user cannot write to it")
    for damage in health.damage:
        rescue = "save what can be read: autotoll export --jsonl -o calls.jsonl"
        yield Finding("wrong", "ledger", f"damaged: {damage}; {rescue}")


def _nearest(path: Path) -> Path:
    """Return the innermost directory above `path` that exists."""
    return next(parent for parent in path.parents if parent.exists())


def prices(asked: Ledger) -> Iterator[Finding]:
    """Say which models' calls have no known cost."""
    if not is_there(asked):
        return
    try:
        groups = asked.totals(["model"], where={"usage_source": ["reported", "partial", "estimated"]})
    except LedgerError:  # told already
        return
    unknown = sorted(groups, key=lambda group: -group.unknown_cost_calls)
    unknown = [group for group in unknown if group.unknown_cost_calls]
    for group in unknown[:_MOST_MODELS]:
        model = group.key[0]
        yield Finding(
            "note",
            "prices",
            f"{calls_text(group.unknown_cost_calls)} of {model!r} without a known cost: `autotoll prices MODEL` says"
            " what is known now, `autotoll reprice --unknown` computes them again",
        )
    if len(unknown) > _MOST_MODELS:
        yield Finding("note", "prices", f"and {len(unknown) - _MOST_MODELS:,} more models")
