"""The pytest plugin: what tests cost. It loads in every pytest of its environment, and imports nothing until used."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    from llm_toll_autopatch.pytest_costs.allowed import Allowed, TestKeeper
    from llm_toll_autopatch.pytest_costs.calls import LLMCalls
    from llm_toll_autopatch.pytest_costs.ground import Ground
    from llm_toll_autopatch.pytest_costs.run import RunLedger
    from llm_toll_autopatch.pytest_costs.summary import Costs
    from llm_toll_autopatch.settings import Settings

_MARKER = "llm_budget"
_NOTHING = object()
_SHOWN = 20
_OUTSIDE = "(outside of tests: shared fixtures, calls that ended after their test)"
_MAX_COST, _FOLDER = "llm_max_nano_usd", "llm_folder"
_PLUGIN = pytest.StashKey["LLMCosts"]()
_TEST = pytest.StashKey["_Test"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    group = parser.getgroup("llm_toll_autopatch", "what LLM calls cost (llm_toll_autopatch)")
    group.addoption(
        "--llm-costs", action="store_true", help="meter the LLM calls of every test, and show what each test cost"
    )
    group.addoption(
        "--llm-max-cost", metavar="USD", help="the same, and refuse calls once the whole run has cost that much"
    )
    parser.addini("llm_costs", "meter the LLM calls of every test (as --llm-costs)", type="bool", default=False)
    parser.addini("llm_max_cost", "USD that LLM calls of a whole run may cost (as --llm-max-cost)", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and what watches this run."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(usd=None, calls=None, tokens=None): what the LLM calls of this test may cost, how many they may be,"
        " and how many tokens they may use; more are refused, and the test fails",
    )
    plugin = LLMCosts(config)
    config.stash[_PLUGIN] = plugin
    config.pluginmanager.register(plugin, "llm_toll_autopatch_costs")


@pytest.fixture
def llm_calls(request: pytest.FixtureRequest) -> Generator[LLMCalls]:
    """The LLM calls of this test: `total_cost_usd`, `input_tokens`, `by_model`, `records` … and `len()`."""
    plugin = request.config.stash[_PLUGIN]
    test = request.node.stash.get(_TEST, None)
    if test is None:  # asked for in the middle of a test, by `getfixturevalue`
        plugin.begin(request.node)
        yield request.node.stash[_TEST].calls
        plugin.end(request.node)
    else:
        yield test.calls


class _Test:
    """A test that is metered."""

    def __init__(self, ground: Ground, allowed: Allowed | None, keeper: TestKeeper | None) -> None:
        self.ground = ground
        self.calls = ground.calls
        self.allowed = allowed
        self.keeper = keeper
        self.before: Any = None
        self.ours: Settings | None = None

    def complaint(self) -> str | None:
        """Return what to say if the test used more than it was allowed to."""
        if self.allowed is None or self.keeper is None:
            return None
        return self.allowed.complaint(self.calls, self.keeper.refused)


class LLMCosts:
    """One run of pytest, in this process: a plain run, a worker of xdist, or its controller.

    Args:
        config: pytest's.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._workerinput: dict[str, Any] | None = getattr(config, "workerinput", None)
        self._max_cost = self._checked_max_cost()
        self._always = bool(config.getoption("llm_costs") or config.getini("llm_costs") or self._max_cost is not None)
        self._ours: Settings | None = None
        self._folder: str | None = None
        self._ledger: RunLedger | None = None
        self._outside: LLMCalls | None = None
        self._before: list[Any] = []
        self._refused = 0
        self._costs: dict[str, Costs] = {}

    def _checked_max_cost(self) -> int | None:
        given = self._config.getoption("llm_max_cost")
        source = "llm_max_cost:" if given is None else "--llm-max-cost"
        value = self._config.getini("llm_max_cost") if given is None else given
        if not value:
            return None
        from llm_toll_autopatch.budgets.limits import checked_amount

        try:
            return checked_amount(source, value)
        except ValueError as error:
            raise pytest.UsageError(str(error)) from None

    # The run

    def pytest_sessionstart(self) -> None:
        """Begin to meter, if every test is to be metered."""
        if not self._always:
            return
        if self._workerinput is not None:
            self._folder = self._workerinput.get(_FOLDER)
        elif self._max_cost is not None:
            self._folder = tempfile.mkdtemp(prefix="llm-toll-pytest-")
        from llm_toll_autopatch.pytest_costs.ground import begin_metering

        try:
            self._ours = begin_metering()
        except (TypeError, ValueError) as error:
            raise pytest.UsageError(f"llm_toll_autopatch: {error}") from None

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of xdist where the limit of the run is kept."""
        node.workerinput[_FOLDER] = self._folder

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a worker knows beyond the reports of its tests."""
        output = getattr(node, "workeroutput", None) or {}  # a worker that crashed leaves none
        self._refused += output.get("llm_refused", 0)
        self._count(_OUTSIDE, output.get("llm_outside", {}))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Meter no more, and fail the run if it cost too much."""
        if self._always:
            from llm_toll_autopatch.pytest_costs.ground import end_metering

            end_metering(self._ours)
        outside: dict[str, object] = {}
        if self._outside is not None:
            from llm_toll_autopatch.pytest_costs.summary import Costs

            outside = dict(Costs.of(self._outside).properties)
        if self._ledger is not None:
            self._refused += self._ledger.refused
            self._ledger.close()
        if self._workerinput is not None:
            self._config.workeroutput.update(llm_refused=self._refused, llm_outside=outside)  # type: ignore[attr-defined]
            return
        self._count(_OUTSIDE, outside)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._run_complaint() and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _run_complaint(self) -> str | None:
        if self._max_cost is None:
            return None
        from llm_toll_autopatch.ledger.money import format_usd, from_nano_usd, sum_usd

        most, cost = from_nano_usd(self._max_cost), sum_usd(each.usd for each in self._costs.values())
        if cost <= most and not self._refused:
            return None
        refused = f", and {self._refused:,} more were refused and not sent" if self._refused else ""
        return f"--llm-max-cost is exceeded: calls for {format_usd(cost)} of {format_usd(most)}{refused}"

    # Its tests

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Find mistakes in markers before anything runs."""
        for item in items:
            try:
                _allowed(item)
            except (TypeError, ValueError) as error:
                raise pytest.UsageError(f"{item.nodeid}: {error}") from None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """Begin to count, before the test's fixtures."""
        if self._always or "llm_calls" in getattr(item, "fixturenames", ()) or item.get_closest_marker(_MARKER):
            self.begin(item)
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Fail a test that used more than it was allowed to."""
        test = item.stash.get(_TEST, None)
        try:
            result = yield
        except Exception:
            complaint = test and test.complaint()
            if complaint:
                item.add_report_section("call", _MARKER, complaint)
            raise
        complaint = test and test.complaint()
        if complaint:
            pytest.fail(complaint, pytrace=False)
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """Count no more, after the test's fixtures; put the figures into its report."""
        try:
            return (yield)
        finally:
            self.end(item)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
        """Leave what a shared fixture costs out of the tests that happen to be the first and the last to need it."""
        if fixturedef.scope == "function":
            return (yield)
        # Finalizers run in the reverse order: the fixture's own, from its setup, are between these two.
        fixturedef.addfinalizer(self._go_inside)
        self._go_outside()
        try:
            return (yield)
        finally:
            self._go_inside()
            fixturedef.addfinalizer(self._go_outside)

    def _go_outside(self) -> None:
        """Count for no test, until `_go_inside`. Until something is counted there is nothing to do, or to import."""
        outside = self._outside
        if outside is None:
            self._before.append(_NOTHING)
            return
        from llm_toll_autopatch import settings
        from llm_toll_autopatch.pytest_costs.ground import Ground

        self._before.append(settings.everywhere(Ground(outside, self._run_limits())))

    def _go_inside(self) -> None:
        before = self._before.pop()
        if before is not _NOTHING:
            from llm_toll_autopatch import settings

            settings.everywhere(before)

    def begin(self, item: pytest.Item) -> None:
        """Begin to count for a test.

        Raises:
            TypeError: A setting that is written somewhere has the wrong type.
            ValueError: It makes no sense.
        """
        from llm_toll_autopatch import settings
        from llm_toll_autopatch.pytest_costs.allowed import TestKeeper
        from llm_toll_autopatch.pytest_costs.calls import LLMCalls
        from llm_toll_autopatch.pytest_costs.ground import Ground, begin_metering

        if self._outside is None:
            self._outside = LLMCalls()
        allowed = _allowed(item)
        keeper = TestKeeper() if allowed is not None else None
        limits = allowed.kept_by(keeper) if allowed is not None and keeper is not None else ()
        test = _Test(Ground(LLMCalls(self._outside), (*limits, *self._run_limits())), allowed, keeper)
        test.ours = begin_metering()
        test.before = settings.everywhere(test.ground)
        item.stash[_TEST] = test

    def end(self, item: pytest.Item) -> None:
        """Count no more for a test, if it was counted for."""
        test = item.stash.get(_TEST, None)
        if test is None:
            return
        del item.stash[_TEST]
        from llm_toll_autopatch import settings
        from llm_toll_autopatch.pytest_costs.ground import end_metering
        from llm_toll_autopatch.pytest_costs.summary import Costs

        settings.everywhere(test.before)
        end_metering(test.ours)
        test.calls.close()
        found = Costs.of(test.calls).properties
        names = {name for name, _ in found}
        # A test that is run again reports what it cost the last time.
        item.user_properties[:] = [each for each in item.user_properties if each[0] not in names] + found

    def _run_limits(self) -> tuple[Any, ...]:
        if self._max_cost is None or self._folder is None:
            return ()
        if self._ledger is None:
            from llm_toll_autopatch.pytest_costs.run import RunLedger

            self._ledger = RunLedger(Path(self._folder) / "run.db")
        return ((self._ledger.limit(self._max_cost), self._ledger),)

    # Its end

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the figures of a test, of a worker's too."""
        if self._workerinput is None and report.when == "teardown":
            self._count(report.nodeid, dict(report.user_properties))

    def _count(self, name: str, properties: dict[str, object]) -> None:
        if "llm_calls" not in properties:
            return
        from llm_toll_autopatch.pytest_costs.summary import Costs

        costs = Costs.among(properties)
        if costs is not None and costs.llm_calls:
            self._costs[name] = self._costs[name] + costs if name in self._costs else costs

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what the tests cost."""
        complaint = self._run_complaint()
        if self._costs:
            from llm_toll_autopatch.pytest_costs.summary import lines

            terminalreporter.section("LLM calls")
            most = _SHOWN if self._config.get_verbosity() < 1 else len(self._costs)
            for line in lines(self._costs, most):
                terminalreporter.write_line(line)
        elif self._always:
            terminalreporter.write_line("no LLM calls were made")
        if complaint:
            terminalreporter.write_line(complaint, red=True)


def _allowed(item: pytest.Item) -> Allowed | None:
    """Return what the marker of a test allows.

    Raises:
        TypeError: Its arguments are not what it takes.
        ValueError: They make no sense.
    """
    marker = item.get_closest_marker(_MARKER)
    if marker is None:
        return None
    from llm_toll_autopatch.pytest_costs.allowed import Allowed

    return Allowed.checked(marker.args, marker.kwargs)
