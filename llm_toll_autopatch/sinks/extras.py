"""Libraries that only some sinks need, imported when such a sink is made."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["MissingExtraError", "needed"]


class MissingExtraError(ImportError, ValueError):
    """A sink needs a library that is not installed. Also a ValueError: what was configured cannot be."""


def needed(module: str, *, by: str, install: str) -> Any:
    """Return `module` of a library that comes with an extra.

    Args:
        module: Its full name.
        by: Who needs it, for the message.
        install: The requirement that installs it: a package with its extra.

    Raises:
        MissingExtraError: It cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtraError(
            f"{by} needs {package}, which cannot be imported ({error}); install it: pip install '{install}'"
        ) from error
