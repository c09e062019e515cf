"""The findings of an evaluation in sentences: its verdict, and what to know before reading its numbers."""

from collections.abc import Sequence
from typing import Any

from services.eval.memorised import memorisation_sentence
from services.eval.numbers import plus_minus

#: Below this many images on a side a Fréchet distance in 2,048 dimensions is mostly bias.
FEW_IMAGES = 2048
#: A synthetic mean within this many spreads of the floor counts as equal to it.
_SPREADS = 2.0


def warnings_of(numbers: dict[str, Any]) -> list[str]:
    """What a reader must know before the numbers of a set."""
    frechet, name = numbers["frechet"], numbers["name"]
    warnings = []
    fewest = min(frechet["real_images"], frechet["synthetic_images"])
    if fewest < FEW_IMAGES:
        warnings.append(
            f"{name}: {fewest} images on the smaller side, below {FEW_IMAGES}: the Fréchet distance is "
            "biased upwards. Read it against the floor at the same number of images, and compare it with "
            "nothing outside this report."
        )
    if frechet["at_equal_n"] is None:
        warnings.append(f"{name}: no floor, for the real slices are of one scan only or too few.")
    return warnings


def verdict_of(sets: Sequence[dict[str, Any]], downstream: Sequence[str] = ()) -> list[str]:
    """The findings on all sets in sentences, the gravest first.

    Args:
        sets: The numbers of each set.
        downstream: What the downstream tasks found, in sentences: it comes first but for near-copies.
    """
    copied = [numbers for numbers in sets if numbers["twins"]["near_copies"]]
    sentences = [
        f"{numbers['twins']['near_copies']} of {numbers['twins']['checked']} slices of “{numbers['name']}” "
        "are near-copies of real ones: no number on them means anything."
        for numbers in copied
    ]
    sentences += downstream
    for numbers in sets:
        if numbers in copied:
            continue
        sentences.append(_distance_sentence(numbers))
        sentences.append(
            f"None of the {numbers['twins']['checked']} slices of “{numbers['name']}” is a near-copy of "
            f"a real one (highest correlation of texture {numbers['twins']['highest_correlation']:.2f})."
        )
        sentences.append(memorisation_sentence(numbers["name"], numbers["memorisation"]))
    return sentences


def _distance_sentence(numbers: dict[str, Any]) -> str:
    name, floor = f"“{numbers['name']}”", numbers["frechet"]["at_equal_n"]
    if floor is None:
        return f"How far {name} is from the real slices cannot be judged without a floor."
    against = (
        f"Fréchet distance {plus_minus(floor['synthetic_mean'], floor['synthetic_spread'])} against "
        f"{plus_minus(floor['real_mean'], floor['real_spread'])} between real and real, "
        f"{floor['images']} images a side"
    )
    if floor["synthetic_mean"] <= floor["real_mean"] + _SPREADS * floor["real_spread"]:
        return f"By so many images, {name} is as near to real slices as they are to one another ({against})."
    if floor["real_mean"] <= 0:
        return f"{name} differs from the real slices ({against})."
    ratio = floor["synthetic_mean"] / floor["real_mean"]
    return f"{name} is {ratio:.3g} times as far from real slices as they are from one another ({against})."
