"""What a version of an SDK does not have yet is told as such, and only that; the tables of what came when are true."""

from __future__ import annotations

import importlib
import warnings
from types import SimpleNamespace

import pytest
from roads import ABSENT, ROADS
from versions import CAME, INSTALLED, came_later

from llm_toll_autopatch import patched, status
from llm_toll_autopatch.health import ProviderStatus, Status
from llm_toll_autopatch.providers import load
from llm_toll_autopatch.providers.since import SINCE, later_than
from llm_toll_autopatch.sdks import SDKS


def _everything() -> Status:
    """The status once every module with a method of ours that this version has is imported."""
    with warnings.catch_warnings(), patched():
        warnings.simplefilter("ignore")
        for name in SDKS:
            for module in dict.fromkeys(row.module for row in load(name).targets):
                try:
                    importlib.import_module(module)
                except ImportError:
                    continue
        return status()


@pytest.mark.parametrize(("provider", "what"), CAME)
def test_what_came_when(provider: str, what: str) -> None:
    """Each thing of the tests' table is there from its release on, and not before."""
    _, is_there = CAME[provider, what]
    assert is_there() == (came_later(provider, what) is None)


@pytest.mark.parametrize(("module", "method"), SINCE)
def test_which_method_came_when(module: str, method: str) -> None:
    """Each method of our own table is there from its release on, and not before."""
    (provider,) = [name for name, sdk in SDKS.items() if module.startswith(f"{sdk.package}.")]
    rows = [row for row in load(provider).targets if (row.module, row.method) == (module, method) and not row.optional]
    assert rows
    for row in rows:
        cls, _, name = row.path.partition(".")
        try:
            is_there = hasattr(getattr(importlib.import_module(module), cls), name)
        except (ImportError, AttributeError):
            is_there = False
        assert is_there == (later_than(INSTALLED[provider], row) is None)


def test_a_road_that_is_left_out_came_later() -> None:
    """A method that the tests leave out is one that came with a later release: none may be lost from sight."""
    assert all(came_later(road.provider, road.method) for road in ABSENT)
    assert not any(came_later(road.provider, road.method) for road in ROADS)


def test_nothing_has_moved() -> None:
    """No method is missing on any version; what came later is named with its release, in what status() prints too."""
    now = _everything()
    assert now.failures == 0, now.last_failure
    for name, sdk in now.providers.items():
        assert sdk.version == INSTALLED[name]
        assert sdk.missing == ()
        metered = {label.partition(" (")[2].rstrip(")") for label in sdk.patched}
        rows = [row for row in load(name).targets if row.method not in metered]
        expected = {f"{row.method} ({since})": None for row in rows if (since := later_than(sdk.version, row))}
        assert sorted(sdk.later) == sorted(expected)
        assert not sdk.later or f"not in this version: {', '.join(sdk.later)}" in str(now)


def test_an_old_version_lacks_what_came_later() -> None:
    """A release before that of a method lacks it; the same one, a later one and an unknown one should have it."""
    row = SimpleNamespace(module="openai.resources.responses.responses", method="responses.compact")
    versions = ["1.109.0", "2.8.1", "2.9.0", "2.9.0.dev1", "2.10", "3.0.0rc1", None]
    assert [later_than(version, row) for version in versions] == ["2.9.0", "2.9.0", *[None] * 5]  # type: ignore[arg-type]


def test_status_prints_what_came_later() -> None:
    """What this version does not have yet is one line, apart from what is missing."""
    sdk = ProviderStatus(version="2.8.1", imported=True, missing=("A.b (a.b)",), later=("c.d (2.9.0)", "e.f (3.0.0)"))
    printed = str(
        Status(
            active=True, providers={"openai": sdk}, records=0, open_calls=0, queued=0, dropped=0, failures=0,
            last_failure=None, unknown_prices=(), ledger=None,
        )
    )  # fmt: skip
    assert "openai     2.8.1, 0 methods patched" in printed
    assert "           missing, not metered: A.b (a.b)" in printed.splitlines()
    assert "           not in this version: c.d (2.9.0), e.f (3.0.0)" in printed.splitlines()
