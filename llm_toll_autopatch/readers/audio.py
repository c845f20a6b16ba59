"""OpenAI's audio: transcriptions, translations and speech.

Fields as in the SDK's `types/audio/transcription.py` and `types/audio/transcription_text_done_event.py`. What is not
billed by the token is in the usage's details: `seconds` of audio (rounded up), `input_characters` of text.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.estimate import text_chars
from llm_toll_autopatch.readers.ceiling import Ceiling, Unbounded, only
from llm_toll_autopatch.readers.fields import as_mapping, count, get, leftovers, text
from llm_toll_autopatch.readers.reader import Reader, Reading
from llm_toll_autopatch.records import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Speech", "Transcriptions", "Translations", "whole_seconds"]

_KNOWN = frozenset({"input", "instructions", "response_format", "speed", "stream_format", "voice"})
_USAGE = frozenset({"audio_tokens", "input_tokens", "output_tokens", "seconds", "text_tokens", "total_tokens"})


def whole_seconds(value: Any) -> int | None:
    """Return seconds rounded up; None when `value` is no length of time."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    return math.ceil(value) if known else None


class Transcriptions(Reader):
    """`audio.transcriptions`. Formats that are plain text tell no usage."""

    operation = "transcriptions"
    unbounded = "the length of a recording is not known beforehand: make the call without strict_budget"
    __slots__ = ("_duration", "_final")

    def __init__(self) -> None:
        super().__init__()
        self._duration: int | None = None
        self._final = False

    def _texts(self, request: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the prompt; the length of the recording is not known here."""
        self.model = text(request, "model") or ""
        return (request.get("prompt"),)

    def feed(self, event: Any) -> None:
        """Take a `TranscriptionStreamEvent`: the usage is on the last one."""
        if event.type == "transcript.text.delta":
            self.output_chars += self.measure(text(event, "delta") or "")
        elif event.type == "transcript.text.done":
            self._usage = get(event, "usage")
            self._final = True

    def _take(self, response: Any) -> None:
        """Take a `Transcription` in any of its forms."""
        self._usage = get(response, "usage")
        self._duration = whole_seconds(get(response, "duration"))  # of the verbose form
        self._final = True

    def _written(self, response: Any) -> int:
        return self.measure(response if isinstance(response, str) else text(response, "text") or "")

    def usage(self, *, ended: bool) -> Reading | None:
        """Return tokens or seconds, as the model is billed by."""
        del ended
        raw = as_mapping(self._usage)
        seconds = whole_seconds(raw.get("seconds"))
        given, written = count(raw, "input_tokens"), count(raw, "output_tokens")
        if given is None and written is None:
            seconds = self._duration if seconds is None else seconds
            return None if seconds is None else Reading(Usage(details={"seconds": seconds}), self._final)
        usage = Usage(
            input_tokens=given or 0,
            output_tokens=written or 0,
            input_audio_tokens=count(get(raw, "input_token_details"), "audio_tokens") or 0,
            details={
                **leftovers(raw, _USAGE, nested={"input_token_details": "input_"}),
                **({"seconds": seconds} if seconds else {}),
            },
        )
        return Reading(usage, self._final, has_input=given is not None, has_output=written is not None)


class Translations(Transcriptions):
    """`audio.translations`: answers as transcriptions do, without usage, but for the length in the verbose form."""

    operation = "translations"
    __slots__ = ()


class Speech(Reader):
    """`audio.speech`: the answer is a recording and tells nothing, so what counts is the text that was sent."""

    operation = "speech"
    __slots__ = ("_answered", "_text")

    def __init__(self) -> None:
        super().__init__()
        self._text = 0
        self._answered = False

    def _texts(self, request: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return what is to be spoken, and what says how; the characters of the first are what is billed."""
        self.model = text(request, "model") or ""
        self._text = text_chars(request.get("input"))
        return request.get("input"), request.get("instructions")

    def _ceiling(self, request: Mapping[str, Any]) -> Ceiling:
        only(request, _KNOWN)
        spoken, model = request.get("input"), text(request, "model") or ""
        if not model.startswith("tts-"):
            raise Unbounded(f"{model!r} is billed by the speech that it makes, which nothing bounds: use tts-1")
        if not isinstance(spoken, str):
            raise Unbounded("input= is no text: pass a string")
        return Ceiling(Usage(details={"input_characters": len(spoken)}))

    def _take(self, response: Any) -> None:
        """Take the recording, which is not looked at."""
        del response
        self._answered = True

    def usage(self, *, ended: bool) -> Reading | None:
        """Return the characters of the request: they are known exactly, and are billed once it has been answered."""
        del ended
        return Reading(Usage(details={"input_characters": self._text}), final=True) if self._answered else None
