"""Detection over whole scans, as types."""

from dataclasses import dataclass

from lungforge.metrics.froc import FrocScore


@dataclass(frozen=True)
class FrocResult:
    """How the networks of an arm detect nodules in whole scans.

    Attributes:
        key: The arm's name in files.
        name: Its name for people.
        score: Sensitivities and CPM, means over the networks, with their 95 % intervals over the scans.
        candidates_per_scan: Mean over networks and scans.
    """

    key: str
    name: str
    score: FrocScore
    candidates_per_scan: float


@dataclass(frozen=True)
class FrocResults:
    """Detection over whole scans, by the rules of LUNA16.

    Attributes:
        scans: Test scans.
        slices: Slices of them.
        nodules: Nodules in them.
        excluded: Excluded findings in them, on which candidates are ignored; None where they are not known.
        networks_per_arm: Networks whose scores are averaged.
        true_boxes: The score of the true boxes of all slices. They are whole pixels, so where pixels are
            large they miss the centre of a small nodule by more than its radius.
        arms: The arms, in the order of the localisation task.
    """

    scans: int
    slices: int
    nodules: int
    excluded: int | None
    networks_per_arm: int
    true_boxes: FrocScore
    arms: tuple[FrocResult, ...]
