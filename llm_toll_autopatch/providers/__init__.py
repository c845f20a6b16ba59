"""What to patch in each SDK, and how to read it. Nothing else knows an SDK.

A new SDK is one file here with a `PROVIDER` in it, and one row in `sdks.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm_toll_autopatch.providers.target import Provider

__all__ = ["load"]


def load(name: str) -> Provider:
    """Return the provider called `name`, importing its file."""
    from importlib import import_module

    provider: Provider = import_module(f"{__name__}.{name}").PROVIDER
    return provider
