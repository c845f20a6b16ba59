"""Names that servers and programs choose, made fit for those who keep them."""

from __future__ import annotations

__all__ = ["encodable"]


def encodable(text: str) -> str:
    """Return `text` with `?` for what is half a character (a lone surrogate), which UTF-8 cannot encode."""
    return text if text.isascii() else text.encode(errors="replace").decode()
