"""`OTelSink`: OpenTelemetry metrics, and spans when asked for."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from llm_toll_autopatch.sinks.extras import needed
from llm_toll_autopatch.sinks.semconv import (
    COST,
    SECONDS_BUCKETS,
    TOKEN_BUCKETS,
    UNKNOWN_COST,
    attributes_of,
    operation_of,
    usage_attributes,
)
from llm_toll_autopatch.sinks.text import encodable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from llm_toll_autopatch.records import CallRecord

__all__ = ["OTelSink"]

_SCOPE = "llm_toll_autopatch"
_GENERATIONS = ("legacy", "latest", "both")
_OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"
_LATEST = "gen_ai_latest_experimental"
_CONTEXTS = 10_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FAILED = ("error", "cancelled")


class OTelSink:
    """Reports every call to OpenTelemetry, of which it needs the API only: SDK and exporters are the program's.

    Metrics: tokens, duration and time to the first chunk under the names of the semantic conventions, and two of our
    own: `llm_toll.cost`, a counter in USD, and `llm_toll.unknown_cost`, which counts the calls that are not in it since
    their price is not known. These two also have the attribute `llm_toll.project`. Estimated tokens are reported too,
    with the attribute `llm_toll.usage_source`, which reported ones do not have.

    Records are handed over by a thread of ours, with the context that was current when the call began. Set up the
    providers before the first call, else the last records may come after their shutdown.

    Args:
        semconv: Which generation of the conventions: `"legacy"`, `"latest"` or `"both"`. None is `"latest"` if
            `OTEL_SEMCONV_STABILITY_OPT_IN` has `gen_ai_latest_experimental`, else `"legacy"`.
        spans: Whether to make a span of every call too. Not for calls of which Anthropic's SDK makes one itself.
        meter_provider: Where the metrics go; None is the global one.
        tracer_provider: Where the spans go; None is the global one.

    Raises:
        ValueError: `semconv` is none of these.
        MissingExtraError: opentelemetry-api is not installed; an ImportError and a ValueError.
    """

    deferred = True

    def __init__(
        self,
        *,
        semconv: Literal["legacy", "latest", "both"] | None = None,
        spans: bool = False,
        meter_provider: Any = None,
        tracer_provider: Any = None,
    ) -> None:
        if semconv is None:
            opted = {each.strip() for each in os.environ.get(_OPT_IN, "").split(",")}
            semconv = "latest" if _LATEST in opted else "legacy"
        if semconv not in _GENERATIONS:
            raise ValueError(f"semconv= takes 'legacy', 'latest', 'both' or None, not {semconv!r}")
        self.semconv = semconv
        self._legacy = semconv in ("legacy", "both")
        self._latest = semconv in ("latest", "both")
        metrics = needed("opentelemetry.metrics", by="OTelSink", install="llm-toll-autopatch[otel]")
        self._context = needed("opentelemetry.context", by="OTelSink", install="llm-toll-autopatch[otel]")
        self._trace = needed("opentelemetry.trace", by="OTelSink", install="llm-toll-autopatch[otel]")
        from llm_toll_autopatch import __version__

        self._instruments = _Instruments(metrics.get_meter(_SCOPE, __version__, meter_provider), self._names())
        self._tracer = self._trace.get_tracer(_SCOPE, __version__, tracer_provider) if spans else None
        # Contexts of open calls by the id of their record. Of a call without a record it stays, until it is the oldest.
        self._contexts: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"OTelSink(semconv={self.semconv!r}, spans={self._tracer is not None})"

    def _names(self) -> Iterator[str]:
        if self._legacy:
            yield from _LEGACY
        if self._latest:
            yield from _NEW
        yield from _OURS

    def began(self, call_id: str) -> None:
        """Remember the current context: the call's span is a child of the span that is current now."""
        context = self._context.get_current()
        if not context:
            return
        self._contexts[call_id] = context
        if len(self._contexts) > _CONTEXTS:
            self._contexts.pop(next(iter(self._contexts)), None)

    def emit(self, record: CallRecord) -> None:
        """Report `record`."""
        context = self._contexts.pop(record.id, None)
        if context is None:
            context = self._context.Context()
        self._measure(record, context)
        if self._tracer is not None and not _has_span(record, self._trace):
            self._span(self._tracer, record, context)

    def _measure(self, record: CallRecord, context: Any) -> None:
        plain = attributes_of(record)
        failure = {"error.type": record.error_type} if record.outcome in _FAILED and record.error_type else {}
        report = self._instruments.report
        if record.usage_source != "missing":
            marked = (
                plain if record.usage_source == "reported" else plain | {"llm_toll.usage_source": record.usage_source}
            )
            self._measure_tokens(record, marked, context)
        for name in ("gen_ai.client.operation.duration", "gen_ai.client.inference.duration"):
            report(name, record.duration_s, plain | failure, context)
        if record.time_to_first_chunk_s is not None:
            for name in (
                "gen_ai.client.operation.time_to_first_chunk",
                "gen_ai.client.inference.time_to_first_chunk",
            ):
                report(name, record.time_to_first_chunk_s, plain, context)
        ours = plain | {"llm_toll.project": encodable(record.project)}
        if record.cost_usd is None:
            report(UNKNOWN_COST, 1, ours, context)
        elif record.cost_usd > 0:  # a counter takes nothing below 0
            report(COST, float(record.cost_usd), ours, context)

    def _measure_tokens(self, record: CallRecord, attributes: Mapping[str, str], context: Any) -> None:
        usage, report = record.usage, self._instruments.report
        whole = {"input": usage.input_tokens, "output": usage.output_tokens}
        for kind, tokens in whole.items():
            report("gen_ai.client.token.usage", tokens, {**attributes, "gen_ai.token.type": kind}, context)
            report(f"gen_ai.client.inference.operation.{kind}_tokens", tokens, attributes, context)
        audio = {"input": usage.input_audio_tokens, "output": usage.output_audio_tokens}
        images = {"input": usage.input_image_tokens, "output": usage.output_image_tokens}
        for kind, tokens in whole.items():
            # Whether the rest is text alone nobody says.
            rest = max(0, tokens - audio[kind] - images[kind])
            for modality, count in (("audio", audio[kind]), ("image", images[kind]), ("unknown", rest)):
                if count:
                    name = f"gen_ai.client.inference.usage.{kind}_tokens"
                    report(name, count, {**attributes, "gen_ai.token.modality": modality}, context)
        parts = {
            "cache_read.input_tokens": usage.cache_read_tokens,
            "cache_write.input_tokens": usage.cache_write_tokens,
            "reasoning.output_tokens": usage.reasoning_tokens,
        }
        for part, count in parts.items():
            if count:
                name = f"gen_ai.client.inference.usage.{part}"
                report(name, count, {**attributes, "gen_ai.token.modality": "unknown"}, context)

    def _span(self, tracer: Any, record: CallRecord, context: Any) -> None:
        start = (record.started_at - _EPOCH) // _MICROSECOND * 1000
        attributes: dict[str, Any] = {
            **attributes_of(record),
            "gen_ai.request.stream": record.stream or None,
            "gen_ai.response.id": record.response_id,
            "gen_ai.response.time_to_first_chunk": record.time_to_first_chunk_s,
            "error.type": record.error_type,
            "llm_toll.id": record.id,
            "llm_toll.outcome": record.outcome,
            "llm_toll.project": encodable(record.project),
            "llm_toll.usage_source": record.usage_source,
            "llm_toll.cost_usd": None if record.cost_usd is None else float(record.cost_usd),
            **{f"llm_toll.tag.{encodable(name)}": encodable(value) for name, value in record.tags.items()},
        }
        if record.usage_source != "missing":
            attributes |= usage_attributes(record.usage, legacy=self._legacy, latest=self._latest)
        span = tracer.start_span(
            f"{operation_of(record)} {encodable(record.model)}".rstrip(),
            context=context,
            kind=self._trace.SpanKind.CLIENT,
            attributes={name: value for name, value in attributes.items() if value is not None},
            start_time=start,
        )
        if record.outcome in _FAILED:
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, record.error_type))
        span.end(end_time=start + round(record.duration_s * 1e9))


