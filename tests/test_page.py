"""The page in a real browser: it says what the ledger says, to everybody, and asks the network for nothing."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import sample_ledger
from browser import Browser, browser, browser_of_module
from keepers import reservation
from postgres import database, postgres
from sample_ledger import NOW
from selenium.webdriver.common.keys import Keys
from specimens import record
from terminals import command, run

from llm_toll_autopatch import PostgresLedger
from llm_toll_autopatch.ledger import SQLiteLedger
from llm_toll_autopatch.ledger.money import format_usd
from llm_toll_autopatch.ledger.totals import sum_totals
from llm_toll_autopatch.page import live
from llm_toll_autopatch.page.document import document
from llm_toll_autopatch.page.snapshot import Asked, encoded, look
from llm_toll_autopatch.records import CallRecord

__all__ = ["browser", "browser_of_module", "database", "postgres"]  # fixtures

HOSTILE = "</script><img src=x onerror=alert(1)><b>'\"&amp;{{data}}"
CALLS = "#summary .card:nth-child(2) .value"
SPENT = "#summary .card:nth-child(1) .value"


def page(ledger: SQLiteLedger, target: Path) -> str:
    """The URL of a file with the page of a ledger."""
    asked = Asked(ledger)
    target.write_bytes(document(encoded(asked, look(asked, NOW))))
    return target.as_uri()


def ledger_of(path: Path, *records: CallRecord) -> SQLiteLedger:
    """A ledger with these records."""
    ledger = SQLiteLedger(path)
    ledger.add(records)
    ledger.close()
    return ledger


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> SQLiteLedger:
    """The sample ledger, of 3,000 calls."""
    return sample_ledger.make(tmp_path_factory.mktemp("sample") / "ledger.db", 3_000)


@pytest.fixture(scope="module")
def sample_page(sample: SQLiteLedger) -> str:
    """Its page."""
    return page(sample, sample.path.with_name("page.html"))


def said(browser: Browser) -> tuple[str, str]:
    """What the page says: how many calls, and what was spent."""
    return browser.text(CALLS), browser.text(SPENT)


def expected(ledger: SQLiteLedger, **where: str) -> tuple[str, str]:
    """What it should say, as the ledger's own sums have it."""
    total = sum_totals(ledger.totals((), where={name.replace("__", ":"): value for name, value in where.items()}))
    assert total.cost_usd is not None
    places = 2 if total.cost_usd >= 10 else 4 if total.cost_usd >= Decimal("0.1") else 6
    return f"{total.calls:,}", ("~" if total.estimated_calls else "") + format_usd(total.cost_usd, places)


