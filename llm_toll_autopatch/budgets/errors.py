"""What a limit raises, and what it warns of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.ledger.money import format_usd

if TYPE_CHECKING:
    from decimal import Decimal

__all__ = [
    "BudgetExceededError",
    "BudgetOverrunWarning",
    "BudgetUnavailableError",
    "LocalRateLimitError",
    "UnboundedCostError",
]


class BudgetExceededError(Exception):
    """A budget is used up. The call was not sent; of a stream that was cut off, what had come was delivered.

    Args:
        project: Whose budget it is.
        current_cost: What is spent and reserved of it, in USD.
        max_budget: The budget, in USD.
        reason: More about it, for the message.

    Attributes:
        project: Whose budget it is; None for that of a block of code.
        current_cost: What was spent and reserved of it, in USD; None when that is not known.
        max_budget: The budget, in USD; None when the limit is one of tokens.
    """

    def __init__(
        self,
        project: str | None = None,
        current_cost: Decimal | None = None,
        max_budget: Decimal | None = None,
        reason: str | None = None,
    ) -> None:
        self.project = project
        self.current_cost = current_cost
        self.max_budget = max_budget
        self.reason = reason
        super().__init__(project, current_cost, max_budget, reason)

    def __str__(self) -> str:
        whose = "the budget of this block" if self.project is None else f"the budget of project {self.project!r}"
        if self.current_cost is None or self.max_budget is None:
            used = ""
        else:
            state = "is used up" if self.current_cost >= self.max_budget else "has too little left"
            used = f" {state}: {format_usd(self.current_cost)} of {format_usd(self.max_budget)}"
        return f"{whose}{used}{'' if self.reason is None else f'; {self.reason}'}"


class UnboundedCostError(BudgetExceededError):
    """A strict budget cannot be kept, because nobody can say what the call may cost at most: it was not sent.

    The message says what is unknown, the price, the length of the input or that of the output, and what to do.
    """

    def __str__(self) -> str:
        whose = "this block" if self.project is None else f"project {self.project!r}"
        return f"the strict budget of {whose} needs to know what a call may cost at most: {self.reason}"


class BudgetUnavailableError(BudgetExceededError):
    """What is left of a budget cannot be found out now, and `on_ledger_error` is "refuse": the call was not sent."""

    def __str__(self) -> str:
        whose = "this block" if self.project is None else f"project {self.project!r}"
        return f"what is left of the budget of {whose} cannot be found out: {self.reason}"


class LocalRateLimitError(Exception):
    """A limit on calls or tokens a minute is reached. The call was not sent.

    Args:
        limit_type: "rpm" (calls) or "tpm" (tokens) in any 60 seconds.
        limit_value: The limit.
        retry_after: Seconds until there is room again, if nobody else takes it; None when that cannot be said, because
            the one call asks for more than the limit.

    Attributes:
        limit_type: As above.
        limit_value: As above.
        retry_after: As above.
    """

    def __init__(self, limit_type: str = "rpm", limit_value: int = 0, retry_after: float | None = None) -> None:
        self.limit_type = limit_type
        self.limit_value = limit_value
        self.retry_after = retry_after
        super().__init__(limit_type, limit_value, retry_after)

    def __str__(self) -> str:
        what = {"rpm": "calls", "tpm": "tokens"}.get(self.limit_type, self.limit_type)
        when: Any = (
            "this call alone asks for more" if self.retry_after is None else f"retry in {self.retry_after:.3f} s"
        )
        return f"the limit of {self.limit_value:,} {what} in 60 seconds is reached; {when}"


class BudgetOverrunWarning(UserWarning):
    """A budget was exceeded by calls that were under way: their answers are delivered, the next call is refused."""
