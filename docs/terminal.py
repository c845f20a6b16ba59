"""Draw `docs/terminal.svg`: what `autotoll report` shows in a terminal after `make demo`, as it is.

python docs/terminal.py
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parent.parent
COLUMNS = 104


def shown(command: list[str], variables: dict[str, str]) -> str:
    """Return what a command writes to a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdout=theirs, env=variables, cwd=ROOT) as process:  # noqa: S603 - ours
        os.close(theirs)
        written = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the end of a terminal
                break
            if not piece:
                break
            written += piece
        process.wait()
    os.close(ours)
    return written.decode().replace("\r\n", "\n")


def main() -> None:
    """Run the example, ask for its costs, and draw the answer."""
    with tempfile.TemporaryDirectory() as folder:
        variables = {
            **os.environ,
            "LLM_TOLL_AUTOPATCH_SINK": f"sqlite:///{folder}/ledger.db",
            "COLUMNS": str(COLUMNS),
            "TERM": "xterm-256color",
            "PYTHONPATH": str(ROOT),
        }
        simulated = [sys.executable, "-m", "llm_toll_autopatch.simulator", "--", sys.executable, "examples/chat.py"]
        subprocess.run(simulated, env=variables, cwd=ROOT, check=True, capture_output=True)  # noqa: S603 - ours
        report = shown([sys.executable, "-m", "llm_toll_autopatch", "report"], variables)
    console = Console(record=True, width=COLUMNS, file=Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
    console.print(Text("$ autotoll report", style="bold"))
    console.print(Text.from_ansi(report.rstrip()))
    console.print()
    svg = console.export_svg(title="autotoll report", unique_id="autotoll")
    # Rich has browsers fetch its font; without it they take the reader's own.
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    (ROOT / "docs" / "terminal.svg").write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")


if __name__ == "__main__":
    main()