class TestFigures:
    """What it says."""

    def test_all(self, browser: Browser, sample: SQLiteLedger, sample_page: str) -> None:
        """The sums are those of the ledger, to the cent, and the chart's table adds up to them."""
        browser.open(sample_page)
        assert said(browser) == expected(sample)
        browser.choose("#measure", "calls")
        browser.run("document.getElementById('chart-details').open = true")
        browser.wait_for("return document.querySelectorAll('#chart-table tbody tr').length")
        cells = browser.texts("#chart-table tbody td")
        assert sum(int(cell.replace(",", "")) for cell in cells) == 3_000
        assert (
            browser.run("return Chart.getChart('chart').data.datasets.flatMap(d => d.data).reduce((a, b) => a + b)")
            == 3_000
        )

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("project", "support-bot"),
            ("model", "claude-sonnet-5-5"),
            ("provider", "google"),
            ("outcome", "closed"),
            ("tag:env", "dev"),
        ],
    )
    def test_filters(self, browser: Browser, sample: SQLiteLedger, sample_page: str, name: str, value: str) -> None:
        """Each filter changes the numbers to those of the calls that it chooses, and the address keeps it."""
        browser.open(sample_page)
        browser.choose(f"select[data-name='{name}']", f"v{value}")
        assert said(browser) == expected(sample, **{name.replace(":", "__"): value})
        kept = browser.driver.current_url
        browser.open(kept)
        assert said(browser) == expected(sample, **{name.replace(":", "__"): value})
        browser.run("document.getElementById('reset').click()")
        assert said(browser) == expected(sample)

    def test_filters_together(self, browser: Browser, sample: SQLiteLedger, sample_page: str) -> None:
        """Of several filters all hold; where no call is left that is said, with a way back."""
        browser.open(sample_page)
        browser.choose("select[data-name='project']", "vsearch")
        browser.choose("select[data-name='provider']", "vopenai")
        assert said(browser) == expected(sample, project="search", provider="openai")
        browser.choose("select[data-name='provider']", "vanthropic")
        assert browser.text("#empty-title") == "No such calls"
        assert not browser.run("return document.getElementById('summary').checkVisibility()")
        browser.run("document.getElementById('empty-reset').click()")
        assert said(browser) == expected(sample)

    @pytest.mark.parametrize(("period", "days"), [("7d", 6), ("30d", 29), ("today", 0)])
    def test_periods(self, browser: Browser, sample: SQLiteLedger, sample_page: str, period: str, days: int) -> None:
        """A period is of days in UTC, today's among them."""
        browser.open(sample_page)
        browser.choose("#period", period)
        midnight = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
        assert browser.text(CALLS) == f"{sample.totals((), midnight - timedelta(days=days))[0].calls:,}"

    def test_own_period(self, browser: Browser, sample: SQLiteLedger, sample_page: str) -> None:
        """A day that is named is within the period, at both ends."""
        browser.open(f"{sample_page}#period=custom&from=2026-11-20&to=2026-11-20")
        day = next(group for group in sample.totals(["day"]) if group.key == ("2026-11-20",))
        assert browser.text(CALLS) == f"{day.calls:,}"

    def test_breakdown(self, browser: Browser, sample: SQLiteLedger, sample_page: str) -> None:
        """Groups stand with the most expensive first; a click on one chooses it, another one chooses all."""
        browser.open(sample_page)
        groups = sorted(sample.totals(["project"]), key=lambda group: -(group.cost_usd or 0))
        assert browser.texts("#breakdown tbody th") == [group.key[0] for group in groups]
        browser.run("document.querySelector('#breakdown .pick').click()")
        assert said(browser) == expected(sample, project=groups[0].key[0])
        browser.run("document.querySelector('#breakdown .pick').click()")
        assert said(browser) == expected(sample)

    def test_calls(self, browser: Browser, sample: SQLiteLedger, sample_page: str) -> None:
        """Single calls are those that cost the most or took the longest; where there may be more that is said."""
        browser.open(sample_page)
        dearest = sample.greatest("cost", 15)
        assert browser.texts("#calls tbody td:nth-child(5)") == [f"${call.cost_usd:.4f}" for call in dearest]
        assert browser.text("#calls-note") == ""
        browser.run("document.querySelector('[name=calls][value=slowest]').click()")
        slowest = sample.greatest("duration", 15)
        minutes, seconds = divmod(round(slowest[0].duration_s), 60)
        assert browser.texts("#calls tbody td:nth-child(6)")[0] == f"{minutes}:{seconds:02} min"
        browser.choose("select[data-name='project']", "vplayground")
        assert "among the 150 slowest calls of all" in browser.text("#calls-note")

    def test_budgets(self, browser: Browser, sample: SQLiteLedger, sample_page: str) -> None:
        """Budgets show what is spent, held and left; what was exceeded says so in words."""
        browser.open(sample_page)
        assert browser.texts("#budgets tbody th") == [standing.limit.account for standing in sample.budgets(NOW)]
        report = browser.texts("#budgets tbody tr:nth-child(2) td")
        assert report[1:4] == ["$0.3500", "$1.0000", "a day"]

    def test_trust(self, browser: Browser, sample: SQLiteLedger, sample_page: str) -> None:
        """It says which part is estimated, and which models have no known price."""
        browser.open(sample_page)
        sources = {group.key[0]: f"{group.calls:,}" for group in sample.totals(["usage_source"])}
        rows = zip(browser.texts("#trust tbody th"), browser.texts("#trust tbody td:nth-child(2)"), strict=True)
        assert dict(rows) == sources
        unknown = sum_totals(sample.totals(())).unknown_cost_calls
        assert f"{unknown:,} calls of unknown cost" in browser.text("#unknown")
        assert "house-llama-70b" in browser.text("#unknown")

    def test_colors(self, browser: Browser, sample_page: str) -> None:
        """A name keeps its colour, whatever is chosen."""
        colors = (
            "return Object.fromEntries(Chart.getChart('chart').data.datasets.map(d => [d.label, d.backgroundColor]))"
        )
        browser.open(sample_page)
        browser.choose("#stack", "project")
        usual = browser.run(colors)
        assert len(set(usual.values())) == len(usual) == 5
        browser.choose("#period", "24h")
        assert browser.run(colors).items() <= usual.items()
        browser.choose("select[data-name='project']", "vsearch")
        assert browser.run(colors) == {"search": usual["search"]}


