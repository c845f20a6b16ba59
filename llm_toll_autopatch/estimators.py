"""The user's `estimator=`: what counts tokens in the place of four characters each."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from llm_toll_autopatch.estimate import CHARS_PER_TOKEN, Measure
from llm_toll_autopatch.failures import failures

__all__ = ["Estimator", "measure_of"]

Estimator = Callable[[str], int]
"""Estimates the tokens of a text. Streams give it their text piece by piece, as it comes."""


def measure_of(estimator: Estimator | str) -> Measure:
    """Return what counts text under `estimator=`.

    Raises:
        TypeError: It is neither a callable nor a name.
        ValueError: The name is not known, or the tokenizer does not work here without the network.
    """
    if isinstance(estimator, str):
        if estimator != "tiktoken":
            raise ValueError(f"estimator= knows the name 'tiktoken', not {estimator!r}; or takes a callable")
        return _guarded(_tiktoken())
    if not callable(estimator):
        raise TypeError(f"estimator= takes a callable from str to a number of tokens, or 'tiktoken', not {estimator!r}")
    return _guarded(estimator)


def _guarded(estimator: Estimator) -> Measure:
    def measure(text: str) -> int:
        if not text:
            return 0
        try:
            return CHARS_PER_TOKEN * _counted(estimator(text))
        except Exception as error:
            failures.note("estimator=", error)
            return len(text)

    return measure


def _counted(found: object) -> int:
    if isinstance(found, int) and found >= 0:
        return found
    raise TypeError(f"estimator= returned {found!r}, not a number of tokens")


_ENCODING = "o200k_base"
_ENCODING_URL = f"https://openaipublic.blob.core.windows.net/encodings/{_ENCODING}.tiktoken"


def _tiktoken() -> Estimator:
    """Return tiktoken's `o200k_base`, of GPT-4o and later, if it is on this machine.

    tiktoken downloads its tables at the first use; a metering library must not, so they have to be in its cache.
    """
    if "tiktoken" not in sys.modules and find_spec("tiktoken") is None:
        raise ValueError("estimator='tiktoken' needs the package tiktoken: pip install tiktoken")
    default = str(Path(tempfile.gettempdir()) / "data-gym-cache")
    directory = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR", default))
    cached = Path(directory) / hashlib.sha1(_ENCODING_URL.encode(), usedforsecurity=False).hexdigest()
    if not directory or not cached.exists():
        raise ValueError(
            f"estimator='tiktoken' works offline only, and its {_ENCODING} is not in {directory or 'a cache'}: set"
            f" TIKTOKEN_CACHE_DIR and run once python -c \"import tiktoken; tiktoken.get_encoding('{_ENCODING}')\""
        )
    try:
        encode = import_module("tiktoken").get_encoding(_ENCODING).encode_ordinary
    except Exception as error:
        raise ValueError(f"estimator='tiktoken' does not work here: {type(error).__name__}: {error}") from error
    return lambda text: len(encode(text))
