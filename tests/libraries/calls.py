"""What the tests of libraries have in common: a call is made bare, then metered, and the two are compared."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from llm_toll_autopatch import MemorySink, patched
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.simulator import Simulator

GPT, CLAUDE, GEMINI = "gpt-5-mini", "claude-sonnet-5-5", "gemini-3.8-flash"
PROMPT = "Why is the sky blue?"
MESSAGES: list[Any] = [{"role": "user", "content": PROMPT}]
REASON = "the nox session `libraries` installs it"
"""Why a library is not there."""


@dataclass(frozen=True)
class Call:
    """One way to use a library.

    Attributes:
        name: As the table of results says it.
        make: Makes the call and returns what the user would look at; a coroutine function where it is async.
        requests: How many requests it sends.
        metered: Whether they pass through one of the three SDKs.
        outcome: The records'.
        source: The records' `usage_source`.
        settings: Of `patched()`.
    """

    name: str
    make: Callable[[], Any]
    requests: int = 1
    metered: bool = True
    outcome: str = "completed"
    source: str = "reported"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    def run(self, runner: asyncio.Runner) -> Any:
        """Make the call."""
        return runner.run(self.make()) if inspect.iscoroutinefunction(self.make) else self.make()


@dataclass(frozen=True)
class Check:
    """Makes calls, and compares.

    Attributes:
        sim: The simulator.
        runner: The loop of all async calls: some libraries keep a client, and with it connections, from call to call.
        note: Leaves a property of the test in the report, from which the table of results is made.
    """

    sim: Simulator
    runner: asyncio.Runner
    note: Callable[[str, object], None]

    def __call__(self, call: Call) -> None:
        """Make the call bare, then metered; what the user and the service see is the same, and each request is one record."""
        self.note("call", call.name)
        self.note("metered", call.metered)
        bare = call.run(self.runner)
        assert self.sim.wait_idle()
        expected = self.sim.requests
        assert len(expected) == call.requests, [request.path for request in expected]
        assert all(request.status == 200 for request in expected)
        self.sim.clear()
        with patched(**call.settings) as sink:
            assert isinstance(sink, MemorySink)
            result = call.run(self.runner)
            assert self.sim.wait_idle()
        assert failures.last is None
        assert result == bare
        assert [request.path for request in self.sim.requests] == [request.path for request in expected]
        if not call.settings:
            # Later requests of a conversation carry ids that the simulator made up.
            assert self.sim.requests[0].body == expected[0].body
        records = sink.records
        if not call.metered:
            assert not records
            return
        assert len(records) == len(self.sim.requests), [(record.method, record.outcome) for record in records]
        for record in records:
            assert record.outcome == call.outcome
            assert record.usage_source == call.source
            assert record.usage.input_tokens > 0
            assert record.cost_usd


def parametrized(calls: tuple[Call, ...]) -> pytest.MarkDecorator:
    """Return the mark that makes a test of each call."""
    return pytest.mark.parametrize("call", calls, ids=str)


async def listed(stream: Any) -> list[Any]:
    """Read an async stream to its end."""
    return [each async for each in stream]
