"""`LLMTollSink`: writes into the store of llm-toll, so that its statistics and dashboard show our calls."""

from __future__ import annotations

import os
import types
from typing import TYPE_CHECKING, Any, NoReturn

from llm_toll_autopatch.sinks import SinkUnavailableError
from llm_toll_autopatch.sinks.extras import needed
from llm_toll_autopatch.sinks.forking import watch_forks
from llm_toll_autopatch.sinks.text import encodable

if TYPE_CHECKING:
    from collections.abc import Callable

    from llm_toll_autopatch.records import CallRecord

__all__ = ["LLMTollSink"]

_URL = "LLM_TOLL_STORE_URL"

# Stores that came over a fork: their connections are the parent's, and closing them here would be wrong.
_inherited: list[Any] = []


class LLMTollSink:
    """Logs every call in llm-toll's own store: `llm-toll --stats` and its dashboard show it, its budgets count it.

    A call is logged whether or not it is within a budget: it has been paid for. llm-toll has no unknown cost; where the
    price is not known it gets 0, as llm-toll itself does for such models, and `unknown_costs` counts it. Amounts are
    floats there. Retries of a record that could not be logged cannot make it twice: llm-toll logs all of it or nothing.

    Args:
        store: A URL or path as llm-toll takes it (`postgresql://…`, a file), or one of its stores. None is
            `LLM_TOLL_STORE_URL` of the environment, else `~/.llm_toll.db`.

    Attributes:
        unknown_costs: Calls that were logged with a cost of 0 since theirs is not known.

    Raises:
        MissingExtraError: llm-toll is not installed; an ImportError and a ValueError.
        ValueError: llm-toll does not accept the path.
    """

    deferred = True

    def __init__(self, store: Any = None) -> None:
        self._llm_toll = needed("llm_toll.store", by="LLMTollSink", install="llm-toll-autopatch[llm-toll]")
        self.unknown_costs = 0
        self._url: str | None = None
        self._ours = not hasattr(store, "log_usage")
        self._store: Any = None if self._ours else store
        if self._ours:
            self._url = os.environ.get(_URL) if store is None else os.fspath(store)
            if _is_postgres(self._url):  # that connects at once: not here, where nobody has called anything yet
                needed("psycopg2", by="LLMTollSink with PostgreSQL", install="llm-toll[postgres]")
            else:
                self._store = self._llm_toll.create_store(self._url)
                # Absolute: a forked child may have changed its directory.
                self._url = getattr(self._store, "_db_path", self._url)
        watch_forks(self)

    def __repr__(self) -> str:
        kind = "PostgreSQL" if _is_postgres(self._url) else self._url  # a database's URL may have a password
        return f"LLMTollSink({kind!r})" if self._ours else f"LLMTollSink({type(self._store).__name__})"

    def emit(self, record: CallRecord) -> None:
        """Log `record`.

        Raises:
            SinkUnavailableError: llm-toll could not log it now.
        """
        cost = 0.0 if record.cost_usd is None else float(record.cost_usd)
        usage = record.usage
        model = encodable(record.response_model or record.model)
        log = _raising(self._opened())
        log(encodable(record.project), model, usage.input_tokens, usage.output_tokens, cost)
        self.unknown_costs += record.cost_usd is None

    def close(self) -> None:
        """Close the store, unless it was given. A later `emit` opens it again."""
        if self._ours and self._store is not None:
            store, self._store = self._store, None
            store.close()

    def after_fork_in_child(self) -> None:
        """Open the store anew at the next record; one that was given is its owner's to care for."""
        if self._ours and self._store is not None:
            _inherited.append(self._store)
            self._store = None

    def _opened(self) -> Any:
        if self._store is None:
            try:
                self._store = self._llm_toll.create_store(self._url)
            except Exception as error:
                # Not with its text: that may show the URL.
                message = f"llm-toll cannot open its store: {type(error).__name__}"
                raise SinkUnavailableError(message) from None
        return self._store


def _is_postgres(url: str | None) -> bool:
    return url is not None and url.startswith(("postgresql:", "postgres:"))


class _NoWarnings:
    """Stands where llm-toll's stores expect the `warnings` module: what they say when they fail is raised instead."""

    @staticmethod
    def warn(_message: str, *_args: Any, **_options: Any) -> NoReturn:
        # Not with its text: that may show where the store is, and as whom.
        raise SinkUnavailableError("llm-toll could not log the call")


def _raising(store: Any) -> Callable[[str, str, int, int, float], None]:
    """Return the store's `log_usage`, which only warns when it fails, as one that raises.

    The warning cannot be caught otherwise: `warnings.catch_warnings` would hide those of the program's other threads.
    The store's class stays as it is, for the program may use it as well.
    """
    function = getattr(type(store).log_usage, "__wrapped__", type(store).log_usage)
    if not isinstance(function, types.FunctionType) or "warnings" not in function.__globals__:
        bound: Callable[[str, str, int, int, float], None] = store.log_usage
        return bound
    namespace = {**function.__globals__, "warnings": _NoWarnings}
    copy = types.FunctionType(
        function.__code__, namespace, function.__name__, function.__defaults__, function.__closure__
    )
    return types.MethodType(copy, store)
