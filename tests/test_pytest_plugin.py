"""The pytest plugin, in pytest runs of their own, with the real clients against the simulator."""

from __future__ import annotations

import configparser
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from environments import Environment, build

from llm_toll_autopatch.pytest_costs.allowed import Allowed
from llm_toll_autopatch.simulator import Simulator

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent
# The module by its path: the package that is installed may be another one than the one under test.
PLUGIN = ("-p", "no:llm_toll_autopatch", "-p", "llm_toll_autopatch.pytest_plugin", "-p", "no:cacheprovider")

PREFACE = """
import asyncio
import threading

import openai
import pytest

from llm_toll_autopatch import BudgetExceededError, MemorySink, patch_all, patched, status, track_costs

HI = [{"role": "user", "content": "Hi"}]

def ask(times=1, model="gpt-5-mini", **more):
    with openai.OpenAI(max_retries=0) as client:
        for _ in range(times):
            answer = client.chat.completions.create(model=model, messages=HI, **more)
    return answer
"""


@pytest.fixture
def run(pytester: pytest.Pytester, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs pytest on a file, against the simulator."""
    for name, value in sim.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
    return Run(pytester)


class Run:
    """One run of pytest."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester

    def __call__(self, source: str, *arguments: str, preface: str = PREFACE) -> pytest.RunResult:
        self.pytester.makepyfile(test_it=preface + source)
        return self.pytester.runpytest_subprocess(*PLUGIN, *arguments, timeout=60)


def test_the_calls_of_a_test(run: Run) -> None:
    """`llm_calls` has the calls of its own test: of its threads, tasks and fixtures, and of streams that are dropped."""
    result = run(
        """
        @pytest.fixture
        def asked_before():
            ask()

        def test_threads(llm_calls, asked_before):
            assert len(llm_calls) == 1
            thread = threading.Thread(target=ask, args=(2,))
            thread.start()
            thread.join()
            assert len(llm_calls) == 3
            assert [record.method for record in llm_calls] == ["chat.completions.create"] * 3
            assert str(llm_calls.total_cost_usd) == "0.00006675"
            assert (llm_calls.input_tokens, llm_calls.output_tokens) == (75, 24)
            assert llm_calls.by_model["gpt-5-mini"].calls == 3
            assert repr(llm_calls) == "<LLMCalls: 3 calls, 75 input and 24 output tokens, $0.00006675>"

        def test_streams(llm_calls):
            with openai.OpenAI() as client:
                stream = client.chat.completions.create(model="gpt-5-mini", messages=HI, stream=True)
                next(stream)
                del stream
            (record,) = llm_calls
            assert (record.outcome, llm_calls.estimated_calls) == ("abandoned", 1)

        def test_none(llm_calls):
            assert not llm_calls
            assert llm_calls.total_cost_usd == 0

        async def test_tasks(llm_calls):
            async with openai.AsyncOpenAI() as client:
                one = client.responses.create(model="gpt-5-mini", input="Hi")
                await asyncio.gather(one, asyncio.create_task(client.responses.create(model="gpt-5", input="Hi")))
            assert set(llm_calls.by_model) == {"gpt-5-mini", "gpt-5"}

        def test_tracked(llm_calls):
            @track_costs(model="gpt-5-mini", extract_usage=lambda answer: ("gpt-5-mini", 100, 10))
            def elsewhere():
                return {"not": "of the SDKs"}

            elsewhere()
            (record,) = llm_calls
            assert record.usage.input_tokens == 100

        def test_asked_for_late(request):
            ask()
            assert not status().active
            calls = request.getfixturevalue("llm_calls")
            ask()
            assert len(calls) == 1

        def test_not_asked_for():
            ask()
            assert not status().active
        """.replace("\n        ", "\n")
    )
    result.assert_outcomes(passed=7)
    result.stdout.fnmatch_lines(
        ["*LLM calls*", "*test_tasks", "*test_threads", "*total", "~ with 1 call whose tokens*"]
    )
    result.stdout.no_fnmatch_line("*test_not_asked_for")


def test_unknown_is_not_nothing(run: Run) -> None:
    """The cost of a test is None as soon as that of one call is unknown, and the summary says that it is."""
    result = run(
        """
def test_it(llm_calls):
    ask()
    ask(model="nosuch")
    assert llm_calls.total_cost_usd is None
    assert llm_calls.unknown_costs == 1
    assert "1 unknown" in str(llm_calls)

def test_that(llm_calls):
    ask(model="nosuch")
"""
    )
    result.assert_outcomes(passed=2, warnings=2)
    result.stdout.fnmatch_lines(
        [
            "*$0.0000222+? * 2 * test_it.py::test_it",
            "*unknown * 1 * test_it.py::test_that",
            "[?] with 2 calls whose price*",
        ]
    )


def test_a_budget(run: Run, sim: Simulator) -> None:
    """What a marker does not allow is refused, not sent, and fails its test, also where the code swallows the error."""
    result = run(
        """
@pytest.mark.llm_budget(calls=1)
def test_too_many():
    ask(3)

@pytest.mark.llm_budget(calls=1)
def test_swallowed():
    for _ in range(3):
        try:
            ask()
        except BudgetExceededError:
            pass

@pytest.mark.llm_budget(usd=0.00003)
def test_too_dear():
    ask(2)

@pytest.mark.llm_budget(tokens=40)
def test_too_long():
    ask(2)

@pytest.mark.llm_budget(usd=1)
def test_nobody_knows():
    ask(model="nosuch")

@pytest.mark.llm_budget(usd=0.0001, calls=2, tokens=100)
class TestWithin:
    def test_it(self):
        ask(2)

    @pytest.mark.llm_budget(calls=0)
    def test_the_closest_marker_counts(self):
        with pytest.raises(BudgetExceededError):
            ask()

    async def test_async(self):
        async with openai.AsyncOpenAI() as client:
            for _ in range(2):
                await client.responses.create(model="gpt-5-mini", input="Hi")
            with pytest.raises(BudgetExceededError, match="2 of 2 calls are used"):
                await client.responses.create(model="gpt-5-mini", input="Hi")
"""
    )
    result.assert_outcomes(failed=7, passed=1, warnings=2)
    result.stdout.fnmatch_lines(
        [
            "*test_too_many*",
            "*BudgetExceededError: the budget of this block; 1 of 1 calls are used or under way; nothing was sent",
            "*llm_budget is exceeded: 1 call more refused, and not sent",
            "*test_swallowed*",
            "llm_budget is exceeded: 2 calls more refused, and not sent",
            "  gpt-5-mini: 1 call, 25 input and 8 output tokens, $0.00002225",
            "*test_too_dear*",
            "llm_budget is exceeded: $0.0000445 of $0.00003",
            "llm_budget is exceeded: 66 tokens of 40",
            "llm_budget(usd=…) cannot be checked: of 1 of 1 calls no price is known",
        ]
    )
    assert len(sim.requests) == 1 + 1 + 2 + 2 + 1 + 2 + 0 + 2


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((0.05,), {}, "llm_budget takes usd=, calls= and tokens=, at least one of them, by name"),
        ((), {}, "llm_budget takes usd="),
        ((), {"dollars": 1}, "llm_budget takes usd="),
        ((), {"usd": "much"}, "usd= takes an amount of USD"),
        ((), {"calls": 1.5}, "calls= takes a number such as 3, not 1.5"),
        ((), {"tokens": -1}, "tokens= takes a number that is 0 or more, not -1"),
    ],
)
def test_what_a_marker_takes(args: tuple[object, ...], kwargs: dict[str, object], said: str) -> None:
    """Arguments of a marker that make no sense are an error that says what it takes."""
    with pytest.raises((TypeError, ValueError), match=f"^{said}"):
        Allowed.checked(args, kwargs)


