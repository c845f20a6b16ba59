"""What a call may cost at most, which is what a strict budget holds for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.budgets.errors import UnboundedCostError
from llm_toll_autopatch.budgets.limits import AMOUNT_MAX
from llm_toll_autopatch.failures import failures

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llm_toll_autopatch.budgets.limits import Limit
    from llm_toll_autopatch.metering import Call
    from llm_toll_autopatch.readers.ceiling import Ceiling

__all__ = ["WorstCase"]


class WorstCase:
    """The largest figures that one call can come to.

    Args:
        call: The call, about to be sent.
        request: Its keyword arguments.
    """

    def __init__(self, call: Call, request: Mapping[str, Any]) -> None:
        self._call = call
        self._request = request
        self._ceiling: Ceiling | None = None
        self._cost: int | None = None

    def amount(self, limit: Limit) -> int:
        """Return what the call can use of `limit` at most, in the limit's unit.

        Raises:
            UnboundedCostError: Nobody can say; the message says what is missing.
        """
        if limit.unit == "calls":
            return 1
        if self._ceiling is None:
            self._ceiling = self._read(limit)
        usage = self._ceiling.usage
        if usage is None:
            raise UnboundedCostError(limit.project, None, limit.max_budget, self._ceiling.unbounded)
        if limit.unit == "tokens":
            return min(usage.total_tokens, AMOUNT_MAX)
        if self._cost is None:
            self._cost = self._priced(limit)
        return self._cost

    def _read(self, limit: Limit) -> Ceiling:
        call = self._call
        try:
            return call.ceiling(self._request)
        except Exception as error:
            failures.note(f"looking for the upper bound of {call.method}", error)
            reason = f"the request of {call.method} is not understood"
            raise UnboundedCostError(limit.project, None, limit.max_budget, reason) from error

    def _priced(self, limit: Limit) -> int:
        call, ceiling = self._call, self._ceiling
        assert ceiling is not None
        cost = call.most(ceiling)
        if cost is None:
            reason = (
                f"no price is known for model {call.model!r} at {call.endpoint}; pass prices={{{call.model!r}: "
                "{'input': …, 'output': …}} (USD per million tokens), or use another model"
            )
            raise UnboundedCostError(limit.project, None, limit.max_budget, reason)
        return min(cost, AMOUNT_MAX)
