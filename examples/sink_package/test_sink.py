"""The sink does what every sink must: `python -m pytest test_sink.py`."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from llm_toll_csv import CSVSink

from llm_toll_autopatch.testing import SinkConformance

if TYPE_CHECKING:
    from llm_toll_autopatch import Sink


class TestCSVSink(SinkConformance):
    """All tests of the kit."""

    def make_sink(self) -> Sink:
        """Return a sink with a new file."""
        return CSVSink(str(Path(tempfile.mkdtemp()) / "calls.csv"))

    def read_back(self, sink: Sink) -> list[str]:
        """Return the ids in the file."""
        assert isinstance(sink, CSVSink)
        with sink.path.open(newline="", encoding="utf-8") as file:
            return [row["id"] for row in csv.DictReader(file)]
