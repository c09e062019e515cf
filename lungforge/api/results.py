"""What ``lungforge.evaluate`` measures, as types; in JSON, and in words."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from lungforge.metrics.judgement import judge_hounsfield_units, judge_realism
from lungforge.metrics.permutation import SIGNIFICANCE
from lungforge.metrics.radiomic_distance import FeatureShift
from lungforge.metrics.real_baseline import BaselineComparison

#: What a result comes to; ``copies``: nothing else means anything.
Verdict: TypeAlias = Literal["good", "fair", "poor", "copies", "not measured"]

#: Features that the text names.
_NAMED: Final = 3


@dataclass(frozen=True)
class SetSize:
    """How many slices a side has, of how many scans."""

    slices: int
    scans: int


@dataclass(frozen=True)
class Distance:
    """A distance between the synthetic and the real slices.

    Attributes:
        name: What it is called.
        value: Over all slices. Few slices make a Fréchet distance large even from real to real.
        baseline: At equal image counts, beside the distance between two halves of the real slices that share
            no scan; None where the real slices are of one scan, or too few.
        p_value: That real slices of other scans are as far away (permuted by scan); None where the test is
            not made, or there are too few scans for it.
    """

    name: str
    value: float
    baseline: BaselineComparison | None
    p_value: float | None

    @property
    def ratio(self) -> float | None:
        """Synthetic to real over real to real, at equal image counts; 1 is as good as real."""
        if self.baseline is None or self.baseline.real_mean <= 0:
            return None
        return self.baseline.synthetic_mean / self.baseline.real_mean


@dataclass(frozen=True)
class ClassUnits:
    """Hounsfield units of a class of the map, within the window of -1000 to 400 HU.

    Attributes:
        class_name: Of the map.
        real: Median over the pixels of all real slices, HU; None where none shows the class.
        synthetic: The same of the synthetic slices.
        p_value: That chance makes the mean of the slices' medians differ so much in any class (permuted by
            scan); None with too few scans or slices.
        judged: Whether it counts: body, lungs and background, which have many pixels in every slice.
    """

    class_name: str
    real: int | None
    synthetic: int | None
    p_value: float | None
    judged: bool

    @property
    def difference(self) -> int | None:
        """Synthetic minus real, HU; None where one is missing."""
        return None if self.real is None or self.synthetic is None else self.synthetic - self.real


@dataclass(frozen=True)
class Agreement:
    """How a structure, segmented in the slices, agrees with their maps: median Dice, 0 to 1.

    Attributes:
        structure: body or lungs.
        real: Of the real slices; None where none shows the structure.
        synthetic: Of the synthetic slices.
    """

    structure: str
    real: float | None
    synthetic: float | None


@dataclass(frozen=True)
class NearDuplicate:
    """A synthetic slice that is a near-duplicate of a real one.

    Attributes:
        position: Of the synthetic slice in its set, from 0.
        series_uid: The scan of the real one.
        slice_index: Its slice.
        correlation: Of their textures.
        view: What is done to the real slice for it, in words.
    """

    position: int
    series_uid: str
    slice_index: int
    correlation: float
    view: str


@dataclass(frozen=True)
class Evaluation:
    """Synthetic slices measured against real ones; see ``lungforge.evaluate``.

    Attributes:
        real: Size of the real set.
        synthetic: Size of the synthetic set.
        radiomic: The radiomic Fréchet distance; None where too few slices show a region.
        moved: The features that differ by more than chance (without a test: by a standard deviation), the
            largest shift first.
        frechet: The Fréchet distance of a network's features; None without the network.
        kid: The kernel inception distance; None without the network.
        hounsfield_units: A row for each class of the map.
        map_agreement: A row for each structure.
        near_duplicates: Every synthetic slice that is a near-duplicate of a real one.
        highest_correlation: Of the texture of any synthetic slice with that of a real one.
        notes: What to know before reading the values.
    """

    real: SetSize
    synthetic: SetSize
    radiomic: Distance | None
    moved: tuple[FeatureShift, ...]
    frechet: Distance | None
    kid: Distance | None
    hounsfield_units: tuple[ClassUnits, ...]
    map_agreement: tuple[Agreement, ...]
    near_duplicates: tuple[NearDuplicate, ...]
    highest_correlation: float
    notes: tuple[str, ...]

    @property
    def realism(self) -> Verdict:
        """By the radiomic distance over its baseline, and the test of the KID: as in a report."""
        ratio = None if self.radiomic is None else self.radiomic.ratio
        if ratio is None or self.radiomic is None:
            return "not measured"
        return judge_realism(ratio, self.radiomic.p_value, None if self.kid is None else self.kid.p_value)

    @property
    def units(self) -> Verdict:
        """By the class whose median differs most, among those that differ by more than chance."""
        judged = [row for row in self.hounsfield_units if row.judged and row.difference is not None]
        if not judged:
            return "not measured"
        worst = max(
            (abs(row.difference or 0) for row in judged if row.p_value is None or row.p_value < SIGNIFICANCE),
            default=0,
        )
        return judge_hounsfield_units(worst)

    @property
    def verdict(self) -> Verdict:
        """The worse of realism and Hounsfield units; ``copies`` where a slice is a near-duplicate."""
        if self.near_duplicates:
            return "copies"
        parts = (self.realism, self.units)
        worst: Verdict
        for worst in ("poor", "not measured", "fair"):
            if worst in parts:
                return worst
        return "good"

    def to_json(self) -> str:
        """All values as a JSON document, with the verdict."""
        return json.dumps({"verdict": self.verdict, **dataclasses.asdict(self)}, indent=2, allow_nan=False)

    @property
    def text(self) -> str:
        """A summary for people."""
        title = f"{_slices(self.synthetic)} synthetic against {_slices(self.real)} real: {self.verdict}"
        lines = [title]
        lines += [f"  {_distance(each)}" for each in (self.radiomic, self.frechet, self.kid) if each]
        if self.moved:
            lines.append(f"  moved most: {'; '.join(_shift(each) for each in self.moved[:_NAMED])}")
        lines.append(f"  Hounsfield units ({self.units}): {self._units_in_words()}")
        for row in self.map_agreement:
            if row.synthetic is not None and row.real is not None:
                lines.append(
                    f"  agreement with the map, {row.structure}: Dice {row.synthetic:.2f} "
                    f"(real {row.real:.2f})"
                )
        lines.append(
            f"  near-duplicates: {len(self.near_duplicates)} of {self.synthetic.slices} "
            f"(highest correlation of texture {self.highest_correlation:.2f})"
        )
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text

    def _units_in_words(self) -> str:
        known = [row for row in self.hounsfield_units if row.difference is not None]
        known.sort(key=lambda row: -abs(row.difference or 0))
        differing = [row for row in known if row.p_value is None or row.p_value < SIGNIFICANCE]
        words = ", ".join(f"{row.class_name} {row.difference:+d} HU" for row in differing)
        if len(differing) == len(known):
            return words or "no class is in both sets"
        return f"{words}; the others by no more than chance" if words else "no class by more than chance"


def _slices(size: SetSize) -> str:
    return f"{size.slices} slices ({size.scans} {'scan' if size.scans == 1 else 'scans'})"


def _distance(distance: Distance) -> str:
    text = f"{distance.name}: {distance.value:.3g}"
    if distance.baseline is not None:
        base = distance.baseline
        text += (
            f"; with {base.images} slices a side {base.synthetic_mean:.3g} ± {base.synthetic_spread:.2g}, "
            f"real to real {base.real_mean:.3g} ± {base.real_spread:.2g}"
        )
    return text if distance.p_value is None else f"{text}; p = {distance.p_value:.2g}"


def _shift(shift: FeatureShift) -> str:
    values = f"{shift.real_median:.3g} to {shift.synthetic_median:.3g}"
    return f"{shift.region}, {shift.name.partition(' (')[0]}: {values}"
