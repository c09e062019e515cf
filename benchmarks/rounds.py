"""Reporting for benchmarks whose variants alternate, round by round: rates and ratios of rates."""

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from services.common.progress import say


def log_round(turn: int, rates: Mapping[str, Sequence[float]], places: int) -> None:
    """Log the rates of the last round to stderr."""
    text = ", ".join(f"{way} {values[-1]:.{places}f}" for way, values in rates.items())
    say(f"round {turn + 1}: {text}")


def print_rates(
    rates: Mapping[str, Sequence[float]],
    ratios: Mapping[str, tuple[str, str]],
    more: Mapping[str, Any],
    *,
    places: int,
    as_json: bool,
) -> None:
    """Print medians and spreads.

    Args:
        rates: Images per second of each variant, one value per round.
        ratios: Name to the variants of numerator and denominator.
        more: Further fields of the JSON object.
        places: Decimals of the text.
        as_json: Print one JSON object instead of text.
    """
    compared = {name: _ratio(rates[some], rates[others]) for name, (some, others) in ratios.items()}
    if as_json:
        medians = {way: {"median": statistics.median(values), "all": values} for way, values in rates.items()}
        print(json.dumps({"images_per_second": medians, **compared, **more}))
        return
    for way, values in rates.items():
        print(f"{way}: {statistics.median(values):.{places}f} images per second ({_spread(values, places)})")
    for name, ratio in compared.items():
        print(f"{name}: {ratio['median']:.{places}f} ({_spread(ratio['all'], places)})")


def _ratio(some: Sequence[float], others: Sequence[float]) -> dict[str, Any]:
    """Ratio per round, so that a machine that slows down affects both."""
    ratios = [one / other for one, other in zip(some, others, strict=True)]
    return {"median": statistics.median(ratios), "all": ratios}


def _spread(values: Sequence[float], places: int) -> str:
    return f"{min(values):.{places}f} to {max(values):.{places}f}, n = {len(values)}"
