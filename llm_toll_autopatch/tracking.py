"""`track_costs`: who pays for what a function does, and what that costs, also where no SDK is patched."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

import wrapt

from llm_toll_autopatch import settings
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.generators import Scoped
from llm_toll_autopatch.invocations import Invocation, Plan
from llm_toll_autopatch.patches import Bound
from llm_toll_autopatch.providers.frames import uncounted
from llm_toll_autopatch.settings import Settings

if TYPE_CHECKING:
    from decimal import Decimal

    from llm_toll_autopatch.budgets.limits import Reset
    from llm_toll_autopatch.records import Usage

__all__ = ["track_costs"]

F = TypeVar("F", bound=Callable[..., Any])

_NO_PROJECT = "default"


@overload
def track_costs(fn: F) -> F: ...


@overload
def track_costs(
    fn: None = None,
    *,
    project: str = ...,
    model: str | None = ...,
    max_budget: Decimal | float | str | None = ...,
    reset: Reset | None = ...,
    rate_limit: int | None = ...,
    tpm_limit: int | None = ...,
    extract_usage: Callable[[Any], tuple[str, int, int] | Usage | None] | None = ...,
    tags: Mapping[str, str] | None = ...,
    strict_budget: bool | None = ...,
    stop_streams: bool | None = ...,
) -> Callable[[F], F]: ...


def track_costs(
    fn: Callable[..., Any] | None = None,
    *,
    project: str = _NO_PROJECT,
    model: str | None = None,
    max_budget: Decimal | float | str | None = None,
    reset: Reset | None = None,
    rate_limit: int | None = None,
    tpm_limit: int | None = None,
    extract_usage: Callable[[Any], tuple[str, int, int] | Usage | None] | None = None,
    tags: Mapping[str, str] | None = None,
    strict_budget: bool | None = None,
    stop_streams: bool | None = None,
) -> Any:
    """Decorate a function whose LLM calls are to be attributed and limited, with or without parentheses.

    For functions, coroutine functions, generators, async generators, methods, partials and other callables. It opens a
    `scope` around each call; around a generator it holds while the generator's own code runs, and not while its
    consumer's does. With the patches on, that is all: what they meter is not counted again. A response or stream that
    comes from elsewhere, and any while nothing is patched, is recognised by its shape and recorded as one call.
    A result that is no response is passed on, and no record is made of it.

    Without `patch_all` the records go where `patch_all()` would send them.

    Args:
        fn: The function, when the decorator is used without parentheses.
        project: Who pays. "default" leaves it to the scope around the call and to `patch_all`.
        model: The model by whose price to count what the patches do not meter, instead of the one that the response
            names.
        max_budget: USD that the project may spend.
        reset: When the budget starts anew: None is never, `"daily"`, `"weekly"`, `"monthly"`.
        rate_limit: Calls in any 60 seconds.
        tpm_limit: Tokens in any 60 seconds.
        extract_usage: Takes a result, or each chunk of a stream, and returns `(model, input_tokens, output_tokens)`, a
            `Usage`, or None when there is nothing to say; of a stream the last counts. Asked where nothing was metered.
        tags: What for; added to those of the scope around the call.
        strict_budget: Whether to reserve the worst case before a call, so that the budget is never exceeded.
        stop_streams: Whether to cut a stream off that reaches the budget.

    Returns:
        The decorated function, or the decorator.

    Raises:
        TypeError: An argument has the wrong type, or what is decorated is not a function.
        ValueError: An argument has a value that makes no sense.
    """
    plan = Plan(
        project=None if project == _NO_PROJECT else project,
        model=_checked_model(model),
        tags=dict(tags) if isinstance(tags, Mapping) else tags,
        extract_usage=_checked_extractor(extract_usage),
        limits=_given(
            max_budget=max_budget,
            reset=reset,
            rate_limit=rate_limit,
            tpm_limit=tpm_limit,
            strict_budget=strict_budget,
            stop_streams=stop_streams,
        ),
    )
    with plan.scope(project):
        pass  # checks the arguments, here and not in the first call

    def decorate(function: Any) -> Any:
        return _Tracked(_checked_function(function), _Tracker(plan, waits=_waits(function)))

    return decorate if fn is None else decorate(fn)


def _given(**limits: Any) -> dict[str, Any]:
    return {name: value for name, value in limits.items() if value is not None}


def _checked_model(model: object) -> str | None:
    if model is not None and (not isinstance(model, str) or not model):
        raise TypeError(f"model= takes a name such as 'gpt-5-mini', not {model!r}")
    return model


def _checked_extractor(function: Any) -> Any:
    if function is not None and not callable(function):
        raise TypeError(f"extract_usage= takes a function of one argument, the result, not {function!r}")
    return function


def _checked_function(function: Any) -> Any:
    if isinstance(function, type) or not (callable(function) or isinstance(function, classmethod | staticmethod)):
        raise TypeError(f"track_costs decorates a function or method, not {function!r}; its arguments have names")
    return function


class _Tracker:
    """What runs in a decorated function's place.

    Args:
        plan: What the decorator was told.
        waits: Whether the function is async: it is admitted when it is awaited.
    """

    def __init__(self, plan: Plan, *, waits: bool) -> None:
        self._plan = plan
        self._waits = waits

    @uncounted
    def __call__(self, wrapped: Any, _instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Call the function in its scope and hand out its result."""
        invocation = self._begin(wrapped)
        if invocation is None or invocation.active is None:
            return wrapped(*args, **kwargs)
        if not self._waits:
            invocation.admit()
        try:
            with Scoped(invocation.scope):
                result = wrapped(*args, **kwargs)
        except BaseException:
            invocation.let_go()
            raise
        return invocation.hand_out(result)

    def _begin(self, wrapped: Any) -> Invocation | None:
        try:
            return Invocation(self._plan, _name_of(wrapped), settings.in_force() or _stand_in())
        except Exception as error:
            failures.note("beginning a tracked function", error)
            return None


def _waits(function: Any) -> bool:
    function = function.__func__ if isinstance(function, classmethod | staticmethod) else function
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _name_of(function: Any) -> str:
    function = getattr(function, "func", function)  # of a partial
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', '')}.{name}"


_configuration: Settings | None = None
_configuring = threading.Lock()


def _stand_in() -> Settings:
    """Return the configuration of tracked functions while nothing is patched: that of `patch_all()`."""
    global _configuration
    if _configuration is None:
        with _configuring:
            if _configuration is None:
                _configuration = Settings.resolve()
    return _configuration


class _Tracked(wrapt.FunctionWrapper):  # type: ignore[type-arg]
    """A decorated function. It is copied and pickled as the bare one is, where wrapt refuses."""

    __bound_function_wrapper__ = Bound

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> Any:
        return self

    def __reduce_ex__(self, _protocol: Any) -> Any:
        name = getattr(self.__wrapped__, "__qualname__", None)
        return name if isinstance(name, str) else (type(self), (self.__wrapped__, self._self_wrapper))