def test_mistakes_in_markers(run: Run) -> None:
    """A marker that makes no sense stops the run before anything is sent, and names the test."""
    result = run("@pytest.mark.llm_budget(0.05)\ndef test_it():\n    pass\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: test_it.py::test_it: llm_budget takes usd=*"])


def test_mistakes_in_options(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither does an option or a setting that makes no sense go through."""
    result = run("def test_it():\n    pass\n", "--llm-max-cost", "much")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--llm-max-cost takes an amount of USD*"])
    monkeypatch.setenv("LLM_TOLL_AUTOPATCH_PROJCT", "x")
    result = run("def test_it():\n    pass\n", "--llm-costs")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*llm_toll_autopatch: *LLM_TOLL_AUTOPATCH_PROJCT*"])


TESTS = """
@pytest.fixture(scope="session")
def shared():
    ask(2)

@pytest.mark.parametrize("times", [1, 2, 3])
def test_it(times, shared):
    ask(times)

def test_free():
    pass
"""


def test_every_test(run: Run) -> None:
    """`--llm-costs` meters all tests and lists them, the dearest first, shared fixtures apart; JUnit files have it too."""
    result = run(TESTS, "--llm-costs", "--junitxml=out.xml")
    result.assert_outcomes(passed=4)
    rows = [line.split() for line in result.outlines if line.startswith((" ", "$"))]
    assert [(row[1], row[-1]) for row in rows if row[0].startswith("$")] == [
        ("3", "test_it.py::test_it[3]"),
        ("2", "test)"),
        ("2", "test_it.py::test_it[2]"),
        ("1", "test_it.py::test_it[1]"),
        ("8", "total"),
    ]
    cases = ET.parse(run.pytester.path / "out.xml").iter("testcase")
    found = [{each.get("name"): each.get("value") for each in case.iter("property")} for case in cases]
    assert [each["llm_calls"] for each in found] == ["1", "2", "3", "0"]
    assert found[0]["llm_known_cost_usd"] == "0.00002225"


def test_shared_fixtures_are_torn_down_outside_of_tests(run: Run) -> None:
    """What a shared fixture calls at its end is neither counted for the last test nor refused by what that may cost."""
    result = run(
        """
@pytest.fixture
def own():
    yield
    ask()

@pytest.fixture(scope="session")
def lowest():
    yield
    ask()

@pytest.fixture(scope="module")
def shared(lowest):
    ask()
    yield
    ask(2)

@pytest.mark.llm_budget(calls=2)
def test_it(shared, own, llm_calls):
    ask()
    assert len(llm_calls) == 1
"""
    )
    result.assert_outcomes(passed=1)
    rows = [line.split() for line in result.outlines if line.startswith((" ", "$"))]
    assert [(row[1], row[-1]) for row in rows if row[0].startswith("$")] == [
        ("4", "test)"),
        ("2", "test_it.py::test_it"),
        ("6", "total"),
    ]


def test_the_limit_of_a_run(run: Run, sim: Simulator) -> None:
    """Once the run has cost `--llm-max-cost`, calls are refused, and the run fails although every test passed."""
    result = run(
        """
@pytest.mark.parametrize("number", range(4))
def test_it(number):
    try:
        ask()
    except BudgetExceededError:
        pass
""",
        "--llm-max-cost=0.00004",
    )
    result.assert_outcomes(passed=4, warnings=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["--llm-max-cost is exceeded: calls for $0.0000445 of $0.00004, and 2 more were refused and not sent"]
    )
    assert len(sim.requests) == 2


def test_workers_of_xdist(run: Run, sim: Simulator) -> None:
    """With xdist the limit holds for all workers together, and the controller shows what all tests cost."""
    pytest.importorskip("xdist")
    result = run(
        """
@pytest.fixture(scope="module")
def shared():
    ask()

@pytest.mark.parametrize("number", range(8))
def test_it(number, shared):
    ask()
""",
        "-n2",
        "--llm-max-cost=0.0001",
    )
    sent = len(sim.requests)
    assert 5 <= sent <= 6, "the one that crosses the limit, and one more under way"
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "* 2 * (outside of tests*",
            f"* {sent} * total",
            "--llm-max-cost is exceeded: calls for * of $0.0001, and * more*",
        ]
    )


def test_programs_that_meter_themselves(run: Run) -> None:
    """Code under test may call `patch_all` and `patched`: its sink gets its records, the test counts them all the same."""
    result = run(
        """
sink = MemorySink()

@pytest.mark.llm_budget(calls=3)
def test_their_configuration(llm_calls):
    ask()
    patch_all(sink=sink, project="theirs")
    ask()
    with patched() as inner:
        ask()
    assert (len(inner), len(sink), len(llm_calls)) == (1, 1, 3)
    with pytest.raises(BudgetExceededError):
        ask()

def test_it_stays():
    ask()
    assert status().active
    assert len(sink) == 2
"""
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*llm_budget is exceeded: 1 call more refused*", "* 3 * total"])


def test_it_loads_nothing(run: Run) -> None:
    """A run that makes no use of the plugin imports nothing that takes time, and shows nothing."""
    result = run(
        """
import sys

def test_it():
    heavy = {"wrapt", "sqlite3", "genai_prices", "openai", "anthropic", "google.genai"}
    assert not heavy & set(sys.modules)
    ours = {name for name in sys.modules if name.startswith("llm_toll_autopatch")}
    assert ours == {"llm_toll_autopatch", "llm_toll_autopatch.pytest_plugin"}
""",
        preface="",
    )
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*LLM*")


def test_installed(tmp_path: Path, sim: Simulator) -> None:
    """The wheel brings the plugin: installing it is all there is to do, and `-p no:` is enough to be without."""
    wheel = build(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith("entry_points.txt")]
        entry_points = configparser.ConfigParser()
        entry_points.read_string(archive.read(name).decode())
    assert dict(entry_points["pytest11"]) == {"llm_toll_autopatch": "llm_toll_autopatch.pytest_plugin"}
    environment = Environment(tmp_path / "venv", wheel)
    (tmp_path / "test_it.py").write_text(
        PREFACE + "\ndef test_it(llm_calls):\n    ask()\n    assert len(llm_calls) == 1\n"
    )
    command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(tmp_path / "test_it.py"))
    found = environment.run("python", *command, **sim.environment())
    assert (found.returncode, "LLM calls" in found.stdout) == (0, True), found.stdout
    found = environment.run("python", *command, "-p", "no:llm_toll_autopatch", **sim.environment())
    assert "fixture 'llm_calls' not found" in found.stdout
