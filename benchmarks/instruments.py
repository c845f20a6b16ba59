"""How each of the others is switched on, as its own documentation says, with an exporter that keeps what it is given.

Each is imported in its own environment only.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.wires import Api

__all__ = ["INSTRUMENTS", "Instrument"]


class Instrument:
    """What was switched on.

    Args:
        has: Tells whether a figure is anywhere in what was recorded since it was last asked.
        around: Makes of an API the same with the instrument around it, where it is no patch.
    """

    def __init__(self, has: Callable[[int], bool], around: Callable[[Api], Api] = lambda api: api) -> None:
        self.has = has
        self.around = around


def _ours() -> Instrument:
    import llm_toll_autopatch

    sink = llm_toll_autopatch.MemorySink()
    llm_toll_autopatch.patch_all(sink=sink)

    def has(figure: int) -> bool:
        kept = [record.usage.output_tokens for record in sink.records]
        sink.clear()
        return figure in kept

    return Instrument(has)


def _llm_toll() -> Instrument:
    import llm_toll

    path = Path(tempfile.mkdtemp()) / "toll.db"
    llm_toll.set_store(llm_toll.SQLiteStore(str(path)))

    def around(api: Api) -> Api:
        async def plain_async(clients: Any) -> Any:
            assert api.plain_async is not None
            return await api.plain_async(clients)

        async def stream_async(clients: Any) -> Any:
            async for chunk in api.stream_async(clients):
                yield chunk

        track = llm_toll.track_costs
        return api._replace(
            stream=track(api.stream),
            stream_async=track(stream_async),
            plain=api.plain and track(api.plain),
            plain_async=api.plain_async and track(plain_async),
        )

    looked_at = 0

    def has(figure: int) -> bool:
        nonlocal looked_at
        query = "SELECT id, input_tokens, output_tokens FROM usage_logs WHERE id > ?"
        with contextlib.closing(sqlite3.connect(path)) as kept:
            rows = kept.execute(query, [looked_at]).fetchall()
        looked_at = max([looked_at, *(row[0] for row in rows)])
        return any(figure in row[1:] for row in rows)

    return Instrument(has, around)


def _kept() -> tuple[Any, Any, Callable[[int], bool]]:
    """Return a tracer provider of OpenTelemetry, its processor, and what looks through the spans."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    processor = SimpleSpanProcessor(exporter)
    provider = TracerProvider()
    provider.add_span_processor(processor)

    def has(figure: int) -> bool:
        spans = exporter.get_finished_spans()
        exporter.clear()
        return any(
            value == figure or (isinstance(value, str) and str(figure) in value)
            for span in spans
            for value in (span.attributes or {}).values()
        )

    return provider, processor, has


def _opentelemetry() -> Instrument:
    from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

    return _opentelemetry_by(OpenAIInstrumentor())


def _opentelemetry_google() -> Instrument:
    from opentelemetry.instrumentation.google_genai import GoogleGenAiSdkInstrumentor

    return _opentelemetry_by(GoogleGenAiSdkInstrumentor())


def _opentelemetry_by(instrumentor: Any) -> Instrument:
    from opentelemetry.sdk.metrics import MeterProvider

    provider, _, has = _kept()
    instrumentor.instrument(tracer_provider=provider, meter_provider=MeterProvider(), skip_dep_check=True)
    return Instrument(has)


def _openinference() -> Instrument:
    from openinference.instrumentation.anthropic import AnthropicInstrumentor
    from openinference.instrumentation.google_genai import GoogleGenAIInstrumentor
    from openinference.instrumentation.openai import OpenAIInstrumentor

    provider, _, has = _kept()
    for instrumentor in (OpenAIInstrumentor(), AnthropicInstrumentor(), GoogleGenAIInstrumentor()):
        instrumentor.instrument(tracer_provider=provider)
    return Instrument(has)


def _openllmetry() -> Instrument:
    from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor
    from opentelemetry.instrumentation.google_generativeai import GoogleGenerativeAiInstrumentor
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    provider, _, has = _kept()
    for instrumentor in (OpenAIInstrumentor(), AnthropicInstrumentor(), GoogleGenerativeAiInstrumentor()):
        instrumentor.instrument(tracer_provider=provider)
    return Instrument(has)


def _logfire() -> Instrument:
    import logfire

    _, processor, has = _kept()
    logfire.configure(send_to_logfire=False, console=False, additional_span_processors=[processor])
    logfire.instrument_openai()
    logfire.instrument_anthropic()
    logfire.instrument_google_genai()
    return Instrument(has)


def _ddtrace() -> Instrument:
    os.environ.update(DD_TRACE_STARTUP_LOGS="false", DD_INSTRUMENTATION_TELEMETRY_ENABLED="false")
    import ddtrace
    from ddtrace.trace import TraceFilter

    kept: list[Any] = []

    class Keep(TraceFilter):  # type: ignore[misc,unused-ignore]
        """Keeps the figures, and sends nothing to an agent, which is not there."""

        def process_trace(self, trace: list[Any]) -> None:
            kept.extend((span.get_tags(), span.get_metrics()) for span in trace)

    ddtrace.tracer.configure(trace_processors=[Keep()])
    ddtrace.patch(openai=True, anthropic=True, google_genai=True)

    def has(figure: int) -> bool:
        figures = [value for pair in kept for fields in pair for value in fields.values()]
        kept.clear()
        return any(value == figure or (isinstance(value, str) and str(figure) in value) for value in figures)

    return Instrument(has)


def _langfuse() -> Instrument:
    import langfuse
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    client = langfuse.Langfuse(public_key="none", secret_key="none", span_exporter=exporter)  # noqa: S106 - no secret
    import langfuse.openai

    def has(figure: int) -> bool:
        client.flush()
        spans = exporter.get_finished_spans()
        exporter.clear()
        return any(str(figure) in str(value) for span in spans for value in (span.attributes or {}).values())

    return Instrument(has)


INSTRUMENTS: dict[str, Callable[[], Instrument]] = {
    "llm_toll_autopatch": _ours,
    "llm-toll": _llm_toll,
    "opentelemetry": _opentelemetry,
    "opentelemetry-google": _opentelemetry_google,
    "openinference": _openinference,
    "openllmetry": _openllmetry,
    "logfire": _logfire,
    "ddtrace": _ddtrace,
    "langfuse": _langfuse,
}
COVERS: dict[str, tuple[str, ...]] = {
    "opentelemetry": ("openai",),
    "opentelemetry-google": ("google",),
    "langfuse": ("openai",),
}
"""Whose SDKs an instrument follows, where not all three."""
