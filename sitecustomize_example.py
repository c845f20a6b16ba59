"""Meter every LLM call of every program that a Python runs, without touching the programs.

Python imports a module called `sitecustomize` at every start, if it finds one. Copy this file under that name into a
directory and put that directory on the path:

    mkdir -p ~/llm-toll && cp sitecustomize_example.py ~/llm-toll/sitecustomize.py
    PYTHONPATH=~/llm-toll python your_program.py

or copy it into `site-packages` of a virtual environment. llm_toll_autopatch has to be installed there. Afterwards
`autotoll report` shows what was spent.

It costs next to nothing while a program uses no LLM SDK, cannot stop a program from starting, and does nothing under
`python -S`, `-I`, or (when it is found through PYTHONPATH) `-E`.
"""

import importlib
import os
import sys


def _meter() -> None:
    """Meter this process. Whatever goes wrong here, the program starts."""
    try:
        import llm_toll_autopatch

        # Who pays, and where the records go, may be said here, or by the environment: LLM_TOLL_AUTOPATCH_PROJECT,
        # LLM_TOLL_AUTOPATCH_SINK.
        llm_toll_autopatch.patch_all()
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
    except ImportError:
        pass
    finally:
        sys.path[:] = path
        if hidden is not None:
            sys.modules["sitecustomize"] = hidden


if __name__ == "sitecustomize":
    _meter()
    _chain()
