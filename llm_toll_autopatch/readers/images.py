"""OpenAI's images.

Fields as in the SDK's `types/images_response.py` and `types/image_gen_completed_event.py`. The number of images is in
the usage's details as `images`; models that are billed by the image report nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.readers.ceiling import Ceiling, Unbounded
from llm_toll_autopatch.readers.fields import as_mapping, count, get, leftovers, text
from llm_toll_autopatch.readers.reader import Reader, Reading
from llm_toll_autopatch.records import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Images"]

_SVG = ("input_tokens", "output_tokens", "reasoning_tokens")
_USAGE = frozenset({"image_tokens", "input_tokens", "output_tokens", "text_tokens", "total_tokens"})
_LAST = ("image_generation.completed", "image_edit.completed")


class Images(Reader):
    """`images.generate`, `images.edit` and `images.create_variation`."""

    operation = "images"
    __slots__ = ("_final", "_images", "_svg")

    def __init__(self) -> None:
        super().__init__()
        self._svg: Any = None
        self._images = 0
        self._final = False

    def _texts(self, request: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the prompt. The model may be left to the service, and no answer names it."""
        self.model = text(request, "model") or ""
        return (request.get("prompt"),)

    def _ceiling(self, request: Mapping[str, Any]) -> Ceiling:
        model = text(request, "model") or ""
        if not model.startswith("dall-e-"):
            raise Unbounded("an image has no known upper bound of tokens: make the call without strict_budget")
        return Ceiling(Usage(details={"images": count(request, "n") or 1}))

    def feed(self, event: Any) -> None:
        """Take an event of a stream: the last one of each image has its usage."""
        if event.type in _LAST:
            self._images += 1
            self._usage = get(event, "usage")
            self._final = True

    def _take(self, response: Any) -> None:
        """Take an `ImagesResponse`."""
        data = get(response, "data")
        self._images = len(data) if isinstance(data, list | tuple) else 0
        self._usage, self._svg = get(response, "usage"), get(response, "svg_usage")
        self._final = True

    def usage(self, *, ended: bool) -> Reading | None:
        """Return the tokens of the images, and of writing an SVG, which is billed beside them; or the images."""
        del ended  # a stream that ends without its last event has not told its figures
        raw, svg = as_mapping(self._usage), as_mapping(self._svg)
        given, written = count(raw, "input_tokens"), count(raw, "output_tokens")
        if given is None and written is None:
            return Reading(Usage(details={"images": self._images}), self._final) if self._images else None
        of_input, of_output = as_mapping(raw.get("input_tokens_details")), as_mapping(raw.get("output_tokens_details"))
        in_words = count(of_output, "text_tokens") or 0
        pictured = count(of_output, "image_tokens")
        usage = Usage(
            input_tokens=given or 0,
            output_tokens=written or 0,
            input_image_tokens=count(of_input, "image_tokens") or 0,
            output_image_tokens=(written or 0) - in_words if pictured is None else pictured,
            details={
                "images": self._images,
                **leftovers(raw, _USAGE, nested={"input_tokens_details": "input_", "output_tokens_details": "output_"}),
                **{f"svg_{name}": value for name in _SVG if (value := count(svg, name))},
            },
        )
        return Reading(usage, self._final, has_input=given is not None, has_output=written is not None)