class TestSizes:
    """Nothing, little, much."""

    def test_empty(self, browser: Browser, tmp_path: Path) -> None:
        """An empty ledger says how to begin."""
        browser.open(page(ledger_of(tmp_path / "ledger.db"), tmp_path / "page.html"))
        assert browser.text("#empty-title") == "No calls yet"
        assert "patch_all()" in browser.text("#empty-code")

    def test_unknown_costs(self, browser: Browser, tmp_path: Path) -> None:
        """A cost that is not known is never $0."""
        ledger = ledger_of(tmp_path / "ledger.db", record(started_at=NOW, cost_usd=None))
        browser.open(page(ledger, tmp_path / "page.html"))
        assert said(browser) == ("1", "unknown")
        assert browser.texts("#breakdown tbody td")[0] == "unknown"

    def test_exact(self, browser: Browser, tmp_path: Path) -> None:
        """Sums beyond what JavaScript's numbers can hold are exact."""
        costs = [Decimal("9000000000.000000001"), Decimal("0.000000002")]
        ledger = ledger_of(tmp_path / "ledger.db", *(record(started_at=NOW, cost_usd=cost) for cost in costs))
        browser.open(page(ledger, tmp_path / "page.html"))
        assert browser.run("return document.querySelector('#summary .value').title") == "$9,000,000,000.000000003"

    def test_100_000(self, browser: Browser, tmp_path: Path) -> None:
        """Of 100,000 calls the page is small, and says the same as the ledger."""
        ledger = sample_ledger.make(tmp_path / "ledger.db", 100_000, 200)
        browser.open(page(ledger, tmp_path / "page.html"))
        assert said(browser) == expected(ledger)
        browser.choose("select[data-name='model']", "vgpt-5")
        assert said(browser) == expected(ledger, model="gpt-5")
        assert (tmp_path / "page.html").stat().st_size < 3_000_000

    def test_many_names(self, browser: Browser, tmp_path: Path) -> None:
        """Thousands of names, long ones, over many years: rare ones are one group, and no call is lost."""
        records = [
            record(
                started_at=NOW - timedelta(days=number * 3, hours=number % 24),
                project=f"{'long ' * 40}{number}",
                model=f"model-{number % 700}",
                tags={"user": str(number), "kind": str(number % 9)},
                cost_usd=Decimal(number) / 1000,
            )
            for number in range(6_000)
        ]
        ledger = ledger_of(tmp_path / "ledger.db", *records)
        browser.open(page(ledger, tmp_path / "page.html"))
        assert said(browser) == ("6,000", "$17,997.00")
        assert (tmp_path / "page.html").stat().st_size < 3_000_000
        names = browser.texts("select[data-name='project'] option")
        assert names[0] == "All"
        assert names[-1].endswith(" others")
        assert "select[data-name='tag:user']" not in browser.driver.page_source
        browser.choose("select[data-name='project']", "o")
        assert browser.text(CALLS) == f"{6_000 - (len(names) - 2):,}"


