"""What the simulated model says and what it costs, before any wire format."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from llm_toll_autopatch.simulator.schema import sample

if TYPE_CHECKING:
    from llm_toll_autopatch.simulator.scenario import Scenario

__all__ = ["Reply", "Tool", "items", "report"]

_ARGUMENT_PIECES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that the model can call."""

    name: str = "get_weather"
    parameters: Any = field(default_factory=lambda: {"properties": {"city": {"type": "string"}}})

    def arguments(self) -> dict[str, Any]:
        """Return arguments that fit its parameters."""
        arguments = sample(self.parameters)
        return arguments if isinstance(arguments, dict) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer of the model.

    Attributes:
        scenario: How the answer behaves.
        kind: What its content is. There are no pieces when it is empty.
        pieces: The content as it is streamed: of the text, of the refusal, or of the arguments' JSON.
        tool: The function that it calls.
        choices: How many choices have this content.
        output_tokens: Tokens of the content of all choices, without reasoning.
    """

    scenario: Scenario
    kind: Literal["text", "refusal", "tool", "empty"]
    pieces: tuple[str, ...]
    tool: Tool | None
    choices: int
    output_tokens: int

    @classmethod
    def to(
        cls,
        scenario: Scenario,
        *,
        tool: Tool | None,
        tool_results: int,
        schema: Any = None,
        choices: Any = None,
    ) -> Reply:
        """Return the reply to a request.

        Args:
            scenario: How the answer behaves.
            tool: The first function that the request declares.
            tool_results: How many results of function calls the request carries.
            schema: The schema that the request wants the text to fit.
            choices: How many choices the request wants.
        """
        kind: Literal["text", "refusal", "tool", "empty"] = "text"
        chosen = None
        pieces = scenario.text_chunks()
        if scenario.refusal:
            kind = "refusal"
        elif tool_results < scenario.tools:
            kind, chosen = "tool", tool or Tool()
            pieces = split(json.dumps(chosen.arguments(), ensure_ascii=False), _ARGUMENT_PIECES)
        elif schema is not None:
            pieces = split(json.dumps(sample(schema), ensure_ascii=False), scenario.chunks)
        if not pieces:
            kind = "empty"
        number = scenario.choices or (choices if isinstance(choices, int) and choices > 0 else 1)
        output = len(pieces) * number if scenario.output_tokens is None else scenario.output_tokens
        return cls(
            scenario=scenario, kind=kind, pieces=tuple(pieces), tool=chosen, choices=number, output_tokens=output
        )

    @property
    def content(self) -> str:
        """All pieces, joined."""
        return "".join(self.pieces)

    @property
    def reasoning(self) -> list[str]:
        """The pieces of the shown reasoning."""
        return self.scenario.reasoning_chunks()

    @property
    def endless(self) -> bool:
        """Whether the stream of its content never ends."""
        return self.scenario.endless and self.kind in ("text", "refusal")

    def streamed(self) -> Iterator[str]:
        """Yield the pieces of the content, for ever when the scenario is endless."""
        return self.scenario.endless_chunks() if self.endless else iter(self.pieces)

    def share(self, sent: int) -> int:
        """Return the output tokens of the first `sent` pieces, without reasoning."""
        if self.endless or not self.pieces:
            return sent
        return self.output_tokens * sent // len(self.pieces)


def split(text: str, number: int) -> list[str]:
    """Cut a text into `number` pieces of about the same length, or fewer if it is short."""
    size = max(1, -(-len(text) // max(1, number)))
    return [text[start : start + size] for start in range(0, len(text), size)]


def items(value: Any) -> Iterable[Mapping[str, Any]]:
    """Return the objects in a list of a request, whatever was sent in its place."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def report(
    key: str, usage: Mapping[str, Any], scenario: Scenario, *, wrong: tuple[Any, ...] = ("many", -1, [7])
) -> dict[str, Any]:
    """Return `{key: usage}` as the scenario wants usage to be reported: not at all, null, or of wrong types.

    Args:
        key: The field that holds usage.
        usage: What is right.
        scenario: How to report it.
        wrong: What broken usage has, in turn, in the place of its figures and details.
    """
    if scenario.no_usage:
        return {}
    if scenario.usage_null:
        return {key: None}
    if scenario.bad_usage:
        return {key: {name: wrong[number % len(wrong)] for number, name in enumerate(usage)}}
    return {key: usage}
