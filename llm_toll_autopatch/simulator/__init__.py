"""A local server that speaks the wire formats of OpenAI, Anthropic and Gemini: for demos, our tests, users' tests.

The model's name says how it behaves: `gpt-4o-mini+chunks=3+delay=10` (see `Scenario`). Standard library only.
"""

from llm_toll_autopatch.simulator.received import ReceivedRequest
from llm_toll_autopatch.simulator.scenario import Scenario
from llm_toll_autopatch.simulator.server import Simulator

__all__ = ["ReceivedRequest", "Scenario", "Simulator"]
