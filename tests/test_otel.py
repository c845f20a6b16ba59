"""OpenTelemetry gets our numbers, through its real SDK, in memory and over OTLP."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from sources import CLAUDE, GPT, MESSAGES, PROMPT, clients_of
from specimens import NOON, record
from versions import HALF_READ_AT_EXIT

from llm_toll_autopatch import OTelSink, Usage, flush, patched
from llm_toll_autopatch.simulator import Simulator
from llm_toll_autopatch.sinks.semconv import SECONDS_BUCKETS, TOKEN_BUCKETS

CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5-mini",
}


class Telemetry:
    """A program's OpenTelemetry, kept in memory."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self.reader])
        self.exporter = InMemorySpanExporter()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def sink(self, **options: Any) -> OTelSink:
        return OTelSink(meter_provider=self.meter_provider, tracer_provider=self.tracer_provider, **options)

    def points(self) -> dict[str, list[Any]]:
        """The points of each metric, by its name."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        [resource] = data.resource_metrics
        return {m.name: list(m.data.data_points) for scope in resource.scope_metrics for m in scope.metrics}

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    telemetry = Telemetry()
    yield telemetry
    telemetry.meter_provider.shutdown()
    telemetry.tracer_provider.shutdown()


def sums(points: list[Any], *names: str) -> dict[Any, Any]:
    """Each point's sum by the values of some of its attributes."""
    return {
        tuple(point.attributes.get(name) for name in names): getattr(point, "sum", None) or point.value
        for point in points
    }


