"""Forks, worker processes and exits: no record twice, none lost that was acknowledged, nobody hangs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from llm_toll_autopatch import SQLiteLedger
from llm_toll_autopatch.simulator import Simulator

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

PRELUDE = """
import os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore")
import openai, llm_toll_autopatch
from llm_toll_autopatch import SQLiteLedger
path = sys.argv[1]
def patch(**options):
    llm_toll_autopatch.patch_all(sink=SQLiteLedger(path, **options))
def ask(client=None, **more):
    return (client or openai.OpenAI()).responses.create(model="gpt-5-mini", input="hi", **more)
def begin():
    stream = ask(stream=True)
    next(stream)
    return stream
"""


def environment(sim: Simulator) -> dict[str, str]:
    """Of a program that talks to the simulator and finds this package."""
    root = str(Path(__file__).parent.parent)
    return {**os.environ, **sim.environment(), "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}


def run(program: str, sim: Simulator, path: Path, code: int = 0) -> list[str]:
    """Run a program, which must end by itself; return the outcomes that it left in the ledger."""
    script = path.with_suffix(".py")  # a file: children that are spawned import it
    script.write_text(PRELUDE + textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, script, path], env=environment(sim), capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == code, done.stderr
    return outcomes(path)


def outcomes(path: Path) -> list[str]:
    """Of all records, sorted."""
    return sorted(each.outcome for each in SQLiteLedger(path).records())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger is to be."""
    return tmp_path / "ledger.db"


def test_a_child_has_locks_of_its_own(sim: Simulator, path: Path) -> None:
    """What a forked child writes is kept, although its parent and a third process close the file while it has it open.

    SQLite removes its log when the last one closes; a child that relied on its parent's locks would not count.
    """
    assert (
        run(
            """
        import subprocess
        patch()
        ask()
        (done, tell), (wait, go) = os.pipe(), os.pipe()
        if os.fork() == 0:
            ask()
            os.write(tell, b"x")
            os.read(wait, 1)
            ask()
            os._exit(0)
        os.read(done, 1)
        llm_toll_autopatch.unpatch_all()
        from llm_toll_autopatch import lanes
        for sink in lanes.sinks():
            sink.close()
        third = "import sys; from llm_toll_autopatch import SQLiteLedger; SQLiteLedger(sys.argv[1]).open().close()"
        subprocess.run([sys.executable, "-c", third, path], check=True)
        os.write(go, b"x")
        assert os.wait()[1] == 0
        """,
            sim,
            path,
        )
        == ["completed"] * 3
    )


def test_a_fork_between_patching_and_the_first_call(sim: Simulator, path: Path) -> None:
    """Children that are forked once all is patched meter their calls, and so does the parent."""
    assert (
        run(
            """
        patch()
        children = []
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                ask()
                llm_toll_autopatch.flush(60)  # a busy machine may take longer than a call waits
                os._exit(0)
            children.append(pid)
        ask()
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
        """,
            sim,
            path,
        )
        == ["completed"] * 4
    )


def test_a_fork_in_the_middle_of_a_stream(sim: Simulator, path: Path) -> None:
    """A stream that is open at the fork is the parent's, whatever the child does with its copy."""
    assert (
        run(
            """
        patch()
        stream = begin()
        pid = os.fork()
        if pid == 0:
            ask()
            del stream
            sys.exit()
        assert os.waitpid(pid, 0)[1] == 0
        for _ in stream:
            pass
        """,
            sim,
            path,
        )
        == ["completed"] * 2
    )


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(method: str, sim: Simulator, path: Path) -> None:
    """A child of multiprocessing gives a record for each call, and for a stream that it leaves open as it ends."""
    assert run(
        f"""
        import multiprocessing
        patch()
        kept = []
        def work():
            ask()
            kept.append(begin())
        if __name__ == "__main__":
            if {method!r} == "fork":
                ask()
            child = multiprocessing.get_context({method!r}).Process(target=work)
            child.start()
            child.join(60)
            assert child.exitcode == 0, child.exitcode
        """,
        sim,
        path,
    ) == ["abandoned", *["completed"] * (1 + (method == "fork"))]


