"""`autotoll run`: a program, metered with all its children, of which not a line is changed."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from llm_toll_autopatch import sources
from llm_toll_autopatch._boot import SWITCH
from llm_toll_autopatch.activation import SITE

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["configure", "environment", "run"]

_NOT_RUNNABLE, _NOT_FOUND = 126, 127  # as a shell reports it
_SCRIPTS = (".py", ".pyw", ".pyz")
_VARIABLES = {
    name: sources.ENVIRONMENT + variable
    for name, variable in (
        ("project", "PROJECT"),
        ("tag", "TAGS"),
        ("sink", "SINK"),
        ("max_budget", "MAX_BUDGET"),
        ("reset", "RESET"),
        ("strict", "STRICT_BUDGET"),
    )
}
"""What the flags set."""
_CONSOLE, _LEDGER = "console", "ledger"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `run`."""
    parser.usage = "autotoll run [options] (SCRIPT.py | -m MODULE | PROGRAM) [argument ...]"
    parser.add_argument("--project", metavar="NAME", help="who pays")
    parser.add_argument("--tag", action="append", metavar="KEY=VALUE", type=_tag, help="what for; repeatable")
    parser.add_argument("--sink", action="append", metavar="NAME", help="where the records go; repeatable")
    parser.add_argument("--console", action="store_true", help="also show each call on stderr")
    parser.add_argument("--max-budget", metavar="USD", help="the most that the project may spend")
    parser.add_argument("--reset", metavar="PERIOD", help="when the budget starts anew: daily, weekly, monthly")
    parser.add_argument("--strict", action="store_true", help="reserve the worst case of a call before it is sent")
    parser.add_argument("-m", dest="module", nargs=argparse.REMAINDER, help="run a module, as python -m does")
    parser.add_argument("program", nargs=argparse.REMAINDER, help="a script for this Python, or any program")
    parser.set_defaults(error=parser.error)


def _tag(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise argparse.ArgumentTypeError(f"takes KEY=VALUE such as team=search, not {text!r}")
    return key.strip(), value.strip()


def run(arguments: argparse.Namespace) -> int:
    """Become the program. Return the exit code if there is none to become."""
    command = _command(arguments)
    os.environ.update(environment(arguments))
    try:
        # What makes no sense is said here, once, and not by every process of the program.
        for written in sources.find().values():
            written.checked()
    except (TypeError, ValueError) as error:
        arguments.error(_in_flags(str(error), arguments))
    # A program of this environment is found also where the environment is not activated.
    program = shutil.which(command[0]) or shutil.which(command[0], path=str(Path(sys.executable).parent))
    if program is None:
        there = Path(command[0]).exists() and os.path.dirname(command[0])  # noqa: PTH120 - "./x" is not "x"
        print(f"autotoll: {command[0]}: {'not executable' if there else 'no such program'}", file=sys.stderr)
        return _NOT_RUNNABLE if there else _NOT_FOUND
    sys.stdout.flush()
    sys.stderr.flush()
    return _become(program, command)


def _command(arguments: argparse.Namespace) -> list[str]:
    if arguments.module is not None:
        if not arguments.module:
            arguments.error("-m needs a module")
        return [sys.executable, "-m", *arguments.module]
    program: list[str] = arguments.program
    if program[:1] == ["--"]:
        program = program[1:]
    if not program:
        arguments.error("there is nothing to run; give a script, -m and a module, or a program")
    is_script = program[0].endswith(_SCRIPTS) or (Path(program[0]) / "__main__.py").is_file()
    return [sys.executable, *program] if is_script else program


def environment(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the variables that activate and configure the program."""
    chosen = {
        "project": arguments.project,
        "tag": None if arguments.tag is None else json.dumps(dict(arguments.tag)),
        "sink": _sinks(arguments),
        "max_budget": arguments.max_budget,
        "reset": arguments.reset,
        "strict": "true" if arguments.strict else None,
    }
    before = os.environ.get("PYTHONPATH")
    path = [entry for entry in before.split(os.pathsep) if entry != str(SITE)] if before else []
    return {
        SWITCH: "1",
        sources.LENDER: os.pathsep.join(_lenders()),
        "PYTHONPATH": os.pathsep.join((str(SITE), *path)),
        **{_VARIABLES[name]: value for name, value in chosen.items() if value is not None},
    }


def _lenders() -> list[str]:
    """Return the directories with the packages that an interpreter without any of ours needs to meter."""
    specs = (find_spec(name) for name in ("wrapt", "genai_prices", "platformdirs"))
    return list(dict.fromkeys(str(Path(spec.origin).parent.parent) for spec in specs if spec and spec.origin))


def _in_flags(message: str, arguments: argparse.Namespace) -> str:
    """Return an error's message with the flags that were given in the place of the variables that they set."""
    for name, variable in _VARIABLES.items():
        if getattr(arguments, name):
            message = message.replace(variable, f"--{name.replace('_', '-')}")
    return message


def _sinks(arguments: argparse.Namespace) -> str | None:
    """Return what the variable of the sink is to say; None if it stays as it is."""
    sinks: list[str] = list(arguments.sink or ())
    if arguments.console:
        try:
            sinks = [_CONSOLE, *(sinks or _named(sources.find()["sink"].read()))]
        except (TypeError, ValueError) as error:
            arguments.error(str(error))
    sinks = list(dict.fromkeys(sinks))
    return json.dumps(sinks) if len(sinks) > 1 else next(iter(sinks), None)


def _named(sink: object) -> Iterable[str]:
    if isinstance(sink, list):
        return sink
    return [sink if isinstance(sink, str) else _LEDGER]


def _become(program: str, command: list[str]) -> int:
    if os.name == "posix":
        try:
            os.execv(program, command)  # noqa: S606 - the same process: signals and the exit code are its own
        except OSError as error:
            print(f"autotoll: {program}: {error.strerror}", file=sys.stderr)
            return _NOT_RUNNABLE
    import subprocess

    return subprocess.run([program, *command[1:]], check=False).returncode  # noqa: S603 - what the user asked for
