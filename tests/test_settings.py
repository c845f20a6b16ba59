"""Where a setting comes from, and what a bad one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_toll_autopatch import MemorySink, SQLiteLedger, patch_all, patched, status
from llm_toll_autopatch.settings import Settings


def test_the_default_is_the_ledger_in_the_users_data_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without arguments the records go to the embedded ledger, which is made by the first record, not before."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("LLM_TOLL_AUTOPATCH_SINK", raising=False)
    patch_all()
    assert status().ledger == str(tmp_path / "llm_toll_autopatch" / "ledger.db")
    assert list(tmp_path.iterdir()) == []


def test_the_environment_names_the_sink_and_the_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """LLM_TOLL_AUTOPATCH_SINK and LLM_TOLL_AUTOPATCH_PROJECT are used where no argument says otherwise."""
    path = tmp_path / "elsewhere.db"
    monkeypatch.setenv("LLM_TOLL_AUTOPATCH_SINK", f"sqlite:///{path}")
    monkeypatch.setenv("LLM_TOLL_AUTOPATCH_PROJECT", "from-the-environment")
    chosen = Settings.resolve()
    assert isinstance(chosen.sink, SQLiteLedger)
    assert chosen.sink.path == path
    assert chosen.project == "from-the-environment"
    sink = MemorySink()
    chosen = Settings.resolve(sink=sink, project="argued")
    assert chosen.sink is sink
    assert chosen.project == "argued"
    with patched() as memory:
        assert isinstance(memory, MemorySink)


def test_a_bad_value_in_the_environment_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says where the bad value stands, and a secret in it is not printed."""
    monkeypatch.setenv("LLM_TOLL_AUTOPATCH_SINK", "nosuch://user:hunter2@host/db")
    with pytest.raises(ValueError, match="LLM_TOLL_AUTOPATCH_SINK") as error:
        patch_all()
    assert "hunter2" not in str(error.value)


def test_settings_cannot_be_changed_from_outside() -> None:
    """What a call took with it stays as it was: the caller's dict is copied, and the settings are frozen."""
    tags = {"team": "search"}
    chosen = Settings.resolve(sink="memory", tags=tags)
    tags["team"] = "ads"
    assert dict(chosen.tags) == {"team": "search"}
    with pytest.raises(TypeError):
        chosen.tags["team"] = "x"  # type: ignore[index]
    with pytest.raises(AttributeError):
        chosen.project = "x"  # type: ignore[misc]
