"""One worker: it calls the SDKs until it is told to end, or killed, and says which responses it was given."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from random import Random
from typing import Any

import llm_toll_autopatch
from chaos.calls import ASYNC, SYNC, AsyncClients, Clients
from chaos.phase import DRAINING, ENDING, Board
from llm_toll_autopatch import CallRecord, SinkUnavailableError, SQLiteLedger, scope
from llm_toll_autopatch.lane import Lane
from llm_toll_autopatch.lanes import lane_of

__all__ = ["BEYOND", "PROMISED", "QUEUED", "work"]

PROMISED, BEYOND, QUEUED = "promised", "beyond", "queued"
"""What is promised of a response that was acknowledged: its record was committed before; the ledger had been waited for
up to the bound, and the record may have been in memory; the ledger is one with `durability="queue"`."""
_STEADY_S = 0.02
_CHILD_S = 40
_ENDS = ("exit", "os._exit", "sigterm")


class Moody:
    """A sink that raises, is unavailable, or hangs for a while, at random."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def emit(self, _: CallRecord) -> None:
        chance = self._random.random()
        if chance < 0.15:
            raise RuntimeError("a sink that raises")
        if chance < 0.3:
            raise SinkUnavailableError("a sink that cannot")
        if chance < 0.303:
            time.sleep(1.2)


class Hanging:
    """A sink that hangs for ever in the end, on a thread of its own."""

    deferred = True

    def __init__(self) -> None:
        self._left = 50

    def emit(self, _: CallRecord) -> None:
        self._left -= 1
        if not self._left:
            threading.Event().wait()


class _Hopeless:
    """Notes when somebody waited in vain for a lane: from then on calls do not wait for it, and promise less."""

    def __init__(self) -> None:
        self.last = 0.0

    def __get__(self, lane: Lane, _: Any) -> bool:
        return bool(lane.__dict__.get("hopeless", False))

    def __set__(self, lane: Lane, value: bool) -> None:
        if (value or lane.__dict__.get("hopeless")) and lane.ledger:
            self.last = time.monotonic()
        lane.__dict__["hopeless"] = value


class Worker:
    """A worker.

    Args:
        directory: Where the ledger's directory is, and where acknowledgements go.
        slot: Its number.
        seed: Of all that it does.
    """

    def __init__(self, directory: Path, slot: int, seed: int) -> None:
        self._random = Random(seed)
        self._slot = slot
        self._board = Board(directory / "board")
        kind = self._random.random()
        durability = "queue" if kind < 0.12 else "full" if kind < 0.24 else "commit"
        self._ledger = SQLiteLedger(directory / "ledger" / "ledger.db", durability=durability)  # type: ignore[arg-type]
        self._class = QUEUED if durability == "queue" else PROMISED
        self._acks = os.open(directory / f"{slot}.acks", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._hopeless = _Hopeless()
        Lane.hopeless = self._hopeless  # type: ignore[assignment]
        self._stop = threading.Event()
        self._beats = 0
        self._calls = 0

    def run(self) -> None:
        """Work until it is time to end, and end in one of the ways in which workers end."""
        random = self._random
        llm_toll_autopatch.patch_all(
            sink=[Moody(Random(random.random())), Hanging(), self._ledger], project="chaos", on_orphan="release"
        )
        end = random.choice(_ENDS)
        if end != "sigterm":
            signal.signal(signal.SIGTERM, lambda *_: self._stop.set())
        threads = [
            threading.Thread(target=target, args=(Random(random.random()),))
            for target in (self._sync, self._sync, self._async)
        ]
        for thread in threads:
            thread.start()
        lifetime = time.monotonic() + random.uniform(3, 25)
        forks = random.random() < 0.5
        while not self._stop.is_set() and self._board.phase != ENDING and time.monotonic() < lifetime:
            self._say()
            # By then nobody makes a client any more: OpenSSL's locks do not survive a fork in the middle of that.
            if forks and self._calls > 60 and random.random() < 0.01:
                self._fork(Random(random.random()))
            time.sleep(_STEADY_S)
        self._stop.set()
        while any(thread.is_alive() for thread in threads):
            self._say()
            time.sleep(_STEADY_S)
        if end == "os._exit":
            self._wait_written()
            self._say()
            os._exit(0)
        self._wait_written()
        sys.exit(0)

    def _wait_written(self) -> None:
        """Do not end while records wait, as in a storm: what is in memory then is promised to nobody."""
        while lane_of(self._ledger).queued:
            self._say()
            time.sleep(_STEADY_S)

    def _say(self) -> None:
        self._beats += 1
        self._board.say(self._slot, self._beats, lane_of(self._ledger).queued)

    def _fork(self, random: Random) -> None:
        """Have a child make calls of its own, in the middle of everything, and end at once."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12: there are threads; there always are
            pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(_CHILD_S)
            try:
                clients = Clients()
                for _ in range(3):
                    self._one(clients, random)
                while lane_of(self._ledger).queued:
                    time.sleep(_STEADY_S)
            finally:
                os._exit(0)
        threading.Thread(target=self._wait_for, args=(pid,), daemon=True).start()

    def _wait_for(self, pid: int) -> None:
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            os.write(self._acks, b"hung - - - -\n")

    def _sync(self, random: Random) -> None:
        clients = Clients()
        while not self._stop.is_set():
            while self._board.phase == DRAINING:
                time.sleep(_STEADY_S)
            self._one(clients, random)

    def _one(self, clients: Clients, random: Random) -> None:
        began = time.monotonic()
        what = random.randrange(len(SYNC))
        with self._limits(random), contextlib.suppress(Exception):
            self._acknowledge(SYNC[what](clients, random), began, f"sync-{what}")

    def _async(self, random: Random) -> None:
        async def one_after_the_other(clients: AsyncClients, random: Random) -> None:
            while not self._stop.is_set():
                while self._board.phase == DRAINING:  # noqa: ASYNC110 - another process says so
                    await asyncio.sleep(_STEADY_S)
                began = time.monotonic()
                with self._limits(random), contextlib.suppress(Exception):
                    what = random.randrange(len(ASYNC))
                    self._acknowledge(await ASYNC[what](clients, random), began, f"async-{what}")

        async def main() -> None:
            clients = AsyncClients()
            await asyncio.gather(*(one_after_the_other(clients, Random(random.random())) for _ in range(3)))
            await clients.aclose()

        asyncio.run(main())

    @contextlib.contextmanager
    def _limits(self, random: Random) -> Any:
        """Some calls are under a strict budget: of plenty, or of next to nothing."""
        chance = random.random()
        if chance < 0.6:
            yield
        elif chance < 0.9:
            with scope("strict", max_budget=1000, strict_budget=True):
                yield
        else:
            with scope("tight", max_budget="0.02", strict_budget=True):
                yield

    def _acknowledge(self, response_id: str | None, began: float, what: str) -> None:
        self._calls += 1
        if response_id is None:
            return
        kind = self._class
        if kind == PROMISED and (self._hopeless.last >= began or lane_of(self._ledger).hopeless):
            kind = BEYOND
        os.write(self._acks, f"{kind} {response_id} {what} {os.getpid()} {time.time():.3f}\n".encode())


def work(directory: Path, slot: int, seed: int) -> None:
    """Be the worker `slot`. Does not return."""
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    code = 1
    try:
        Worker(directory, slot, seed).run()
    except SystemExit:
        raise
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(code)
