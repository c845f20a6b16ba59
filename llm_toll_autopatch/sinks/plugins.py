"""Sinks of other packages, by the name under which they register: the entry points `llm_toll_autopatch.sinks`."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llm_toll_autopatch.sinks import Sink

__all__ = ["GROUP", "installed", "sink_of"]

GROUP = "llm_toll_autopatch.sinks"


def installed() -> Mapping[str, EntryPoint]:
    """Return the entry points of installed packages by name. Nothing of them is imported."""
    return {each.name: each for each in entry_points(group=GROUP)}


def sink_of(entry_point: EntryPoint, rest: str, source: str) -> Sink:
    """Return the sink that `entry_point` makes: it names a class or function that takes nothing, or one string.

    Args:
        entry_point: Who makes it.
        rest: What stands behind the colon of `name:rest`; it is called with that, or without an argument if there is
            no colon.
        source: Where the name comes from, for the message of an error.

    Raises:
        ValueError: It cannot be imported, or refuses to make a sink. The message does not show `rest`.
        TypeError: What it makes is no sink.
    """
    where = f"{source} is {entry_point.name!r}, from {entry_point.value}"
    try:
        make = entry_point.load()
        sink = make(rest) if rest else make()
    except Exception as error:
        # Its own words may repeat what stood behind the colon, a password perhaps.
        said = str(error) if not rest or rest not in str(error) else "its message is not shown"
        raise ValueError(f"{where}: {type(error).__name__}: {said}") from (error if said == str(error) else None)
    from llm_toll_autopatch.sinks.resolve import checked_sink

    return checked_sink(sink, where)
