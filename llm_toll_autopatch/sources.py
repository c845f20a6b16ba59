"""Where a setting is written: an argument, the environment, `pyproject.toml`, or nowhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from llm_toll_autopatch.options import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llm_toll_autopatch.options import Option

__all__ = ["DEFAULT", "ENVIRONMENT", "TABLE", "Written", "find", "nearest_pyproject", "resolved", "variable_of"]

ENVIRONMENT = "LLM_TOLL_AUTOPATCH_"
"""How the names of the variables begin. `LLM_TOLL_AUTOPATCH` itself is the switch of the activation."""
TABLE = "llm_toll_autopatch"
"""The table of `[tool]`."""
DEFAULT = "default"
"""The source of what is written nowhere."""


class Written(NamedTuple):
    """The value of an option as it is written somewhere.

    Attributes:
        option: Whose.
        value: As it is written: of any type as an argument, text in a variable, plain data in a file.
        source: Where, in words: `close_on_break=`, the variable, the file and the key, or `default`.
        folder: The directory of the file, if it is one.
    """

    option: Option
    value: Any
    source: str
    folder: Path | None = None

    def read(self) -> Any:
        """Return what is written, as an argument would say it.

        Raises:
            ValueError: Nothing that makes sense is written; names the source.
        """
        option = self.option
        try:
            if self.source == variable_of(option):
                return option.read(self.value)
            return self.value if self.folder is None else option.anchor(self.value, self.folder)
        except ValueError as error:
            raise ValueError(f"{self.source}: {error}") from None

    def checked(self) -> Any:
        """Return what `Settings` keeps of it.

        Raises:
            TypeError: The value has the wrong type; names the source, as the next.
            ValueError: The value makes no sense.
        """
        value = self.read()
        try:
            return self.option.check(value)
        except TypeError as error:
            raise TypeError(self._placed(error)) from None
        except ValueError as error:
            raise ValueError(self._placed(error)) from None

    def _placed(self, error: Exception) -> str:
        # What the checks say begins with the argument's name.
        return str(error) if self.source == f"{self.option.name}=" else f"{self.source}: {error}"


def variable_of(option: Option) -> str:
    """Return the name of the option's environment variable."""
    return ENVIRONMENT + option.name.upper()


def resolved(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `Settings` keeps of every option, by the option's name.

    Args:
        arguments: Those of `patch_all`. None says nothing.

    Raises:
        TypeError: There is no such argument, or a value has the wrong type.
        ValueError: A value makes no sense, or the environment or `pyproject.toml` names an option that does not exist.
    """
    return {name: written.checked() for name, written in find(arguments).items()}


def find(arguments: Mapping[str, Any] | None = None) -> dict[str, Written]:
    """Return for each option the value that counts: argument, else environment, else `pyproject.toml`, else default.

    Raises:
        TypeError: There is no such argument.
        ValueError: The environment or `pyproject.toml` names an option that does not exist.
    """
    arguments = arguments or {}
    for name in arguments:
        if name not in OPTIONS:
            raise TypeError(f"there is no argument {name}={_nearest(name, OPTIONS)}")
    variables = _variables()
    path = nearest_pyproject()
    table = {} if path is None else _table(path)
    found = {}
    for name, option in OPTIONS.items():
        if arguments.get(name) is not None:
            found[name] = Written(option, arguments[name], f"{name}=")
        elif variables.get(variable_of(option)):
            found[name] = Written(option, variables[variable_of(option)], variable_of(option))
        elif path is not None and name in table:
            found[name] = Written(option, table[name], f"{path} [tool.{TABLE}] {name}", path.parent)
        else:
            found[name] = Written(option, option.default, DEFAULT)
    return found


def nearest_pyproject() -> Path | None:
    """Return the `pyproject.toml` of the working directory, or of the nearest directory above it that has one."""
    try:
        folder = Path.cwd()
    except OSError:  # it was removed
        return None
    return next((path for each in (folder, *folder.parents) if (path := each / "pyproject.toml").is_file()), None)


def _variables() -> dict[str, str]:
    """Return our variables of the environment, but for empty ones."""
    found = {name: value for name, value in os.environ.items() if name.startswith(ENVIRONMENT) and value}
    known = {variable_of(option) for option in OPTIONS.values()}
    for name in found:
        if name not in known:
            raise ValueError(f"{name} in the environment is no variable of llm_toll_autopatch{_nearest(name, known)}")
    return found


def _table(path: Path) -> Mapping[str, Any]:
    """Return our table in the file at `path`; empty if it has none."""
    try:
        content = path.read_bytes()
    except OSError:  # not ours to read: as if it were not there
        return {}
    if TABLE.encode() not in content:  # most projects' files: not worth the time to parse
        return {}
    import tomllib
    from decimal import Decimal

    try:
        table = tomllib.loads(content.decode(), parse_float=Decimal).get("tool", {}).get(TABLE, {})
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(table, dict):
        raise TypeError(f"{path}: [tool] {TABLE} takes a table, not {table!r}")
    for key in table:
        if key not in OPTIONS:
            raise ValueError(f"{path} [tool.{TABLE}] has the unknown key {key!r}{_nearest(key, OPTIONS)}")
    return table


def _nearest(name: str, known: Iterable[str]) -> str:
    """Return what to add to an error about the unknown `name`."""
    from difflib import get_close_matches

    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(names)}"
