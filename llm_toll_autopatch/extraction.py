"""What a user's `extract_usage` says of a result or of the chunks of a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_toll_autopatch import user_warnings
from llm_toll_autopatch.records import Usage

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Extraction"]


class Extraction:
    """Asks `extract_usage` of one call. Of a stream it is asked at each chunk, and the last answer counts.

    Args:
        function: Takes a result or a chunk; returns `(model, input_tokens, output_tokens)`, a `Usage`, or None where
            there is nothing to say.
        name: The function whose result it is, for the warning.
    """

    __slots__ = ("_error", "_function", "_name", "model", "usage")

    def __init__(self, function: Callable[[Any], Any], name: str) -> None:
        self._function = function
        self._name = name
        self._error: Exception | None = None
        self.model: str | None = None
        self.usage: Usage | None = None

    def again(self) -> Extraction:
        """Return one for another call."""
        return Extraction(self._function, self._name)

    def take(self, value: Any) -> None:
        """Ask the user's function. Never raises."""
        try:
            said = self._function(value)
            if said is not None:
                model, self.usage = _checked(said)
                self.model = model or self.model
        except Exception as error:
            self._error = error

    @property
    def failed(self) -> bool:
        """Whether the user's function raised, or returned what makes no sense, and never said anything else."""
        return self._error is not None and self.usage is None

    def warn_if_failed(self) -> None:
        """Tell the user."""
        if self._error is not None and self.usage is None:
            user_warnings.warn(
                f"extract_usage= of {self._name} failed ({type(self._error).__name__}: {self._error}): the result is "
                "passed on, and recorded as far as it can be read without",
                UserWarning,
            )


def _checked(said: Any) -> tuple[str | None, Usage]:
    if isinstance(said, Usage):
        return None, said
    if isinstance(said, tuple | list) and len(said) == 3:  # noqa: PLR2004 - as the message says
        model, *counts = said
        if (model is None or isinstance(model, str)) and all(type(each) is int and each >= 0 for each in counts):
            return model, Usage(input_tokens=counts[0], output_tokens=counts[1])
    raise TypeError(f"it must return (model, input_tokens, output_tokens), a Usage, or None, not {said!r}")
