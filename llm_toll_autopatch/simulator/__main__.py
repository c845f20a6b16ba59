"""`python -m llm_toll_autopatch.simulator`: serve until stopped, or run a command against the simulator."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.simulator.scenario import Scenario
from llm_toll_autopatch.simulator.server import Simulator

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_PORT = 65535
_NOT_RUNNABLE, _NOT_FOUND, _SIGNALLED = 126, 127, 128  # as a shell reports it
_CONTRADICTING = ("GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_ENTERPRISE", "ANTHROPIC_AUTH_TOKEN")
"""Variables that would send an SDK elsewhere, or make it warn of two keys."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    split = given.index("--") if "--" in given else len(given)
    parser = _parser()
    options = parser.parse_args(given[:split])
    command = given[split + 1 :]
    if "--" in given and not command:
        parser.error("there is no command after --")
    simulator = Simulator(port=options.port)
    try:
        simulator.start()
    except OSError as error:
        parser.error(f"port {options.port}: {error.strerror}")
    try:
        return _run(command, simulator) if command else _serve(simulator)
    finally:
        simulator.stop()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m llm_toll_autopatch.simulator",
        usage="%(prog)s [-h] [--port N] [-- COMMAND ...]",
        description="A local server that answers as OpenAI, Anthropic and Gemini do. With a COMMAND, runs it with the "
        "SDKs' environment variables set to the simulator, and exits as it does.",
        epilog="How it answers is in the model's name: gpt-4o-mini+chunks=3+delay=10. Flags:\n" + Scenario.flags(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=_port, default=0, metavar="N", help="TCP port (default: a free one)")
    return parser


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > _MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: a number from 0 to {_MAX_PORT}")
    return int(text)


def _serve(simulator: Simulator) -> int:
    """Print how to reach the simulator, and wait for a signal."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: Any) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    print(f"# {simulator.url} (Ctrl-C stops it)")
    for name, value in simulator.environment().items():
        print(f"export {name}={shlex.quote(value)}")
    sys.stdout.flush()
    stop.wait()
    return 0


def _run(command: list[str], simulator: Simulator) -> int:
    """Run a command against the simulator. Return its exit code; 128 + N when signal N ended it."""
    environment = {name: value for name, value in os.environ.items() if name not in _CONTRADICTING}
    environment.update(simulator.environment())
    try:
        process = subprocess.Popen(command, env=environment)  # noqa: S603 - running it is what the user asks for
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_RUNNABLE

    def on_signal(number: int, _frame: Any) -> None:
        # A terminal sends Ctrl-C to the command as well.
        if number != signal.SIGINT:
            process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    code = process.wait()
    return code if code >= 0 else _SIGNALLED - code


if __name__ == "__main__":
    sys.exit(main())
