"""Settings come from arguments, else the environment, else pyproject.toml; an error says from where."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llm_toll_autopatch import JSONLinesSink, MemorySink, SQLiteLedger, TeeSink, patch_all
from llm_toll_autopatch.cli import main
from llm_toll_autopatch.options import OPTIONS
from llm_toll_autopatch.settings import Settings
from llm_toll_autopatch.sources import find


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, two below one whose `pyproject.toml` tests write."""
    below = tmp_path / "src" / "deep"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


def write(project: Path, table: str) -> Path:
    """A pyproject.toml with our table."""
    path = project / "pyproject.toml"
    path.write_text(f"[tool.other]\nx = 1\n\n[tool.llm_toll_autopatch]\n{table}\n")
    return path


# What each source can say: the text of a variable, the line in pyproject.toml, the argument, and how to look at the outcome.
EVERY: dict[str, tuple[str, str, Any, Any]] = {
    "project": ("from-env", '"from-file"', "argued", lambda s: s.project),
    "tags": ("team=search, stage = test", '{team = "ads"}', {"a": "b"}, lambda s: dict(s.tags)),
    "include_usage": ("no", "true", "auto", lambda s: s.include_usage),
    "close_on_break": ("off", "false", True, lambda s: s.close_on_break),
    "estimate_input": ("0", "false", True, lambda s: s.estimate_input),
    "providers": ("openai, google", '["anthropic"]', ["google"], lambda s: s.providers),
}
EXPECTED: dict[str, tuple[Any, Any, Any, Any]] = {
    "project": ("default", "from-file", "from-env", "argued"),
    "tags": ({}, {"team": "ads"}, {"team": "search", "stage": "test"}, {"a": "b"}),
    "include_usage": ("auto", True, False, "auto"),
    "close_on_break": (True, False, False, True),
    "estimate_input": (True, False, False, True),
    "providers": (("openai", "anthropic", "google"), ("anthropic",), ("openai", "google"), ("google",)),
}


