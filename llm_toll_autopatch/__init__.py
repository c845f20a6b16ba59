"""Meter every LLM call of a Python process."""

from __future__ import annotations

__version__ = "0.1.0"
