"""The command line: one file a command, and one row for it in `COMMANDS`."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from llm_toll_autopatch import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["COMMANDS", "Command", "main"]

_BROKEN_PIPE = 128 + 13  # what a shell shows for a program that SIGPIPE ended
_INTERRUPTED = 128 + 2


class Command(NamedTuple):
    """A row of the table: the command's name, the module that has its `configure` and `run`, what it does."""

    name: str
    module: str
    summary: str


class CommandModule(Protocol):
    """What a command's file defines."""

    configure: Callable[[argparse.ArgumentParser], None]
    """Adds the command's arguments."""
    run: Callable[[argparse.Namespace], int]
    """Does it, and returns the exit code: 0 done, 1 it could not be done (the reason is on stderr)."""


COMMANDS = (
    Command("report", "llm_toll_autopatch.cli.report", "show what was spent, and by whom"),
    Command("prices", "llm_toll_autopatch.cli.prices", "show what a model is charged, and from where that is known"),
    Command("reprice", "llm_toll_autopatch.cli.reprice", "compute the costs of past calls again"),
    Command("config", "llm_toll_autopatch.cli.config", "show every setting, and where it comes from"),
    Command("run", "llm_toll_autopatch.cli.run", "run a program and meter it, with all its children"),
    Command("enable", "llm_toll_autopatch.cli.enable", "meter every program of this environment"),
    Command("disable", "llm_toll_autopatch.cli.disable", "meter only programs that are told to"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0 done, 1 not done, 2 the arguments are wrong.

    Args:
        argv: The arguments after the program's name; None for those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except SystemExit as end:  # how argparse says that it has answered by itself
        return end.code if isinstance(end.code, int) else 0
    except BrokenPipeError:
        # The reader has left (`| head`). Nothing may be flushed into the pipe at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        return _INTERRUPTED
    return code


def _run(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="autotoll", description="Meter every LLM call of a Python process.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"autotoll {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for command in COMMANDS:
        subparser = subparsers.add_parser(
            command.name, help=command.summary, description=command.summary, allow_abbrev=False
        )
        if command.name in arguments:  # the others need not be imported
            module = cast("CommandModule", import_module(command.module))
            module.configure(subparser)
            subparser.set_defaults(run=module.run)
    parsed = parser.parse_args(arguments)
    if parsed.command is None:
        parser.print_help()
        return 0
    _make_writable(sys.stdout)
    run: Callable[[argparse.Namespace], int] = parsed.run
    return run(parsed)


def _make_writable(stream: object) -> None:
    """Have a terminal that cannot show a character show its escape instead of failing."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
