"""`autotoll completion`: a script that lets a shell complete commands and options, made by `shtab`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_toll_autopatch.cli.exits import OK, CommandError

if TYPE_CHECKING:
    import argparse

__all__ = ["configure", "run"]

_SHELLS = ("bash", "zsh", "fish")
_INSTALL = """to use it:
  bash   autotoll completion bash > ~/.local/share/bash-completion/completions/autotoll
  zsh    autotoll completion zsh > DIRECTORY/_autotoll, where DIRECTORY is one of $fpath
  fish   autotoll completion fish > ~/.config/fish/completions/autotoll.fish
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `completion`."""
    from argparse import RawDescriptionHelpFormatter

    parser.epilog = _INSTALL
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.add_argument("shell", choices=_SHELLS)


def run(arguments: argparse.Namespace) -> int:
    """Print the script and return the exit code."""
    try:
        import shtab
    except ImportError:
        raise CommandError("completion scripts need shtab: pip install 'llm-toll-autopatch[cli]'") from None
    from llm_toll_autopatch.cli import COMMANDS, parser_of

    print(shtab.complete(parser_of([command.name for command in COMMANDS]), shell=arguments.shell))
    return OK
