"""NIfTI files, read with nibabel."""

from pathlib import Path

import nibabel
import numpy as np

from lungforge.datasets import Kind
from services.export.config import ExportConfig
from services.export.job import run


def test_a_nodule_lies_in_the_world_where_its_row_says(build, tmp_path: Path) -> None:
    row = build.slice()
    row["image"][11, 6] = 32767
    dataset = build.dataset(Kind.SLICES, [row])
    run(ExportConfig(data=(dataset.uri,), out=str(tmp_path / "out"), format="nifti"))
    image = nibabel.load(tmp_path / "out" / "real_1.2.3_z0003_hu.nii.gz")
    label = nibabel.load(tmp_path / "out" / "real_1.2.3_z0003_map.nii.gz")
    assert image.shape == label.shape == (48, 40, 1)
    assert (image.get_data_dtype(), label.get_data_dtype()) == (np.int16, np.uint8)
    # Nibabel's first axis is x, and numpy's first axis is the row.
    np.testing.assert_array_equal(np.asarray(image.dataobj)[:, :, 0].T, row["image"])
    np.testing.assert_array_equal(np.asarray(label.dataobj)[:, :, 0].T, row["label"])
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S"), "columns to the left, rows to the back"
    (nodule,) = row["nodules"]
    # RAS: x and y are those of the row with the sign turned. Spacing is [row, column].
    world = image.affine @ [nodule["x"], nodule["y"], 0, 1]
    np.testing.assert_allclose(world[:3], [-6.5 * 0.75, -11.0 * 2.0, -10.0], atol=1e-5)
    np.testing.assert_array_equal(label.affine, image.affine)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert image.header["qform_code"] == image.header["sform_code"] == 1


def test_a_synthetic_one_says_so_and_lies_at_zero(build, tmp_path: Path) -> None:
    dataset = build.dataset(Kind.SAMPLES, [build.sample("0123abcd")])
    run(ExportConfig(data=(dataset.uri,), out=str(tmp_path / "out"), format="nifti"))
    image = nibabel.load(tmp_path / "out" / "synthetic_0123abcd_hu.nii.gz")
    assert bytes(image.header["descrip"].item()).startswith(b"Synthetic: LungForge ")
    assert image.affine[2, 3] == 0