class TestHostile:
    """What the ledger holds is shown, and never run."""

    def test_names(self, browser: Browser, tmp_path: Path) -> None:
        """Names that are HTML are text, everywhere; no script of theirs runs, and nothing is asked for."""
        hostile = record(
            started_at=NOW, project=HOSTILE, model=HOSTILE, provider=HOSTILE, method=HOSTILE, error_type=HOSTILE,
            tags={HOSTILE: HOSTILE}, cost_usd=None,
        )  # fmt: skip
        ledger = ledger_of(tmp_path / "ledger.db", hostile)
        url = page(ledger, tmp_path / "page.html")
        browser.open(url)
        assert browser.texts("#breakdown tbody th") == [HOSTILE]
        assert HOSTILE in browser.text("#unknown")
        assert f"Tag {HOSTILE}" in browser.texts("#stack option")
        browser.choose("#breakdown-by", f"tag:{HOSTILE}")
        browser.choose("#stack", "model")
        browser.choose("select[data-name='model']", f"v{HOSTILE}")
        browser.run("document.getElementById('chart-details').open = true")
        assert browser.text(CALLS) == "1"
        assert browser.run("return document.querySelectorAll('img, b:not(footer b)').length") == 0
        assert browser.requests() == [url]

    def test_policy(self, browser: Browser, sample_page: str) -> None:
        """A script or a handler that came into the page all the same would be refused, as would a request."""
        browser.open(sample_page)
        browser.run(
            "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = 1\">');"
            "const s = document.createElement('script'); s.textContent = 'window.ran = 2'; document.body.append(s);"
        )
        refused = browser.driver.execute_async_script(
            "const end = arguments[0]; fetch('http://127.0.0.1:9/').then(() => end('sent'), () => end('refused'))"
        )
        assert refused == "refused"
        assert browser.run("return window.ran ?? null") is None
        complaints = browser.complaints()
        assert sum("Content Security Policy" in complaint for complaint in complaints) >= 3

    def test_no_network(self, browser: Browser, sample_page: str) -> None:
        """A page from a file asks for nothing but itself."""
        browser.open(sample_page)
        browser.choose("#stack", "project")
        assert browser.requests() == [sample_page]


