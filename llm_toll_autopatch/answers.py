"""Which responses have been counted: by the identity of the object, for as long as it lives.

A response that was metered can come back as the result of a tracked function: from a cache, from another thread, from
another tracked function. It must not be counted again.
"""

from __future__ import annotations

import weakref
from typing import Any

__all__ = ["known", "note"]

_FEW = 256

_known: dict[int, weakref.ref[Any]] = {}
_until_next = _FEW


def note(answer: Any) -> None:
    """Remember `answer`, a response or the first chunk of one. What cannot be referred to weakly, as dicts, is not."""
    global _until_next
    try:
        _known[id(answer)] = weakref.ref(answer)
    except TypeError:
        return
    _until_next -= 1
    if _until_next < 0:
        _forget()


def known(answer: Any) -> bool:
    """Return whether this very object has been noted."""
    reference = _known.get(id(answer))
    return reference is not None and reference() is answer


def _forget() -> None:
    """Forget those that are gone, every so many notes: to be called back for each of them costs more."""
    global _until_next
    for key, reference in _known.copy().items():
        # In the meantime another object may have come to the same address.
        if reference() is None and _known.get(key) is reference:
            _known.pop(key, None)
    _until_next = max(_FEW, len(_known))