@pytest.mark.parametrize("name", EVERY)
def test_an_argument_beats_the_environment_beats_pyproject(
    name: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each source in turn says something, and what it says counts over all that was there before."""
    text, line, argument, look = EVERY[name]
    default, from_file, from_environment, argued = EXPECTED[name]
    assert look(Settings.resolve(sink="memory")) == default
    path = write(project, f"{name} = {line}")
    assert look(Settings.resolve(sink="memory")) == from_file
    assert find()[name].source == f"{path} [tool.llm_toll_autopatch] {name}"
    monkeypatch.setenv(f"LLM_TOLL_AUTOPATCH_{name.upper()}", text)
    assert look(Settings.resolve(sink="memory")) == from_environment
    assert look(Settings.resolve(sink="memory", **{name: argument})) == argued


def test_every_option_has_a_row_in_the_settings() -> None:
    """An option of the table becomes a field of the settings: none can be forgotten on the way."""
    kept = {"estimator": "measure"} | dict.fromkeys(("max_budget", "reset", "rate_limit", "tpm_limit"), "limits")
    assert {kept.get(name, name) for name in OPTIONS} <= set(Settings.__dataclass_fields__)


def test_paths_in_pyproject_start_at_its_directory(project: Path) -> None:
    """The same ledger is meant in whatever directory of the project a program starts; `ledger` is the default one."""
    write(project, 'sink = ["sqlite:///costs.db", "jsonl:calls.jsonl", "ledger"]')
    tee = Settings.resolve().sink
    assert isinstance(tee, TeeSink)
    ledger, lines, default = tee.sinks
    assert isinstance(ledger, SQLiteLedger)
    assert isinstance(lines, JSONLinesSink)
    assert isinstance(default, SQLiteLedger)
    assert (ledger.path, lines.path) == (project / "costs.db", project / "calls.jsonl")
    assert default.path == project / "data" / "llm_toll_autopatch" / "ledger.db"


def test_a_variable_can_hold_a_list_of_sinks(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several sinks are a list in JSON, since paths may have commas."""
    monkeypatch.setenv("LLM_TOLL_AUTOPATCH_SINK", '["memory", "jsonl:a,b.jsonl"]')
    tee = Settings.resolve().sink
    assert isinstance(tee, TeeSink)
    memory, lines = tee.sinks
    assert isinstance(memory, MemorySink)
    assert isinstance(lines, JSONLinesSink)
    assert lines.path.name == "a,b.jsonl"


@pytest.mark.parametrize("where", ["file", "file of the environment", "environment", "pyproject"])
def test_prices_keep_every_digit(where: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prices from text are the decimals that are written, not the nearest floats."""
    prices = '{"my-model": {"input": 0.1000000000000000055, "output": 2}}'
    (project / "prices.json").write_text(prices)
    if where == "environment":
        monkeypatch.setenv("LLM_TOLL_AUTOPATCH_PRICES", prices)
    elif where == "file of the environment":
        monkeypatch.setenv("LLM_TOLL_AUTOPATCH_PRICES", str(project / "prices.json"))
    elif where == "file":
        write(project, 'prices = "prices.json"')
    else:
        write(project, "prices.my-model = {input = 0.1000000000000000055, output = 2}")
    explained = Settings.resolve(sink="memory").prices.explain(provider="openai", model="my-model")
    assert explained.rates["input"] == Decimal("0.1000000000000000055")


BAD = [
    ("close_on_break", "maybe", '"maybe"'),
    ("include_usage", "maybe", '"maybe"'),
    ("tags", "no pair", "{team = 1}"),
    ("providers", "openai,mistral", '["mistral"]'),
    ("estimator", "nosuch", "3"),
    ("prices", '{"m": {"input": 1}}', "{m = {input = 1}}"),
    ("prices", "/nowhere.json", '"nowhere.json"'),
    ("sink", "nosuch", '"nosuch"'),
    ("sink", '["memory", ', "[]"),
]


@pytest.mark.parametrize(("name", "text", "line"), BAD)
def test_an_error_names_the_source(
    name: str, text: str, line: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad value is refused when it is configured, and the message says in which file or variable it stands."""
    path = write(project, f"{name} = {line}")
    with pytest.raises((TypeError, ValueError)) as caught:
        patch_all()
    assert str(caught.value).startswith(f"{path} [tool.llm_toll_autopatch] {name}: ")
    monkeypatch.setenv(f"LLM_TOLL_AUTOPATCH_{name.upper()}", text)
    with pytest.raises((TypeError, ValueError)) as caught:
        patch_all()
    assert str(caught.value).startswith(f"LLM_TOLL_AUTOPATCH_{name.upper()}: ")
    assert main(["config"]) == 1


def test_what_is_no_option_is_an_error_with_the_nearest_name(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing mistake in a name cannot go unnoticed, wherever it is made."""
    with pytest.raises(TypeError, match="no argument projct=; did you mean project"):
        Settings.resolve(projct="x")  # type: ignore[call-arg]
    path = write(project, 'projct = "x"')
    with pytest.raises(ValueError, match="unknown key 'projct'; did you mean project") as caught:
        patch_all()
    assert str(path) in str(caught.value)
    path.unlink()
    monkeypatch.setenv("LLM_TOLL_AUTOPATCH_SINKS", "memory")
    with pytest.raises(ValueError, match=r"LLM_TOLL_AUTOPATCH_SINKS .* did you mean LLM_TOLL_AUTOPATCH_SINK"):
        patch_all()


@pytest.mark.parametrize("table", ["[tool.llm_toll_autopatch", "tool = 3 # llm_toll_autopatch"])
def test_a_broken_pyproject_is_named(table: str, project: Path) -> None:
    """A file that is no TOML, or has no tables where they belong, is an error that names it."""
    (project / "pyproject.toml").write_text(table)
    with pytest.raises(ValueError, match=r"pyproject\.toml: "):
        patch_all()


def test_a_table_that_is_none_is_named(project: Path) -> None:
    """The same where our table is something else."""
    (project / "pyproject.toml").write_text("[tool]\nllm_toll_autopatch = 3")
    with pytest.raises(TypeError, match=r"pyproject\.toml: "):
        patch_all()


def test_only_the_nearest_pyproject_counts(project: Path) -> None:
    """One without our table hides those above it; one that is no TOML and does not mention us is not looked into."""
    write(project, 'project = "outer"')
    assert Settings.resolve(sink="memory").project == "outer"
    (project / "src" / "pyproject.toml").write_text("[[[ other tools complain")
    assert Settings.resolve(sink="memory").project == "default"


def test_no_working_directory(project: Path) -> None:
    """A process whose working directory was removed has the defaults."""
    (project / "src" / "deep").rmdir()
    assert Settings.resolve(sink="memory").project == "default"


def test_without_our_table_nothing_is_parsed() -> None:
    """`patch_all` does not import a TOML parser for a project that says nothing about us."""
    code = "import llm_toll_autopatch, sys; llm_toll_autopatch.patch_all(); print('tomllib' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, check=True)
    assert result.stdout == b"False\n"


def test_config_shows_every_setting_and_its_source(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`autotoll config` shows what counts and where it is written; a password never."""
    path = write(project, 'project = "acme"\ntags = {team = "search"}\nclose_on_break = false')
    monkeypatch.setenv("LLM_TOLL_AUTOPATCH_INCLUDE_USAGE", "false")
    assert main(["config", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == list(OPTIONS)
    table = f"{path} [tool.llm_toll_autopatch]"
    assert {name: (row["value"], row["source"]) for name, row in rows.items()} == {
        "sink": (f"sqlite:///{project}/data/llm_toll_autopatch/ledger.db", "default"),
        "project": ("acme", f"{table} project"),
        "tags": ({"team": "search"}, f"{table} tags"),
        "include_usage": (False, "LLM_TOLL_AUTOPATCH_INCLUDE_USAGE"),
        "close_on_break": (False, f"{table} close_on_break"),
        "estimate_input": (True, "default"),
        "estimator": (None, "default"),
        "prices": (None, "default"),
        "providers": (["openai", "anthropic", "google"], "default"),
        "max_budget": (None, "default"),
        "reset": (None, "default"),
        "rate_limit": (None, "default"),
        "tpm_limit": (None, "default"),
        "strict_budget": (False, "default"),
        "stop_streams": (False, "default"),
        "on_ledger_error": (None, "default"),
        "on_orphan": ("charge", "default"),
    }
    assert main(["config"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["project", "acme", str(path), "[tool.llm_toll_autopatch]", "project"]
    assert lines[3].split()[:2] == ["tags", "team=search"]
    monkeypatch.setenv("LLM_TOLL_AUTOPATCH_SINK", "nosuch://me:hunt/er2@host/db?password=hunt/er2")
    assert main(["config"]) == 1
    shown = capsys.readouterr()
    assert "nosuch://…host/db?…" in shown.out
    assert "er2" not in shown.out + shown.err


def test_the_report_reads_the_ledger_of_the_settings(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Commands that read a ledger take the one that `pyproject.toml` names."""
    write(project, 'sink = ["log", "sqlite:///costs.db"]')
    assert main(["report"]) == 1
    assert str(project / "costs.db") in capsys.readouterr().err
