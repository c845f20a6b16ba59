"""The examples, run as a user runs them, against the simulator."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from llm_toll_autopatch import SQLiteLedger

ROOT = Path(__file__).parent.parent
SIMULATED = [sys.executable, "-m", "llm_toll_autopatch.simulator", "--", sys.executable]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program against the simulator."""
    return subprocess.run(
        [*SIMULATED, *arguments], env={**os.environ, **environment}, cwd=ROOT,
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip


def test_chat(tmp_path: Path) -> None:
    """examples/chat.py prints its answers, and every request that it sends is in the ledger, priced."""
    path = tmp_path / "ledger.db"
    result = run("examples/chat.py", LLM_TOLL_AUTOPATCH_SINK=f"sqlite:///{path}")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("it gets thinner") == 9
    assert "that will do." in result.stdout
    with SQLiteLedger(path) as ledger:
        records = list(ledger.records())
    assert Counter(record.outcome for record in records) == {"completed": 9, "closed": 1}
    assert Counter(record.provider for record in records) == {"openai": 4, "anthropic": 3, "google": 3}
    assert {record.project for record in records} == {"chat-example"}
    assert all(record.cost_usd for record in records)


def test_sitecustomize_example(tmp_path: Path) -> None:
    """Copied under the name that Python looks for, the example meters a program that knows nothing of us."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    (first / "sitecustomize.py").write_text((ROOT / "sitecustomize_example.py").read_text())
    (second / "sitecustomize.py").write_text("print('the hidden one ran too')")
    program = tmp_path / "program.py"
    program.write_text(
        "import openai\nwith openai.OpenAI() as client:\n    client.responses.create(model='gpt-5-mini', input='hi')\n"
    )
    path = tmp_path / "ledger.db"
    search = os.pathsep.join(str(each) for each in (first, second, ROOT))
    result = run(str(program), LLM_TOLL_AUTOPATCH_SINK=f"sqlite:///{path}", PYTHONPATH=search)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "the hidden one ran too"
    with SQLiteLedger(path) as ledger:
        assert [record.method for record in ledger.records()] == ["responses.create"]


def test_sitecustomize_example_cannot_stop_a_program(tmp_path: Path) -> None:
    """With a setting that makes no sense the program runs, unmetered, and a line on stderr says why."""
    (tmp_path / "sitecustomize.py").write_text((ROOT / "sitecustomize_example.py").read_text())
    search = os.pathsep.join(str(each) for each in (tmp_path, ROOT))
    result = run("-c", "import openai; print('runs')", LLM_TOLL_AUTOPATCH_SINK="nonsense", PYTHONPATH=search)
    assert (result.returncode, result.stdout) == (0, "runs\n")
    assert "llm_toll_autopatch is off: ValueError" in result.stderr
