"""``lungforge score-candidates``: the candidates of any detector, scored by the rules of LUNA16."""

from dataclasses import dataclass, field

from lungforge.config import NOT_EMPTY, check
from lungforge.ct.io.csv_tables import listed_series
from lungforge.ct.io.detection_tables import read_excluded, read_scored_candidates
from lungforge.ct.io.luna16_tables import read_annotations
from lungforge.errors import ContentError
from lungforge.metrics.froc import OperatingPoint, froc_score, judge, rate_words, scan_draws, sensitivities
from services.common.progress import say


@dataclass(frozen=True)
class ScoreConfig:
    """Score a detector's candidates for nodules by the rules of LUNA16."""

    candidates: str = field(metadata=NOT_EMPTY)
    """Table of candidates: seriesuid, coordX, coordY, coordZ (world mm), probability; a file or URI."""

    annotations: str = field(metadata=NOT_EMPTY)
    """Table of nodules: seriesuid, coordX, coordY, coordZ, diameter_mm, as LUNA16's annotations.csv."""

    scans: str = field(metadata=NOT_EMPTY)
    """Table of the scans that the detector was run on, in the column seriesuid: also those without a nodule
    or a candidate."""

    excluded: str | None = field(default=None, metadata=NOT_EMPTY)
    """Table of findings that are ignored, as LUNA16's annotations_excluded.csv; none when not given."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class ScoreResult:
    """The score of a detector, and what its candidates are.

    Attributes:
        cpm: The competition performance metric, the mean of the seven sensitivities.
        cpm_low: Lower end of its 95 % interval.
        cpm_high: Upper end.
        sensitivities: At the seven rates of false positives, with their intervals.
        draws: Draws of the bootstrap over scans that count.
        scans: Scans listed.
        nodules: Nodules in them.
        nodules_missed: Those that no candidate detects.
        candidates: All.
        candidates_repeated: Those on a nodule that a candidate of higher probability detects.
        candidates_ignored: Those on an excluded finding.
        false_positives: Those on neither.
    """

    cpm: float
    cpm_low: float
    cpm_high: float
    sensitivities: tuple[OperatingPoint, ...]
    draws: int
    scans: int
    nodules: int
    nodules_missed: int
    candidates: int
    candidates_repeated: int
    candidates_ignored: int
    false_positives: int

    @property
    def text(self) -> str:
        """The result for people."""
        lines = [
            f"CPM {self.cpm:.3f} (95 % interval {self.cpm_low:.3f} to {self.cpm_high:.3f}), the mean of:",
            *(
                f"  sensitivity {point.sensitivity:.3f} ({point.low:.3f} to {point.high:.3f}) "
                f"at {rate_words(point.false_positives_per_scan)} a scan"
                for point in self.sensitivities
            ),
            f"{self.nodules} nodules in {self.scans} scans; {self.nodules_missed} without a candidate",
            f"{self.candidates} candidates: {self.false_positives} false positives, "
            f"{self.candidates_ignored} ignored (on an excluded finding), "
            f"{self.candidates_repeated} on a nodule that a better one detects",
            f"intervals: {self.draws} bootstrap draws of the scans",
        ]
        return "\n".join(lines)


def run(config: ScoreConfig) -> ScoreResult:
    """Score the candidates.

    Raises:
        InputError: A table is missing or damaged, a candidate is of a scan that is not listed, or there is no
            nodule in the scans.
        AccessError: A table cannot be read now.
    """
    listed = listed_series(config.scans)
    scans = set(listed)
    if not scans:
        raise ContentError(f"{config.scans}: no scan is listed; give a series uid a line")
    of_series = read_annotations(config.annotations)
    candidates = read_scored_candidates(config.candidates)
    excluded = [] if config.excluded is None else read_excluded(config.excluded)
    _say_repeated(config.scans, len(listed) - len(scans), "each scan counts once")
    _say_repeated(config.annotations, of_series.doubled, "each nodule counts once")
    repeats = len(candidates) - len(set(candidates))
    _say_repeated(
        config.candidates, repeats, "each row is a candidate, so they count as often as they are there"
    )
    elsewhere = sorted(of_series.keys() - scans)
    if elsewhere:
        say(f"annotated series that are not in --scans, left out: {len(elsewhere)}, such as {elsewhere[0]}")
    nodules = [nodule for of_scan in of_series.values() for nodule in of_scan]
    judged = judge(candidates, nodules, excluded, scans)
    score = froc_score(sensitivities(judged, scan_draws(judged.scans)))
    return ScoreResult(
        cpm=score.cpm,
        cpm_low=score.cpm_low,
        cpm_high=score.cpm_high,
        sensitivities=score.points,
        draws=score.draws,
        scans=judged.scans,
        nodules=len(judged.nodule_scan),
        nodules_missed=judged.missed,
        candidates=len(candidates),
        candidates_repeated=judged.repeated,
        candidates_ignored=judged.ignored,
        false_positives=len(judged.false_probability),
    )


def _say_repeated(uri: str, count: int, consequence: str) -> None:
    if count:
        say(f"{uri}: rows that repeat others: {count}; {consequence}")
