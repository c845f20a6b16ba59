"""`python -m llm_toll_autopatch`: the same as `autotoll`."""

from __future__ import annotations

import sys

from llm_toll_autopatch.cli import main

sys.exit(main())
