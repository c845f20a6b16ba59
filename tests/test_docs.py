"""What the documentation tells people to write and to type works, against the simulator.

The fenced blocks of a page run in order. Python blocks share their names; shell blocks run by `sh -e`; all in a directory,
with a home, of their own. A comment before a block says otherwise: `<!-- test: skip: why -->`, `<!-- test: syntax: why -->`
(compiled only, for what is not installed here), `<!-- test: pytest -->` (run by pytest), `<!-- test: ipython -->`. Blocks in
other languages show something and are not run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llm_toll_autopatch.simulator import Simulator

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md"] + [
    ROOT / "docs" / f"{name}.md"
    for name in (
        "quickstart",
        "budgets",
        "recipes",
        "pytest",
        "notebooks",
        "from-llm-toll",
        "faq",
        "how-it-works",
    )
]
BLOCK = re.compile(
    r"(?:<!-- test: (?P<how>\w+)(?:: (?P<why>[^\n]+?))? -->\n)?^```(?P<language>\w+)?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
RUN_CELLS = """
import sys
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
for cell in open(sys.argv[1]).read().split("\\0"):
    shell.run_cell(cell).raise_error()
"""


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    how: str
    why: str
    language: str
    text: str


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page that are to be run or compiled."""
    for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
        block = Block(*(match[name] or "" for name in ("how", "why", "language", "text")))
        if block.language in ("python", "sh"):
            yield block


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page(page: Path, sim: Simulator, tmp_path: Path) -> None:
    """Each command and snippet of the page runs, or is marked as one that cannot, and why."""
    folder = Path(sys.executable).parent
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith(("LLM_TOLL", "PYTEST", "XDG"))
    }
    variables |= {**sim.environment(), "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path)}
    variables |= {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"}

    def run(*command: Any) -> None:
        done = subprocess.run(
            command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    program, cells = "", []
    for block in blocks_of(page):
        assert block.how in ("", "skip", "syntax", "pytest", "ipython"), block
        assert block.why or block.how not in ("skip", "syntax"), f"why is this block not run? {block.text}"
        if block.how == "syntax":
            compile(block.text, str(page), "exec")
        elif block.how == "pytest":
            (tmp_path / "test_page.py").write_text(block.text)
            plugin = ("-p", "no:llm_toll_autopatch", "-p", "llm_toll_autopatch.pytest_plugin", "-p", "no:cacheprovider")
            run(sys.executable, "-m", "pytest", "-q", *plugin, f"--rootdir={tmp_path}", "test_page.py")
        elif block.how == "ipython":
            cells.append(block.text)
        elif block.how == "" and block.language == "python":
            # All so far: each block may use the names of those before it, and the page reads in this order.
            program += block.text + "\n"
            (tmp_path / "page.py").write_text(program)
        elif block.how == "":
            if program:
                run(sys.executable, "page.py")  # the command may ask for what it leaves behind
            run("sh", "-e", "-c", block.text)
    if program:
        run(sys.executable, "page.py")
    if cells:
        (tmp_path / "cells").write_text("\0".join(cells))
        run(sys.executable, "-c", RUN_CELLS, "cells")


def test_blocks_are_found(tmp_path: Path) -> None:
    """A page's blocks are found with their marks, in order, and those of other languages are not run."""
    page = tmp_path / "page.md"
    page.write_text(
        "```python\n1\n```\n\n<!-- test: skip: so -->\n```sh\nls\n```\n```\nplain\n```\n```toml\na = 1\n```\n"
    )
    assert list(blocks_of(page)) == [Block("", "", "python", "1\n"), Block("skip", "so", "sh", "ls\n")]
