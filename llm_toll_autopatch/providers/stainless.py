"""What the OpenAI and Anthropic SDKs have in common: Stainless generates both."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch import lasting, settings
from llm_toll_autopatch.managers import AsyncManagerProxy, ManagerProxy
from llm_toll_autopatch.providers import calls, raw
from llm_toll_autopatch.providers.frames import uncounted
from llm_toll_autopatch.providers.target import Caller, Target, Wrapper, WrapperFactory
from llm_toll_autopatch.streams import AsyncStreamProxy, StreamProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llm_toll_autopatch.metering import Call
    from llm_toll_autopatch.settings import Settings

__all__ = ["both", "caller_of", "deliver", "manager", "request"]

# A client class says in its name whose platform it talks to.
_PLATFORMS = {
    "Azure": "azure", "Foundry": "azure", "Bedrock": "bedrock", "AWS": "bedrock", "Vertex": "vertex",
    "GoogleCloud": "vertex",
}  # fmt: skip


def caller_of(provider: str) -> Callable[[Any], Caller]:
    """Return what tells who sends a request, for the resources of `provider`'s SDK."""

    def caller(resource: Any) -> Caller:
        client = resource._client
        # OpenAI's property imports a module each time.
        url = getattr(client, "_base_url", None) or client.base_url
        return Caller(_platform_of(client.__class__) or provider, url.host or None)

    return caller


@lru_cache(64)
def _platform_of(client: type) -> str | None:
    """Return whose platform clients of this class talk to; None for the SDK's own."""
    found = [platform for cls in client.__mro__ for word, platform in _PLATFORMS.items() if word in cls.__name__]
    return found[-1] if found else None


def request(target: Target, caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap a method that returns a response, a stream, or one of these still raw."""
    return calls.request(target, caller, deliver)


def deliver(call: Call, answer: Any, target: Target) -> Any:
    """Deliver a response, a stream, or one of these still raw: return what the user gets."""
    if _is_model(answer.__class__):
        return calls.response(call, answer, target)
    if hasattr(type(answer), "__stream__"):
        return _stream(call, answer, target)
    if hasattr(answer, "http_response") and hasattr(answer, "parse"):
        return raw.deliver(call, answer, lambda parsed: _stream(call, parsed, target))
    return calls.response(call, answer, target)


@lru_cache(64)
def _is_model(cls: type) -> bool:
    """Return whether `cls` is a pydantic model and no more. To ask one for what it lacks runs code of pydantic's."""
    return hasattr(cls, "model_fields_set") and not hasattr(cls, "__stream__") and not hasattr(cls, "parse")


def _stream(call: Call, stream: Any, target: Target) -> Any:
    call.stream = True
    proxy = AsyncStreamProxy if target.is_async else StreamProxy
    return proxy(stream, call, close_on_break=call.settings.close_on_break)


def manager(target: Target, caller: Callable[[Any], Caller]) -> Wrapper:
    """Wrap a helper that returns a context manager, which sends the request when it is entered.

    A target without a reader is one whose request passes through another patched method: its stream's lifecycle is
    all that is left to see to.
    """

    @uncounted
    def wrapper(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        helper = wrapped(*args, **kwargs)
        active: Settings | None = settings.active()
        if active is None:
            return helper

        def waiting() -> Call | None:
            work = kwargs.get("run_id")
            return lasting.take(work) if isinstance(work, str) else None

        def begin() -> Call | None:
            if target.reader is None:
                return None
            return waiting() or calls.begin(target, caller, instance, kwargs, active)[0]

        async def begin_async() -> Call | None:
            if target.reader is None:
                return None
            return waiting() or (await calls.begin_async(target, caller, instance, kwargs, active))[0]

        if target.is_async:
            return AsyncManagerProxy(helper, begin_async, close_on_break=active.close_on_break)
        return ManagerProxy(helper, begin, close_on_break=active.close_on_break)

    return wrapper


def both(module: str, path: str, method: str, wrapper: WrapperFactory, reader: Any = None) -> tuple[Target, Target]:
    """Return the rows of a method and of its async twin, whose class has the same name behind `Async`."""
    whole = wrapper is request
    return (
        Target(module, path, method, wrapper, reader, whole=whole),
        Target(module, f"Async{path}", method, wrapper, reader, is_async=True, whole=whole),
    )
