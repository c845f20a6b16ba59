"""`Hints`: what a user can do about a server that does not get on with his settings. `status()` shows them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.failures import LOGGER

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Hints", "refused_option"]

_MOST = 100
_REFUSALS = range(400, 500)
_OPTION = ("stream_options", "include_usage")


class Hints:
    """The hints of one configuration, each once, in the order in which they came up."""

    def __init__(self) -> None:
        self._texts: dict[str, None] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._texts))

    def add(self, text: str) -> None:
        """Keep `text`, and log it if it is new. Never raises."""
        if text in self._texts or len(self._texts) >= _MOST:
            return
        self._texts[text] = None
        with contextlib.suppress(Exception):  # a broken logging handler is the user's
            LOGGER.warning(text)


def refused_option(error: BaseException, endpoint: str | None, chosen: Any) -> str | None:
    """Return the hint for a server that refused the usage option that we added; None if `error` is something else.

    Args:
        error: What the SDK raised.
        endpoint: The host that was called.
        chosen: The user's `include_usage`.
    """
    status = getattr(error, "status_code", None)
    if not isinstance(status, int) or status not in _REFUSALS:
        return None
    said = f"{error} {getattr(error, 'body', '')}"
    if not any(name in said for name in _OPTION):
        return None
    others = "False" if chosen == "auto" else "'auto' or False"
    return (
        f"{endpoint or 'the server'} refuses stream_options.include_usage ({status}), which include_usage={chosen!r}"
        f" adds to streams: use patch_all(include_usage={others}), and what its streams cost is estimated"
    )
