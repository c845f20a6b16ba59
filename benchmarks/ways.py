"""The configurations whose calls are measured: where a record goes, and whether a budget is asked before."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.postgresql import MissingServerError, server
from llm_toll_autopatch import MemorySink, OTelSink, PostgresLedger, SQLiteLedger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from llm_toll_autopatch.settings import Options

__all__ = ["HERE", "LEDGER", "MEMORY", "POSTGRES", "SERVED", "Way", "Ways"]

LIMIT_US, LIMIT_WITH_LEDGER_US = 60.0, 100.0
"""What a call may cost on the caller's thread."""
_PLENTY = 10**9
_ON: Options = {"max_budget": _PLENTY}
_STRICT: Options = {"max_budget": _PLENTY, "strict_budget": True}


class Way(NamedTuple):
    """A configuration: its name, what makes its sink in a folder or of a database's URL, its limit, its budget."""

    name: str
    sink: Callable[[Path, str], Any]
    limit_us: float | None = None
    budget: Options | None = None


def _otel(_folder: Path, _url: str) -> Any:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    return OTelSink(meter_provider=MeterProvider([InMemoryMetricReader()]))


def _memory(_folder: Path, _url: str) -> Any:
    return MemorySink()


def _ledger(folder: Path, _url: str) -> Any:
    return SQLiteLedger(folder / "ledger.db")


MEMORY = Way("memory sink", _memory, LIMIT_US)
LEDGER = Way("default ledger", _ledger, LIMIT_WITH_LEDGER_US)
POSTGRES = Way("PostgreSQL", lambda _, url: PostgresLedger(url))
HERE = (
    MEMORY,
    LEDGER,
    Way("ledger, durability=queue", lambda folder, _: SQLiteLedger(folder / "ledger.db", durability="queue"), LIMIT_US),
    Way("OpenTelemetry, metrics", _otel, LIMIT_US),
    MEMORY._replace(name="memory sink, budget", limit_us=None, budget=_ON),
    MEMORY._replace(name="memory sink, strict budget", limit_us=None, budget=_STRICT),
    LEDGER._replace(name="default ledger, budget", limit_us=None, budget=_ON),
    LEDGER._replace(name="default ledger, strict budget", limit_us=None, budget=_STRICT),
)
"""Those that wait for no server."""
SERVED = (POSTGRES, POSTGRES._replace(name="PostgreSQL, strict budget", budget=_STRICT))
"""Those that do."""


class Ways:
    """The options of `patch_all` for each of the configurations, made once.

    Args:
        folder: Where ledgers go.

    Attributes:
        missing: Why there is no PostgreSQL server; nothing where there is one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: Any = None
        self.missing = ""
        self._made: dict[str, Options] = {}

    @contextlib.contextmanager
    def there(self) -> Iterator[Ways]:
        """Have a PostgreSQL server, where this machine can."""
        with contextlib.ExitStack() as stack:
            try:
                self._server = stack.enter_context(server())
            except MissingServerError as error:
                self.missing = str(error)
            yield self
            for options in self._made.values():
                if close := getattr(options["sink"], "close", None):
                    close()

    def why_not(self, way: Way) -> str:
        """Return why a configuration is not there; nothing where it is."""
        if way.sink is POSTGRES.sink and self.missing:
            return self.missing
        try:
            self.options(way)
        except ImportError as error:
            return str(error)
        return ""

    def options(self, way: Way) -> Options:
        """Return what `patch_all` takes."""
        if way.name not in self._made:
            # Each has a ledger of its own: where a budget is kept, a record costs more.
            folder = self._folder / str(len(self._made))
            url = self._server.new_database() if way.sink is POSTGRES.sink else ""
            self._made[way.name] = {"sink": way.sink(folder, url), **(way.budget or {})}
        options = self._made[way.name]
        if isinstance(sink := options["sink"], MemorySink):
            sink.clear()
        return options
