"""`autotoll enable` and `autotoll disable`: whether this environment meters every program that it runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from llm_toll_autopatch import activation

if TYPE_CHECKING:
    import argparse

__all__ = ["change", "configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `enable`: none."""
    parser.set_defaults(error=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Enable it and return the exit code."""
    del arguments
    return change(enabled=True)


def change(*, enabled: bool) -> int:
    """Enable or disable, say what was done and how to undo it, and return the exit code."""
    try:
        changed = activation.set_enabled(enabled)
    except activation.NotInstalledError as error:
        print(f"autotoll: {error}; install llm-toll-autopatch there with pip, or use `autotoll run`", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"autotoll: {error}", file=sys.stderr)
        return 1
    for path in changed:
        print(f"changed {path}")
    if not changed:
        print("nothing to change")
    if enabled:
        print(f"Every program of {sys.prefix} that imports an LLM SDK is metered from its next start on.")
        print("LLM_TOLL_AUTOPATCH=0 leaves one out; `autotoll disable` undoes this.")
    else:
        print(f"Programs of {sys.prefix} are metered if they call patch_all(), by `autotoll run`,")
        print("or with LLM_TOLL_AUTOPATCH=1.")
    return 0
