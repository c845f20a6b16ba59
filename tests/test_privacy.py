"""Nothing private gets out: canaries go in with every call, and are looked for in all that comes out."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from postgres import PASSWORD, Server
from prometheus_client import CollectorRegistry, generate_latest
from sources import CLAUDE, GEMINI, GPT

from llm_toll_autopatch import (
    CallbackSink,
    CallRecord,
    ConsoleSink,
    JSONLinesSink,
    LLMTollSink,
    LoggingSink,
    MemorySink,
    OTelSink,
    PrometheusSink,
    SinkUnavailableError,
    SQLiteLedger,
    flush,
    patched,
    status,
)
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.simulator import Simulator

CANARY = "cAnArY-7f3a"
ANSWER = "it gets thinner"
"""What the simulator answers: a completion may not get out either."""


class Failing:
    """A sink that raises, and says which record it was, until it is told to stop."""

    def __init__(self, error: type[Exception]) -> None:
        self.error: type[Exception] | None = error

    def emit(self, record: CallRecord) -> None:
        if self.error is not None:
            raise self.error(f"cannot take {record}")


@dataclass
class Everything:
    """All sinks, and all that they put out."""

    directory: Path
    caplog: pytest.LogCaptureFixture
    warned: list[warnings.WarningMessage]
    console: io.StringIO = field(default_factory=io.StringIO)
    memory: MemorySink = field(default_factory=MemorySink)
    called: list[CallRecord] = field(default_factory=list)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    reader: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)
    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    failing: Failing = field(default_factory=lambda: Failing(RuntimeError))

    def sinks(self) -> list[Any]:
        """All but llm-toll's, which has to be closed."""
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        return [
            CallbackSink(self.called.append),
            ConsoleSink(self.console),
            JSONLinesSink(self.directory / "calls.jsonl"),
            LoggingSink(),
            self.memory,
            OTelSink(semconv="both", spans=True, meter_provider=MeterProvider([self.reader]), tracer_provider=tracers),
            PrometheusSink(self.registry),
            SQLiteLedger(self.directory / "ledger.db"),
            self.failing,
        ]

    def texts(self) -> dict[str, str]:
        """Each output, by the name of who put it out."""
        spans = self.exporter.get_finished_spans()
        metrics = self.reader.get_metrics_data()
        assert spans
        assert metrics is not None
        files = {file.name: file.read_bytes().decode(errors="replace") for file in self.directory.iterdir()}
        assert {"calls.jsonl", "toll.db", "ledger.db"} <= set(files)
        logged = [f"{entry.getMessage()} {vars(entry)} {entry.exc_text}" for entry in self.caplog.records]
        return files | {
            "callback": repr(self.called),
            "console": self.console.getvalue(),
            "memory": repr(self.memory.records),
            "metrics": metrics.to_json(),
            "spans": "".join(span.to_json() for span in spans),
            "prometheus": generate_latest(self.registry).decode(),
            "log": "\n".join(logged) + self.caplog.text,
            "warnings": "\n".join(str(each.message) for each in self.warned),
            "status": f"{status()} {status()!r}",
        }

    def found(self, *secrets: str) -> list[tuple[str, str]]:
        """Which secret is in which output."""
        return [(name, secret) for name, text in self.texts().items() for secret in secrets if secret in text]


@pytest.fixture
def everything(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Everything]:
    """All sinks in force, everything logged kept."""
    caplog.set_level(logging.DEBUG, "llm_toll_autopatch")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        all_of_it = Everything(tmp_path, caplog, warned)
        toll = LLMTollSink(tmp_path / "toll.db")
        with contextlib.closing(toll), patched(sink=[toll, *all_of_it.sinks()]):
            yield all_of_it
            all_of_it.failing.error = None
            flush(20)
    failures.reset()


def with_secrets(url: str) -> str:
    """The URL as people write it who keep a password there."""
    return url.replace("://", f"://user-{CANARY}:pass-{CANARY}@")


@contextlib.contextmanager
def clients(sim: Simulator) -> Iterator[tuple[Any, Any, Any]]:
    """The three clients, with canaries wherever something private can be."""
    headers = {"x-secret": CANARY, "authorization": f"Bearer {CANARY}"}
    options: dict[str, Any] = {"api_key": CANARY, "default_headers": headers, "max_retries": 0}
    with (
        openai.OpenAI(base_url=with_secrets(sim.openai_base_url), default_query={"key": CANARY}, **options) as gpt,
        anthropic.Anthropic(base_url=with_secrets(sim.anthropic_base_url), **options) as claude,
    ):
        google = genai.Client(
            api_key=CANARY,
            http_options={
                "base_url": with_secrets(sim.google_base_url),
                "headers": {"x-secret": CANARY},
                "retry_options": {"attempts": 1},
            },
        )
        yield gpt, claude, google
        google.close()


