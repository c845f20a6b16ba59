"""The virtual environments of the benchmarks, under `.bench/`: one for us, one for each of the others.

What cannot be installed is a reason that the table shows, and no failure.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

__all__ = ["OTHERS", "OURS", "ROOT", "Environment", "prepared"]

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".bench"
_SDKS = ("openai", "anthropic", "google-genai")
_HTTPX = "httpx<1"
"""What OpenTelemetry's packages import and the SDKs no longer bring. With `--pre` it would be 1.0, another library."""
_PATIENCE_S = 600
_LAST_LINES = 3
_LIST = (
    "import importlib.metadata as m, json; print(json.dumps({d.name.lower(): d.version for d in m.distributions()}))"
)


class Environment(NamedTuple):
    """An environment: its name, what is installed, and the distribution whose version stands for it."""

    name: str
    packages: tuple[str, ...]
    shown: str


OURS = Environment(
    "llm_toll_autopatch",
    ("-e", f"{ROOT}[openai,anthropic,google,llm-toll,otel,postgres]", "opentelemetry-sdk", "hatchling", "pytest"),
    "llm-toll-autopatch",
)
OTHERS = (
    Environment("llm-toll", ("llm-toll>=0.13", *_SDKS), "llm-toll"),
    Environment(  # two, since their newest releases need different releases of `opentelemetry-util-genai`
        "opentelemetry",
        (
            "--pre",
            "opentelemetry-sdk",
            "opentelemetry-instrumentation-openai-v2",
            "opentelemetry-util-genai<1",
            _HTTPX,
            *_SDKS,
        ),
        "opentelemetry-instrumentation-openai-v2",
    ),
    Environment(
        "opentelemetry-google",
        (
            "--pre",
            "opentelemetry-sdk",
            "opentelemetry-instrumentation-google-genai",
            _HTTPX,
            *_SDKS,
        ),
        "opentelemetry-instrumentation-google-genai",
    ),
    Environment(
        "openinference",
        (
            "opentelemetry-sdk",
            "openinference-instrumentation-openai",
            "openinference-instrumentation-anthropic",
            "openinference-instrumentation-google-genai",
            *_SDKS,
        ),
        "openinference-instrumentation-openai",
    ),
    Environment(
        "openllmetry",
        (
            "opentelemetry-sdk",
            "opentelemetry-instrumentation-openai",
            "opentelemetry-instrumentation-anthropic",
            "opentelemetry-instrumentation-google-generativeai",
            *_SDKS,
        ),
        "opentelemetry-instrumentation-openai",
    ),
    Environment("logfire", ("logfire[google-genai]", *_SDKS), "logfire"),
    Environment("ddtrace", ("ddtrace", *_SDKS), "ddtrace"),
    Environment("langfuse", ("langfuse", *_SDKS), "langfuse"),
)


class Prepared(NamedTuple):
    """An environment that is there: its interpreter and what is in it; or why it is not."""

    python: Path
    versions: dict[str, str]
    missing: str


def prepared(environment: Environment) -> Prepared:
    """Make an environment, or use the one that is there from the last time."""
    folder = FOLDER / environment.name
    python = folder / "bin" / "python"
    done = folder / "installed.json"
    if done.exists():
        kept = json.loads(done.read_text(encoding="utf-8"))
        if kept["packages"] == list(environment.packages):
            return Prepared(python, kept["versions"], "")
    print(f"installing {environment.name} …", file=sys.stderr, flush=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *environment.packages]
    try:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True)  # noqa: S603 - our own
        subprocess.run(install, check=True, capture_output=True, text=True, timeout=_PATIENCE_S)  # noqa: S603 - our own
    except subprocess.CalledProcessError as error:
        said = str(error.stderr).strip().splitlines()[-_LAST_LINES:]
        return Prepared(python, {}, "cannot be installed: " + " ".join(said))
    except subprocess.TimeoutExpired:
        return Prepared(python, {}, f"cannot be installed within {_PATIENCE_S} s")
    listed = subprocess.run([python, "-c", _LIST], check=True, capture_output=True, text=True)  # noqa: S603 - our own
    versions: dict[str, str] = json.loads(listed.stdout)
    done.write_text(json.dumps({"packages": list(environment.packages), "versions": versions}), encoding="utf-8")
    return Prepared(python, versions, "")
