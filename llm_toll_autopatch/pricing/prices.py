"""`Prices`: usage to USD, from the user's own prices, then from those of `genai-prices`.

Whose price holds for a call is decided in this order:

1. **The user's** `prices=`, at whatever host and tier. The model's exact name beats a glob.
2. **The host's.** A host that is known to be a provider's has that provider's prices or none: a router or a reseller
   never gets those of the model's maker. Any other host has no price, whatever language it speaks.
3. **The platform's** (Azure, Bedrock, Vertex, by the host or by the client's class): its own price where there is one,
   else the maker's. An Azure deployment can have any name, so there the model that the response names is the one that
   counts; on Bedrock it is the one that was asked for, since `global.` and `us.` profiles differ.
4. **The client's provider**, where the host is not known or is a loopback address. A model of the provider on loopback
   is most often a gateway or a proxy in front of it; every other model there is unknown. A server of your own
   is free only if you say so: `prices={"my-model": {"input": 0, "output": 0}}`.

Elsewhere the model that the response names comes first, then the one that was asked for. A fine-tuned model (`ft:`)
never gets the price of its base. What the library knows of tiers, caches and so on is told in `tables`.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from llm_toll_autopatch import user_warnings
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.pricing.overrides import Overrides
from llm_toll_autopatch.pricing.rates import Rates, Tariff, Unpriced
from llm_toll_autopatch.pricing.sources import clean, locate, names_of
from llm_toll_autopatch.pricing.tables import Table, context_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from decimal import Decimal

    from llm_toll_autopatch.pricing.tables import Pricer
    from llm_toll_autopatch.records import Usage

__all__ = ["PriceExplanation", "Prices", "UnknownPriceWarning", "prepare"]

_UNITS = frozenset({"seconds", "audio_seconds", "input_characters", "images", "masks", "videos", "video_seconds"})
"""What is billed beside tokens: where a model has no price for it, what it cost is not 0 but unknown."""
_HOSTED_IMAGES = "image_gen_output_tokens"
_MOST = 2_048
"""Names of models come from servers and users: no cache of ours grows beyond this many of them."""


class UnknownPriceWarning(UserWarning):
    """No price is known for a call: its cost is `None`, which is not 0 and which no sum counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceExplanation:
    """What a call of a model would be charged, and from where.

    Attributes:
        source: In words: `prices='my-model*'`, `genai-prices openai/gpt-4o`, or why there is nothing.
        pattern: The key of `prices=` that holds, if one does.
        provider: The provider's id in `genai-prices`, if its price holds.
        model: The model's id there.
        rates: USD per million tokens of each kind of token, per 1,000 searches, per request. Empty when unknown.
        longer: The same for prompts of more than so many tokens.
    """

    source: str
    pattern: str | None = None
    provider: str | None = None
    model: str | None = None
    rates: Mapping[str, Decimal] = field(default_factory=lambda: MappingProxyType({}))
    longer: Mapping[int, Mapping[str, Decimal]] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def known(self) -> bool:
        """Whether there is a price."""
        return bool(self.rates)


class _Question(NamedTuple):
    """What decides the price of a call, but for its date and its usage."""

    provider: str
    model: str
    response_model: str | None
    endpoint: str | None
    service_tier: str | None


@dataclass(frozen=True, slots=True)
class _Quote:
    """The answer: the user's own rates, a table, or what is missing."""

    snapshot: Any = None
    tariff: Tariff | None = None
    pattern: str | None = None
    table: Table | None = None
    gap: str = ""
    always: Rates | None = None
    """The only rates that there are, whenever and however long the prompt is; None where there is more to it."""

    def nano_usd(self, usage: Usage, at: datetime) -> int:
        """Return what `usage` costs; raise `Unpriced` where something in it has no price."""
        nano = (self.always or self.pricer(at)).nano_usd(usage)
        if not usage.details:
            return nano
        if usage.details.get(_HOSTED_IMAGES):
            raise Unpriced("images made by a tool of the Responses API, whose model the response does not name")
        if not nano and self.pattern is None and not usage.total_tokens and (units := usage.details.keys() & _UNITS):
            raise Unpriced(f"{' and '.join(sorted(units))} of this model")
        return nano

    def pricer(self, at: datetime) -> Pricer:
        if self.tariff is not None:
            return self.tariff
        if self.table is not None:
            return self.table.pricer(at)
        raise Unpriced(self.gap)


