"""One of the processes that race for a budget: `python racing.py LEDGER SIMULATOR CAP THREADS MODEL`.

It says that it is ready, begins when it is given a line, and prints how many of its calls were sent.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai

from llm_toll_autopatch import BudgetExceededError, PostgresLedger, SQLiteLedger, patch_all

PRICES = {"gpt-5-mini*": {"input": "0.25", "output": 2}}
BOUND = {"max_completion_tokens": 8, "messages": [{"role": "user", "content": "Say hello"}]}
PROJECT = "race"
_REFUSALS = 8
_PAUSE_S = 0.1


def ledger_at(place: str) -> SQLiteLedger | PostgresLedger:
    """The ledger at a path or URL, with patience for a crowd."""
    if place.startswith("postgresql:"):
        return PostgresLedger(place, timeout_s=30)
    return SQLiteLedger(Path(place), busy_timeout_s=30)


def race(url: str, threads: int, model: str) -> int:
    """Call until nothing is left, on so many threads; return how many calls were sent."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:

        def work(_: int) -> int:
            sent = refused = 0
            while refused < _REFUSALS:
                try:
                    client.chat.completions.create(model=model, **BOUND)
                except BudgetExceededError:
                    refused += 1
                    time.sleep(_PAUSE_S)
                else:
                    sent, refused = sent + 1, 0
            return sent

        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(work, range(threads)))


def main() -> None:
    place, url, cap, threads, model = sys.argv[1:]
    patch_all(sink=ledger_at(place), project=PROJECT, max_budget=cap, strict_budget=True, prices=PRICES)
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    print(race(url, int(threads), model), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
