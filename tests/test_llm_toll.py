"""llm-toll's own command line and dashboard queries show our calls."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import sqlite3
import subprocess
import sys
import textwrap
import threading
import urllib.error
import urllib.request
import warnings
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import llm_toll.store
import pytest
from sources import CLAUDE, GPT, MESSAGES, PROMPT, clients_of
from specimens import record

from llm_toll_autopatch import LLMTollSink, flush, patched, status
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.simulator import Simulator
from llm_toll_autopatch.sinks import SinkUnavailableError


def llm_toll_cli(*arguments: str) -> str:
    """What llm-toll's own command prints."""
    code = "import sys; from llm_toll.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "NO_COLOR": "1"}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout


def test_its_statistics_show_our_calls(sim: Simulator, tmp_path: Path) -> None:
    """`llm-toll --stats` and its export show the calls of all three SDKs, with tokens and costs."""
    path = tmp_path / "toll.db"
    with patched(sink=f"llm-toll:{path}", project="acme") as made, clients_of(sim) as clients:
        clients.openai.chat.completions.create(model=GPT, messages=MESSAGES)
        list(clients.openai.responses.create(model=GPT, input=PROMPT, stream=True))
        clients.anthropic.messages.create(model=CLAUDE, max_tokens=9, messages=MESSAGES)
        flush(10)
        [sink] = status().sinks
        assert (sink.name, sink.written, sink.failures) == ("LLMTollSink", 3, 0)
        made.close()  # type: ignore[attr-defined]
    stats = llm_toll_cli("--db", str(path), "--stats", "--project", "acme")
    rows = {line.split()[0]: line.split()[1:4] for line in stats.splitlines() if line.startswith(("gpt", "claude"))}
    assert rows == {GPT: ["2", "50", "16"], CLAUDE: ["1", "25", "8"]}
    exported = tmp_path / "out.csv"
    llm_toll_cli("--db", str(path), "--export", "csv", "--output", str(exported))
    lines = list(csv.DictReader(io.StringIO(exported.read_text())))
    assert len(lines) == 3
    assert all(float(line["cost"]) > 0 for line in lines)


def test_its_dashboard_shows_our_calls(tmp_path: Path) -> None:
    """llm-toll's dashboard, as its own command serves it, has our calls in its summary, its models and its budgets."""
    path = tmp_path / "toll.db"
    sink = LLMTollSink(path)
    for _ in range(3):
        sink.emit(record(cost_usd=Decimal("0.25")))
    sink.close()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code = "import sys; from llm_toll.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "--db", str(path), "--dashboard", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:

        def page(name: str) -> Any:
            for _ in range(1000):
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/{name}", timeout=10) as answer:
                        return json.load(answer)
                except urllib.error.URLError:
                    threading.Event().wait(0.02)
            raise AssertionError("the dashboard does not answer")

        try:
            assert page("summary") == {"total_cost": 0.75, "total_calls": 3, "project_count": 1, "model_count": 1}
            [model] = page("models")
            assert (model["model"], model["total_input_tokens"], model["total_output_tokens"]) == (GPT, 3600, 1350)
            [budget] = page("budgets")
            assert (budget["project"], budget["total_cost"]) == ("acme", 0.75)
        finally:
            server.terminate()


def test_its_budget_counts_our_calls_and_drops_none(tmp_path: Path) -> None:
    """What was spent stands in llm-toll's budget, also beyond any limit: the calls have been paid for."""
    store = llm_toll.store.SQLiteStore(str(tmp_path / "toll.db"))
    sink = LLMTollSink(store)
    store.log_usage_if_within_budget("acme", "m", 1, 1, 0.9, max_budget=1.0)
    sink.emit(record(cost_usd=Decimal("0.5")))
    assert store.get_total_cost("acme") == pytest.approx(1.4)
    assert len(store.get_usage_logs("acme")) == 2
    store.close()


