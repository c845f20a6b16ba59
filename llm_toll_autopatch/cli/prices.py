"""`autotoll prices`: what a model is charged, and from where that is known."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from llm_toll_autopatch.cli import chosen
from llm_toll_autopatch.cli.table import aligned, printable
from llm_toll_autopatch.cli.terminal import Styles
from llm_toll_autopatch.pricing.rates import KINDS
from llm_toll_autopatch.sdks import SDKS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping
    from decimal import Decimal

    from llm_toll_autopatch.pricing.prices import PriceExplanation

__all__ = ["configure", "run"]

_UNITS = {1_000_000: "per million tokens", 1_000: "per 1,000", 1: "each"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `prices`."""
    parser.add_argument("model", metavar="MODEL", help="the model, as a response names it")
    parser.add_argument(
        "--provider",
        metavar="NAME",
        help=f"whose client calls it: {', '.join(SDKS)}, azure, bedrock, vertex (default: whichever SDK's has a price)",
    )
    parser.add_argument("--endpoint", metavar="HOST", help="the host that is called, if it is not the provider's own")
    parser.add_argument("--tier", metavar="NAME", help="the service tier that serves: flex, priority, batch ...")
    chosen.add_prices(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the prices and return the exit code: 1 when there are none."""
    prices = chosen.prices(arguments)
    asked = [arguments.provider] if arguments.provider else list(SDKS)
    found = {
        provider: prices.explain(
            provider=provider, model=arguments.model, endpoint=arguments.endpoint, service_tier=arguments.tier
        )
        for provider in asked
    }
    known = {(each.source, tuple(each.rates.items())): each for each in found.values() if each.known}
    if not known:
        for source in dict.fromkeys(each.source for each in found.values()):
            print(f"autotoll: {printable(source)}", file=sys.stderr)
        return 1
    styles = Styles(sys.stdout)
    for number, explanation in enumerate(known.values()):
        if number:
            print()
        print(styles.bold(f"{printable(arguments.model)}: {printable(explanation.source)}"))
        print("\n".join(aligned(list(_rows(explanation)), [False, True, False])))
    return 0


def _rows(explanation: PriceExplanation) -> Iterator[list[str]]:
    yield from _priced(explanation.rates, "")
    for above, rates in explanation.longer.items():
        differing = {kind: price for kind, price in rates.items() if price != explanation.rates.get(kind)}
        yield from _priced(differing, f", prompts above {above:,} tokens")


def _priced(rates: Mapping[str, Decimal], condition: str) -> Iterator[list[str]]:
    for kind, price in rates.items():
        about = KINDS.get(kind)
        unit = _UNITS[about.per] if about else "(unit as in genai-prices)"
        yield [f"  {kind}", f"${price.normalize():f}", f"{unit}{condition}"]
