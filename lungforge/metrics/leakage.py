"""Whether test patients were used: to train the generator, or as the source of a synthetic slice.

Two scans of one patient are more alike than those of two. LUNA16, for one, has two scans of a patient, and a
hospital's archive has many. Where it is not known whose a scan is, it counts as a patient of its own.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lungforge.ct.io.patient_table import scan_of


@dataclass(frozen=True)
class Patients:
    """Which scans are of one patient.

    Attributes:
        representative: For a scan that is not the only one of its patient, the one that stands for all.
        known: Scans whose patient is known.
    """

    representative: dict[str, str]
    known: frozenset[str]

    @classmethod
    def of(cls, groups: Iterable[Sequence[str]], known: Iterable[str] = ()) -> "Patients":
        """Put together what several sources say.

        Args:
            groups: Series ids that are of one patient each; groups that share a scan are of one patient.
            known: Other series ids whose patient is known.
        """
        leads_to: dict[str, str] = {}

        def first(scan: str) -> str:
            while leads_to.setdefault(scan, scan) != scan:
                scan = leads_to[scan]
            return scan

        for group in groups:
            one, *others = [scan_of(series) for series in group]
            for other in others:
                low, high = sorted((first(one), first(other)))
                leads_to[high] = low
        return cls(
            representative={scan: first(scan) for scan in list(leads_to)},
            known=frozenset(leads_to) | frozenset(scan_of(series) for series in known),
        )

    def patient_of(self, series_uid: str) -> str:
        """The scan that stands for the patient of a series."""
        scan = scan_of(series_uid)
        return self.representative.get(scan, scan)


#: Where nothing is known, every scan is of another patient.
EACH_SCAN = Patients({}, frozenset())


@dataclass(frozen=True, order=True)
class SharedPatient:
    """A patient who is on both sides.

    Attributes:
        test: The scan in the test set.
        used: The scan that was used: the same one, or another of the patient.
    """

    test: str
    used: str

    def __str__(self) -> str:
        return self.test if self.test == self.used else f"{self.test} (the same patient as {self.used})"


@dataclass(frozen=True)
class Leak:
    """The test scans whose patients were used, sorted, each once.

    Attributes:
        sources: Synthetic slices were generated from their maps.
        training: The generator was trained on them.
    """

    sources: tuple[SharedPatient, ...]
    training: tuple[SharedPatient, ...]

    def __bool__(self) -> bool:
        return bool(self.sources or self.training)


def find_leak(
    test: Iterable[str], sources: Iterable[str], training: Iterable[str], patients: Patients = EACH_SCAN
) -> Leak:
    """The leak between the series ids of the test set, of the synthetic slices' sources, and of training."""
    tested = {scan_of(series) for series in test}
    return Leak(_shared(tested, sources, patients), _shared(tested, training, patients))


def _shared(tested: set[str], used: Iterable[str], patients: Patients) -> tuple[SharedPatient, ...]:
    scans: dict[str, list[str]] = defaultdict(list)
    for scan in sorted({scan_of(series) for series in used}):
        scans[patients.patient_of(scan)].append(scan)
    shared = []
    for scan in sorted(tested):
        same = scans.get(patients.patient_of(scan))
        if same:
            shared.append(SharedPatient(scan, scan if scan in same else same[0]))
    return tuple(shared)
