"""Sinks of other packages are there by name, and what they need and lack is said clearly."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

from llm_toll_autopatch import MemorySink, status
from llm_toll_autopatch.simulator import Simulator
from llm_toll_autopatch.sinks.resolve import resolve_sink

EXAMPLE = Path(__file__).parent.parent / "examples" / "sink_package"


def install(directory: Path, name: str, entry_points: dict[str, str]) -> None:
    """Lay down what `pip install` leaves of a package's metadata."""
    info = directory / f"{name}-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    lines = [f"{key} = {value}" for key, value in entry_points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[llm_toll_autopatch.sinks]", *lines, ""]))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of installed packages, in which one has sinks that work and sinks that do not."""
    (tmp_path / "some_sinks.py").write_text(
        textwrap.dedent(
            """
            from llm_toll_autopatch import MemorySink
            def chatty(password):
                raise RuntimeError("cannot log in with " + password)
            def picky():
                raise ValueError("no server at localhost:1")
            def nothing():
                return None
            """
        )
    )
    names = {name: f"some_sinks:{name}" for name in ("chatty", "picky", "nothing", "gone")}
    install(tmp_path, "some-sinks", {"theirs": "some_sinks:MemorySink", "memory": "some_sinks:picky", **names})
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_by_name(site: Path) -> None:
    """A name that a package registers is its sink; a name of ours stays ours."""
    assert isinstance(resolve_sink("theirs"), MemorySink)
    assert isinstance(resolve_sink("memory"), MemorySink)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("picky", "sink= is 'picky', from some_sinks:picky: ValueError: no server at localhost:1"),
        ("gone", "sink= is 'gone', from some_sinks:gone: AttributeError: "),
        ("picky:x", "TypeError: "),
        ("unheard-of", ', "chatty", "gone", '),
    ],
)
def test_one_that_does_not_work(site: Path, name: str, part: str) -> None:
    """What a package's sink says when it cannot be made is a ValueError at configuration time."""
    with pytest.raises(ValueError, match=r"^sink= ") as caught:
        resolve_sink(name)
    assert part in str(caught.value)


def test_its_words_show_no_password(site: Path) -> None:
    """What stands behind the colon is never shown, not even if the package's own message has it."""
    with pytest.raises(ValueError, match="RuntimeError: its message is not shown") as caught:
        resolve_sink("chatty:s3cret")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_one_that_makes_no_sink(site: Path) -> None:
    """What is made must be a sink."""
    with pytest.raises(TypeError, match=r"'nothing', from some_sinks:nothing is of type NoneType"):
        resolve_sink("nothing")


def test_the_example_package(sim: Simulator, tmp_path: Path) -> None:
    """The example's sink is found by its entry point, by name and with its argument, and has the program's calls."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    install(tmp_path, project["name"], project["entry-points"]["llm_toll_autopatch.sinks"])
    calls = tmp_path / "calls.csv"
    program = "import openai\nopenai.OpenAI().responses.create(model='gpt-5-mini', input='hi')"
    program = f"import llm_toll_autopatch\nllm_toll_autopatch.patch_all()\n{program}"
    path = os.pathsep.join([str(tmp_path), str(EXAMPLE), *sys.path])
    subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **sim.environment(), "PYTHONPATH": path, "LLM_TOLL_AUTOPATCH_SINK": f"csv:{calls}"},
        check=True, timeout=60,
    )  # fmt: skip
    with calls.open(newline="") as file:
        [row] = csv.DictReader(file)
    assert (row["model"], row["input_tokens"], row["output_tokens"]) == ("gpt-5-mini", "25", "8")
    assert float(row["cost_usd"]) > 0


def test_the_examples_own_tests() -> None:
    """The example passes the conformance tests, as its own test file runs them."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_sink.py"],
        cwd=EXAMPLE, env={**os.environ, "PYTHONPATH": os.pathsep.join([str(EXAMPLE), *sys.path])},
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "6 passed" in done.stdout


@pytest.mark.parametrize(
    ("name", "package"), [("otel", "opentelemetry"), ("prometheus", "prometheus_client"), ("llm-toll", "llm_toll")]
)
def test_a_missing_library(name: str, package: str) -> None:
    """A sink whose library is not installed is a clear error when it is configured, not when the first call ends."""
    program = f"""
        import sys
        sys.modules[{package!r}] = None
        import llm_toll_autopatch
        try:
            llm_toll_autopatch.patch_all(sink={name!r})
        except ValueError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=True
    )
    assert f"sink= is '{name}': " in done.stdout
    assert f"pip install 'llm-toll-autopatch[{name}]'" in done.stdout
    assert not status().active


def test_libraries_are_loaded_when_they_are_used() -> None:
    """Importing the package, or a sink that needs none, loads none of the libraries, nor looks for entry points."""
    program = """
        import sys, llm_toll_autopatch
        from llm_toll_autopatch import ConsoleSink, Sink, SinkUnavailableError, TeeSink
        from llm_toll_autopatch.sinks.resolve import resolve_sink
        resolve_sink(["console", "memory"])
        names = {"opentelemetry", "prometheus_client", "llm_toll", "importlib.metadata"}
        print(names & set(sys.modules))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "set()\n"