class TestPeople:
    """For everybody."""

    def test_dark(self, browser: Browser, sample_page: str) -> None:
        """It is dark where the system is, and as somebody says otherwise, also the next time."""
        look_at = "const c = getComputedStyle(document.body); return [c.backgroundColor, c.color]"
        browser.open(sample_page)
        light = browser.run(look_at)
        tick = browser.run("return Chart.getChart('chart').options.scales.x.ticks.color")
        browser.emulate(dark=True)
        dark = browser.run(look_at)
        assert brightness(light[0]) > 0.9
        assert brightness(light[1]) < 0.2
        assert brightness(dark[0]) < 0.1
        assert brightness(dark[1]) > 0.8
        browser.wait_for(f"return Chart.getChart('chart').options.scales.x.ticks.color !== '{tick}'")
        browser.choose("#theme", "light")
        assert browser.run(look_at) == light
        browser.emulate(dark=False)
        browser.choose("#theme", "dark")
        assert browser.run(look_at) == dark
        browser.open(sample_page)
        assert browser.run(look_at) == dark
        browser.choose("#theme", "")
        assert browser.run(look_at) == light

    def test_keyboard(self, browser: Browser, sample: SQLiteLedger, sample_page: str) -> None:
        """Everything can be done by keys, the focus is seen, and it stays where it is when figures change."""
        browser.open(sample_page)
        browser.press(Keys.TAB)
        assert browser.run("return document.activeElement.className") == "skip"
        browser.press(Keys.ENTER)
        assert browser.run("return document.activeElement.id") == "main"
        reached = set()
        for _ in range(60):
            browser.press(Keys.TAB)
            reached.add(browser.run("const e = document.activeElement; return e.id || e.name || e.className"))
            if browser.run("return document.activeElement.matches('#breakdown .pick')"):
                break
        assert {"measure", "stack", "series", "breakdown-by"} <= reached
        outline = "const s = getComputedStyle(document.activeElement); return [s.outlineStyle, s.outlineWidth]"
        assert browser.run(outline) == ["solid", "2px"]
        name = browser.run("return document.activeElement.textContent")
        browser.press(Keys.SPACE)
        assert said(browser) == expected(sample, project=name)
        assert browser.run("return document.activeElement.textContent") == name
        assert browser.text("#announce").startswith("Shown: ")
        browser.press(Keys.SPACE)
        assert said(browser) == expected(sample)

    def test_legend(self, browser: Browser, sample_page: str) -> None:
        """A series of the chart is hidden and shown by a button that says which it is."""
        browser.open(sample_page)
        button = "document.querySelector('#legend button')"
        browser.run(f"{button}.focus()")
        browser.press(Keys.ENTER)
        pressed = f"return [{button}.ariaPressed, Chart.getChart('chart').isDatasetVisible(0), document.activeElement === {button}]"
        assert browser.run(pressed) == ["false", False, True]
        browser.press(Keys.ENTER)
        assert browser.run(pressed) == ["true", True, True]

    def test_structure(self, browser: Browser, sample_page: str) -> None:
        """There are landmarks, each control and table has a name, and the chart has words."""
        browser.open(sample_page)
        assert browser.run(
            "return ['header', 'main', 'footer', 'form[aria-label]'].map(s => document.querySelectorAll(s).length)"
        ) == [1, 1, 1, 1]
        nameless = (
            "return [...document.querySelectorAll('select, input, button, table, section, canvas')].filter(e =>"
            " !(e.labels?.[0]?.textContent || e.textContent.trim() || e.getAttribute('aria-label')"
            " || e.querySelector('caption') || document.getElementById(e.getAttribute('aria-labelledby'))))"
            ".filter(e => !e.closest('[hidden]') && e.id !== 'chart-table').map(e => e.outerHTML.slice(0, 90))"
        )
        assert browser.run(nameless) == []
        assert browser.run("return document.getElementById('chart').ariaLabel").startswith(
            "Cost by day, stacked by model"
        )

    def test_narrow(self, browser: Browser, sample_page: str) -> None:
        """On a telephone nothing but tables is wider than the screen."""
        browser.open(sample_page)
        browser.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
        )
        try:
            assert browser.wait_for("return document.documentElement.scrollWidth === 360")  # the chart follows
        finally:
            browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def brightness(color: str) -> float:
    """Of `rgb(r, g, b)`, from 0 to 1."""
    return sum(int(part) for part in color[4:-1].split(", ")) / 765


class TestReport:
    """`autotoll report --html`."""

    def test_file(self, browser: Browser, sample: SQLiteLedger, tmp_path: Path) -> None:
        """It writes the page of the calls that are asked for."""
        target = tmp_path / "out.html"
        done = run("report", "--html", target, "--project", "search", "--by", "tag:team", "--ledger", sample.path)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"written: {target}")
        browser.open(target.as_uri())
        assert said(browser) == expected(sample, project="search")
        assert "Only calls of project search." in browser.text("#about")
        assert list(tmp_path.iterdir()) == [target]

    def test_stdout(self, sample: SQLiteLedger) -> None:
        """`-` is stdout, and nothing else is written there."""
        done = run("report", "--html", "-", "--ledger", sample.path)
        assert done.stdout.startswith("<!doctype html>")
        assert done.stdout.rstrip().endswith("</html>")

    def test_wrong(self, tmp_path: Path) -> None:
        """Where there is no ledger, no file is made."""
        done = run("report", "--html", tmp_path / "out.html", "--ledger", tmp_path / "none.db")
        assert done.returncode == 1
        assert "no ledger at" in done.stderr
        assert not list(tmp_path.iterdir())


