"""The notebook runs from its first to its last cell, and what it exports is what it says."""

from pathlib import Path

import nbformat
import numpy as np
import pytest
import SimpleITK
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "notebooks" / "first-hour.ipynb"
#: The largest size of the file with its pictures, in bytes.
LARGEST = 300_000


def test_the_notebook_is_small_and_was_run() -> None:
    assert NOTEBOOK.stat().st_size < LARGEST
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count == number for number, cell in enumerate(cells, start=1))
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)
    # Nothing of the machine that it was run on.
    assert "/home/" not in NOTEBOOK.read_text(encoding="utf-8")
    assert "/tmp/" not in NOTEBOOK.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()

    printed = "".join(
        output.text for cell in notebook.cells for output in cell.get("outputs", []) if "text" in output
    )
    (name,) = (path.stem for path in tmp_path.glob("exported/*.png"))
    assert f"{name}_hu.mha" in printed
    hu = SimpleITK.ReadImage(str(tmp_path / f"exported/{name}_hu.mha"))
    label = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / f"exported/{name}_map.mha")))
    assert hu.GetMetaData("Synthetic").endswith("nodule removed and inpainted, seed 0")
    pixels = SimpleITK.GetArrayFromImage(hu)
    assert pixels.dtype == np.int16
    assert pixels.shape == label.shape == (64, 64)
    assert not (label == 5).any()
    picture = Image.open(tmp_path / f"exported/{name}.png")
    assert picture.text["Synthetic"] == hu.GetMetaData("Synthetic")
    grey = np.clip((pixels.astype(float) + 1000) * 255 / 1400, 0, 255)
    assert np.abs(np.asarray(picture) - grey).max() <= 0.5 + 1e-6
