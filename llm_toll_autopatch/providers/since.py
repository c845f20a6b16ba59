"""Since which release an SDK has a method: an older one lacks it, and nothing can be billed through it there.

Without a line here a method that is not there has moved, of which we know no more than that it is not metered.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm_toll_autopatch.providers.target import Target

__all__ = ["SINCE", "later_than", "numbers"]

_BETA_RESPONSES = "openai.resources.beta.responses.responses"
_INTERACTIONS = "google.genai._gaos.interactions"

# Read off the released wheels, of each the first that defines the method. What the supported floors have is not listed.
SINCE: dict[tuple[str, str], str] = {
    ("openai.resources.responses.responses", "responses.compact"): "2.9.0",
    ("openai.resources.responses.responses", "responses.connect"): "2.22.0",
    (_BETA_RESPONSES, "beta.responses.create"): "2.45.0",
    (_BETA_RESPONSES, "beta.responses.compact"): "2.45.0",
    (_BETA_RESPONSES, "beta.responses.retrieve"): "2.45.0",
    (_BETA_RESPONSES, "beta.responses.cancel"): "2.45.0",
    (_BETA_RESPONSES, "beta.responses.connect"): "2.45.0",
    ("openai.resources.live.live", "live.connect"): "3.12.0",
    ("openai.resources.live.forks", "live.forks.connect"): "3.12.0",
    ("openai.resources.live.sideband", "live.sideband.connect"): "3.12.0",
    ("openai.resources.decisions", "decisions.create"): "3.26.0",
    ("anthropic.resources.messages.messages", "messages.parse"): "0.77.0",
    ("anthropic.lib.bedrock._beta_messages", "beta.messages.parse"): "0.122.0",
    ("anthropic.lib.bedrock._beta_messages", "beta.messages.stream"): "0.122.0",
    ("anthropic.lib.vertex._beta_messages", "beta.messages.parse"): "0.122.0",
    (_INTERACTIONS, "interactions.create"): "2.9.0",
    (_INTERACTIONS, "interactions.get"): "2.9.0",
    (_INTERACTIONS, "interactions.cancel"): "2.9.0",
    ("google.genai._gaos.decisions", "decisions.create"): "3.2.0",
}
"""By module and resource method."""


def later_than(version: str | None, target: Target) -> str | None:
    """Return the release of the SDK that brought a method, if it is later than `version`; else None."""
    since = SINCE.get((target.module, target.method))
    if since is None or version is None or numbers(version) >= numbers(since):
        return None
    return since


def numbers(version: str) -> tuple[int, ...]:
    """Return the first three numbers of a version; whatever comes behind them does not matter here."""
    return tuple(int(digits) for digits in re.findall(r"\d+", version)[:3])
