"""Which responses have been counted: by the identity of the object, for as long as it lives.

A response that was metered can come back as the result of a tracked function: from a cache, from another thread, from
another tracked function. It must not be counted again.
"""

from __future__ import annotations

import contextlib
import weakref
from functools import partial
from typing import Any

__all__ = ["known", "note"]

_known: dict[int, weakref.ref[Any]] = {}


def note(answer: Any) -> None:
    """Remember `answer`, a response or the first chunk of one. What cannot be referred to weakly, as dicts, is not."""
    with contextlib.suppress(TypeError):
        _known[id(answer)] = weakref.ref(answer, partial(_forget, id(answer)))


def known(answer: Any) -> bool:
    """Return whether this very object has been noted."""
    reference = _known.get(id(answer))
    return reference is not None and reference() is answer


def _forget(key: int, reference: weakref.ref[Any]) -> None:
    # In the meantime another object may have come to the same address.
    if _known.get(key) is reference:
        _known.pop(key, None)
