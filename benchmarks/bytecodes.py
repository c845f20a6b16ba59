"""How many bytecode instructions a plain call through the SDK takes, bare and metered: the same on any busy machine.

Time tells what a call costs, and a machine with others at work does not; this tells whether a change made it less. What
runs in C is not in it: most of SQLite's part, say.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.calls import REQUEST
from benchmarks.rows import Row, show
from benchmarks.ways import LEDGER, MEMORY, Ways
from benchmarks.wires import Clients
from llm_toll_autopatch import flush, patch_all, unpatch_all

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

SUBJECT = "Bytecode instructions added to a plain call, through the SDK"


def instructions(work: Callable[[], object]) -> int:
    """Return how many this thread executes in `work`, when everything is warm."""
    number = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal number
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        number += event == "opcode"
        return trace

    for _ in range(3):
        work()
    flush(60)
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
    return number


def main() -> None:
    """Count."""
    client = Clients(1).openai

    def call() -> None:
        client.chat.completions.create(**REQUEST)

    bare = instructions(call)
    with tempfile.TemporaryDirectory() as made:
        ways = Ways(Path(made))
        for way in (MEMORY, LEDGER):
            patch_all(**ways.options(way))
            added = instructions(call) - bare
            unpatch_all()
            show(Row(SUBJECT, way.name, float(added), "", note=f"bare {bare:,}, {(bare + added) / bare:.2f}"))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
