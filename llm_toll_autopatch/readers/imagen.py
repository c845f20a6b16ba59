"""Google's image models that are billed by the image: generate, edit, upscale, recontext, segment.

They report no tokens. `Usage.details` says how many images (`images`) or masks (`masks`) came back.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.readers.ceiling import Ceiling, Unbounded
from llm_toll_autopatch.readers.fields import count, get, text
from llm_toll_autopatch.readers.reader import Reader, Reading
from llm_toll_autopatch.records import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Imagen"]


class Imagen(Reader):
    """`models.generate_images`, `edit_image`, `upscale_image`, `recontext_image` and `segment_image`."""

    operation = "images"
    __slots__ = ("_units",)

    def __init__(self) -> None:
        super().__init__()
        self._units: dict[str, int] | None = None

    def _texts(self, request: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return nothing: prompts cost nothing here."""
        self.model = text(request, "model") or ""
        return ()

    def _ceiling(self, request: Mapping[str, Any]) -> Ceiling:
        config = request.get("config")
        for units, names in _LIMITS.items():
            if number := count(config, *names):
                return Ceiling(Usage(details={units: number}))
        if "upscale_factor" in request:
            return Ceiling(Usage(details={"images": 1}))
        raise Unbounded("how many images come back is left to the service: pass number_of_images in config=")

    def _take(self, response: Any) -> None:
        """Count what came back; an entry without an image was filtered, or tells about the prompt."""
        images = sum(_is_there(get(each, "image")) for each in get(response, "generated_images") or ())
        masks = sum(_is_there(get(each, "mask")) for each in get(response, "generated_masks") or ())
        self._units = {name: units for name, units in (("images", images), ("masks", masks)) if units}

    def usage(self, *, ended: bool) -> Reading | None:
        """Return the units."""
        return None if self._units is None else Reading(Usage(details=self._units), ended)


_LIMITS = MappingProxyType(
    {"images": ("number_of_images", "numberOfImages"), "masks": ("max_predictions", "maxPredictions")}
)


def _is_there(image: Any) -> bool:
    return get(image, "image_bytes") is not None or get(image, "gcs_uri") is not None
