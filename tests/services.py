"""What tests need beside Python: where it is missing they are skipped, and in CI, which installs it, they fail."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

NEEDED = "TOLL_TESTS_NEED_SERVICES"
"""The environment variable that `.ci/run` sets."""


def missing(what: str, how: str) -> NoReturn:
    """End the test that needs `what`; `how` says what installs it."""
    message = f"this test needs {what}, and there is none; {how}"
    if os.environ.get(NEEDED):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
