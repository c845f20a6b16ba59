"""Meter every LLM call of every program that a Python runs, without touching the programs.

Python imports a module called `sitecustomize` at every start, if it finds one. Copy this file under that name into a
directory and put that directory on the path:

    mkdir -p ~/llm-toll && cp sitecustomize_example.py ~/llm-toll/sitecustomize.py
    PYTHONPATH=~/llm-toll python your_program.py

or copy it into `site-packages` of a virtual environment. llm_toll_autopatch has to be installed there. Afterwards
`autotoll report` shows what was spent. `LLM_TOLL_AUTOPATCH=0` switches it off for a program.

It costs next to nothing while a program imports no LLM SDK, cannot stop a program from starting, and does nothing under
`python -S`, `-I`, or (when it is found through PYTHONPATH) `-E`. A program that calls `patch_all` itself has its own
settings.
"""

import importlib
import os
import sys

# Who pays, and where the records go: the environment has the first word. `autotoll config` shows all settings.
# os.environ.setdefault("LLM_TOLL_AUTOPATCH_PROJECT", "nightly-jobs")  # noqa: ERA001
# os.environ.setdefault("LLM_TOLL_AUTOPATCH_SINK", "sqlite:////srv/llm/ledger.db")  # noqa: ERA001


def _meter() -> None:
    """Meter this process, once it imports an SDK. Whatever goes wrong here, the program starts."""
    try:
        from llm_toll_autopatch import _boot

        _boot.always()
    except Exception as error:  # a program without metering is better than none
        print(f"llm_toll_autopatch is off: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201


def _chain() -> None:
    """Import the next `sitecustomize` on the path, which this one hides."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib is slow to import
    path = list(sys.path)
    hidden = sys.modules.pop("sitecustomize", None)
    sys.path[:] = [entry for entry in path if os.path.abspath(entry or ".") != here]  # noqa: PTH100 - as above
    try:
        importlib.import_module("sitecustomize")
    except ModuleNotFoundError as error:
        if error.name != "sitecustomize":  # it is there, and misses something
            raise
    finally:
        sys.path[:] = path
        if hidden is not None:
            sys.modules["sitecustomize"] = hidden


if __name__ == "sitecustomize":
    _meter()
    _chain()
