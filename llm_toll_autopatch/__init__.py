"""Meter every LLM call that a Python process makes: tokens, cost in USD, who it was for. Streams too.

    import llm_toll_autopatch
    llm_toll_autopatch.patch_all()

The names are loaded when they are first used: importing this package imports no SDK, no wrapt and no sqlite3.
"""

TYPE_CHECKING = False  # what type checkers take for `typing.TYPE_CHECKING`, without the time that importing it takes
if TYPE_CHECKING:
    from llm_toll_autopatch.accumulator import StreamAccumulator
    from llm_toll_autopatch.budgets.errors import (
        BudgetExceededError,
        BudgetOverrunWarning,
        BudgetUnavailableError,
        LocalRateLimitError,
        UnboundedCostError,
    )
    from llm_toll_autopatch.estimate import TokenEstimateWarning
    from llm_toll_autopatch.health import Status
    from llm_toll_autopatch.ledger.postgres import PostgresLedger
    from llm_toll_autopatch.ledger.sqlite import SQLiteLedger
    from llm_toll_autopatch.patching import flush, patch_all, patched, status, unpatch_all
    from llm_toll_autopatch.pricing.prices import UnknownPriceWarning
    from llm_toll_autopatch.records import CallRecord, Usage
    from llm_toll_autopatch.scopes import scope
    from llm_toll_autopatch.sinks import Sink, SinkUnavailableError
    from llm_toll_autopatch.sinks.callback import CallbackSink
    from llm_toll_autopatch.sinks.console import ConsoleSink
    from llm_toll_autopatch.sinks.jsonl import JSONLinesSink
    from llm_toll_autopatch.sinks.llm_toll import LLMTollSink
    from llm_toll_autopatch.sinks.log import LoggingSink
    from llm_toll_autopatch.sinks.memory import MemorySink
    from llm_toll_autopatch.sinks.otel import OTelSink
    from llm_toll_autopatch.sinks.prometheus import PrometheusSink
    from llm_toll_autopatch.sinks.tee import TeeSink
    from llm_toll_autopatch.spend import Spend
    from llm_toll_autopatch.tracking import track_costs

__version__ = "0.1.0"

_HOMES = {
    "BudgetExceededError": "budgets.errors",
    "BudgetOverrunWarning": "budgets.errors",
    "BudgetUnavailableError": "budgets.errors",
    "CallRecord": "records",
    "CallbackSink": "sinks.callback",
    "ConsoleSink": "sinks.console",
    "JSONLinesSink": "sinks.jsonl",
    "LLMTollSink": "sinks.llm_toll",
    "LocalRateLimitError": "budgets.errors",
    "LoggingSink": "sinks.log",
    "MemorySink": "sinks.memory",
    "OTelSink": "sinks.otel",
    "PostgresLedger": "ledger.postgres",
    "PrometheusSink": "sinks.prometheus",
    "SQLiteLedger": "ledger.sqlite",
    "Sink": "sinks",
    "SinkUnavailableError": "sinks",
    "Spend": "spend",
    "Status": "health",
    "StreamAccumulator": "accumulator",
    "TeeSink": "sinks.tee",
    "TokenEstimateWarning": "estimate",
    "UnboundedCostError": "budgets.errors",
    "UnknownPriceWarning": "pricing.prices",
    "Usage": "records",
    "flush": "patching",
    "load_ipython_extension": "notebook.extension",
    "patch_all": "patching",
    "patched": "patching",
    "scope": "scopes",
    "status": "patching",
    "track_costs": "tracking",
    "unload_ipython_extension": "notebook.extension",
    "unpatch_all": "patching",
}

__all__ = [
    "BudgetExceededError",
    "BudgetOverrunWarning",
    "BudgetUnavailableError",
    "CallRecord",
    "CallbackSink",
    "ConsoleSink",
    "JSONLinesSink",
    "LLMTollSink",
    "LocalRateLimitError",
    "LoggingSink",
    "MemorySink",
    "OTelSink",
    "PostgresLedger",
    "PrometheusSink",
    "SQLiteLedger",
    "Sink",
    "SinkUnavailableError",
    "Spend",
    "Status",
    "StreamAccumulator",
    "TeeSink",
    "TokenEstimateWarning",
    "UnboundedCostError",
    "UnknownPriceWarning",
    "Usage",
    "__version__",
    "flush",
    "patch_all",
    "patched",
    "scope",
    "status",
    "track_costs",
    "unpatch_all",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
