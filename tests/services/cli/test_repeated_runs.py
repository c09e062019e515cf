"""A run is repeated by one file: the configuration that it left beside its output.

On S3 here; docs/reference/terminal.md, whose commands are run, does it on disk.
"""

from pathlib import Path

import pytest

from lungforge.datasets import Dataset
from lungforge.storage import join_uri, open_uri, read_bytes
from services.cli import main as cli
from tests.services.train.conftest import draw_slices

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]
SMALL = ["--preset", "tiny", "--network.channel-multipliers", "1", "--network.attention-sizes"]


def _files(uri: str) -> dict[str, int]:
    """The sizes of the files, without the notes of Ray Train, which may come late."""
    fs, path = open_uri(uri)
    files = fs.find(path, detail=True).items()
    return {name: info["size"] for name, info in files if "/ray-train" not in name}


@pytest.mark.s3
def test_a_training_is_repeated_by_its_file_and_a_finished_one_is_left_as_it_is(
    s3_uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slices = draw_slices(str(tmp_path / "slices"))
    words = [*SMALL, "--data", slices, "--steps", "3", "--batch", "4", "--subsets", "0,1"]
    assert cli.main(["train", *words, "--out", s3_uri]) == 0
    assert f"next: lungforge show {s3_uri} --sheet curves.png" in capsys.readouterr().err
    file, again = join_uri(s3_uri, "config.toml"), str(tmp_path / "again")
    written = read_bytes(file)
    assert cli.main(["train", "--config", file, "--out", again]) == 0
    assert Dataset.open(again).manifest_sha256 == Dataset.open(s3_uri).manifest_sha256
    capsys.readouterr()

    before = _files(s3_uri)
    for finished in (["--config", file], words, ["--config", file, "--workers", "2"]):
        assert cli.main(["train", *finished, "--out", s3_uri]) == 0
        assert "is finished already" in capsys.readouterr().err
    assert _files(s3_uri) == before
    assert read_bytes(file) == written


def test_a_stopped_training_leaves_its_file_and_a_dataset_of_other_work_keeps_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slices, out = draw_slices(str(tmp_path / "slices")), tmp_path / "model"
    words = [*SMALL, "--data", slices, "--batch", "4", "--out", str(out)]
    assert cli.main(["train", *words, "--steps", "2"]) == 0
    written = (out / "config.toml").read_bytes()
    assert cli.main(["train", *words, "--steps", "4"]) == 2
    assert "another dataset is there, which differs in" in capsys.readouterr().err
    assert (out / "config.toml").read_bytes() == written
