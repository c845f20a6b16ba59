"""The SDKs that are metered, and what has to be known of each before a program imports it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["SDK", "SDKS"]


class SDK(NamedTuple):
    """One SDK.

    Attributes:
        package: The package whose import wakes the provider.
        distribution: Its name to `pip`, which knows the version.
    """

    package: str
    distribution: str


SDKS: dict[str, SDK] = {
    "openai": SDK("openai", "openai"),
    "anthropic": SDK("anthropic", "anthropic"),
    "google": SDK("google.genai", "google-genai"),
}
"""By the provider's name, which is also its file under `providers/`."""
