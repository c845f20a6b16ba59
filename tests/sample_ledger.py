"""A ledger like that of a small company, the same each time: for tests, pictures and measurements of the page.

python tests/sample_ledger.py PATH [CALLS]
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from llm_toll_autopatch.budgets.keeper import Claim, Reservation
from llm_toll_autopatch.budgets.limits import Limit
from llm_toll_autopatch.ledger import SQLiteLedger
from llm_toll_autopatch.records import CallRecord, Outcome, Usage, UsageSource

__all__ = ["NOW", "calls", "make"]

NOW = datetime(2026, 11, 25, 16, 20, tzinfo=UTC)
"""When the last call ended."""


class _Model(NamedTuple):
    provider: str
    operation: str
    method: str
    name: str
    input_usd: str | None
    output_usd: str | None


# USD per million tokens: of the right size, no more.
_MODELS = {
    "gpt": _Model("openai", "responses", "responses.create", "gpt-5", "1.25", "10"),
    "mini": _Model("openai", "chat", "chat.completions.create", "gpt-5-mini", "0.25", "2"),
    "embed": _Model("openai", "embeddings", "embeddings.create", "text-embedding-3-small", "0.02", "0"),
    "sonnet": _Model("anthropic", "messages", "messages.create", "claude-sonnet-5-5", "3", "15"),
    "haiku": _Model("anthropic", "messages", "messages.stream", "claude-haiku-5", "1", "5"),
    "flash": _Model("google", "generate_content", "models.generate_content_stream", "gemini-3.8-flash", "0.3", "2.5"),
    "own": _Model("openai", "chat", "chat.completions.create", "house-llama-70b", None, None),
}
_PROJECTS: dict[str, tuple[float, dict[str, float], str]] = {
    "support-bot": (0.42, {"mini": 6, "haiku": 3, "sonnet": 1}, "support"),
    "search": (0.30, {"embed": 7, "flash": 3}, "search"),
    "nightly-report": (0.06, {"gpt": 5, "sonnet": 2}, "data"),
    "code-review": (0.14, {"sonnet": 6, "gpt": 3, "own": 2}, "platform"),
    "playground": (0.08, {"mini": 2, "gpt": 1, "flash": 2, "own": 1}, "platform"),
}
_OUTCOMES: dict[Outcome, float] = {"completed": 93, "closed": 4, "error": 1.6, "cancelled": 0.8, "abandoned": 0.6}


def calls(count: int = 12_000, days: int = 45, seed: int = 8) -> Iterator[CallRecord]:
    """Yield `count` records of the `days` before `NOW`, in no order of time."""
    rng = random.Random(seed)
    for _ in range(count):
        yield _call(rng, days)


def _call(rng: random.Random, days: int) -> CallRecord:
    project = rng.choices(list(_PROJECTS), [share for share, _, _ in _PROJECTS.values()])[0]
    _, mix, team = _PROJECTS[project]
    model = _MODELS[rng.choices(list(mix), list(mix.values()))[0]]
    started = _moment(rng, project, days)
    outcome = rng.choices(list(_OUTCOMES), list(_OUTCOMES.values()))[0]
    stream = "stream" in model.method or rng.random() < 0.3
    failed = outcome == "error"
    usage = Usage() if failed else _usage(rng, project, model)
    source: UsageSource = "missing" if failed else "reported"
    if (
        not failed
        and stream
        and (outcome in {"closed", "abandoned"} or (model.provider == "openai" and rng.random() < 0.1))
    ):
        source = "partial" if model.provider == "anthropic" else "estimated"
    duration = 0.2 + rng.lognormvariate(0, 0.5) + usage.output_tokens * rng.uniform(0.008, 0.016)
    return CallRecord(
        id=str(UUID(int=int(started.timestamp() * 1000) << 80 | 0x7 << 76 | 0b10 << 62 | rng.getrandbits(61))),
        provider=model.provider,
        operation=model.operation,
        method=model.method,
        model=model.name,
        stream=stream,
        outcome=outcome,
        usage=usage,
        usage_source=source,
        cost_usd=_cost(model, usage, failed=failed),
        project=project,
        tags={"team": team, "env": "dev" if project == "playground" or rng.random() < 0.1 else "prod"},
        started_at=started,
        duration_s=round(duration, 3),
        time_to_first_chunk_s=round(min(duration, 0.2 + rng.expovariate(3)), 3) if stream and not failed else None,
        chunks=usage.output_tokens // 3 if stream else 0,
        error_type=rng.choice(["RateLimitError", "APITimeoutError"]) if failed else None,
    )


def _moment(rng: random.Random, project: str, days: int) -> datetime:
    # More and more of it, less at weekends and at night; the report runs at two.
    while True:
        age = days * (1 - rng.random() ** 0.6)
        moment = NOW - timedelta(days=age)
        if project == "nightly-report":
            moment = moment.replace(hour=2, minute=rng.randrange(40), second=rng.randrange(60))
            if moment < NOW:
                return moment
            continue
        quiet = (0.25 if moment.weekday() > 4 else 1) * (1 if 7 <= moment.hour < 20 else 0.2)
        if rng.random() < quiet:
            return moment


def _usage(rng: random.Random, project: str, model: _Model) -> Usage:
    if model.operation == "embeddings":
        return Usage(input_tokens=int(rng.lognormvariate(6.5, 0.7)))
    scale = {"nightly-report": 9.2, "code-review": 8.8}.get(project, 7.2)
    return Usage(input_tokens=int(rng.lognormvariate(scale, 0.8)), output_tokens=int(rng.lognormvariate(5.6, 0.9)))


def _cost(model: _Model, usage: Usage, *, failed: bool) -> Decimal | None:
    if failed:
        return Decimal(0)
    if model.input_usd is None or model.output_usd is None:
        return None
    micro = usage.input_tokens * Decimal(model.input_usd) + usage.output_tokens * Decimal(model.output_usd)
    return micro / 1_000_000


_LIMITS = (
    Limit("support-bot", "usd", 15_000_000_000, "monthly"),
    Limit("code-review", "usd", 27_500_000_000, "monthly"),
    Limit("nightly-report", "usd", 1_000_000_000, "daily"),
    Limit("search", "tokens", 2_000_000, "weekly"),
)


def make(path: Path, count: int = 12_000, days: int = 45) -> SQLiteLedger:
    """Make the ledger at `path`, with budgets of which something is held, and return it."""
    ledger = SQLiteLedger(path)
    records = calls(count, days)
    while some := list(islice(records, 20_000)):
        ledger.add(some)
    for number, limit in enumerate(_LIMITS):
        held = 350_000_000 if limit.unit == "usd" else 40_000
        ledger.reserve(
            Reservation(f"under-way-{number}", (Claim(limit, held),), NOW, NOW + timedelta(days=365), is_due=True)
        )
    ledger.close()
    return ledger


if __name__ == "__main__":
    make(Path(sys.argv[1]), *map(int, islice(sys.argv, 2, 4)))