@contextmanager
def served(path: Path, *arguments: object) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`autotoll serve` of a ledger: its URL, and the process."""
    process = subprocess.Popen(
        command("serve", "--port", 0, "--interval", "0.1", "--ledger", path, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip(), process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()


def ask(url: str, method: str = "GET", path: str | None = None, **headers: str) -> tuple[HTTPResponse, bytes]:
    """An answer, and its body."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=20)
    connection.request(method, parts.path if path is None else path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


class TestServe:
    """`autotoll serve`."""

    def test_live(self, browser: Browser, tmp_path: Path) -> None:
        """It may start before there is a ledger; calls show up as they come in, without loading the page anew."""
        path = tmp_path / "ledger.db"
        with served(path) as (url, process):
            browser.open(url)
            browser.wait_for("return document.getElementById('alert').textContent.includes('no ledger at')")
            now = datetime.now(UTC)
            browser.run("window.same = true")
            ledger_of(path, record(started_at=now, cost_usd=Decimal("0.25")))
            browser.wait_for(f"return document.querySelector('{CALLS}')?.textContent === '1'")
            ledger_of(path, record(started_at=now, cost_usd=Decimal("0.5"), project=HOSTILE))
            browser.wait_for(f"return document.querySelector('{SPENT}').textContent === '$0.7500'")
            assert browser.run("return window.same")
            assert browser.run("return document.getElementById('alert').hidden")
            browser.run("document.getElementById('pause').click()")
            assert browser.text("#live-text") == "Paused"
            origin = url.rsplit("/", 2)[0]
            assert all(each.startswith(origin) for each in browser.requests())
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
            assert process.communicate()[1] == ""
        browser.run("document.getElementById('pause').click()")
        browser.wait_for("return document.getElementById('alert').innerText.includes('does not answer')")
        assert browser.text(SPENT) == "$0.7500"
        browser.open("about:blank")
        complaints = browser.complaints()
        assert all("503" in each or "ERR_CONNECTION_REFUSED" in each for each in complaints), complaints

    def test_unchanged(self, sample: SQLiteLedger) -> None:
        """Where nothing is new, hardly anything is sent."""
        with served(sample.path) as (url, _):
            response, body = ask(f"{url}data.json")
            assert sum(row[8] for row in json.loads(body)["tables"][0]["cells"]) == 3_000
            tag = response.headers["ETag"]
            response, body = ask(f"{url}data.json", **{"If-None-Match": tag})
            assert (response.status, body) == (304, b"")

    def test_strangers(self, sample: SQLiteLedger) -> None:
        """Only loopback's own names are answered, only reading, and only whoever knows the URL."""
        with served(sample.path) as (url, _):
            parts = urlsplit(url)
            assert parts.hostname == "127.0.0.1"
            for host in (
                f"evil.example:{parts.port}",
                "evil.example",
                "127.0.0.1.evil.example",
                "",
                "localhost@evil.example",
            ):
                response, body = ask(url, Host=host)
                assert (response.status, b"LLM spend" in body) == (403, False), host
            for host in (f"localhost:{parts.port}", "127.0.0.1", "[::1]:9000"):
                assert ask(url, Host=host)[0].status == 200
            for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
                response, _ = ask(url, method)
                assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD"), method
            for path in ("/", "/data.json", "/wrong/data.json"):
                assert ask(url, path=path)[0].status == 403
            assert ask(f"{url}../../etc/passwd")[0].status == 404

    def test_headers(self, sample: SQLiteLedger) -> None:
        """Every answer forbids other sites to read, frame or extend it; HEAD has the headers alone."""
        with served(sample.path) as (url, _):
            response, body = ask(url, "HEAD")
            assert (response.status, body) == (200, b"")
            policy = dict(rule.split(" ", 1) for rule in response.headers["Content-Security-Policy"].split("; "))
            assert policy["default-src"] == "'none'"
            assert policy["connect-src"] == "'self'"
            assert policy["frame-ancestors"] == "'none'"
            assert "unsafe" not in response.headers["Content-Security-Policy"]
            assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert response.headers["Cache-Control"] == "no-store"
            assert "Access-Control-Allow-Origin" not in response.headers

    def test_port(self, sample: SQLiteLedger) -> None:
        """A port that is taken is an error with a way out."""
        with served(sample.path) as (url, _):
            done = run("serve", "--port", urlsplit(url).port, "--ledger", sample.path)
            assert done.returncode == 1
            assert "try --port 0" in done.stderr
        assert "is not a port" in run("serve", "--port", "70000").stderr


def sums(data: str) -> tuple[int, int]:
    """The calls and nano-USD in the first table of a page's data."""
    page = json.loads(data)
    width = 1 + len(page["dimensions"])
    rows = page["tables"][0]["cells"]
    return sum(row[width] for row in rows), sum(int(row[width + 3]) for row in rows)


class TestLive:
    """What a served page is told."""

    def test_old_and_new(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Older calls are not asked for each time, those of today are; each is counted once, and all in the end."""
        monkeypatch.setattr(live, "_IDLE", 0)
        now = datetime.now(UTC)
        ledger = ledger_of(
            tmp_path / "ledger.db",
            *(record(started_at=now - timedelta(hours=7 * n), cost_usd=Decimal(n)) for n in range(60)),
        )
        answers = live.Live(Asked(ledger))
        first = answers.answer()
        assert sums(first.data) == (60, 1_770 * 10**9)
        assert [call["nano_usd"] for call in json.loads(first.data)["dearest"]] == [
            str(n * 10**9) for n in range(59, -1, -1)
        ]
        assert answers.answer().tag == first.tag
        ledger.add([record(started_at=now, cost_usd=Decimal(5)), record(started_at=now - timedelta(days=9))])
        assert sums(answers.answer().data) == (61, 1_775 * 10**9)
        monkeypatch.setattr(live, "_OLD_S", 0)
        assert sums(answers.answer().data) == (62, 1_775 * 10**9 + 1_230_000)

    def test_rest(self, sample: SQLiteLedger) -> None:
        """A ledger that has just answered is not asked again at once."""
        answers = live.Live(Asked(sample))
        assert answers.answer() is answers.answer()


class Plain:
    """A ledger that can do no more than every ledger can."""

    def __init__(self, ledger: SQLiteLedger) -> None:
        self.records = ledger.records
        self.totals = ledger.totals


def test_any_ledger(sample: SQLiteLedger) -> None:
    """Of a ledger that only has records and sums the page shows the same, but for the budgets."""
    full, plain = (json.loads(encoded(asked, look(asked, NOW))) for asked in (Asked(sample), Asked(Plain(sample))))
    assert plain["budgets"] is None
    assert {**plain, "budgets": full["budgets"]} == full


def test_postgres(sample: SQLiteLedger, database: str) -> None:
    """Of a PostgreSQL ledger the page shows what it shows of a SQLite one with the same calls and budgets."""
    with PostgresLedger(database, timeout_s=20) as ledger:
        ledger.add(sample.records())
        standings = sample.budgets(NOW)
        for number, each in enumerate(standings):
            asked = reservation((each.limit, each.held), at=NOW, call_id=f"under-way-{number}", is_due=True)
            assert ledger.reserve(asked) is None
        of_postgres, of_sqlite = (
            json.loads(encoded(asked, look(asked, NOW))) for asked in (Asked(ledger), Asked(sample))
        )
        assert of_postgres == of_sqlite
        assert len(of_postgres["budgets"]) == 4


class TestGreatest:
    """`SQLiteLedger.greatest`."""

    def test_order(self, tmp_path: Path) -> None:
        """The greatest come first, of the calls that are chosen; costs that are not known are left out."""
        calls = [record(cost_usd=Decimal(n), duration_s=9.0 - n, project="ab"[n % 2]) for n in range(5)]
        ledger = ledger_of(tmp_path / "ledger.db", *calls, record(cost_usd=None, duration_s=99.0))
        assert [call.cost_usd for call in ledger.greatest("cost", 3)] == [4, 3, 2]
        assert [call.duration_s for call in ledger.greatest("duration", 2)] == [99, 9]
        assert [call.cost_usd for call in ledger.greatest("cost", 3, where={"project": "b"})] == [3, 1]
        assert len(ledger.greatest("cost", 99)) == 5
        with pytest.raises(ValueError, match="cost, duration"):
            ledger.greatest("tokens", 1)
