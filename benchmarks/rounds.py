"""Ways to do the same work that take turns, round by round: their rates, and the ratios of those."""

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from services.common.progress import say


def log_round(turn: int, rates: Mapping[str, Sequence[float]], places: int) -> None:
    """Say on stderr what the last round came to."""
    words = ", ".join(f"{way} {values[-1]:.{places}f}" for way, values in rates.items())
    say(f"round {turn + 1}: {words}")


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
        rates: Images per second of each way, a value a round.
        ratios: By name, the way above and the way below.
        more: What else the JSON object says.
        places: Decimals, for a person.
        as_json: Print one JSON object.
    """
    compared = {name: _ratio(rates[some], rates[others]) for name, (some, others) in ratios.items()}
    if as_json:
        medians = {way: {"median": statistics.median(values), "all": values} for way, values in rates.items()}
        print(json.dumps({"images_per_second": medians, **compared, **more}))
        return
    for way, values in rates.items():
        print(f"{way}: {statistics.median(values):.{places}f} images a second ({_spread(values, places)})")
    for name, found in compared.items():
        print(f"{name}: {found['median']:.{places}f} ({_spread(found['all'], places)})")


def _ratio(some: Sequence[float], others: Sequence[float]) -> dict[str, Any]:
    """Round by round, so that a machine that slows down slows both."""
    ratios = [one / other for one, other in zip(some, others, strict=True)]
    return {"median": statistics.median(ratios), "all": ratios}


def _spread(values: Sequence[float], places: int) -> str:
    return f"{min(values):.{places}f} to {max(values):.{places}f}, n = {len(values)}"