class Prices:
    """The prices of one configuration. Safe to use from any thread, and inside a finalizer: there is no lock.

    Args:
        overrides: The user's prices by model name or glob: USD per million tokens of `input` and `output`, and of
            their parts where these differ (`cache_read`, `cache_write`, `cache_write_5m`, `cache_write_1h`,
            `input_audio`, `input_image`, `cache_read_audio`, `cache_read_image`, `output_audio`, `output_image`,
            `reasoning`); USD per 1,000 of `web_search` and `file_search`; USD of each `request`.

    Raises:
        TypeError: A price is no number, or the mapping has another shape.
        ValueError: A key is not known, `input` or `output` is missing, a price is below 0 or not finite.
    """

    def __init__(self, overrides: Mapping[str, Mapping[str, float | str | Decimal]] | None = None) -> None:
        self._overrides = Overrides(overrides)
        self._quotes: dict[_Question | tuple[Any, ...], _Quote] = {}
        self._misses: dict[str, itertools.count[int]] = {}
        self._unknown: dict[str, int] = {}
        self._snapshot: Callable[[], Any] | None = None
        self._broken: Exception | None = None

    @property
    def unknown(self) -> Mapping[str, int]:
        """Models without a known price, with the number of calls."""
        return MappingProxyType(self._unknown)

    def cost(
        self,
        usage: Usage,
        *,
        provider: str,
        model: str,
        response_model: str | None,
        endpoint: str | None,
        service_tier: str | None,
        at: datetime,
    ) -> int | None:
        """Return the cost of a call in nano-USD, rounded half to even; None when it is not known. Never raises.

        The first call of a model that has no price emits an `UnknownPriceWarning`.

        Args:
            usage: What was used.
            provider: Label of the client: `openai`, `anthropic`, `google`, `azure`, `bedrock`, `vertex`.
            model: The model that was asked for.
            response_model: The one that the response names.
            endpoint: The host that was called.
            service_tier: The tier that served, as the response names it.
            at: When the call began. Prices change; a time without a zone is UTC.
        """
        try:
            quote = self._quote((provider, model, response_model, endpoint, service_tier))
            return quote.nano_usd(usage, at)
        except Unpriced as gap:
            self._miss(response_model or model, str(gap))
        except Exception as error:
            failures.note("pricing", error)
        return None

    def most(
        self,
        usage: Usage,
        *,
        provider: str,
        model: str,
        endpoint: str | None,
        tiers: Sequence[str | None],
        at: datetime,
    ) -> int | None:
        """Return the most that `usage` can cost in nano-USD, whatever its parts turn out to be; None if unknown.

        For what a call may cost before it is made (`readers.ceiling.Ceiling`). Never raises, never warns. The output
        may turn out to be reasoning, speech or images; the input may turn out not to be written into a cache.

        Args:
            usage: The largest figures.
            provider: As for `cost`.
            model: The model that was asked for.
            endpoint: The host that is called.
            tiers: The tiers that may serve. The first must have a price; of those that have one the dearest counts.
            at: When the call begins.
        """
        costs: list[int] = []
        for tier in tiers:
            try:
                quote = self._quote((provider, model, None, endpoint, tier))
                costs += [quote.nano_usd(form, at) for form in _forms(usage)]
            except Unpriced:
                if not costs:
                    return None
            except Exception as error:
                failures.note("pricing", error)
                return None
        return max(costs, default=None)

    def explain(
        self,
        *,
        provider: str,
        model: str,
        response_model: str | None = None,
        endpoint: str | None = None,
        service_tier: str | None = None,
        at: datetime | None = None,
    ) -> PriceExplanation:
        """Return what a call would be charged and from where. Takes what `cost` takes; `at` is now by default."""
        at = at or datetime.now(UTC)
        try:
            quote = self._quote((provider, model, response_model, endpoint, service_tier))
            pricer = quote.pricer(at)
        except Unpriced as gap:
            return PriceExplanation(source=f"no price is known for {gap}")
        except Exception as error:
            failures.note("pricing", error)
            return PriceExplanation(source=f"genai-prices failed: {type(error).__name__}: {error}")
        origin = quote.table.source if quote.table is not None else None
        listed = dict(pricer.listed())
        return PriceExplanation(
            source=f"genai-prices {origin.provider.id}/{origin.model.id}" if origin else f"prices={quote.pattern!r}",
            pattern=quote.pattern,
            provider=origin.provider.id if origin else None,
            model=origin.model.id if origin else None,
            rates=listed.pop(0),
            longer=MappingProxyType(listed),
        )

    def warm_up(self) -> None:
        """Import `genai-prices` and load its data (0.25 s), which the first call would do else. Never raises."""
        try:
            self._data()
        except Exception as error:
            failures.note("pricing", error)

    def _quote(self, question: tuple[str, str, str | None, str | None, str | None]) -> _Quote:
        quote = self._quotes.get(question)
        # New price data (`genai_prices.UpdatePrices`) is a new snapshot.
        if quote is None or (quote.snapshot is not None and quote.snapshot is not self._snapshot()):  # type: ignore[misc]
            quote = self._answer(_Question(*question))
            if len(self._quotes) >= _MOST:
                self._quotes.clear()
            self._quotes[question] = quote
        return quote

    def _answer(self, question: _Question) -> _Quote:
        asked, served = question.model, question.response_model
        names = [spelling for name in (served, asked) if name for spelling in names_of(name, question.provider)]
        if (own := self._overrides.find(names)) is not None:
            return _Quote(tariff=Tariff(own[1]), pattern=own[0], always=own[1])
        snapshot = self._data()
        try:
            source = locate(
                snapshot.providers,
                provider=question.provider,
                host=clean(question.endpoint),
                asked=asked,
                served=served,
            )
            table = Table(source, context_of(question.service_tier, source.provider.id))
        except Unpriced as gap:
            return _Quote(snapshot=snapshot, gap=str(gap))
        return _Quote(snapshot=snapshot, table=table, always=table.always())

    def _data(self) -> Any:
        if self._snapshot is None:
            if self._broken is None:
                try:
                    from genai_prices.data_snapshot import get_snapshot
                except Exception as error:
                    self._broken = error  # trying again would cost every call an import
                else:
                    self._snapshot = get_snapshot
                    return get_snapshot()
            raise RuntimeError("genai-prices cannot be imported, so that only prices= has prices") from self._broken
        return self._snapshot()

    def _miss(self, name: str, gap: str) -> None:
        if len(self._misses) >= _MOST and name not in self._misses:
            return
        # `next` is atomic where `+= 1` is not; a lock could be held by the code that a finalizer has interrupted.
        count = next(self._misses.setdefault(name, itertools.count(1)))
        self._unknown[name] = count
        if count > 1:
            return
        message = (
            f"no price is known for {gap}: calls of {name!r} cost None, which no total and no limit in USD counts; "
            f"give a price with prices={{{name!r}: {{'input': …, 'output': …}}}}, in USD per million tokens"
        )
        user_warnings.warn(message, UnknownPriceWarning)


def _forms(usage: Usage) -> list[Usage]:
    """Return what `usage` may turn out to be: its output of another kind, its input not written into a cache."""
    written = usage.output_tokens
    forms = [usage]
    if usage.cache_write_tokens:
        forms.append(replace(usage, cache_write_tokens=0, cache_write_5m_tokens=0, cache_write_1h_tokens=0))
    kinds = ("reasoning_tokens", "output_audio_tokens", "output_image_tokens") if written else ()
    return forms + [replace(form, **{kind: written}) for form in forms for kind in kinds]  # type: ignore[arg-type]


def prepare() -> None:
    """Import the HTTP library that `genai-prices` imports, before the program can send a request. Never raises.

    Versions of the SDKs that do not use that library look for it in `sys.modules`, and would trip over one that another
    thread is in the middle of importing. The others have imported it by now.
    """
    with contextlib.suppress(Exception):
        import_module("httpx2")