def ask_all(sim: Simulator, flags: str = "") -> list[BaseException]:
    """Ask each SDK, plain and streamed, read and broken off; return what was raised."""
    raised: list[BaseException] = []
    messages: list[Any] = [{"role": "user", "content": CANARY}]
    tools: list[Any] = [{"type": "function", "function": {"name": "t", "description": CANARY, "parameters": {}}}]
    with clients(sim) as (gpt, claude, google):

        def chat(**more: Any) -> Any:
            return gpt.chat.completions.create(
                model=GPT + flags, messages=messages, tools=tools, user=CANARY, metadata={"m": CANARY}, **more
            )

        def respond(**more: Any) -> Any:
            return gpt.responses.create(model=GPT + flags, input=CANARY, instructions=CANARY, **more)

        def message(**more: Any) -> Any:
            return claude.messages.create(
                model=CLAUDE + flags,
                max_tokens=9,
                messages=messages,
                system=CANARY,
                metadata={"user_id": CANARY},
                **more,
            )

        def generate() -> Any:
            return google.models.generate_content(model=GEMINI + flags, contents=CANARY)

        def generate_stream() -> Any:
            return google.models.generate_content_stream(model=GEMINI + flags, contents=CANARY)

        for plain in (chat, respond, message, generate):
            with _kept(raised):
                plain()
        for stream in (chat, respond, message):
            with _kept(raised):
                for _ in stream(stream=True):
                    pass
            with _kept(raised):
                for _ in stream(stream=True):
                    break
        with _kept(raised):
            for _ in generate_stream():
                pass
        with _kept(raised):
            for _ in generate_stream():
                break
    flush(20)
    return raised


@contextlib.contextmanager
def _kept(raised: list[BaseException]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raised.append(error)


def test_calls_and_streams(sim: Simulator, everything: Everything) -> None:
    """Prompts, completions, keys, headers and credentials of a base URL are in no output of any sink, nor anywhere."""
    assert ask_all(sim) == []
    assert len(everything.memory) == 12
    assert [sink.name for sink in status().sinks if sink.written != 12] == ["Failing"]
    assert status().sinks[-1].state == "suspended"
    assert everything.found(CANARY, ANSWER) == []


@pytest.mark.parametrize("flags", ["+no-usage", "+error=500", "+error=429", "+error=401", "+cut"])
def test_estimates_and_errors(sim: Simulator, everything: Everything, flags: str) -> None:
    """The same for answers without usage, for errors of the provider, and for streams that are cut."""
    raised = ask_all(sim, flags)
    assert bool(raised) == (flags != "+no-usage")
    assert len(everything.memory) == 12
    assert everything.found(CANARY, ANSWER) == []


def test_async_calls(sim: Simulator, everything: Everything) -> None:
    """The same for async clients, one of them cancelled."""

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=with_secrets(sim.openai_base_url), api_key=CANARY, max_retries=0) as gpt:
            await gpt.responses.create(model=GPT, input=CANARY)
            async for _ in await gpt.responses.create(model=GPT, input=CANARY, stream=True):
                break
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await gpt.responses.create(model=GPT + "+first=5000", input=CANARY)

    asyncio.run(main())
    flush(20)
    assert [record.outcome for record in everything.memory] == ["completed", "closed", "cancelled"]
    assert everything.found(CANARY, ANSWER) == []


def test_our_own_failures(sim: Simulator, everything: Everything, monkeypatch: pytest.MonkeyPatch) -> None:
    """When our own code fails with the request or the answer in its hands, the log shows where, not what."""
    from llm_toll_autopatch.readers.chat import ChatCompletions

    def broken(self: Any, *_: Any) -> None:
        raise ValueError("broken")

    monkeypatch.setattr(ChatCompletions, "begin", broken)
    monkeypatch.setattr(ChatCompletions, "finish", broken)
    assert ask_all(sim) == []
    assert "reading the request of chat.completions.create failed" in everything.caplog.text
    assert everything.found(CANARY, ANSWER) == []


