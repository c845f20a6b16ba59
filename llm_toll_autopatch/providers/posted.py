"""`client.post`: how the SDKs that Stainless generates reach an endpoint without one of their methods.

LiteLLM sends its chat completions so. The methods of the SDKs themselves end there too: what they send is theirs to
meter, and is told by who calls.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.providers import stainless
from llm_toll_autopatch.providers.target import Caller, Target, Wrapper, WrapperFactory

if TYPE_CHECKING:
    from collections.abc import Callable

    from llm_toll_autopatch.readers.reader import Reader

__all__ = ["posts"]

_WRAPPERS = 6
"""How many frames of others may lie between a method of the SDK and its `post`."""


def posts(sdk: str, readers: Mapping[str, type[Reader]]) -> tuple[Target, Target]:
    """Return the rows of `client.post`, sync and async.

    Args:
        sdk: The SDK's package.
        readers: The readers of the paths that are billed and answer as a method of the SDK does.
    """
    module, wrapper = f"{sdk}._base_client", _posted(readers)
    return (
        Target(module, "SyncAPIClient.post", "post", wrapper, inside=f"{sdk}."),
        Target(module, "AsyncAPIClient.post", "post", wrapper, is_async=True, inside=f"{sdk}."),
    )


def _posted(readers: Mapping[str, type[Reader]]) -> WrapperFactory:
    def factory(target: Target, caller: Callable[[Any], Caller]) -> Wrapper:
        def of_client(client: Any) -> Caller:
            return caller(SimpleNamespace(_client=client))

        senders = {
            path: stainless.request(replace(target, reader=reader), of_client) for path, reader in readers.items()
        }

        def wrapper(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
            if _called_from(target.inside):
                return wrapped(*args, **kwargs)
            path = args[0] if args else kwargs.get("path")
            send = senders.get(path.partition("?")[0]) if isinstance(path, str) else None
            if send is None or not isinstance(kwargs.get("body"), Mapping):
                return wrapped(*args, **kwargs)
            request = _request(kwargs)

            def sending(**asked: Any) -> Any:
                return wrapped(*args, **_with(kwargs, request, asked))

            sending.__name__, sending.__qualname__ = wrapped.__name__, wrapped.__qualname__
            return send(sending, instance, (), request)

        return wrapper

    return factory


def _called_from(inside: str) -> bool:
    """Return whether a module of the SDK calls the wrapper, through wrappers of others if need be."""
    frame = sys._getframe(2)
    for _ in range(_WRAPPERS):
        if frame is None:
            break
        if str(frame.f_globals.get("__name__")).startswith(inside):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _request(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments as the method of the SDK for this path would have them."""
    options = kwargs.get("options") or {}
    return {
        **kwargs["body"],
        "stream": kwargs.get("stream", False),
        "extra_headers": options.get("headers"),
        "extra_body": options.get("extra_json"),
    }


def _with(kwargs: Mapping[str, Any], request: Mapping[str, Any], asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments of `post` with what was added to the request, in copies; as they are if nothing was."""
    if asked["extra_body"] is not request["extra_body"]:
        return {**kwargs, "options": {**kwargs["options"], "extra_json": asked["extra_body"]}}
    if asked.get("stream_options") is not request.get("stream_options"):
        return {**kwargs, "body": {**kwargs["body"], "stream_options": asked["stream_options"]}}
    return kwargs
