"""The rows of a provider's table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from llm_toll_autopatch.readers.reader import Reader

__all__ = ["Caller", "Provider", "Target", "Wrapper", "WrapperFactory"]

Wrapper = Callable[[Any, Any, tuple[Any, ...], Mapping[str, Any]], Any]
"""What wrapt calls in a method's place: `wrapper(wrapped, instance, args, kwargs)`."""


class Caller(NamedTuple):
    """Who sends a request: the provider's label, and the host that is called (None when it cannot be told)."""

    provider: str
    endpoint: str | None


WrapperFactory = Callable[["Target", Callable[[Any], "Caller"]], Wrapper]
"""Makes the wrapper of one target."""


@dataclass(frozen=True, slots=True)
class Target:
    """One method to patch.

    Attributes:
        module: The module that defines the class; patched when the user's program imports it, never imported by us.
        path: `Class.method` in it.
        method: The resource method as a user knows it: `chat.completions.create`.
        wrapper: How the method delivers its answer, and so how it is wrapped.
        reader: Makes the reader of one request; None where the method sends none itself.
        is_async: Whether the method is called with `await`. Decided here: `iscoroutinefunction` lies for several.
        optional: Whether nothing is lost on a version of the SDK that does not have it.
        whole: Whether the answer comes whole unless `stream=` says otherwise.
        inside: How the names of modules begin whose calls of it are none of ours: they get the method itself.
    """

    module: str
    path: str
    method: str
    wrapper: WrapperFactory
    reader: type[Reader] | None = None
    is_async: bool = False
    optional: bool = False
    whole: bool = False
    inside: str = ""


@dataclass(frozen=True, slots=True)
class Provider:
    """One SDK.

    Attributes:
        name: `openai`; also its label in records, unless the client says that it talks to another platform.
        caller: Tells who sends a request, given the resource whose method was called.
        targets: The methods to patch.
    """

    name: str
    caller: Callable[[Any], Caller]
    targets: tuple[Target, ...]
