"""What the command line tells the shell."""

from __future__ import annotations

__all__ = ["BROKEN_PIPE", "BUDGET_EXCEEDED", "FAILED", "INTERRUPTED", "OK", "USAGE", "CommandError"]

OK = 0
FAILED = 1
"""It could not be done, or something is wrong; the reason is on stderr."""
USAGE = 2
"""The arguments are wrong."""
BUDGET_EXCEEDED = 3
"""A budget or a rate limit stopped it."""
INTERRUPTED = 128 + 2
"""Ctrl-C."""
BROKEN_PIPE = 128 + 13
"""The reader has left: what a shell shows for a program that SIGPIPE ended."""


class CommandError(Exception):
    """A command cannot do what it was asked for; the message says why, and what would help."""
