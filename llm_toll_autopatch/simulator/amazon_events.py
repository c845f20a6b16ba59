"""Amazon's event stream encoding, in which Bedrock sends what others send as server-sent events.

As in https://docs.aws.amazon.com/transcribe/latest/dg/streaming-setting-up.html: a prelude of two lengths and their
checksum, the headers, the payload, a checksum of it all.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import TYPE_CHECKING

from llm_toll_autopatch.simulator.answer import Event, compact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["CONTENT_TYPE", "error", "events"]

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_STRING = 7
"""The type of a header's value."""


def events(server_sent: Iterable[Event]) -> Iterator[Event]:
    """Return server-sent events as chunks of a model's response."""
    for event in server_sent:
        payload = compact({"bytes": base64.b64encode(_data(event.data)).decode()})
        headers = {":message-type": "event", ":event-type": "chunk", ":content-type": "application/json"}
        yield Event(_message(headers, payload), content=event.content)


def error(server_sent: bytes) -> bytes:
    """Return a server-sent error as the exception that ends a stream."""
    message = json.loads(_data(server_sent))["error"]["message"]
    headers = {":message-type": "exception", ":exception-type": "modelStreamErrorException"}
    return _message({**headers, ":content-type": "application/json"}, compact({"message": message}))


def _data(server_sent: bytes) -> bytes:
    return server_sent.partition(b"\ndata: ")[2].strip()


def _message(headers: Mapping[str, str], payload: bytes) -> bytes:
    encoded = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", _STRING, len(value)) + value.encode()
        for name, value in headers.items()
    )
    lengths = struct.pack("!II", 16 + len(encoded) + len(payload), len(encoded))
    message = lengths + struct.pack("!I", zlib.crc32(lengths)) + encoded + payload
    return message + struct.pack("!I", zlib.crc32(message))
