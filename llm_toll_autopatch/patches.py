"""One wrapper on one class: put on, found again below the wrappers of others, taken off."""

from __future__ import annotations

import sys
from contextlib import suppress
from copy import deepcopy
from functools import reduce
from typing import TYPE_CHECKING, Any

import wrapt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llm_toll_autopatch.providers.target import Caller, Target

__all__ = ["Bound", "Patch"]


class Bound(wrapt.BoundFunctionWrapper):  # type: ignore[type-arg]
    """What accessing a wrapped method gives. It is copied and pickled as the method is, where wrapt refuses."""

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self if self._self_instance is None else getattr(deepcopy(self._self_instance, memo), self.__name__)

    def __reduce_ex__(self, _protocol: Any) -> Any:
        if self._self_instance is not None:
            return getattr, (self._self_instance, self.__name__)
        owner = sys.modules[self.__module__]
        *path, name = self.__qualname__.split(".")
        return getattr, (reduce(getattr, path, owner), name)


class _Wrapped(wrapt.FunctionWrapper):  # type: ignore[type-arg]
    """A wrapper of ours, by which it is known when it is met again."""

    __bound_function_wrapper__ = Bound


class _WrappedForOthers(_Wrapped):
    """One of a method that the SDK itself calls as well: to its own modules it gives the method.

    Its resources look it up once and keep what they get. A call through it would cost each of theirs some microseconds.
    """

    def __init__(self, wrapped: Any, wrapper: Any, enabled: Any, inside: str) -> None:
        super().__init__(wrapped, wrapper, enabled)
        self._self_inside = inside

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is not None and str(sys._getframe(1).f_globals.get("__name__")).startswith(self._self_inside):
            return self.__wrapped__.__get__(instance, owner)
        return super().__get__(instance, owner)


class Patch:
    """The wrapper of one target, on the class that defines its method.

    Args:
        target: What to wrap.
        module: The module that has the target's class.
        caller: The provider's.
        enabled: Asked at each call, also through bound methods that were captured earlier: False leaves it alone.

    Raises:
        LookupError: This version of the SDK has no such class or method.
    """

    def __init__(
        self, target: Target, module: Any, caller: Callable[[Any], Caller], enabled: Callable[[], bool]
    ) -> None:
        class_name, _, self.name = target.path.partition(".")
        cls = getattr(module, class_name, None)
        owner = next((base for base in getattr(cls, "__mro__", ()) if self.name in vars(base)), None)
        if owner is None:
            raise LookupError(f"{target.module} has no {target.path}")
        self.target = target
        self.owner: type = owner
        wrapper = target.wrapper(target, caller)
        function = _without_ours(vars(owner)[self.name])
        self.handle: Any = (
            _WrappedForOthers(function, wrapper, enabled, target.inside)
            if target.inside
            else _Wrapped(function, wrapper, enabled)
        )
        setattr(owner, self.name, self.handle)

    def in_place(self) -> bool:
        """Return whether a call of the method still passes through ours, below whatever others put above it."""
        return any(layer is self.handle for layer in _layers(vars(self.owner).get(self.name)))

    def remove(self) -> bool:
        """Take ours out from between the others; return False when it must stay since another's closure holds it.

        What stays is quiet: `enabled` is asked first.
        """
        with suppress(wrapt.WrapperNotOutermostError):
            wrapt.unwrap_object(self.owner, self.name, self.handle, missing_ok=True)
        return not self.in_place()

    def foreign(self) -> list[str]:
        """Return the modules that the other wrappers on this method, above or below ours, come from."""
        home = self.owner.__module__.partition(".")[0]
        layers = _layers(vars(self.owner).get(self.name))
        origins = {_origin(layer) for layer in layers if layer is not self.handle}
        # The SDKs' own decorators, and those of the standard library or its backport, are nobody else's.
        known = {"", home, "typing_extensions", *sys.stdlib_module_names}
        return sorted(origin for origin in origins if origin.partition(".")[0] not in known)


def _without_ours(function: Any) -> Any:
    """Return what a class would hold without us: where an SDK copies a patched method, the copy is wrapped already."""
    while isinstance(getattr(function, "_self_parent", function), _Wrapped):
        function = function.__wrapped__
    return function


def _layers(function: Any) -> Iterator[Any]:
    """Yield what a function is wrapped in, from the outermost to the function itself."""
    while function is not None:
        # Whoever wrapped what `Class.method` gave him holds a bound form of wrapt's wrapper, its parent sits there.
        parent = getattr(function, "_self_parent", None)
        layer = function if parent is None else parent
        yield layer
        function = getattr(layer, "__wrapped__", None)


def _origin(layer: Any) -> str:
    """Return the module whose code runs in a layer. Its `__module__` is no help: wrappers copy the wrapped one's."""
    code = getattr(layer, "_self_wrapper", layer)
    names = getattr(code, "__globals__", None)
    return str(names.get("__name__", "")) if isinstance(names, dict) else str(getattr(code, "__module__", ""))
