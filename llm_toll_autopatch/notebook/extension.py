"""`%load_ext llm_toll_autopatch`: meters the notebook, and adds `%%toll` and `%toll`."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING, Any, NoReturn

from llm_toll_autopatch import options, patching, reporting, settings
from llm_toll_autopatch.notebook import tables
from llm_toll_autopatch.scopes import scope

if TYPE_CHECKING:
    from llm_toll_autopatch.settings import Overlay, Settings
    from llm_toll_autopatch.spend import Spend

__all__ = ["Toll", "load_ipython_extension", "unload_ipython_extension"]

_MAGIC = "%%toll"
_BEGIN = "--begin-cell"
_PATIENCE_S = 2.0
_loaded: dict[int, Toll] = {}


def load_ipython_extension(shell: Any) -> None:
    """Meter what is not metered yet, as `patch_all()` does, and add the magics.

    Raises:
        TypeError: A setting that is written somewhere has the wrong type.
        ValueError: It makes no sense.
    """
    if id(shell) not in _loaded:
        _loaded[id(shell)] = Toll(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Take the magics away, and meter no more, if nobody has configured it in the meantime."""
    toll = _loaded.pop(id(shell), None)
    if toll is not None:
        toll.remove()


class Toll:
    """The magics in one shell.

    A cell is told apart by time, not by context: what its threads call is its own too.

    Args:
        shell: IPython's.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._ours: Settings | None = None
        if not patching.status().active:
            patching.patch_all()
            self._ours = settings.in_force()
        self._all, self.total = _overlay({})
        self._cell: Spend | None = None
        self._before = settings.everywhere(self._all)
        shell.input_transformers_cleanup.append(_transformed)
        shell.events.register("post_run_cell", self._ended)
        shell.register_magic_function(self.toll, "line_cell", "toll")

    def remove(self) -> None:
        """Leave the shell as it was."""
        self._shell.input_transformers_cleanup.remove(_transformed)
        self._shell.events.unregister("post_run_cell", self._ended)
        for kind in ("line", "cell"):
            self._shell.magics_manager.magics[kind].pop("toll", None)
        settings.everywhere(self._before)
        if self._ours is not None and settings.in_force() is self._ours:
            patching.unpatch_all()

    def begin(self, line: str) -> None:
        """Count, and limit, the calls of the cell from here on.

        Raises:
            UsageError: The options make no sense.
        """
        from IPython.core.error import UsageError

        try:
            overlay, self._cell = _overlay(_parsed(line))
        except (TypeError, ValueError) as error:
            raise UsageError(f"{_MAGIC}: {error}") from None
        settings.everywhere(_Both(self._all, overlay))

    def _ended(self, _result: object = None) -> None:
        """Show what the cell has cost, also when it raised."""
        spend, self._cell = self._cell, None
        if spend is None:
            return
        settings.everywhere(self._all)
        self._show(spend, "this cell")

    def _show(self, spend: Spend, caption: str) -> None:
        from IPython.display import display

        reporting.flush(None, _PATIENCE_S)
        text, html = f"{caption}: {spend}", tables.of_spend(spend, caption)
        display({"text/plain": text, "text/html": html}, raw=True)  # type: ignore[no-untyped-call]

    def toll(self, line: str, cell: str | None = None) -> None:
        """Show what the calls of a cell cost, or by `%toll` those of the notebook since the extension was loaded.

        %%toll [--project NAME] [--tag KEY=VALUE] [--max-budget USD] [--strict] [--stop-streams]

        --project NAME       who pays for the cell's calls
        --tag KEY=VALUE      what for; may be given several times
        --max-budget USD     what the cell may cost, or with --project what the project may; more is refused
        --strict             hold what a call may cost at most before it is sent
        --stop-streams       cut streams off that reach the budget
        """
        if cell is None:
            first, _, rest = line.strip().partition(" ")
            if first == _BEGIN:
                self.begin(rest)
            else:
                self._show(self.total, "this notebook")
            return
        # Only where somebody asks for the magic by name: a cell that begins with it never comes here.
        self.begin(line)
        try:
            self._shell.run_cell(cell).raise_error()
        finally:
            self._ended()


class _Both:
    """One overlay, and another one over it."""

    def __init__(self, lower: Overlay, upper: Overlay) -> None:
        self._lower = lower
        self._upper = upper

    def over(self, base: Settings) -> Settings | None:
        """Return `base` as both change it."""
        below = self._lower.over(base)
        return None if below is None else self._upper.over(below)


def _overlay(asked: dict[str, Any]) -> tuple[Overlay, Spend]:
    """Return what a scope with these arguments puts over the configuration, and what counts its calls."""
    with scope(**asked) as spend:
        overlay = settings.overlay()
    assert overlay is not None
    return overlay, spend


def _transformed(lines: list[str]) -> list[str]:
    """Have a cell with our magic run as others do: what it awaits and shows, and where it fails, stays as it is."""
    for number, line in enumerate(lines):
        if line.strip():
            magic, _, rest = line.partition(" ")
            if magic.strip() != _MAGIC:
                return lines
            begin = f"get_ipython().run_line_magic('toll', {f'{_BEGIN} {rest}'.strip()!r})\n"
            return [*lines[:number], begin, *lines[number + 1 :]]
    return lines


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _parsed(line: str) -> dict[str, Any]:
    """Return the arguments for `scope` that a line means; raise a ValueError if it means none."""
    parser = _Parser(prog=_MAGIC, add_help=False, allow_abbrev=False)
    parser.add_argument("--project")
    parser.add_argument("--tag", action="append", default=[])
    parser.add_argument("--max-budget")
    parser.add_argument("--strict", action="store_true", default=None)
    parser.add_argument("--stop-streams", action="store_true", default=None)
    found = parser.parse_args(shlex.split(line))
    tags: dict[str, Any] = {}
    for each in found.tag:
        try:
            tags |= options.pairs(each)
        except ValueError as error:  # argparse would leave out what is wrong
            raise ValueError(f"--tag {error}") from None
    return {
        "project": found.project,
        "tags": tags,
        "max_budget": found.max_budget,
        "strict_budget": found.strict,
        "stop_streams": found.stop_streams,
    }
