"""The HTML of the page: all in one file, which asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

__all__ = ["document", "policy"]

_HERE = Path(__file__).parent
_LIBRARY = "vendor/chart.umd.min.js"
_SCRIPTS = ("figures.js", "elements.js", "ledger.js", "filters.js", "spending.js", "lists.js", "page.js")
"""Ours, in this order: each may use those before."""


def document(data: str, *, interval_s: float | None = None) -> bytes:
    """Return the page.

    Args:
        data: What it shows, as `snapshot.encoded` has it.
        interval_s: Seconds after which it asks its server for newer data; None for a file, which never asks.
    """
    html = _read("page.html")
    parts = {
        "policy": policy(live=interval_s is not None),
        "style": _style(),
        "library": _library(),
        "script": _script(),
        "interval": "" if interval_s is None else f"{interval_s:g}",
        "data": data,
    }
    # One pass: a part in which the name of another one stands is text all the same.
    before, *rest = html.split("{{")
    pieces = [before]
    for piece in rest:
        name, _, after = piece.partition("}}")
        pieces += [parts[name], after]
    return "".join(pieces).encode()


@cache
def policy(*, live: bool) -> str:
    """Return the Content-Security-Policy: these scripts and this style, and nothing else."""
    rules = {
        "default-src": "'none'",
        "script-src": f"{_hash(_library())} {_hash(_script())}",
        "style-src": _hash(_style()),
        "img-src": "data:",
        "connect-src": "'self'" if live else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _style() -> str:
    return _read("page.css")


@cache
def _library() -> str:
    # Not where its source map is: a browser with its developer tools open would ask for that.
    lines = _read(_LIBRARY).splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("//# sourceMappingURL="))


@cache
def _script() -> str:
    return '"use strict";\n' + "\n".join(_read(name) for name in _SCRIPTS)