def _has_span(record: CallRecord, trace: Any) -> bool:
    """Return whether Anthropic's SDK has made a span with the usage of this call, as its releases from 2.0 on do.

    They do wherever a global tracer provider is set, unless the environment says no. A client that was given
    `open_telemetry=False` is not told apart: its calls have no span then.
    """
    if record.operation != "messages" or not record.method.endswith((".create", ".stream", ".parse")):
        return False
    if "anthropic._tracing" not in sys.modules or os.environ.get("ANTHROPIC_OPEN_TELEMETRY", "").lower() == "false":
        return False
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


_Kind = Literal["counter", "seconds", "tokens"]
_LEGACY: dict[str, tuple[_Kind, str, str]] = {
    "gen_ai.client.token.usage": ("tokens", "{token}", "Number of input and output tokens used"),
    "gen_ai.client.operation.duration": ("seconds", "s", "Duration of the operation"),
    "gen_ai.client.operation.time_to_first_chunk": ("seconds", "s", "Time to the first chunk of a stream"),
}
_USED = "gen_ai.client.inference.usage."
_NEW: dict[str, tuple[_Kind, str, str]] = {
    f"{_USED}input_tokens": ("counter", "{token}", "Input tokens used, cached ones included"),
    f"{_USED}output_tokens": ("counter", "{token}", "Output tokens used, reasoning included"),
    f"{_USED}cache_read.input_tokens": ("counter", "{token}", "Input tokens that were read from a cache"),
    f"{_USED}cache_write.input_tokens": ("counter", "{token}", "Input tokens that were written to a cache"),
    f"{_USED}reasoning.output_tokens": ("counter", "{token}", "Output tokens that were reasoning"),
    "gen_ai.client.inference.operation.input_tokens": ("tokens", "{token}", "Input tokens of an operation"),
    "gen_ai.client.inference.operation.output_tokens": ("tokens", "{token}", "Output tokens of an operation"),
    "gen_ai.client.inference.duration": ("seconds", "s", "Duration of the operation"),
    "gen_ai.client.inference.time_to_first_chunk": ("seconds", "s", "Time to the first chunk of a stream"),
}
_OURS: dict[str, tuple[_Kind, str, str]] = {
    COST: ("counter", "{USD}", "Cost of the calls whose price is known"),
    UNKNOWN_COST: ("counter", "{call}", "Calls whose cost is not known"),
}
_ALL = _LEGACY | _NEW | _OURS
_BUCKETS = {"tokens": TOKEN_BUCKETS, "seconds": SECONDS_BUCKETS}


class _Instruments:
    """The instruments of the chosen generation; what is reported to another is nothing."""

    def __init__(self, meter: Any, names: Iterator[str]) -> None:
        self._report: dict[str, Any] = {}
        for name in names:
            kind, unit, description = _ALL[name]
            if kind == "counter":
                self._report[name] = meter.create_counter(name, unit=unit, description=description).add
            else:
                self._report[name] = meter.create_histogram(
                    name, unit=unit, description=description, explicit_bucket_boundaries_advisory=_BUCKETS[kind]
                ).record

    def report(self, name: str, value: float, attributes: Mapping[str, str], context: Any) -> None:
        report = self._report.get(name)
        if report is not None:
            report(value, attributes=attributes, context=context)
