"""Methods of the Stainless SDKs that fetch what an earlier request produced: free themselves, they tell what that cost.

Whatever is fetched is counted once by its id. A call that waits for it (see `lasting`) becomes its record; else it gets
a new one, when the work was not begun in this process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_toll_autopatch import lasting, settings
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.metering import Call
from llm_toll_autopatch.providers.calls import charge, named_like
from llm_toll_autopatch.providers.frames import uncounted
from llm_toll_autopatch.streams import AsyncStreamProxy, StreamProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llm_toll_autopatch.providers.target import Caller, Target, Wrapper
    from llm_toll_autopatch.records import Outcome
    from llm_toll_autopatch.settings import Settings

__all__ = ["lines", "results"]

_IDS = ("response_id", "run_id", "batch_id")


class _Fetch:
    """One call of such a method."""

    def __init__(
        self, target: Target, who: Caller, active: Settings, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        self.target = target
        self.who = who
        self.active = active
        self.kwargs = kwargs
        # The id is what these methods take by position.
        named = next((kwargs[name] for name in _IDS if name in kwargs), None)
        self.work = named if named is not None else args[0] if args else None
        self._waiting: list[Call] = []

    def count(self, answer: Any) -> None:
        """Record the work that `answer` tells of, unless it goes on, or was never ours to count, or has been."""
        assert self.target.reader is not None, "a target that is fetched has a reader"
        for part in self.target.reader.parts(answer):
            reader = self.target.reader()
            reader.begin(self.kwargs)
            reader.finish(part)
            work = reader.response_id
            if work is None or reader.unfinished or not reader.lasts:
                continue
            call = lasting.take(work)
            if call is None and not lasting.counted(work) and reader.usage(ended=True) is not None:
                call = self.call(reader.response_model)
            if call is not None:
                call.finish(part)
                if call.waiting and self.target.is_async:
                    self._waiting.append(call)

    async def written(self) -> None:
        """Wait until what has been recorded is written, within a bound."""
        while self._waiting:
            await self._waiting.pop().written()

    def call(self, model: str | None = None) -> Call:
        """Begin the call of work that was begun elsewhere."""
        assert self.target.reader is not None
        reader = self.target.reader()
        reader.begin(self.kwargs)
        reader.model = reader.model or model or ""
        call = Call(
            reader, self.active, provider=self.who.provider, method=self.target.method, endpoint=self.who.endpoint
        )
        charge(call)
        return call

    def resumed(self) -> Call | None:
        """Return the call of work whose stream is taken up again; None when it has been counted already."""
        work = self.work if isinstance(self.work, str) else ""
        call = lasting.take(work)
        if call is None and lasting.counted(work):
            return None
        return call or self.call()

    def deliver(self, answer: Any) -> Any:
        """Return what the user gets for the SDK's answer. Never raises."""
        try:
            if hasattr(type(answer), "__stream__"):
                return self._stream(answer)
            self.count(_body(answer))
        except Exception as error:
            failures.note(f"reading the answer of {self.target.method}", error)
        return answer

    def _stream(self, stream: Any) -> Any:
        call = self.resumed()
        if call is None:
            return stream
        call.stream = True
        proxy = AsyncStreamProxy if self.target.is_async else StreamProxy
        return proxy(stream, call, close_on_break=self.active.close_on_break)

    def deliver_lines(self, answer: Any) -> Any:
        """Return a proxy around lines of results, of which each is counted when the user has it. Never raises."""
        try:
            if hasattr(type(answer), "__decode__"):
                proxy = AsyncStreamProxy if self.target.is_async else StreamProxy
                return proxy(answer, _Lines(self), close_on_break=self.active.close_on_break)
        except Exception as error:
            failures.note(f"reading the answer of {self.target.method}", error)
        return answer


def _body(answer: Any) -> Any:
    """Return the answer, or the JSON of one that is raw and has been read."""
    http = getattr(answer, "http_response", None)
    if http is None or not hasattr(answer, "parse"):
        return answer
    return http.json() if http.is_closed else None


class _Lines:
    """The meter of a series of results: each line is recorded when it comes."""

    def __init__(self, fetch: _Fetch) -> None:
        self._fetch = fetch
        self._open = True
        self.allowance = None

    def feed(self, line: Any) -> bool:
        try:
            self._fetch.count(line)
        except Exception as error:
            failures.note(f"reading a line of {self._fetch.target.method}", error)
        return False

    def end(self, _outcome: Outcome, _error: BaseException | None = None, *, from_finalizer: bool = False) -> bool:
        del from_finalizer
        was_open, self._open = self._open, False
        return was_open

    async def written(self) -> None:
        await self._fetch.written()


def results(target: Target, caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap a method that returns the state, or resumes the stream, of earlier work."""
    return _fetching(target, caller, _Fetch.deliver)


def lines(target: Target, caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap a method that returns the results of earlier work line by line."""
    return _fetching(target, caller, _Fetch.deliver_lines)


def _fetching(target: Target, caller: Callable[[Any], Caller], deliver: Callable[[_Fetch, Any], Any]) -> Wrapper:
    def fetched(instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], active: Settings) -> _Fetch | None:
        try:
            return _Fetch(target, caller(instance), active, args, kwargs)
        except Exception as error:
            failures.note(f"beginning {target.method}", error)
            return None

    @uncounted
    async def fetch_async(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], active: Settings
    ) -> Any:
        answer = await wrapped(*args, **kwargs)
        fetch = fetched(instance, args, kwargs, active)
        if fetch is None:
            return answer
        answer = deliver(fetch, answer)
        await fetch.written()
        return answer

    @uncounted
    def wrapper(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        active = settings.active()
        if active is None:
            return wrapped(*args, **kwargs)
        if target.is_async:
            return named_like(wrapped, fetch_async(wrapped, instance, args, kwargs, active))
        answer = wrapped(*args, **kwargs)
        fetch = fetched(instance, args, kwargs, active)
        return answer if fetch is None else deliver(fetch, answer)

    return wrapper
