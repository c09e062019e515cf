"""Which scans are of one patient, as the manifests of slices say it."""

from collections.abc import Iterable

from lungforge.ct.io.patient_table import scan_of
from lungforge.datasets import Dataset
from lungforge.datasets.slices import index_rows
from lungforge.errors import ContentError
from lungforge.metrics.leakage import Patients


def patients_in(datasets: Iterable[Dataset]) -> Patients:
    """Put together what some datasets of slices know; older ones know nothing.

    Raises:
        ContentError: A manifest holds something else in that place.
    """
    groups: list[list[str]] = []
    known: set[str] = set()
    for dataset in datasets:
        details = dataset.manifest.details.get("patients")
        if details is None:
            continue
        try:
            groups += [[str(series) for series in group] for group in details["scans_of_one_patient"]]
            unknown = {scan_of(series) for series in details["scans_without_patient"]}
        except (TypeError, KeyError) as error:
            raise ContentError(
                f"{dataset.uri}: the patients in its manifest are damaged; make the dataset again"
            ) from error
        known |= {scan_of(series) for series in index_rows(dataset).series_uids} - unknown
    return Patients.of([group for group in groups if group], known)
