"""DSPy, which calls models through LiteLLM."""

from __future__ import annotations

import os
from typing import Any

import pytest

from libraries.calls import GPT, PROMPT, REASON, Call, Check, parametrized

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else the import downloads a table of prices
dspy = pytest.importorskip("dspy", reason=REASON)


def lm() -> Any:
    return dspy.LM(f"openai/{GPT}", cache=False)


async def acall() -> Any:
    return await lm().acall(PROMPT)


CALLS = (
    Call("LM", lambda: lm()(PROMPT)),
    Call("LM.acall", acall),
)


@parametrized(CALLS)
def test_dspy(call: Call, check: Check) -> None:
    """DSPy answers as without the patches, and each of its requests is one record."""
    check(call)