class TestMetrics:
    """What is measured."""

    def test_legacy(self, telemetry: Telemetry) -> None:
        """By default the metrics have the names, units and buckets that dashboards read today, and ours."""
        sink = telemetry.sink()
        sink.emit(record(time_to_first_chunk_s=0.25, stream=True, response_model="gpt-5-mini-2026", endpoint="api.x"))
        points = telemetry.points()
        assert set(points) == {
            "gen_ai.client.token.usage",
            "gen_ai.client.operation.duration",
            "gen_ai.client.operation.time_to_first_chunk",
            "llm_toll.cost",
        }
        attributes = CHAT | {"gen_ai.response.model": "gpt-5-mini-2026", "server.address": "api.x"}
        tokens = points["gen_ai.client.token.usage"]
        assert {point.attributes["gen_ai.token.type"]: point.sum for point in tokens} == {"input": 1200, "output": 450}
        assert all(point.explicit_bounds == TOKEN_BUCKETS for point in tokens)
        [duration] = points["gen_ai.client.operation.duration"]
        assert isinstance(duration, HistogramDataPoint)
        assert (duration.sum, duration.attributes, duration.explicit_bounds) == (0.81, attributes, SECONDS_BUCKETS)
        [first] = points["gen_ai.client.operation.time_to_first_chunk"]
        assert (first.sum, first.attributes) == (0.25, attributes)
        [cost] = points["llm_toll.cost"]
        assert (cost.value, cost.attributes) == (0.00123, attributes | {"llm_toll.project": "acme"})

    def test_buckets_are_the_advice_of_the_conventions(self) -> None:
        """The boundaries are those that the conventions give, in tokens and in seconds."""
        assert TOKEN_BUCKETS[:4] + TOKEN_BUCKETS[-1:] == (1, 4, 16, 64, 67108864)
        assert SECONDS_BUCKETS[:4] + SECONDS_BUCKETS[-1:] == (0.01, 0.02, 0.04, 0.08, 81.92)

    def test_latest(self, telemetry: Telemetry) -> None:
        """The newer generation counts tokens by kind and modality; sums over a metric's series are the totals."""
        usage = Usage(
            input_tokens=1000, output_tokens=300, cache_read_tokens=400, cache_write_tokens=50, reasoning_tokens=100,
            input_audio_tokens=200, output_image_tokens=80,
        )  # fmt: skip
        telemetry.sink(semconv="latest").emit(record(usage=usage))
        points = telemetry.points()
        used = "gen_ai.client.inference.usage."
        assert {name for name in points if "gen_ai" in name} == {
            "gen_ai.client.inference.duration",
            "gen_ai.client.inference.operation.input_tokens",
            "gen_ai.client.inference.operation.output_tokens",
            *(f"{used}{part}" for part in (
                "input_tokens", "output_tokens", "cache_read.input_tokens", "cache_write.input_tokens",
                "reasoning.output_tokens",
            )),
        }  # fmt: skip
        modality = "gen_ai.token.modality"
        assert sums(points[f"{used}input_tokens"], modality) == {("audio",): 200, ("unknown",): 800}
        assert sums(points[f"{used}output_tokens"], modality) == {("image",): 80, ("unknown",): 220}
        assert sums(points[f"{used}cache_read.input_tokens"], modality) == {("unknown",): 400}
        assert sums(points[f"{used}cache_write.input_tokens"], modality) == {("unknown",): 50}
        assert sums(points[f"{used}reasoning.output_tokens"], modality) == {("unknown",): 100}

    def test_both(self, telemetry: Telemetry) -> None:
        """While a team moves from one generation to the other it can have both."""
        telemetry.sink(semconv="both").emit(record())
        assert {"gen_ai.client.token.usage", "gen_ai.client.inference.usage.input_tokens"} <= set(telemetry.points())

    @pytest.mark.parametrize(
        ("value", "expected"),
        [(None, "legacy"), ("http", "legacy"), ("http, gen_ai_latest_experimental", "latest")],
    )
    def test_opt_in(self, monkeypatch: pytest.MonkeyPatch, value: str | None, expected: str) -> None:
        """OpenTelemetry's own variable chooses the generation, an argument has the last word."""
        monkeypatch.delenv("OTEL_SEMCONV_STABILITY_OPT_IN", raising=False)
        if value is not None:
            monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", value)
        assert OTelSink().semconv == expected
        assert OTelSink(semconv="both").semconv == "both"

    def test_unknown_generation(self) -> None:
        """A generation that does not exist is a ValueError."""
        with pytest.raises(ValueError, match="'legacy', 'latest', 'both'"):
            OTelSink(semconv="stable")  # type: ignore[arg-type]

    def test_unknown_cost(self, telemetry: Telemetry) -> None:
        """A cost that is not known adds nothing to the cost, and is counted."""
        sink = telemetry.sink()
        sink.emit(record(cost_usd=None))
        sink.emit(record(cost_usd=Decimal("0.5")))
        points = telemetry.points()
        assert sums(points["llm_toll.cost"], "llm_toll.project") == {("acme",): 0.5}
        assert sums(points["llm_toll.unknown_cost"], "llm_toll.project") == {("acme",): 1}

    def test_estimates_are_marked(self, telemetry: Telemetry) -> None:
        """Estimated tokens are a series of their own, so that reported ones can be told apart."""
        sink = telemetry.sink()
        sink.emit(record())
        sink.emit(record(usage_source="estimated"))
        tokens = telemetry.points()["gen_ai.client.token.usage"]
        assert sums(tokens, "gen_ai.token.type", "llm_toll.usage_source") == {
            ("input", None): 1200,
            ("output", None): 450,
            ("input", "estimated"): 1200,
            ("output", "estimated"): 450,
        }

    def test_errors(self, telemetry: Telemetry) -> None:
        """A failed call has its duration with `error.type`, and no tokens."""
        sink = telemetry.sink()
        failed = {"outcome": "error", "error_type": "RateLimitError", "usage_source": "missing"}
        sink.emit(record(usage=Usage(), cost_usd=Decimal(0), **failed))
        points = telemetry.points()
        assert set(points) == {"gen_ai.client.operation.duration"}
        assert points["gen_ai.client.operation.duration"][0].attributes == CHAT | {"error.type": "RateLimitError"}

    @pytest.mark.parametrize(
        ("changes", "operation", "provider"),
        [
            ({"provider": "anthropic", "operation": "messages"}, "chat", "anthropic"),
            ({"provider": "google", "operation": "generate_content"}, "generate_content", "gcp.gemini"),
            ({"provider": "vertex", "operation": "embeddings"}, "embeddings", "gcp.vertex_ai"),
            ({"provider": "azure", "operation": "responses"}, "chat", "azure.ai.openai"),
            ({"provider": "bedrock", "operation": "completions"}, "text_completion", "aws.bedrock"),
        ],
    )
    def test_names(self, telemetry: Telemetry, changes: dict[str, str], operation: str, provider: str) -> None:
        """Operations and providers have the conventions' names."""
        telemetry.sink().emit(record(**changes))
        [point] = telemetry.points()["gen_ai.client.operation.duration"]
        assert point.attributes["gen_ai.operation.name"] == operation
        assert point.attributes["gen_ai.provider.name"] == provider