def test_an_unknown_cost_is_counted(tmp_path: Path) -> None:
    """llm-toll knows no unknown cost: the call is there with 0, and the sink counts it."""
    sink = LLMTollSink(tmp_path / "toll.db")
    sink.emit(record(cost_usd=None))
    sink.emit(record())
    sink.close()
    assert sink.unknown_costs == 1
    assert " 900 " in llm_toll_cli("--db", str(tmp_path / "toll.db"), "--stats", "--project", "acme")


def test_what_it_only_warns_of_is_raised(tmp_path: Path) -> None:
    """A failure that llm-toll only warns of makes the record wait and be tried again, and nothing is warned of."""
    path = tmp_path / "toll.db"
    sink = LLMTollSink(path)
    sink.emit(record())
    with closing(sqlite3.connect(path, isolation_level=None)) as other, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        other.execute("ALTER TABLE usage_logs RENAME TO elsewhere")
        with pytest.raises(SinkUnavailableError, match="llm-toll could not log the call") as raised:
            sink.emit(record())
        assert isinstance(raised.value.__context__, sqlite3.Error)
        other.execute("ALTER TABLE elsewhere RENAME TO usage_logs")
        sink.emit(record())
        assert other.execute("SELECT COUNT(*), SUM(cost) > 0 FROM usage_logs").fetchone() == (2, 1)
    other.close()
    sink.close()
    assert caught == []


def test_llm_tolls_own_store_still_only_warns(tmp_path: Path) -> None:
    """The program's own use of llm-toll is as it was: its store warns."""
    LLMTollSink(tmp_path / "toll.db").close()
    with pytest.warns(UserWarning, match="Failed to log usage"):
        llm_toll.store.SQLiteStore(str(tmp_path)).log_usage("p", "m", 1, 1, 0.1)


def test_a_failure_is_ours_to_note(sim: Simulator, tmp_path: Path) -> None:
    """A store that cannot be written is seen in `status()`; the call goes on and its record waits."""
    blocked = tmp_path / "toll.db"
    blocked.mkdir()
    with closing(LLMTollSink(blocked)) as toll, patched(sink=toll), clients_of(sim) as clients:
        clients.openai.chat.completions.create(model=GPT, messages=MESSAGES)
        while not status().failures:
            flush(0.05)
        [sink] = status().sinks
        assert (sink.state, sink.queued, sink.written) == ("retrying", 1, 0)
        blocked.rmdir()
        flush(10)
        assert status().sinks[0].written == 1
    failures.reset()


def test_the_environment_names_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument it is the store that llm-toll itself would take."""
    monkeypatch.setenv("LLM_TOLL_STORE_URL", str(tmp_path / "named.db"))
    sink = LLMTollSink()
    sink.emit(record())
    sink.close()
    assert (tmp_path / "named.db").exists()


@pytest.mark.parametrize("url", ["postgresql://ann:s3cret@127.0.0.1:1/toll", "postgres://ann:s3cret@h/d"])
def test_a_databases_password_is_not_shown(url: str) -> None:
    """Neither the sink nor an error about the database's library shows the URL."""
    try:
        shown = repr(LLMTollSink(url))
    except ValueError as error:
        shown = str(error)
        assert "psycopg2" in shown
    assert "s3cret" not in shown


def test_fork(tmp_path: Path) -> None:
    """A forked child has a connection of its own, and both processes' calls are there."""
    path = tmp_path / "toll.db"
    program = """
        import os, sys
        sys.path[:0] = [sys.argv[2]]
        from specimens import record
        from llm_toll_autopatch import LLMTollSink
        sink = LLMTollSink(sys.argv[1])
        sink.emit(record())
        child = os.fork()
        sink.emit(record())
        if child == 0:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        sink.close()
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(path), str(Path(__file__).parent)], check=True, timeout=60
    )
    with closing(sqlite3.connect(path)) as store:
        assert store.execute("SELECT COUNT(*) FROM usage_logs").fetchone() == (3,)
