"""`Prices`: usage to USD, from the user's own prices, then from those of `genai-prices`."""

from __future__ import annotations

import contextlib
import itertools
import sys
import warnings
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.failures import LOGGER, failures
from llm_toll_autopatch.price_overrides import Overrides
from llm_toll_autopatch.price_sources import Source, clean, locate, names_of
from llm_toll_autopatch.price_tables import Table
from llm_toll_autopatch.rates import Rates, Tariff, Unpriced
from llm_toll_autopatch.sdks import SDKS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llm_toll_autopatch.records import Usage
