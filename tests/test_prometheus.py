"""Prometheus scrapes our figures, of one process and of several."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families
from sources import GPT, MESSAGES, PROMPT, clients_of
from specimens import record

from llm_toll_autopatch import PrometheusSink, Usage, flush, patched
from llm_toll_autopatch.simulator import Simulator

PLACE = {"project": "acme", "provider": "openai", "model": "gpt-5-mini", "operation": "chat"}
Samples = dict[str, list[tuple[dict[str, str], float]]]


def parsed(page: str) -> Samples:
    """The samples of a page, as Prometheus's own parser reads them."""
    samples: Samples = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def page(registry: CollectorRegistry) -> Iterator[str]:
    """The address of a page that shows the registry."""
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    yield f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    thread.join()
    server.server_close()


def scraped(page: str) -> Samples:
    with urllib.request.urlopen(page, timeout=10) as answer:
        return parsed(answer.read().decode())


def test_figures(registry: CollectorRegistry, page: str) -> None:
    """A scrape shows calls, tokens, costs, what is not known, and how long calls took."""
    sink = PrometheusSink(registry)
    sink.emit(record(stream=True, time_to_first_chunk_s=0.1))
    sink.emit(record(cost_usd=Decimal("0.001"), usage_source="estimated", outcome="closed"))
    sink.emit(record(cost_usd=None, outcome="error", usage=Usage()))
    samples = scraped(page)
    assert samples["llm_toll_calls_total"] == [
        (PLACE | {"outcome": outcome}, 1.0) for outcome in ("completed", "closed", "error")
    ]
    assert samples["llm_toll_tokens_total"] == [
        (PLACE | {"direction": "input"}, 2400.0),
        (PLACE | {"direction": "output"}, 900.0),
    ]
    [(place, cost)] = samples["llm_toll_cost_usd_total"]
    assert (place, round(cost, 9)) == (PLACE, 0.00223)
    assert samples["llm_toll_unknown_cost_calls_total"] == [(PLACE, 1.0)]
    assert samples["llm_toll_estimated_calls_total"] == [(PLACE, 1.0)]
    where = {name: value for name, value in PLACE.items() if name != "project"}
    assert samples["llm_toll_call_duration_seconds_count"] == [(where, 3.0)]
    assert samples["llm_toll_time_to_first_chunk_seconds_sum"] == [(where, 0.1)]
    bounds = [labels["le"] for labels, _ in samples["llm_toll_call_duration_seconds_bucket"]]
    assert (bounds[0], bounds[-2:]) == ("0.01", ["81.92", "+Inf"])


def test_real_calls(sim: Simulator, registry: CollectorRegistry, page: str) -> None:
    """Calls of the real SDK are on the page after `flush`."""
    with patched(sink=PrometheusSink(registry)), clients_of(sim) as clients:
        clients.openai.chat.completions.create(model=GPT, messages=MESSAGES)
        list(clients.openai.responses.create(model=GPT, input=PROMPT, stream=True))
        flush(10)
        samples = scraped(page)
    assert sorted(labels["operation"] for labels, _ in samples["llm_toll_calls_total"]) == ["chat", "responses"]
    assert sum(value for _, value in samples["llm_toll_tokens_total"]) == 2 * 33


def test_labels_are_bounded(registry: CollectorRegistry, page: str) -> None:
    """Projects and models beyond the bound are counted together, so that no program floods its Prometheus."""
    sink = PrometheusSink(registry, max_values=3)
    for number in range(50):
        sink.emit(record(project=f"p{number}", model=f"m{number}"))
    calls = scraped(page)["llm_toll_calls_total"]
    assert [labels["project"] for labels, _ in calls] == ["p0", "p1", "p2", "other"]
    assert [value for _, value in calls] == [1.0, 1.0, 1.0, 47.0]


def test_hostile_values(registry: CollectorRegistry, page: str) -> None:
    """Quotes, line breaks and what is no character spoil no page."""
    PrometheusSink(registry).emit(record(project='a"b\\c\nd', model="m\ud800"))
    [(labels, _)] = scraped(page)["llm_toll_calls_total"]
    assert (labels["project"], labels["model"]) == ('a"b\\c\nd', "m?")


def test_several_sinks_share_a_registry(registry: CollectorRegistry, page: str) -> None:
    """Configuring it twice is no error, and counts in the same metrics."""
    PrometheusSink(registry).emit(record())
    PrometheusSink(registry).emit(record())
    assert [value for _, value in scraped(page)["llm_toll_calls_total"]] == [2.0]


def test_bad_bound(registry: CollectorRegistry) -> None:
    """A bound below 1 is a ValueError."""
    with pytest.raises(ValueError, match="max_values="):
        PrometheusSink(registry, max_values=0)


def test_several_processes(sim: Simulator, tmp_path: Path) -> None:
    """With PROMETHEUS_MULTIPROC_DIR a scrape of the parent has the calls of its forked workers, also of ended ones."""
    program = """
        import os, sys, urllib.request
        import openai, llm_toll_autopatch
        from prometheus_client import CollectorRegistry, multiprocess, start_http_server
        llm_toll_autopatch.patch_all(sink="prometheus")
        def ask():
            openai.OpenAI().responses.create(model="gpt-5-mini", input="hi")
        ask()
        workers = []
        for _ in range(3):
            worker = os.fork()
            if worker == 0:
                ask(); ask()
                sys.exit(0)
            workers.append(worker)
        for worker in workers:
            assert os.waitpid(worker, 0)[1] == 0
        llm_toll_autopatch.flush()
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        server, _ = start_http_server(0, addr="127.0.0.1", registry=registry)
        print(urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics").read().decode())
    """
    directory = tmp_path / "prometheus"
    directory.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)],
        env={**os.environ, **sim.environment(), "PROMETHEUS_MULTIPROC_DIR": str(directory)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    samples = parsed(done.stdout)
    assert [value for _, value in samples["llm_toll_calls_total"]] == [7.0]
    assert sum(value for _, value in samples["llm_toll_tokens_total"]) == 7 * 33
    assert [value for _, value in samples["llm_toll_call_duration_seconds_count"]] == [7.0]
