# ruff: noqa: T201 - it is a program, and prints what it finds
"""`python -m chaos --seconds 180`: run workers, make trouble, check the books; exits with 1 if they are wrong."""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import llm_toll_autopatch
from chaos.books import audit
from chaos.calls import SYNC, Clients
from chaos.phase import CALM, DRAINING, ENDING, Board
from chaos.trouble import Locker, full_disk, small_disk
from chaos.worker import PROMISED, work
from llm_toll_autopatch import SQLiteLedger

_STEP_S = 0.02
_END_S = 45.0
"""How long workers may take to end, and to write what waits, on a machine with other things to do."""
_DISK_MB = 200


class Chaos:
    """The program.

    Args:
        directory: Where everything goes.
        seed: Of all that happens.
        workers: How many there are at a time.
        small: Whether the ledger is on a small disk, which may be full for a while.
    """

    def __init__(self, directory: Path, seed: int, workers: int, *, small: bool) -> None:
        self._directory = directory
        self._path = directory / "ledger" / "ledger.db"
        self._random = Random(seed)
        self._most = workers
        self._small = small
        self._board = Board(directory / "board")
        self._started = 0
        self._living: dict[int, int] = {}
        self._stopped: dict[int, float] = {}
        self._dying: dict[int, float] = {}
        self.killed: set[int] = set()
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        # Every worker and its children have its other end: it has an end when they all have.
        self._ends, self._alive = os.pipe()

    def run(self, seconds: float) -> None:
        """Make trouble for so long, then have all workers end."""
        with SQLiteLedger(self._path):
            pass
        self._warm_up()
        locker = Locker(self._path)
        end = time.monotonic() + seconds
        storm = time.monotonic() + min(seconds / 4, 20)
        while time.monotonic() < end:
            self._reap()
            while len(self._living) < self._most:
                self._spawn()
            self._trouble(locker)
            if time.monotonic() > storm:
                self._storm(locker)
                storm = time.monotonic() + self._random.uniform(10, 25)
            time.sleep(_STEP_S)
        locker.end()
        self._let_go()
        self._board.phase = ENDING
        self._end()

    def _warm_up(self) -> None:
        """Call everything once, as a server does that loads its program before it forks; the ledger is open then."""
        llm_toll_autopatch.patch_all(sink=SQLiteLedger(self._path, busy_timeout_s=30), project="chaos")
        clients = Clients()
        for call in SYNC:
            with contextlib.suppress(Exception):
                call(clients, self._random)
        llm_toll_autopatch.flush()

    def _spawn(self) -> None:
        slot = self._started
        self._started += 1
        seed = self._random.randrange(2**32)
        self._board.say(slot, 0, 0)
        pid = os.fork()
        if pid == 0:
            os.close(self._ends)
            work(self._directory, slot, seed)
        self._living[pid] = slot
        self.counts["workers"] += 1

    def _reap(self) -> None:
        now = time.monotonic()
        for pid in list(self._living):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                if now > self._dying.get(pid, now):
                    self._hung(pid)
                continue
            slot = self._living.pop(pid)
            self._stopped.pop(pid, None)
            self._dying.pop(pid, None)
            if os.WIFSIGNALED(status):
                self.killed.add(slot)
            elif os.WEXITSTATUS(status):
                self.wrong.append(f"worker {slot} ended with {os.WEXITSTATUS(status)}")

    def _hung(self, pid: int) -> None:
        self.wrong.append(f"worker {self._living[pid]} hung")
        os.kill(pid, signal.SIGKILL)
        self._dying.pop(pid)

    def _trouble(self, locker: Locker) -> None:
        """Kill, stop and lock; what is within the bounds for which a call waits."""
        now = time.monotonic()
        locker.poll()
        for pid, until in list(self._stopped.items()):
            if now > until:
                os.kill(pid, signal.SIGCONT)
                del self._stopped[pid]
        chance = self._random.random()
        # Not in their first moments, or nobody would get to work.
        candidates = [pid for pid, slot in self._living.items() if self._board.heard(slot)[0] > 20]
        if not candidates:
            return
        pid = self._random.choice(candidates)
        if chance < 0.012:
            self.counts["SIGKILL"] += 1
            os.kill(pid, signal.SIGKILL)
        elif chance < 0.02 and pid not in self._dying:
            self.counts["SIGTERM"] += 1
            os.kill(pid, signal.SIGTERM)
            self._dying[pid] = now + _END_S
        elif chance < 0.03 and pid not in self._stopped:
            self.counts["SIGSTOP"] += 1
            os.kill(pid, signal.SIGSTOP)
            self._stopped[pid] = now + self._random.uniform(0.05, 0.6)
        elif chance < 0.06:
            self.counts["locks"] += 1
            locker.lock(self._random.uniform(0.02, 0.6))

    def _storm(self, locker: Locker) -> None:
        """Beyond the bounds records are in memory: nobody is killed until they are written."""
        self._let_go()
        locker.wait()
        if self._small and self._random.random() < 0.5:
            self.counts["full disks"] += 1
            with full_disk(self._path.parent):
                time.sleep(self._random.uniform(2, 4))
        else:
            self.counts["long locks"] += 1
            locker.lock(self._random.uniform(3, 5))
            locker.wait()
        self._board.phase = DRAINING
        deadline = time.monotonic() + _END_S
        beats = {slot: self._board.heard(slot)[0] for slot in self._living.values()}
        while any(
            self._board.heard(slot)[1] or self._board.heard(slot)[0] < beats[slot] + 2 for slot in self._living.values()
        ):
            self._reap()
            if time.monotonic() > deadline:
                self.wrong.append("after a storm records wait and are not written")
                break
            time.sleep(_STEP_S)
        self._board.phase = CALM

    def _let_go(self) -> None:
        for pid in self._stopped:
            os.kill(pid, signal.SIGCONT)
        self._stopped.clear()

    def _end(self) -> None:
        deadline = time.monotonic() + _END_S
        while self._living and time.monotonic() < deadline:
            self._reap()
            time.sleep(_STEP_S)
        for pid in list(self._living):
            self._dying[pid] = 0
            self._hung(pid)
        os.close(self._alive)
        if not select.select([self._ends], [], [], _END_S)[0]:
            self.wrong.append("a child of a worker hung")


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=180, help="how long (default: 180)")
    parser.add_argument("--workers", type=int, default=4, help="how many at a time (default: 4)")
    parser.add_argument(
        "--seed", type=int, default=None, help="of all that happens at random (default: another each time)"
    )
    options = parser.parse_args()
    seed = time.time_ns() % 2**32 if options.seed is None else options.seed
    directory = Path(tempfile.mkdtemp(prefix="toll-chaos-"))
    warnings.simplefilter("ignore")
    with _simulator(), small_disk(directory / "ledger", _DISK_MB) as small:
        began = time.monotonic()
        chaos = Chaos(directory, seed, options.workers, small=small)
        chaos.run(options.seconds)
        files = sorted(directory.glob("*.acks"), key=lambda file: int(file.stem))
        found = audit(directory / "ledger" / "ledger.db", files, chaos.killed)
        wrong = chaos.wrong + found.wrong
        if wrong:
            for file in (directory / "ledger").glob("ledger.db*"):
                shutil.copy(file, directory)
    figures = {**chaos.counts, "records": found.records}
    told = ", ".join(
        f"{count} {kind} ({found.missing[kind]} missing)" for kind, count in sorted(found.acknowledged.items())
    )
    print(
        f"chaos: {'WRONG' if wrong else 'ok'}, seed {seed}, {time.monotonic() - began:.0f} s: "
        + ", ".join(f"{count} {name}" for name, count in figures.items())
        + f"; acknowledged: {told}"
        + ("" if small else "; no full disk: that takes root")
    )
    for each in wrong:
        print(f"  {each}")
    if not found.acknowledged[PROMISED]:
        print("  nothing was acknowledged, so nothing is shown")
    if wrong:
        print(f"  {directory} has the acknowledgements and the ledger")
    else:
        shutil.rmtree(directory)
    return 1 if wrong or not found.acknowledged[PROMISED] else 0


@contextlib.contextmanager
def _simulator() -> Iterator[None]:
    """A simulator in a process of its own; the environment says where."""
    process = subprocess.Popen(
        [sys.executable, "-m", "llm_toll_autopatch.simulator"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    owner = os.getpid()
    process.stdout.readline()
    for _ in range(6):
        name, _, value = process.stdout.readline().removeprefix("export ").strip().partition("=")
        os.environ[name] = value
    try:
        yield
    finally:
        if os.getpid() == owner:  # workers, which are forked, come by here when they exit
            process.terminate()
            process.wait(30)
            process.stdout.close()


if __name__ == "__main__":
    sys.exit(main())
