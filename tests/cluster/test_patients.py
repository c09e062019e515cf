"""What of a DICOM header is kept, and what is seen of it by others."""

import locale
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk  # noqa: N813

from lungforge.ct.phantoms.generate import write_phantoms
from lungforge.datasets import Dataset
from tests.cluster.exposure import exposed, holders_of
from tests.ray_head import RayHead

SERIES_UID = "1.2.826.0.1.3680043.8.498.4711"
#: What a hospital writes into the headers, by DICOM tag.
PRIVATE = {
    "0008|0050": "ACCESSION-82365",
    "0008|0080": "Hospital of Nowhere",
    "0008|0090": "Referrer^Rita",
    "0008|1030": "Study of Things",
    "0010|0010": "Patientson^Petra",
    "0010|0020": "PATIENT-57231",
    "0010|0030": "19570421",
    "0010|1040": "Harbour Street",
    "0020|4000": "She was here before",
}

pytestmark = pytest.mark.slow


def _write_dicom(scan: Path, folder: Path) -> None:
    image = sitk.ReadImage(str(scan))
    direction = image.GetDirection()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    folder.mkdir(parents=True)
    # SimpleITK's DICOM writer leaves this process in the locale C.
    before = locale.setlocale(locale.LC_CTYPE)
    for index in range(image.GetDepth()):
        one = image[:, :, index]
        tags = PRIVATE | {
            "0008|0060": "CT",
            "0008|0018": f"{SERIES_UID}.{index}",
            "0020|000d": "1.2.3",
            "0020|000e": SERIES_UID,
            "0020|0032": "\\".join(map(str, image.TransformIndexToPhysicalPoint((0, 0, index)))),
            "0020|0037": "\\".join(map(str, (*direction[0::3], *direction[1::3]))),
        }
        for tag, value in tags.items():
            one.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{index:03}.dcm"))
        writer.Execute(one)
    locale.setlocale(locale.LC_CTYPE, before)


@pytest.fixture
def head(s3_server: Any) -> Iterator[RayHead]:
    """A cluster with the keys of the store."""
    with RayHead(s3_server.environment) as head:
        yield head


@pytest.mark.s3
@pytest.mark.ray
def test_of_a_dicom_header_the_series_uid_and_the_geometry_are_kept(
    head: RayHead, s3_uri: str, tmp_path: Path
) -> None:
    write_phantoms(str(tmp_path / "luna16"), series=1, seed=0, size=64, slices=12)
    (scan,) = (tmp_path / "luna16").glob("subset*/*.mhd")
    scans, out = tmp_path / "scans", f"{s3_uri}/slices"
    _write_dicom(scan, scans / "one")
    header = (scans / "one" / "000.dcm").read_bytes()
    assert all(value.encode() in header for value in PRIVATE.values())
    words = f"preprocess --source {scans} --out {out} --size 32 --slices all --workers 1"
    done = head.submit(*words.split())
    assert done.returncode == 0, done.stderr
    places = exposed(head, s3_uri) | {"stdout": done.stdout, "stderr": done.stderr}
    dataset = Dataset.open(out)
    (part,) = dataset.parts
    table = dataset.read_part(part)
    # Parts are compressed; what their rows say beside the pictures is looked at as text.
    columns = [name for name in table.column_names if name not in ("image", "label")]
    places["rows"] = str(table.select(columns).to_pylist())
    for value in PRIVATE.values():
        for word in (value, *value.split("^")):
            assert holders_of(places, word) == []
    # What is kept: the uid of the series, in a name and in rows, and the path that was typed.
    assert SERIES_UID in part.path
    assert SERIES_UID in places["rows"]
    (manifest,) = (text for place, text in places.items() if place.endswith("slices/manifest.json"))
    assert str(scans) in manifest
