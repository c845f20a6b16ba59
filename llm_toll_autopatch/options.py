"""The options of `patch_all`, one row each: what they are by default, how text says them, and what they may be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from llm_toll_autopatch.budgets.limits import checked_amount, checked_count, checked_reset
from llm_toll_autopatch.pricing.prices import Prices
from llm_toll_autopatch.sdks import SDKS
from llm_toll_autopatch.sinks.text import encodable

if TYPE_CHECKING:
    from llm_toll_autopatch.estimate import Measure
    from llm_toll_autopatch.sinks import Sink

__all__ = ["OPTIONS", "Option", "checked_flag", "checked_project", "checked_tags", "flag", "listed", "pairs"]

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def _same(value: Any, folder: Path) -> Any:
    del folder
    return value


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    Attributes:
        name: The argument, and the key in `pyproject.toml`; in capitals, the end of the environment variable's name.
        check: From the value to what `Settings` keeps. Raises a TypeError or a ValueError; who asks adds where the
            value is written.
        default: The value where nothing says otherwise.
        read: From the text of a variable to the value. Raises a ValueError.
        anchor: From the value in `pyproject.toml` and that file's directory to the value: relative paths start there.
    """

    name: str
    check: Callable[[Any], Any]
    default: Any = None
    read: Callable[[str], Any] = str
    anchor: Callable[[Any, Path], Any] = _same


# What text says.


def flag(text: str) -> bool:
    """Return the bool that `text` says; raise a ValueError if it says none."""
    lowered = text.strip().lower()
    if lowered in _TRUE or lowered in _FALSE:
        return lowered in _TRUE
    raise ValueError(f"takes true or false, not {text!r}")


def pairs(text: str) -> Any:
    """Return the mapping that `k=v,k=v`, or an object in JSON, says; raise a ValueError if it says none."""
    if text.lstrip().startswith("{"):
        return json.loads(text)
    found = {}
    for part in filter(str.strip, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"takes tags such as 'team=search,stage=test', not {text!r}")
        found[key.strip()] = value.strip()
    return found


def listed(text: str) -> list[str]:
    """Return the names that `a,b` says."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _sink_text(text: str) -> Any:
    # Paths may have commas: several sinks are written as a list in JSON.
    return json.loads(text) if text.lstrip().startswith("[") else text


def _include_usage_text(text: str) -> Literal["auto"] | bool:
    return "auto" if text.strip().lower() == "auto" else flag(text)


def _prices_text(text: str) -> Any:
    """Return the prices in `text`, which is JSON, or the path of a file with JSON."""
    try:
        if not text.lstrip().startswith("{"):
            text = Path(text).expanduser().read_text(encoding="utf-8")
        return json.loads(text, parse_float=str)
    except OSError as error:
        raise ValueError(f"takes prices in JSON, or a file with such: {error}") from None


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"takes an integer, not {text!r}") from None


# Paths that are relative to a file.


def _anchored_sink(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [_anchored_sink(each, folder) for each in value]
    for scheme in ("sqlite:///", "jsonl:"):
        path = value.removeprefix(scheme) if isinstance(value, str) and value.startswith(scheme) else ""
        if path not in ("", ":memory:"):  # which are no paths: whoever makes the sink says so
            return scheme + str(folder / Path(path).expanduser())
    return value


def _anchored_prices(value: Any, folder: Path) -> Any:
    return _prices_text(str(folder / Path(value).expanduser())) if isinstance(value, str) else value


# What the values may be.


def checked_project(project: object) -> str:
    """Return `project` if it is a name, which can be written; raise a TypeError or a ValueError otherwise."""
    if not isinstance(project, str) or not project:
        raise TypeError(f"project= takes a name such as 'billing-bot', not {project!r}")
    if encodable(project) != project:
        raise ValueError(f"project= takes a name, and there is half a character (a lone surrogate) in {project!r}")
    return project


def checked_flag(name: str, value: object) -> bool:
    """Return `value` if it is a bool; raise a TypeError that names the argument otherwise."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}= takes True or False, not {value!r}")
    return value


def checked_tags(tags: object) -> Mapping[str, str]:
    """Return an unchangeable copy of `tags` if it maps strings to strings; raise a TypeError otherwise."""
    if tags is None:
        return MappingProxyType({})
    if not isinstance(tags, Mapping) or not all(isinstance(x, str) for pair in tags.items() for x in pair):
        raise TypeError(f"tags= takes a mapping of str to str such as {{'team': 'search'}}, not {tags!r}")
    return MappingProxyType(dict(tags))


def _checked_sink(sink: object) -> Sink:
    from llm_toll_autopatch.sinks.resolve import resolve_sink

    return resolve_sink(sink)


def _checked_include_usage(value: object) -> Literal["auto"] | bool:
    if value != "auto" and not isinstance(value, bool):
        raise ValueError(f"include_usage= takes 'auto', True or False, not {value!r}")
    return value


def _checked_estimator(estimator: Any) -> Measure:
    if estimator is None:
        return len
    from llm_toll_autopatch.estimators import measure_of

    return measure_of(estimator)


def _checked_providers(providers: object) -> tuple[str, ...]:
    if providers is None:
        return tuple(SDKS)
    if isinstance(providers, str) or not isinstance(providers, Iterable):
        raise TypeError(f"providers= takes a list such as ['openai'], not {providers!r}")
    chosen = tuple(providers)
    for name in chosen:
        if name not in SDKS:
            raise ValueError(f"providers= does not know {name!r}; there are {', '.join(SDKS)}")
    return chosen


def _one_of(name: str, value: object, *known: str) -> str | None:
    if value is None or value in known:
        return value
    raise ValueError(f"{name}= takes {' or '.join(map(repr, known))}, not {value!r}")


def _flag_option(name: str, *, default: bool) -> Option:
    return Option(name, lambda value: checked_flag(name, value), default, flag)


OPTIONS: dict[str, Option] = {
    option.name: option
    for option in (
        Option("sink", _checked_sink, None, _sink_text, _anchored_sink),
        Option("project", checked_project, "default"),
        Option("tags", checked_tags, None, pairs),
        Option("include_usage", _checked_include_usage, "auto", _include_usage_text),
        _flag_option("close_on_break", default=True),
        _flag_option("estimate_input", default=True),
        Option("estimator", _checked_estimator),
        Option("prices", Prices, None, _prices_text, _anchored_prices),
        Option("providers", _checked_providers, None, listed),
        Option("max_budget", lambda value: checked_amount("max_budget=", value)),
        Option("reset", lambda value: checked_reset("reset=", value)),
        Option("rate_limit", lambda value: checked_count("rate_limit=", value, "calls"), None, _integer),
        Option("tpm_limit", lambda value: checked_count("tpm_limit=", value, "tokens"), None, _integer),
        _flag_option("strict_budget", default=False),
        _flag_option("stop_streams", default=False),
        Option("on_ledger_error", lambda value: _one_of("on_ledger_error", value, "refuse", "allow")),
        Option("on_orphan", lambda value: _one_of("on_orphan", value, "charge", "release"), "charge"),
    )
}
"""By name."""
