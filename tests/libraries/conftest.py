"""What the tests of libraries share: an environment that points all of them at the simulator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from libraries.calls import Check
from llm_toll_autopatch.simulator import Simulator


@pytest.fixture(autouse=True)
def environment(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The libraries find the simulator as they find the services, by the SDKs' variables."""
    for name in ("GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI", "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in sim.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def runner() -> Iterator[asyncio.Runner]:
    """One event loop for all tests."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def check(sim: Simulator, runner: asyncio.Runner, record_property: Callable[[str, object], None]) -> Check:
    """Makes a call bare and metered, and compares."""
    return Check(sim, runner, record_property)
