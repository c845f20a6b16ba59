"""What the program tells its workers, and they it: a few bytes that all of them share."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Final

__all__ = ["CALM", "DRAINING", "ENDING", "Board"]

CALM: Final = 0
ENDING: Final = 1
DRAINING: Final = 2
"""Nobody makes calls until what waits is written."""
_SLOT = struct.Struct("<qq")
_SLOTS = 4096


class Board:
    """The phase, and of each worker how many of its records wait for the ledger.

    Args:
        path: The file behind it, made if it is missing.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8 + _SLOT.size * _SLOTS))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)

    @property
    def phase(self) -> int:
        """What is going on."""
        return self._memory[0]

    @phase.setter
    def phase(self, phase: int) -> None:
        self._memory[0] = phase

    def say(self, slot: int, beat: int, waiting: int) -> None:
        """Of the worker `slot`: that it lives, and how many of its records wait."""
        _SLOT.pack_into(self._memory, 8 + slot % _SLOTS * _SLOT.size, beat, waiting)

    def heard(self, slot: int) -> tuple[int, int]:
        """What the worker `slot` said last."""
        beat, waiting = _SLOT.unpack_from(self._memory, 8 + slot % _SLOTS * _SLOT.size)
        return beat, waiting