def test_a_pool_with_a_queue(sim: Simulator, path: Path) -> None:
    """What a worker of a pool has queued is written when the pool ends."""
    assert (
        run(
            """
        import concurrent.futures, multiprocessing
        patch(durability="queue")
        def work(_):
            ask()
        if __name__ == "__main__":
            context = multiprocessing.get_context("fork")
            with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
                list(pool.map(work, range(6)))
        """,
            sim,
            path,
        )
        == ["completed"] * 6
    )


def test_workers_that_end_at_once(sim: Simulator, path: Path) -> None:
    """Workers that end with `os._exit`, as some task queues' do, have left all that they were given."""
    assert (
        run(
            """
        patch()
        ask()
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                ask()
                for _ in ask(stream=True):
                    pass
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        """,
            sim,
            path,
        )
        == ["completed"] * 7
    )


def test_sigterm(sim: Simulator, path: Path) -> None:
    """A process that SIGTERM ends, with no handler, has left all that it was given."""
    assert (
        run(
            """
        patch()
        ask()
        for _ in ask(stream=True):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        """,
            sim,
            path,
            code=-signal.SIGTERM,
        )
        == ["completed"] * 2
    )


def test_sigterm_that_exits(sim: Simulator, path: Path) -> None:
    """A handler that exits, as servers have, ends open streams, and their records are written."""
    assert (
        run(
            """
        patch()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        streams = [begin(), begin()]
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        """,
            sim,
            path,
        )
        == ["abandoned"] * 2
    )


LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


def test_exit_while_the_ledger_is_locked(sim: Simulator, path: Path) -> None:
    """The program ends, and says how many records it could not write; what had been acknowledged is there."""
    ask_and_exit = """
        import logging, subprocess
        logging.basicConfig()
        patch()
        ask()
        other = subprocess.Popen([sys.executable, "-c", LOCK, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        other.stdout.readline()
        ask()
        assert llm_toll_autopatch.status().queued == 1
        kept = begin()
        """
    script = path.with_suffix(".py")
    script.write_text(f"{PRELUDE}\nLOCK = {LOCK!r}\n{textwrap.dedent(ask_and_exit)}")
    done = subprocess.run(
        [sys.executable, script, path], env=environment(sim), capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    dropped = [int(number) for number in re.findall(r"dropped, (\d+) until now", done.stderr)]
    assert outcomes(path) == ["completed"]
    assert dropped, done.stderr
    assert "database is locked" in done.stderr


SERVER = """
import http.server, socket
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        answer = ask().id.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    def log_message(self, *_): pass
patch()
ask()
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
def work():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    server.serve_forever()
workers = []
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        work()
    workers.append(pid)
print(server.server_port, flush=True)
sys.stdin.read()
for pid in workers:
    os.kill(pid, signal.SIGTERM)
for pid in workers:
    assert os.waitpid(pid, 0)[1] == 0
"""


def test_a_prefork_server(sim: Simulator, path: Path) -> None:
    """Every answer that a server with forked workers has given is in the ledger, once."""
    import urllib.request

    script = path.with_suffix(".py")
    script.write_text(PRELUDE + SERVER)
    process = subprocess.Popen(
        [sys.executable, script, path], env=environment(sim), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        url = f"http://127.0.0.1:{int(process.stdout.readline())}/"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        answers = []
        for _ in range(8):
            with opener.open(url, timeout=60) as response:
                answers.append(response.read().decode())
        assert set(answers) <= {each.response_id for each in SQLiteLedger(path).records()}
        process.stdin.close()
        assert process.wait(60) == 0
    assert outcomes(path) == ["completed"] * 9
