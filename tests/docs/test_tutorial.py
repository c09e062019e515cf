"""The LUNA16 tutorial, from source to COCO: its commands on real slices, with numbers made smaller."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pycocotools.coco import COCO

from services.eval.results import EvaluationReport
from tests.docs.site import DOCS, ROOT, blocks, front_matter

PAGE = DOCS / "tutorial-luna16.md"


def _commands() -> list[str]:
    """The blocks of the page, with smaller numbers; each of these must be in one of them."""
    texts = [block.text for block in blocks(PAGE, "bash")]
    for number, smaller in front_matter(PAGE)["smaller"]:
        assert sum(text.count(number) for text in texts) == 1, number
        texts = [text.replace(number, smaller) for text in texts]
    return texts


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.real_data
@pytest.mark.timeout(1800)
def test_the_tutorial_runs_from_source_to_coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=":")
    source = Path(os.environ.get("LUNGFORGE_REAL_DATA", "")) / "luna16_mini"
    if not source.is_dir() or not source.is_absolute():
        pytest.skip("LUNGFORGE_REAL_DATA names no folder with luna16_mini")
    (tmp_path / "luna16").symlink_to(source)
    for text in _commands():
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=900,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"

    synthetic = COCO(tmp_path / "coco-synthetic" / "annotations.json")
    assert len(synthetic.getImgIds()) == 16
    assert len(synthetic.getAnnIds()) >= 16  # every map of luna16_mini has a nodule
    for image in synthetic.loadImgs(synthetic.getImgIds()):
        assert (tmp_path / "coco-synthetic" / image["file_name"]).is_file()
        assert (image["width"], image["height"]) == (64, 64)
    real = COCO(tmp_path / "coco-real" / "annotations.json")
    assert len(real.getImgIds()) == 433
    report = EvaluationReport.from_json((tmp_path / "report" / "metrics.json").read_bytes())
    assert [result.images for result in report.sets] == [16]
    for picture in ("slices.png", "curves.png", "samples.png"):
        assert (tmp_path / picture).stat().st_size > 10_000