class TestSpans:
    """Spans, which nobody gets who did not ask for them."""

    def test_none_by_default(self, telemetry: Telemetry) -> None:
        """Metrics only, unless spans are asked for."""
        telemetry.sink().emit(record())
        assert telemetry.spans == ()

    def test_span(self, telemetry: Telemetry) -> None:
        """A span has the call's name, kind, times, usage and cost."""
        usage = Usage(input_tokens=1200, output_tokens=450, cache_read_tokens=100, cache_write_tokens=7)
        telemetry.sink(spans=True).emit(record(usage=usage, tags={"team": "search"}, response_id="r1", stream=True))
        [span] = telemetry.spans
        assert (span.name, span.kind.name, span.parent) == ("chat gpt-5-mini", "CLIENT", None)
        assert span.start_time == int((NOON - timedelta(0)).timestamp()) * 10**9 + NOON.microsecond * 1000
        assert span.end_time == span.start_time + 810_000_000
        assert span.status.status_code is StatusCode.UNSET
        assert span.attributes is not None
        attributes = dict(span.attributes)
        assert attributes.pop("llm_toll.id")
        assert attributes == CHAT | {
            "gen_ai.request.stream": True,
            "gen_ai.response.id": "r1",
            "gen_ai.usage.input_tokens": 1200,
            "gen_ai.usage.output_tokens": 450,
            "gen_ai.usage.cache_read.input_tokens": 100,
            "gen_ai.usage.cache_creation.input_tokens": 7,
            "llm_toll.outcome": "completed",
            "llm_toll.project": "acme",
            "llm_toll.usage_source": "reported",
            "llm_toll.cost_usd": 0.00123,
            "llm_toll.tag.team": "search",
        }

    def test_failed(self, telemetry: Telemetry) -> None:
        """The span of a failed call has the status of an error."""
        telemetry.sink(spans=True).emit(record(outcome="error", error_type="APITimeoutError", usage_source="missing"))
        [span] = telemetry.spans
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "APITimeoutError")
        assert span.attributes is not None
        assert "gen_ai.usage.input_tokens" not in span.attributes

    def test_parent(self, sim: Simulator, telemetry: Telemetry) -> None:
        """The parent is the span that was current when the call began, wherever its stream is read."""
        tracer = telemetry.tracer_provider.get_tracer("app")
        with patched(sink=telemetry.sink(spans=True)), clients_of(sim) as clients:
            with tracer.start_as_current_span("opening"):
                stream = clients.openai.responses.create(model=GPT, input=PROMPT, stream=True)
            with tracer.start_as_current_span("reading"):
                list(stream)
            clients.openai.chat.completions.create(model=GPT, messages=MESSAGES)
            flush(10)
        spans = {span.name: span for span in telemetry.spans}
        opening = spans["opening"].get_span_context()
        ours = [span for span in telemetry.spans if span.name == "chat gpt-5-mini"]
        assert opening is not None
        assert [None if span.parent is None else span.parent.span_id for span in ours] == [opening.span_id, None]

    def test_contexts_are_bounded(self, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch) -> None:
        """Contexts of calls that never give a record do not pile up."""
        monkeypatch.setattr("llm_toll_autopatch.sinks.otel._CONTEXTS", 3)
        sink = telemetry.sink(spans=True)
        with telemetry.tracer_provider.get_tracer("app").start_as_current_span("opening"):
            for number in range(10):
                sink.began(str(number))
        assert list(sink._contexts) == ["7", "8", "9"]


