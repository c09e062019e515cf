"""Which patient each scan is of: ``patients.csv``, or the ``metadata.csv`` of a download from TCIA.

Neither LUNA16 nor a MetaImage says it. Ids of patients are read to compare them, and are stored nowhere:
what is kept is which scans are of one patient.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from lungforge.ct.io.csv_tables import series_uid_of, table_rows
from lungforge.errors import ContentError

PATIENTS, METADATA = "patients.csv", "metadata.csv"
#: Names of the columns, without spaces, underscores and capitals.
_SERIES: Final = ("seriesuid", "seriesinstanceuid")
_PATIENT: Final = ("patientid", "patient", "subjectid")


@dataclass(frozen=True)
class PatientGroups:
    """What is known of the patients of some scans.

    Attributes:
        scans_of_one_patient: Series uids of each patient who has more than one, sorted.
        scans_without_patient: Scans whose patient is not known, sorted.
    """

    scans_of_one_patient: tuple[tuple[str, ...], ...]
    scans_without_patient: tuple[str, ...]


def scan_of(series_uid: str) -> str:
    """The scan behind a series id: collections of single slices name them ``<series>_z<slice>``."""
    return re.sub(r"_z\d+$", "", series_uid)


def read_patients(uri: str) -> dict[str, str]:
    """Read a table with a column of series uids and one of patient ids; others are ignored.

    Args:
        uri: The file, a local path or any URI that fsspec opens. The columns are named ``series uid`` (or
            ``Series Instance UID``) and ``patient id`` (or ``patient``, ``Subject ID``); spaces, underscores
            and capitals in the names do not count.

    Returns:
        Series uid to patient id.

    Raises:
        ContentError: A column is missing, or a series is of two patients.
        InputError: There is no such file.
        AccessError: The file cannot be read now.
    """
    rows = table_rows(uri)
    header = [re.sub(r"[\s_\ufeff]", "", name).lower() for name in next(rows, (1, []))[1]]
    series, patient = (_column(uri, header, names) for names in (_SERIES, _PATIENT))
    patients: dict[str, str] = {}
    for line, fields in rows:
        if len(fields) <= max(series, patient):
            continue
        uid, one = series_uid_of(fields[series]), fields[patient].strip()
        if uid and one and patients.setdefault(uid, one) != one:
            # Not the ids: a message may reach a log.
            raise ContentError(
                f"{uri}, line {line}: {uid} is of another patient in an earlier line; leave one"
            )
    return patients


def group_by_patient(patients: dict[str, str], scans: Iterable[str]) -> PatientGroups:
    """Which of the scans of a table are of one patient, as far as that concerns some scans.

    Args:
        patients: Series uid to patient id.
        scans: The scans of a source; a single slice may be named ``<series>_z<slice>``.
    """
    known: set[str] = set()
    unknown: set[str] = set()
    for scan in scans:
        uid = scan if scan in patients else scan_of(scan)
        (known if uid in patients else unknown).add(uid if uid in patients else scan)
    concerned = {patients[uid] for uid in known}
    of_patient: dict[str, list[str]] = defaultdict(list)
    for uid, patient in patients.items():
        if patient in concerned:
            of_patient[patient].append(uid)
    groups = sorted(tuple(sorted(uids)) for uids in of_patient.values() if len(uids) > 1)
    return PatientGroups(tuple(groups), tuple(sorted(unknown)))


def _column(uri: str, header: list[str], names: tuple[str, ...]) -> int:
    for name in names:
        if name in header:
            return header.index(name)
    raise ContentError(
        f"{uri}: no column {' or '.join(names)}; it has {', '.join(header)[:200] or 'none'}. "
        "A table of patients needs one of series uids and one of patient ids"
    )
