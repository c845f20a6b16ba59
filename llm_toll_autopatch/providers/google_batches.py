"""Google's batch jobs: the results that come back inside a job, one record for each, once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_toll_autopatch import lasting, settings
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.metering import Call
from llm_toll_autopatch.providers import calls
from llm_toll_autopatch.readers.embed_content import EmbedContentBatch
from llm_toll_autopatch.readers.fields import get, text
from llm_toll_autopatch.readers.generate_content import GenerateContentBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llm_toll_autopatch.providers.target import Caller, Target, Wrapper
    from llm_toll_autopatch.readers.reader import Reader
    from llm_toll_autopatch.settings import Settings

__all__ = ["results"]

_RESULTS: tuple[tuple[str, Callable[[], Reader]], ...] = (
    ("inlined_responses", GenerateContentBatch),
    ("inlined_embed_content_responses", EmbedContentBatch),
)


def results(target: Target, caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap a method that returns a batch job, which holds its results once it is done."""

    def note(instance: Any, job: Any, active: Settings) -> list[Call]:
        try:
            return _record(job, active, caller(instance), target.method)
        except Exception as error:
            failures.note(f"reading the results of {target.method}", error)
            return []

    async def wait(wrapped: Any, instance: Any, args: Any, kwargs: Mapping[str, Any], active: Settings) -> Any:
        job = await wrapped(*args, **kwargs)
        for call in note(instance, job, active):
            await call.written()
        return job

    def wrapper(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        active = settings.active()
        if active is None:
            return wrapped(*args, **kwargs)
        if target.is_async:
            return calls.named_like(wrapped, wait(wrapped, instance, args, kwargs, active))
        job = wrapped(*args, **kwargs)
        note(instance, job, active)
        return job

    return wrapper


def _record(job: Any, active: Settings, who: Caller, method: str) -> list[Call]:
    destination = get(job, "dest")
    found = [(make, get(destination, name)) for name, make in _RESULTS]
    # Programs poll, and look again later. A job's name is unique on its host.
    if not any(results for _, results in found) or not lasting.claim(f"{who.endpoint}/{text(job, 'name')}"):
        return []
    recorded = []
    for make, entries in found:
        for entry in entries or ():
            response = get(entry, "response")
            if response is None:  # an error, which is not billed
                continue
            reader = make()
            reader.model = text(job, "model") or ""
            call = Call(reader, active, provider=who.provider, method=method, endpoint=who.endpoint)
            calls.charge(call)
            call.finish(response)
            recorded.append(call)
    return recorded