def test_a_sink_that_is_tried_again(sim: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    """What is logged of a sink that is never available has the record at most, and that has nothing private."""
    sink = Failing(SinkUnavailableError)
    with patched(sink=sink), clients(sim) as (gpt, _, _):
        gpt.responses.create(model=GPT, input=CANARY)
        while not status().failures:
            flush(0.05)
        assert "cannot take CallRecord" in caplog.text
        assert CANARY not in caplog.text + str(status())
        assert ANSWER not in caplog.text + str(status())
        sink.error = None
        flush(20)
    failures.reset()


@pytest.mark.parametrize(
    "spec",
    [
        f"llm-toll:postgresql://u:{CANARY}@h/d",
        f"otel:http://{CANARY}@h",
        f"prometheus:{CANARY}@h",
        f"postgresql://u:{CANARY}@h:x/d",
    ],
)
def test_errors_of_the_configuration(spec: str) -> None:
    """What is said about a sink's name that does not work shows none of its credentials."""
    with pytest.raises((ValueError, TypeError)) as caught:
        with patched(sink=spec):
            pass
    assert CANARY not in "".join(traceback.format_exception(caught.value, chain=True)).split("Error: ", 1)[1]


COMMANDS = (
    ["report"],
    ["report", "--by", "method,outcome,endpoint", "--json"],
    ["tail", "-n", "50"],
    ["tail", "--json"],
    ["export", "--jsonl"],
    ["export", "--csv"],
    ["export", "--prometheus"],
    ["doctor"],
    ["config"],
)
"""What the command line shows of a ledger and of the settings."""


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_the_command_line(  # noqa: PLR0917 - fixtures
    kind: str,
    sim: Simulator,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command line shows neither what was asked and answered nor a password, of either ledger."""
    from urllib.parse import quote

    from llm_toll_autopatch import cli

    url = request.getfixturevalue("database") if kind == "postgres" else f"sqlite:///{tmp_path / 'ledger.db'}"
    with patched(sink=url):
        ask_all(sim)
        ask_all(sim, "+error=401")
    monkeypatch.setenv("LLM_TOLL_AUTOPATCH_SINK", url)
    monkeypatch.chdir(tmp_path)
    shown = {}
    for command in COMMANDS:
        with contextlib.suppress(SystemExit):
            cli.main(command)
        out, err = capsys.readouterr()
        shown[" ".join(command)] = out + err
    assert all(shown.values()), shown
    assert "usage: autotoll" not in "".join(shown.values()), shown
    secrets = (CANARY, ANSWER, PASSWORD, quote(PASSWORD, safe=""))
    assert [(name, each) for name, text in shown.items() for each in secrets if each in text] == []


def test_what_postgres_holds(sim: Simulator, database: str, postgres: Server) -> None:
    """No table of a PostgreSQL ledger has anything private, nor does its name show the password."""
    with patched(sink=database, max_budget="10"):
        ask_all(sim)
        flush(20)
        told = f"{status()} {status()!r}"
    tables = [
        f"{schema}.{table}"
        for schema, table in postgres.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = 'llm_toll_autopatch'", database
        )
    ]
    held = {table: repr(postgres.execute(f"SELECT * FROM {table}", database)) for table in tables}
    assert "gpt-5-mini" in held["llm_toll_autopatch.calls"]
    assert [(name, each) for name, text in held.items() for each in (CANARY, ANSWER) if each in text] == []
    assert PASSWORD not in told


def test_a_server_that_is_gone(sim: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    """What is logged and shown of a PostgreSQL server that cannot be reached has no password, prompt or key."""
    from llm_toll_autopatch import PostgresLedger

    ledger = PostgresLedger(f"postgresql://toll:{CANARY}@127.0.0.1:1/none?sslpassword={CANARY}", timeout_s=0.1)
    with caplog.at_level(logging.DEBUG), patched(sink=ledger), clients(sim) as (gpt, _, _):
        gpt.responses.create(model=GPT, input=CANARY)
        while not status().failures:
            flush(0.1)
        told = f"{status()} {status()!r}"
        assert "retrying" in told
        taken: list[CallRecord] = []
        setattr(ledger, "emit", taken.append)  # noqa: B010 - nobody will take it otherwise
        flush(20)
    assert len(taken) == 1
    logged = "\n".join(f"{entry.getMessage()} {entry.exc_text}" for entry in caplog.records if "llm_toll" in entry.name)
    assert "writing to PostgresLedger failed" in logged
    assert [each for each in (CANARY, ANSWER) if each in told + logged] == []
    failures.reset()


def test_errors_of_budgets(sim: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A refusal says what is left and for whom, and nothing of what was asked; nor does one of a broken ledger."""
    broken = tmp_path / "ledger.db"
    broken.write_bytes(b"no database " * 500)
    said = []
    for options in ({"max_budget": 0}, {"rate_limit": 1}, {"sink": f"sqlite:///{broken}", "max_budget": 5}):
        with patched(strict_budget=True, **options):
            raised = ask_all(sim)
            said += ["".join(traceback.format_exception_only(error)) for error in raised]
            said += [str(vars(error)) for error in raised]
    assert {"BudgetExceededError", "LocalRateLimitError", "BudgetUnavailableError"} <= {
        name.rpartition(".")[2] for text in said for name in [text.partition(":")[0]]
    }
    assert [each for each in (CANARY, ANSWER) if each in "".join(said) + caplog.text] == []
    failures.reset()
