"""Which faults the measures of a report could have seen: powers that were determined on real slices before.

``detection_power.json`` holds them. It is written by ``python -m benchmarks.power_table`` from results of
``python -m benchmarks.sensitivity``, which plants the faults.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import ClassVar, Final

from pydantic import ConfigDict, TypeAdapter

from services.eval.report.wording import listed
from services.eval.set_results import NotMeasured

#: What the columns of the table are called; those of the headline first.
TITLES: Final = {
    "radiomic_distance": "radiomic distance",
    "kid": "KID",
    "hounsfield_units": "Hounsfield units",
    "near_duplicates": "near-duplicates",
    "frechet_distance": "Fréchet distance",
    "precision": "precision",
    "recall": "recall",
    "nodule_contrast": "nodule contrast",
}
#: The measures that the headline rests on.
HEADLINE: Final = ("radiomic_distance", "kid", "hounsfield_units", "near_duplicates")
#: A fault that is noticed so often counts as seen.
SEEN: Final = 0.9
_FILE: Final = "detection_power.json"


@dataclass(frozen=True)
class FaultPower:
    """How often each measure raises an alarm at a planted fault, as a share of the draws.

    A measure is None where the report does not have it, or has it of another network.

    Attributes:
        fault: What was planted; "untouched" for nothing, whose alarms are false.
        copies: Whether it is done to one slice in twenty, a copy of a real one; else to every slice.
        radiomic_distance: By its permutation test, p < 0.05.
        kid: By its permutation test.
        hounsfield_units: By their permutation test.
        near_duplicates: At least one is recognised.
        frechet_distance: Above what 95 % of draws without a fault gave, as the following.
        precision: Of improved precision and recall.
        recall: Of the same.
        nodule_contrast: The difference of its medians.
    """

    fault: str
    copies: bool
    radiomic_distance: float | None
    kid: float | None
    hounsfield_units: float | None
    near_duplicates: float | None
    frechet_distance: float | None
    precision: float | None
    recall: float | None
    nodule_contrast: float | None

    def power(self, measure: str) -> float | None:
        """Of a measure, a key of ``TITLES``."""
        value: float | None = getattr(self, measure)
        return value

    @property
    def headline(self) -> float:
        """The power of that measure of the headline which sees the fault best."""
        return max((self.power(measure) or 0.0 for measure in HEADLINE), default=0.0)


@dataclass(frozen=True)
class DetectionPowers:
    """The powers at one image count.

    Attributes:
        images: Of each side.
        scans: That these are of, on a side: the median of the draws.
        repeats: Draws for each fault.
        faults: "untouched" first.
    """

    images: int
    scans: int
    repeats: int
    faults: tuple[FaultPower, ...]


@dataclass(frozen=True)
class PowerTable:
    """The powers that were determined.

    Attributes:
        data: The real slices, in words.
        extractor: The network whose features were compared.
        command: That determines the powers at one image count.
        entries: By image count, ascending.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    data: str
    extractor: str
    command: str
    entries: tuple[DetectionPowers, ...]


@dataclass(frozen=True)
class Sensitivity:
    """Which faults the measures of a set could have seen.

    Attributes:
        images: Of the smaller side of the comparison.
        scans: Of the side with fewer.
        data: The slices on which the powers were determined, in words.
        powers: At the largest tabled count of images and scans that the comparison reaches.
    """

    images: int
    scans: int
    data: str
    powers: DetectionPowers

    @property
    def seen(self) -> list[FaultPower]:
        """The faults that the headline notices nearly always."""
        return [fault for fault in self._planted if fault.headline >= SEEN]

    @property
    def missed(self) -> list[FaultPower]:
        """The faults that the headline may not notice."""
        return [fault for fault in self._planted if fault.headline < SEEN]

    @property
    def _planted(self) -> Sequence[FaultPower]:
        return self.powers.faults[1:]


def sensitivity_sentence(name: str, result: Sensitivity | NotMeasured) -> str:
    """What the headline could and could not have seen."""
    if isinstance(result, NotMeasured):
        return f"Which faults the measures of “{name}” could have missed is not known: {result.why_not}."
    seen = [fault.fault for fault in result.seen if not fault.copies]
    parts = [f"{listed(seen) or 'no fault'} in at least 9 of 10 cases"]
    missed = [f"{fault.fault} ({fault.headline:.2f})" for fault in result.missed if not fault.copies]
    parts += [f"and may miss {listed(missed)}"] if missed else []
    sentence = f"In sets as large as “{name}”, the headline notices {', '.join(parts)}"
    copies = [f"{fault.fault} ({fault.headline:.2f})" for fault in result.missed if fault.copies]
    if copies:
        sentence += f"; of copies in 5 % of the slices, it may miss those {listed(copies)}"
    powers = result.powers
    return (
        f"{sentence}. In brackets: the share of {powers.repeats} draws that raised an alarm, at "
        f"{powers.images:,} images of {powers.scans:,} scans a side, the nearest smaller count that was "
        f"tested (here {result.images:,} of {result.scans:,} scans)."
    )


@functools.cache
def package_table() -> PowerTable:
    """The powers that come with the package."""
    return read_table((files("services.eval") / _FILE).read_bytes())


def read_table(content: bytes) -> PowerTable:
    """Powers from JSON."""
    return TypeAdapter(PowerTable).validate_json(content, strict=True)
