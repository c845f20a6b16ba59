"""`PrometheusSink`: counters and histograms of prometheus-client."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.sinks.extras import needed
from llm_toll_autopatch.sinks.semconv import SECONDS_BUCKETS
from llm_toll_autopatch.sinks.text import encodable

if TYPE_CHECKING:
    from llm_toll_autopatch.records import CallRecord

__all__ = ["PrometheusSink"]

OTHER = "other"
"""The label of what came when a label had all the values that it may have."""

_LABELS = ("project", "provider", "model", "operation")
_families: weakref.WeakKeyDictionary[Any, _Families] = weakref.WeakKeyDictionary()
_making = threading.Lock()


class PrometheusSink:
    """Counts every call in a registry of prometheus-client, which the program exposes as it does its other metrics.

    `llm_toll_calls_total` (by project, provider, model, operation and outcome), `llm_toll_tokens_total` (with
    `direction`, input or output), `llm_toll_cost_usd_total` (with `llm_toll_unknown_cost_calls_total` for the calls
    that are not in it), `llm_toll_estimated_calls_total`, and the histograms `llm_toll_call_duration_seconds` and
    `llm_toll_time_to_first_chunk_seconds` (by provider, model and operation).

    A registry is of one process. With several (prefork servers), set `PROMETHEUS_MULTIPROC_DIR` before the program
    starts and expose a `MultiProcessCollector`, as prometheus-client's documentation says; the figures are then the sum
    of all processes, also of ended ones.

    Args:
        registry: Where to register; None is prometheus-client's default one. Sinks with the same registry share the
            metrics.
        max_values: How many values each label may have in this process; what comes later is counted as `other`.

    Raises:
        ValueError: `max_values` is below 1, or the registry has other metrics of these names.
        MissingExtraError: prometheus-client is not installed; an ImportError and a ValueError.
    """

    deferred = True

    def __init__(self, registry: Any = None, *, max_values: int = 100) -> None:
        client = needed("prometheus_client", by="PrometheusSink", install="llm-toll-autopatch[prometheus]")
        if max_values < 1:
            raise ValueError(f"max_values= takes a number above 0, not {max_values!r}")
        registry = client.REGISTRY if registry is None else registry
        with _making:
            families = _families.get(registry)
            if families is None:
                families = _families[registry] = _Families(client, registry)
        self._families = families
        self._max_values = max_values
        self._known: dict[str, set[str]] = {}

    def __repr__(self) -> str:
        return f"PrometheusSink(max_values={self._max_values})"

    def emit(self, record: CallRecord) -> None:
        """Count `record`."""
        families = self._families
        project = self._bounded("project", record.project)
        where = (
            self._bounded("provider", record.provider),
            self._bounded("model", record.response_model or record.model),
            self._bounded("operation", record.operation),
        )
        families.calls.labels(project, *where, record.outcome).inc()
        usage = record.usage
        for direction, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            if tokens > 0:
                families.tokens.labels(project, *where, direction).inc(tokens)
        if record.usage_source in ("estimated", "partial"):
            families.estimated.labels(project, *where).inc()
        if record.cost_usd is None:
            families.unknown.labels(project, *where).inc()
        else:
            families.cost.labels(project, *where).inc(max(0.0, float(record.cost_usd)))
        families.duration.labels(*where).observe(record.duration_s)
        if record.time_to_first_chunk_s is not None:
            families.first_chunk.labels(*where).observe(record.time_to_first_chunk_s)

    def _bounded(self, label: str, value: str) -> str:
        known = self._known.setdefault(label, set())
        if value not in known:
            if len(known) >= self._max_values:
                return OTHER
            known.add(value)
        return encodable(value)  # else it would spoil the whole page


class _Families:
    """The metrics of one registry."""

    def __init__(self, client: Any, registry: Any) -> None:
        def counter(name: str, text: str, *labels: str) -> Any:
            return client.Counter(f"llm_toll_{name}", text, (*_LABELS, *labels), registry=registry)

        def histogram(name: str, text: str) -> Any:
            return client.Histogram(f"llm_toll_{name}", text, _LABELS[1:], registry=registry, buckets=SECONDS_BUCKETS)

        self.calls = counter("calls", "Calls that have ended", "outcome")
        self.tokens = counter("tokens", "Tokens that were used", "direction")
        self.cost = counter("cost_usd", "Cost in USD of the calls whose price is known")
        self.unknown = counter("unknown_cost_calls", "Calls whose cost is not known")
        self.estimated = counter("estimated_calls", "Calls whose tokens are wholly or partly estimated")
        self.duration = histogram("call_duration_seconds", "From the request to the end of the answer")
        self.first_chunk = histogram("time_to_first_chunk_seconds", "From the request to the first chunk of a stream")
