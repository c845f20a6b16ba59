"""`stream_options.include_usage`: asking OpenAI's streams for usage in the user's place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_toll_autopatch.readers.fields import as_mapping, get

__all__ = ["OWN_HOSTS", "with_usage"]

OWN_HOSTS = ("api.openai.com",)
"""OpenAI's own hosts, where `include_usage="auto"` asks for usage: these and those below them (`eu.api.openai.com`).

Compatible servers are not among them, and neither is Azure: some refuse `stream_options` with a 4xx.
"""

_RAW_RESPONSE = "X-Stainless-Raw-Response"


def with_usage(request: Mapping[str, Any], endpoint: str | None, *, always: bool) -> dict[str, Any] | None:
    """Return the keyword arguments with `stream_options.include_usage` added, in a copy; None to leave them alone.

    Args:
        request: The keyword arguments of the call.
        endpoint: The host that is called.
        always: Whether to ask any host.
    """
    # What is not given is None, or one of the SDK's sentinels, which are false.
    if not request.get("stream") or not (always or _is_own(endpoint or "")):
        return None
    if get(request.get("extra_headers"), _RAW_RESPONSE) == "stream":
        return None  # `with_streaming_response`: the bytes are the user's, nothing in them could be hidden
    extra = request.get("extra_body")
    in_extra = isinstance(extra, Mapping) and "stream_options" in extra  # which overrides the argument
    options = get(extra if in_extra else request, "stream_options") or {}
    if not isinstance(options, Mapping) or "include_usage" in options:
        return None
    asked = {"stream_options": {**options, "include_usage": True}}
    return {**request, "extra_body": {**as_mapping(extra), **asked}} if in_extra else {**request, **asked}


def _is_own(host: str) -> bool:
    return any(host == own or host.endswith(f".{own}") for own in OWN_HOSTS)
