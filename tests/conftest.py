"""What tests share: a simulator, and a clean slate."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from postgres import database, own_server, postgres  # noqa: F401 - fixtures

import llm_toll_autopatch
from llm_toll_autopatch import lasting, reporting
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.simulator import Simulator

# A busy machine is no failure.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

# Whoever runs the tests in the background of a shell has interrupts ignored, and so would the programs that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Take what is imported by now out of the collector's sight: it looks at the rest at the end of each test."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Have it all in sight again, for what asks the collector who refers to what."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def running_simulator() -> Iterator[Simulator]:
    """One simulator for the whole run."""
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def sim(running_simulator: Simulator) -> Iterator[Simulator]:
    """The simulator, with no request in its list."""
    running_simulator.clear()
    yield running_simulator
    running_simulator.wait_idle()


@pytest.fixture(autouse=True)
def clean_slate() -> Iterator[None]:
    """Every test starts and ends with nothing patched, and none of our own failures may go unnoticed."""
    failures.reset()
    reporting.reset()
    yield
    llm_toll_autopatch.unpatch_all()
    lasting.give_up()
    llm_toll_autopatch.flush(5)
    noticed = failures.last
    failures.reset()
    gc.collect()  # a connection that the test left open is to fail this test, not whichever comes by later
    gc.freeze()  # what is left is there to stay: the SDKs build their types when they are first used
    assert noticed is None, "a failure of ours that the test did not expect"
