"""The workflow files: they can be parsed, and what they run is there to be run."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(path: Path) -> dict[Any, Any]:
    """A workflow, as it says it."""
    parsed: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return parsed


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_whole(path: Path) -> None:
    """Each workflow has a trigger, may do nothing by default but read, and its jobs end in bounded time."""
    workflow = read(path)
    assert workflow[True], "YAML 1.1 takes `on` for true"
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["runs-on"]
        assert job["timeout-minutes"] <= 90
        for needed in [job.get("needs", [])]:
            assert not needed or needed in workflow["jobs"]
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            assert re.fullmatch(r"[\w-]+/[\w-]+@[\w./]+", step.get("uses", "a/b@c"))
            assert "${{" not in step.get("run", ""), "what others can choose goes into a shell by the environment"


def test_what_they_run_exists() -> None:
    """The targets of make, and the sessions of nox, that workflows name are there."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = "\n".join(path.read_text(encoding="utf-8") for path in WORKFLOWS)
    assert set(re.findall(r"run: make ([\w-]+)", text)) == {"lint", "docs", "test", "sdk-suites"}
    assert {"lint", "docs", "test", "sdk-suites"} <= targets
    nox = (ROOT / "noxfile.py").read_text()
    sessions = read(ROOT / ".github" / "workflows" / "nightly.yml")["jobs"]["versions"]["strategy"]["matrix"]["session"]
    for session in sessions:
        version, name = re.fullmatch(r"versions-([\d.]+)\((.+)\)", session).groups()  # type: ignore[union-attr]
        assert f'"{version}"' in nox
        assert f'"{name}": (' in nox


def test_pythons() -> None:
    """The tests run on every Python that the package says it is for."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        classifiers = tomllib.load(file)["project"]["classifiers"]
    said = [each.rpartition(" ")[2] for each in classifiers if re.search(r":: 3\.\d+$", each)]
    assert read(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"] == said


def test_publishing_holds_no_key() -> None:
    """Only the job that publishes may ask for a token, in an environment of its own, and it makes attestations."""
    jobs = read(ROOT / ".github" / "workflows" / "publish.yml")["jobs"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["environment"]
    assert "permissions" not in jobs["build"]
    assert jobs["publish"]["steps"][-1]["with"] == {"attestations": True}
    assert "secrets." not in (ROOT / ".github" / "workflows" / "publish.yml").read_text()
