"""A pytest plugin for an SDK's own tests: meters them when it is told to, and writes what became of each.

`TOLL_SUITE_RESULT` is the file for the results. `TOLL_SUITE_METER` is "1" for metering: the patches are on before
anything imports an SDK. The bare run uses this plugin too, so that nothing else tells the two apart.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

_outcomes: dict[str, str] = {}
_reasons: dict[str, str] = {}
_failures_in: dict[str, int] = {}
_failed: list[str] = []
_metering = os.environ.get("TOLL_SUITE_METER") == "1"

if _metering:
    early = {"openai", "anthropic", "google.genai"} & set(sys.modules)
    if early:
        raise RuntimeError(f"imported before the patches were on: {', '.join(sorted(early))}")
    import llm_toll_autopatch

    llm_toll_autopatch.patch_all(sink="memory")

    class _Notes(logging.Handler):
        """Keeps what the package logs of its own failures: the first of each kind, with its traceback."""

        def emit(self, record: logging.LogRecord) -> None:
            """Keep it as text; what has no traceback is advice for users."""
            if record.exc_info:
                _failed.append(self.format(record))

    logging.getLogger("llm_toll_autopatch").addHandler(_Notes(logging.WARNING))


def pytest_runtest_logfinish(nodeid: str) -> None:
    """Note which test something of ours failed in."""
    if _metering and (total := llm_toll_autopatch.status().failures) != sum(_failures_in.values()):
        _failures_in[nodeid] = total - sum(_failures_in.values())


def pytest_runtest_logreport(report: Any) -> None:
    """Keep the worst that was said of a test: its set-up and tear-down count too."""
    if report.when == "call" or report.outcome != "passed":
        known = _outcomes.get(report.nodeid)
        if known in (None, "passed", "skipped"):
            _outcomes[report.nodeid] = report.outcome
        if report.failed:
            _reasons.setdefault(report.nodeid, str(report.longrepr)[-4000:])


def pytest_collectreport(report: Any) -> None:
    """A module that cannot be imported is a result as well."""
    if report.failed:
        _outcomes[report.nodeid] = "failed"
        _reasons[report.nodeid] = str(report.longrepr)[-4000:]


def pytest_sessionfinish() -> None:
    """Write the results."""
    result: dict[str, Any] = {"outcomes": _outcomes, "reasons": _reasons}
    if _metering:
        llm_toll_autopatch.flush(10)
        status = llm_toll_autopatch.status()
        result["metering"] = {
            "active": status.active,
            "records": status.records,
            "failures": status.failures,
            "failures_in": _failures_in,
            "failed": _failed,
            "patched": {name: list(sdk.patched) for name, sdk in status.providers.items()},
            "missing": {name: list(sdk.missing) for name, sdk in status.providers.items()},
        }
    Path(os.environ["TOLL_SUITE_RESULT"]).write_text(json.dumps(result), encoding="utf-8")
