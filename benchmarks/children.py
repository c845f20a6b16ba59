"""Children of this process, which it may ask again and again: what one of them changes, no other sees."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import warnings
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Child", "forked"]


class Child:
    """A fork of this process, as a context manager.

    Args:
        ready: Called in the child, once; returns what answers a question. Both are what JSON can say.
    """

    def __init__(self, ready: Callable[[], Callable[[Any], object]]) -> None:
        asked, self._asking = os.pipe()
        answers, saying = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads of an SDK, which wait
            self._process = os.fork()
        if not self._process:
            _serve(ready, asked, saying)
        os.close(asked)
        os.close(saying)
        self._answers = os.fdopen(answers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._asking)
        self._answers.close()

    def tell(self, question: Any = None) -> None:
        """Ask, and do not wait for the answer."""
        with contextlib.suppress(BrokenPipeError):  # `answer` says that it died
            os.write(self._asking, json.dumps(question).encode() + b"\n")

    def answer(self) -> Any:
        """Return what the child answers to what it was told.

        Raises:
            RuntimeError: It failed, or died.
        """
        answer, failure = json.loads(self._answers.readline() or '[null, "it died"]')
        if failure is not None:
            raise RuntimeError(failure)
        return answer

    def ask(self, question: Any = None) -> Any:
        """Do both."""
        self.tell(question)
        return self.answer()


def _serve(ready: Callable[[], Callable[[Any], object]], asked: int, saying: int) -> None:
    """Answer until nobody asks, and end this process."""
    answer = None
    with os.fdopen(asked) as questions, os.fdopen(saying, "w") as answers:
        for question in questions:
            try:
                answer = answer or ready()
                said = json.dumps([answer(json.loads(question)), None])
            except BaseException as error:
                said = json.dumps([None, f"{type(error).__name__}: {error}"[:300]])
            print(said, file=answers, flush=True)
    os._exit(0)


def forked(work: Callable[[], object]) -> Any:
    """Return what `work` returns in a child; raise what it says."""
    with Child(lambda: lambda _: work()) as child:
        return child.ask()
