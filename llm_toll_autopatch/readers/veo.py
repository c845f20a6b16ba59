"""Google's generate_videos, billed by the second of video.

The answer is an operation that goes on for minutes, and when it is done it names files, not figures. So what was asked
for is what is recorded: `Usage.details` has `videos`, and `video_seconds` where the request says how long they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.readers.ceiling import Ceiling, Unbounded
from llm_toll_autopatch.readers.fields import count, get, text
from llm_toll_autopatch.readers.reader import Reader, Reading
from llm_toll_autopatch.records import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Veo"]


class Veo(Reader):
    """`models.generate_videos`."""

    operation = "videos"
    __slots__ = ("_accepted", "_seconds", "_videos")

    def __init__(self) -> None:
        super().__init__()
        self._videos = 1
        self._seconds = 0
        self._accepted = False

    def _texts(self, request: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return nothing, and note how many videos of which length are asked for."""
        self.model = text(request, "model") or ""
        config = request.get("config")
        self._videos = count(config, "number_of_videos", "numberOfVideos") or 1
        self._seconds = self._videos * (count(config, "duration_seconds", "durationSeconds") or 0)
        return ()

    def _ceiling(self, request: Mapping[str, Any]) -> Ceiling:
        config = request.get("config")
        videos = count(config, "number_of_videos", "numberOfVideos")
        seconds = count(config, "duration_seconds", "durationSeconds")
        if not videos or not seconds:
            raise Unbounded(
                "how long a video becomes is not said: pass duration_seconds and number_of_videos in config="
            )
        return Ceiling(Usage(details={"videos": videos, "video_seconds": videos * seconds}))

    def _take(self, response: Any) -> None:
        """Take the `GenerateVideosOperation`."""
        self.response_id = text(response, "name")
        done = get(get(response, "response"), "generated_videos")
        if done:
            self._seconds = self._seconds * len(done) // self._videos
            self._videos = len(done)
        self._accepted = True

    def usage(self, *, ended: bool) -> Reading | None:
        """Return what was asked for, which is not the provider's word."""
        del ended
        if not self._accepted:
            return None
        details = {"videos": self._videos, **({"video_seconds": self._seconds} if self._seconds else {})}
        return Reading(Usage(details=details), final=False)
