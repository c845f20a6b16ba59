"""`autotoll disable`: the other half of `autotoll enable`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_toll_autopatch.cli.enable import change, configure

if TYPE_CHECKING:
    import argparse

__all__ = ["configure", "run"]


def run(arguments: argparse.Namespace) -> int:
    """Disable it and return the exit code."""
    del arguments
    return change(enabled=False)
