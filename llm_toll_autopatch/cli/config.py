"""`autotoll config`: every setting, and where it comes from."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch import sources
from llm_toll_autopatch.cli.table import aligned, printable
from llm_toll_autopatch.cli.terminal import Styles

if TYPE_CHECKING:
    import argparse

    from llm_toll_autopatch.sources import Written

__all__ = ["configure", "run"]

_SECRETS = re.compile(r"(?<=://).*@|(?<=\?).*")
_PATHS = ("sqlite:", "jsonl:")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `config`."""
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the settings and return the exit code: 1 when one of them makes no sense."""
    try:
        found = sources.find()
    except (TypeError, ValueError) as error:
        print(f"autotoll: {printable(str(error))}", file=sys.stderr)
        return 1
    values, errors = {}, []
    for name, written in found.items():
        try:
            written.checked()
            values[name] = _plain(name, written.read())
        except (TypeError, ValueError) as error:
            values[name] = _plain(name, written.value)
            errors.append(str(error))
    if arguments.json:
        rows = [
            {
                "name": name,
                "value": values[name],
                "source": written.source,
                "variable": sources.variable_of(written.option),
            }
            for name, written in found.items()
        ]
        print(json.dumps(rows, indent=2, default=str))
    else:
        _show(found, values)
    for message in errors:
        print(f"autotoll: {printable(message)}", file=sys.stderr)
    return 1 if errors else 0


def _show(found: Mapping[str, Written], values: Mapping[str, Any]) -> None:
    styles = Styles(sys.stdout)
    rows = [[name, printable(_text(values[name])), printable(written.source)] for name, written in found.items()]
    lines = aligned([["SETTING", "VALUE", "FROM"], *rows], [False, False, False])
    print(styles.bold(lines[0]))
    print("\n".join(lines[1:]))
    path = sources.nearest_pyproject()
    print()
    print(styles.dim(f"Arguments of patch_all come before these. pyproject.toml: {printable(str(path or 'none'))}"))


def _plain(name: str, value: Any) -> Any:
    """Return the value as it can be shown: what a default stands for, and no password."""
    if name == "sink":
        if value is None:
            from llm_toll_autopatch.ledger.location import SQLITE_SCHEME, default_path

            return f"{SQLITE_SCHEME}///{default_path()}"
        if isinstance(value, list):
            return [_plain(name, each) for each in value]
        return _SECRETS.sub("…", value) if isinstance(value, str) and not value.startswith(_PATHS) else value
    if name == "providers" and value is None:
        from llm_toll_autopatch.sdks import SDKS

        return list(SDKS)
    return value


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping) and all(isinstance(each, str) for each in value.values()):
        return ",".join(f"{key}={each}" for key, each in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return json.dumps(value, default=str) if isinstance(value, Mapping) else str(value)
