"""Notebooks: tables, and the magics in a real IPython, with the real clients against the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import RichOutput, capture_output
from specimens import record
from traitlets.config import Config

import llm_toll_autopatch
from llm_toll_autopatch import MemorySink, Spend, Usage, status
from llm_toll_autopatch.simulator import Simulator

HOSTILE = "<script>alert('&')</script>"

ASK = """
import openai
def ask(times=1, **more):
    with openai.OpenAI(max_retries=0) as client:
        for _ in range(times):
            client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "Hi"}], **more)
"""


class Table(HTMLParser):
    """The cells of a table by rows, its caption and notes; fails on anything but a table."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.caption = ""
        self.notes = ""
        self._within: list[str] = []
        self.feed(html)
        self.close()
        assert not self._within

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ("div", "table", "caption", "thead", "tbody", "tr", "th", "td", "small")
        self._within.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._within.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._within[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        elif self._within[-1] == "caption":
            self.caption += data
        else:
            self.notes += data


def test_usage_as_a_table() -> None:
    """A usage shows the figures that are not 0, whatever the provider calls them."""
    usage = Usage(input_tokens=1_200, cache_read_tokens=7, details={HOSTILE: 3})
    assert Table(usage._repr_html_()).rows == [
        ["of", "count"], ["input tokens", "1,200"], ["cache read tokens", "7"], [HOSTILE, "3"],
    ]  # fmt: skip
    assert Table(Usage()._repr_html_()).rows == [["of", "count"], ["nothing", "0"]]


def test_spend_as_a_table() -> None:
    """A spend shows its sums, and marks what is estimated and what is not known."""
    spend = Spend()
    assert Table(spend._repr_html_()).rows == [["calls", "input", "output", "cost"], ["0", "0", "0", "$0.00"]]
    spend.add(record(cost_usd=None))
    assert Table(spend._repr_html_()).rows[1] == ["1", "1,200", "450", "?"]
    spend.add(record(cost_usd=Decimal("0.5"), usage_source="partial"))
    table = Table(spend._repr_html_())
    assert table.rows[1] == ["2", "~2,400", "~900", "~$0.50 + 1 ?"]
    assert table.notes.startswith("~ estimated")
    assert "? without a known price" in table.notes


def test_records_as_a_table() -> None:
    """A memory sink shows its last fifty records and the sums of all, with names as they are."""
    sink = MemorySink()
    assert Table(sink._repr_html_()).rows[1:] == [["0 calls", "", "", "", "0", "0", "$0.00"]]
    for number in range(60):
        sink.emit(record(project=HOSTILE, model=str(number), usage_source="estimated" if number == 59 else "reported"))
    table = Table(sink._repr_html_())
    assert len(table.rows) == 1 + 1 + 50 + 1
    assert table.rows[1][0] == "… 10 earlier"
    assert table.rows[2] == ["2026-11-23 12:00:00", HOSTILE, "10", "completed", "1,200", "450", "$0.00123"]
    assert table.rows[-2][-1] == "~$0.00123"
    assert table.rows[-1] == ["60 calls", "", "", "", "~72,000", "~27,000", "~$0.07380"]


class Notebook:
    """A shell of IPython's, and what its cells show."""

    def __init__(self) -> None:
        config = Config()
        config.HistoryManager.enabled = False
        self.shell = InteractiveShell.instance(config=config)

    def __call__(self, cell: str, *, fails: type[BaseException] | None = None) -> list[RichOutput]:
        with capture_output() as captured:
            result = self.shell.run_cell(cell)  # type: ignore[no-untyped-call]
        error = result.error_before_exec or result.error_in_exec
        assert type(error) is (fails or type(None)), captured.stdout
        outputs: list[RichOutput] = captured.outputs
        return outputs

    def close(self) -> None:
        self("%unload_ext llm_toll_autopatch")
        InteractiveShell.clear_instance()

    def text(self, cell: str, *, fails: type[BaseException] | None = None) -> list[str]:
        return [output.data["text/plain"] for output in self(cell, fails=fails)]

    def value(self, name: str) -> Any:
        return self.shell.user_ns[name]


@pytest.fixture
def notebook(sim: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[Notebook]:
    """A notebook with the extension, that meters into a file."""
    monkeypatch.setenv("LLM_TOLL_AUTOPATCH_SINK", f"jsonl:{tmp_path / 'calls.jsonl'}")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    for name, value in sim.environment().items():
        monkeypatch.setenv(name, value)
    notebook = Notebook()
    notebook("%load_ext llm_toll_autopatch")
    notebook(ASK)
    yield notebook
    notebook.close()
    assert not status().active


ONE = "1 call, 25 input and 8 output tokens, $0.00002225"


def test_what_a_cell_costs(notebook: Notebook, tmp_path: Any) -> None:
    """`%%toll` shows what its cell cost, threads included, as a table and as text; `%toll` that of all cells."""
    assert notebook("ask()") == []
    (output,) = notebook("%%toll\nask()\nanswer = 42\nanswer")
    assert output.data["text/plain"] == f"this cell: {ONE}"
    table = Table(output.data["text/html"])
    assert (table.caption, table.rows[1]) == ("this cell", ["1", "25", "8", "$0.0000222"])
    assert notebook.value("answer") == notebook.value("_") == 42
    (text,) = notebook.text("\n%%toll\nimport threading\nt = threading.Thread(target=ask)\nt.start()\nt.join()")
    assert text == f"this cell: {ONE}"
    (text,) = notebook.text("%toll")
    assert text == "this notebook: 3 calls, 75 input and 24 output tokens, $0.00006675"
    assert len((tmp_path / "calls.jsonl").read_text().splitlines()) == 3


def test_cells_that_await(notebook: Notebook) -> None:
    """A cell that awaits at its top level is counted like any other."""
    cell = "%%toll\nasync with openai.AsyncOpenAI() as client:\n    got = await client.responses.create(model='gpt-5-mini', input='Hi')"
    (text,) = notebook.text(cell)
    assert text == f"this cell: {ONE}"
    assert notebook.value("got").output_text


def test_cells_that_fail(notebook: Notebook) -> None:
    """What a cell cost is shown when it raised too, its error is its own, and the next cell starts anew."""
    (text,) = notebook.text("%%toll\nask()\n1 / 0", fails=ZeroDivisionError)
    assert text == f"this cell: {ONE}"
    assert notebook.text("ask()") == []


def test_who_pays_and_how_much(notebook: Notebook, tmp_path: Any) -> None:
    """Options say who pays, what for, and how much at most."""
    budget = llm_toll_autopatch.BudgetExceededError
    cell = "%%toll --project demo --tag team=search --tag 'stage=a b' --max-budget 0.00002\nask(2)"
    with pytest.warns(llm_toll_autopatch.BudgetOverrunWarning):
        (text,) = notebook.text(cell, fails=budget)
    assert text == f"this cell: {ONE}"
    (line,) = (tmp_path / "calls.jsonl").read_text().splitlines()
    assert '"project": "demo"' in line.replace('":"', '": "')
    assert "a b" in line
    (text,) = notebook.text("%%toll --max-budget 0 --strict\nask(max_completion_tokens=9)", fails=budget)
    assert text.startswith("this cell: 0 calls")


def test_options_that_make_no_sense(notebook: Notebook) -> None:
    """A mistake in the options is said, and nothing of the cell runs."""
    from IPython.core.error import UsageError

    for options in ("--projct x", "--max-budget much", "--tag x", "--project"):
        notebook(f"%%toll {options}\nran = True", fails=UsageError)
    assert "ran" not in notebook.shell.user_ns
    with pytest.raises(UsageError, match="--tag takes tags such as 'team=search"):
        notebook.shell.run_line_magic("toll", "--begin-cell --tag x")


def test_called_by_name(notebook: Notebook) -> None:
    """`run_cell_magic`, which other magics and programs use, does the same."""
    (text,) = notebook.text("get_ipython().run_cell_magic('toll', '', 'ask()')")
    assert text == f"this cell: {ONE}"
    (text,) = notebook.text("get_ipython().run_cell_magic('toll', '', 'ask()\\n1/0')", fails=ZeroDivisionError)
    assert text == f"this cell: {ONE}"


def test_a_program_that_configured_itself(sim: Simulator) -> None:
    """Where `patch_all` or `patched` has been called before, the extension leaves that as it is."""
    with llm_toll_autopatch.patched() as sink:
        notebook = Notebook()
        notebook("%load_ext llm_toll_autopatch")
        notebook(ASK)
        notebook(f"client = openai.OpenAI(base_url={sim.openai_base_url!r}, api_key='any')")
        (text,) = notebook.text("%%toll\nclient.responses.create(model='gpt-5-mini', input='Hi')\nclient.close()")
        notebook.close()
        assert status().active
    assert text == f"this cell: {ONE}"
    assert isinstance(sink, MemorySink)
    assert len(sink) == 1


def test_a_notebook_in_jupyter(sim: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """In a real kernel the same cells show the same tables."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("LLM_TOLL_AUTOPATCH_SINK", f"sqlite:///{tmp_path / 'ledger.db'}")
    for name, value in sim.environment().items():
        monkeypatch.setenv(name, value)
    new = nbformat.v4
    awaited = (
        "%%toll\nasync with openai.AsyncOpenAI() as c:\n    await c.responses.create(model='gpt-5-mini', input='Hi')"
    )
    cells = ["%load_ext llm_toll_autopatch" + ASK, "%%toll\nask()", awaited, "%toll"]
    notebook = new.new_notebook(cells=[new.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=60).execute()
    shown = [
        each["data"]["text/plain"] for cell in notebook.cells for each in cell.outputs if "text/html" in each["data"]
    ]
    assert shown[:2] == [f"this cell: {ONE}"] * 2
    assert shown[2].startswith("this notebook: 2 calls, 50 input and 16 output tokens, $0.0000445")
