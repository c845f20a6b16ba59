"""The command line: one file a command, and one row for it in `COMMANDS`."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from llm_toll_autopatch import __version__
from llm_toll_autopatch.cli.exits import BROKEN_PIPE, FAILED, INTERRUPTED, OK, CommandError
from llm_toll_autopatch.ledger.errors import LedgerError
from llm_toll_autopatch.sinks import SinkUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

__all__ = ["COMMANDS", "Command", "main", "parser_of"]


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
    """Does it, and returns the exit code, one of `exits`. What it raises of the errors that `main` knows is told."""


COMMANDS = (
    Command("report", "llm_toll_autopatch.cli.report", "show what was spent, and by whom"),
    Command("tail", "llm_toll_autopatch.cli.tail", "show the last calls, and follow new ones"),
    Command("watch", "llm_toll_autopatch.cli.watch", "show what is being spent, live"),
    Command("serve", "llm_toll_autopatch.cli.serve", "show what is being spent as a page in your browser, live"),
    Command("export", "llm_toll_autopatch.cli.export", "write calls out: JSON Lines, CSV, Parquet, Prometheus"),
    Command("import", "llm_toll_autopatch.cli.importing", "read calls in from JSON Lines"),
    Command("prune", "llm_toll_autopatch.cli.prune", "delete old calls"),
    Command("budget", "llm_toll_autopatch.cli.budget", "show budgets, and set caps for every process"),
    Command("prices", "llm_toll_autopatch.cli.prices", "show what a model is charged, and from where that is known"),
    Command("reprice", "llm_toll_autopatch.cli.reprice", "compute the costs of past calls again"),
    Command("doctor", "llm_toll_autopatch.cli.doctor", "check the SDKs, what is metered of them, and the ledger"),
    Command("demo", "llm_toll_autopatch.cli.demo", "make calls with the SDKs you have, to a simulator on this machine"),
    Command("completion", "llm_toll_autopatch.cli.completion", "print a script that completes commands in your shell"),
    Command("config", "llm_toll_autopatch.cli.config", "show every setting, and where it comes from"),
    Command("run", "llm_toll_autopatch.cli.run", "run a program and meter it, with all its children"),
    Command("enable", "llm_toll_autopatch.cli.enable", "meter every program of this environment"),
    Command("disable", "llm_toll_autopatch.cli.disable", "meter only programs that are told to"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code, one of `exits`.

    Args:
        argv: The arguments after the program's name; None for those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_closed_streams()
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except SystemExit as end:  # how argparse says that it has answered by itself
        return end.code if isinstance(end.code, int) else OK
    except BrokenPipeError:
        # The reader has left (`| head`). Nothing may be flushed into the pipe at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    except (CommandError, LedgerError, SinkUnavailableError, OSError) as error:
        print(f"autotoll: {error}", file=sys.stderr)
        return FAILED
    return code


def parser_of(names: Container[str]) -> argparse.ArgumentParser:
    """Return the parser of all commands, with the arguments of those in `names`: the others need not be imported."""
    parser = argparse.ArgumentParser(
        prog="autotoll",
        description="Meter every LLM call of a Python process.",
        epilog="autotoll COMMAND --help says more.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"autotoll {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for command in COMMANDS:
        subparser = subparsers.add_parser(
            command.name, help=command.summary, description=command.summary, allow_abbrev=False
        )
        if command.name in names:
            module = cast("CommandModule", import_module(command.module))
            module.configure(subparser)
            subparser.set_defaults(run=module.run)
    return parser


def _run(arguments: list[str]) -> int:
    parser = parser_of(arguments)
    parsed = parser.parse_args(arguments)
    if parsed.command is None:
        parser.print_help()
        return OK
    _make_writable(sys.stdout)
    run: Callable[[argparse.Namespace], int] = parsed.run
    return run(parsed)


def _open_closed_streams() -> None:
    """Have what goes to a closed stream (`>&-`) go nowhere; nothing can be read from one. Python has None for it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - until the end


def _make_writable(stream: object) -> None:
    """Have a terminal that cannot show a character show its escape instead of failing."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