class Receiver(http.server.ThreadingHTTPServer):
    """Takes OTLP over HTTP, as a collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[tuple[str, bytes]] = []

    def metrics(self) -> dict[str, Any]:
        """Each metric that came, in its last state."""
        requests = [ExportMetricsServiceRequest.FromString(body) for path, body in self.bodies if path == "/v1/metrics"]
        return {
            metric.name: metric
            for request in requests
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def spans(self) -> list[tuple[str, Any]]:
        """Each span that came, with the scope that it is from."""
        requests = [ExportTraceServiceRequest.FromString(body) for path, body in self.bodies if path == "/v1/traces"]
        return [
            (scope.scope.name, span)
            for request in requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class Handler(http.server.BaseHTTPRequestHandler):
    """Keeps what is posted."""

    def do_POST(self) -> None:
        assert isinstance(self.server, Receiver)
        self.server.bodies.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


PROGRAM = """
    import anthropic, openai, llm_toll_autopatch
    from opentelemetry import metrics, trace
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    llm_toll_autopatch.patch_all(sink=SINK)
    metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())]))
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    openai.OpenAI().chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "hi"}])
    client = anthropic.Anthropic()
    def ask(**more):
        return client.messages.create(
            model="claude-sonnet-4-5", max_tokens=9, messages=[{"role": "user", "content": "hi"}], **more)
    ask()
    list(ask(stream=True))
    with client.messages.stream(
        model="claude-sonnet-4-5", max_tokens=9, messages=[{"role": "user", "content": "hi"}]) as stream:
        stream.get_final_message()
    open_stream = openai.OpenAI().responses.create(model="gpt-5-mini", input="hi", stream=True)
    next(open_stream)
"""


def run(sink: str, sim: Simulator, receiver: Receiver, **environment: str) -> None:
    """Run a program that calls OpenAI and Anthropic and exports to the receiver."""
    endpoint = f"http://127.0.0.1:{receiver.server_address[1]}"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(PROGRAM).replace("SINK", sink)],
        env={**os.environ, **sim.environment(), "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **environment},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@HALF_READ_AT_EXIT
def test_otlp(sim: Simulator, receiver: Receiver) -> None:
    """A program with the usual SDK set-up exports our metrics over OTLP, also of the stream that is open at exit."""
    run('"otel"', sim, receiver)
    metrics = receiver.metrics()
    durations = metrics["gen_ai.client.operation.duration"]
    assert sum(point.count for point in durations.histogram.data_points) == 5
    assert (durations.unit, list(durations.histogram.data_points[0].explicit_bounds)) == ("s", list(SECONDS_BUCKETS))
    cost = metrics["llm_toll.cost"]
    assert (cost.unit, cost.sum.is_monotonic) == ("{USD}", True)
    assert sum(point.as_double for point in cost.sum.data_points) > 0
    assert not [scope for scope, _ in receiver.spans() if scope == "llm_toll_autopatch"]


@HALF_READ_AT_EXIT
def test_one_span_with_usage_for_each_call(sim: Simulator, receiver: Receiver) -> None:
    """Beside the spans that Anthropic's SDK makes itself there are none of ours; OpenAI's calls have ours."""
    run("llm_toll_autopatch.OTelSink(spans=True)", sim, receiver)
    spans = [
        (scope, span.name)
        for scope, span in receiver.spans()
        if "gen_ai.usage.output_tokens" in {attribute.key for attribute in span.attributes}
    ]
    assert sorted(name for scope, name in spans if scope == "llm_toll_autopatch") == ["chat gpt-5-mini"] * 2
    assert len([scope for scope, _ in spans if scope.startswith("com.anthropic")]) == 3
    assert len(spans) == 5


@HALF_READ_AT_EXIT
def test_spans_where_anthropic_makes_none(sim: Simulator, receiver: Receiver) -> None:
    """Where Anthropic's own spans are switched off its calls have ours."""
    run("llm_toll_autopatch.OTelSink(spans=True)", sim, receiver, ANTHROPIC_OPEN_TELEMETRY="false")
    spans = receiver.spans()
    assert {scope for scope, _ in spans} == {"llm_toll_autopatch"}
    assert len(spans) == 5


def test_a_claude_call_in_memory(sim: Simulator, telemetry: Telemetry) -> None:
    """Without a global tracer provider Anthropic's SDK makes no span, so ours is there."""
    with patched(sink=telemetry.sink(spans=True)), clients_of(sim) as clients:
        clients.anthropic.messages.create(model=CLAUDE, max_tokens=9, messages=MESSAGES)
        flush(10)
    assert [span.name for span in telemetry.spans] == [f"chat {CLAUDE}"]
