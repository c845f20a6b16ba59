"""What `autotoll run` puts on the path of a program and its children. Any Python may come by, also an old one."""

import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))
_LENT = ("llm_toll_autopatch", "wrapt", "genai_prices", "platformdirs", "httpx2", "httpcore2", "truststore")


class _Lender(object):
    """Lends this installation of llm_toll_autopatch to an interpreter that has none, and nothing else of its packages.

    It comes last: what the interpreter has itself is found before. What it lacks beyond (pydantic) an SDK brings.
    """

    def find_spec(self, fullname, path=None, target=None):  # noqa: ARG002
        if fullname not in _LENT:
            return None
        from importlib.machinery import PathFinder

        return PathFinder.find_spec(fullname, _homes())

    def find_distributions(self, context=None):
        """Let a package that is lent find out its own version."""
        name = getattr(context, "name", None)
        if name is None or name.lower().replace("-", "_") not in _LENT:
            return []
        from importlib.metadata import DistributionFinder, MetadataPathFinder

        return MetadataPathFinder.find_distributions(DistributionFinder.Context(name=name, path=_homes()))


def _homes():
    """Return where this installation is, and where it has what it depends on, which `autotoll run` found out."""
    homes = os.environ.get("LLM_TOLL_AUTOPATCH_LENDER", "").split(os.pathsep)
    return [home for home in [os.path.dirname(os.path.dirname(_HERE))] + homes if home]


def _activate():
    if sys.version_info < (3, 11):
        return
    sys.meta_path.append(_Lender())
    try:
        from llm_toll_autopatch import _boot

        _boot.main()
    except Exception as error:
        sys.stderr.write("llm_toll_autopatch is off: %s\n" % error)


def _chain():
    """Import the `sitecustomize` that this one hides. Children find this one again, by the environment."""
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != _HERE]
    hidden = sys.modules.pop("sitecustomize", None)
    try:
        __import__("sitecustomize")
    except ImportError as error:
        if getattr(error, "name", "sitecustomize") != "sitecustomize":
            raise
        sys.modules["sitecustomize"] = hidden


if __name__ == "sitecustomize":
    _activate()
    _chain()
