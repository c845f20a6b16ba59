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
_bound = _FEW


def note(answer: Any) -> None:
    """Remember `answer`, a response or the first chunk of one. What cannot be referred to weakly, as dicts, is not."""
    try:
        _known[id(answer)] = weakref.ref(answer)
    except TypeError:
        return
    if len(_known) > _bound:
        _forget()


def known(answer: Any) -> bool:
    """Return whether this very object has been noted."""
    reference = _known.get(id(answer))
    return reference is not None and reference() is answer


def _forget() -> None:
    """Forget those that are gone, now and then: to be called back for each costs more."""
    global _bound
    for key, reference in list(_known.items()):
        # In the meantime another object may have come to the same address.
        if reference() is None and _known.get(key) is reference:
            _known.pop(key, None)
    _bound = max(_FEW, 2 * len(_known))
