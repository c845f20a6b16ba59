"""Records are quickly made, and are frozen dataclasses like any other."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import pytest
from specimens import record

from llm_toll_autopatch import CallRecord, Usage
from llm_toll_autopatch.frozen import quickly_made


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """What `dataclasses` makes."""

    name: str
    number: int = 3
    parts: tuple[str, ...] = dataclasses.field(default_factory=tuple)


Quick: Any = quickly_made(
    dataclasses.make_dataclass(
        "Quick",
        [("name", str), ("number", int, 3), ("parts", tuple, dataclasses.field(default_factory=tuple))],
        frozen=True,
        slots=True,
        kw_only=True,
    )
)


@pytest.mark.parametrize("given", [{"name": "a"}, {"name": "b", "number": 0}, {"name": "c", "parts": ("x",)}])
def test_the_fields_are_those_of_the_dataclass(given: dict[str, Any]) -> None:
    """What is given is kept, what is not is the default."""
    made = Quick(**given)
    assert dataclasses.asdict(made) == dataclasses.asdict(Plain(**given))
    assert (type(made), made, hash(made)) == (Quick, Quick(**given), hash(Quick(**given)))
    assert dataclasses.replace(made, number=9).number == 9


@pytest.mark.parametrize("given", [{}, {"name": "a", "colour": "red"}])
def test_what_is_missing_or_unknown_is_refused(given: dict[str, Any]) -> None:
    """It is the error that any call makes."""
    with pytest.raises(TypeError, match=r"name|colour"):
        Quick(**given)


@pytest.mark.parametrize(
    "made", [Quick(name="a"), Usage(input_tokens=1), record()], ids=lambda made: type(made).__name__
)
def test_it_is_frozen_once_it_is_made(made: Any) -> None:
    """No field can be set or deleted, and none added."""
    name = dataclasses.fields(made)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(made, name, 1)
    with pytest.raises(FrozenInstanceError):
        delattr(made, name)
    with pytest.raises((AttributeError, TypeError)):
        made.other = 1


def test_a_subclass_is_made_as_it_would_be() -> None:
    """Its instances are its own, with fields of their own."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Longer(Usage):
        more: int = 0

    class Labelled(CallRecord):
        label = "mine"

    made = Longer(input_tokens=4, more=5)
    assert (type(made), made.input_tokens, made.output_tokens, made.more) == (Longer, 4, 0, 5)
    labelled = Labelled(**{field.name: getattr(record(), field.name) for field in dataclasses.fields(CallRecord)})
    assert (type(labelled), labelled.label, labelled.model) == (Labelled, "mine", record().model)


def test_its_signature_is_told() -> None:
    """Editors and documentation see the fields."""
    parameters = inspect.signature(Usage).parameters
    assert list(parameters) == [field.name for field in dataclasses.fields(Usage)]
    assert inspect.signature(CallRecord).parameters["outcome"].default == "completed"


def test_where_threads_run_at_once_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the interpreter's lock, changing an object's class would stop every thread."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    before = Plain.__init__
    assert quickly_made(Plain).__init__ is before
