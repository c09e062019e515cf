"""What of a folder is sent: its code, and not the data beside it."""

from pathlib import Path

import pytest
from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

from services.submit.package import package_of

CODE = ("services/__init__.py", "services/eval/report/report.html", "lungforge/ct/a.py", "pyproject.toml")


def _fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * 1000)


@pytest.mark.parametrize(
    ("names", "excluded"),
    [
        (("luna16-drawn/subset0/1.2.mhd", "luna16-drawn/annotations.csv"), ["luna16-drawn"]),
        (("slices/manifest.json", "slices/parts/0.parquet"), ["slices"]),
        # The configuration of a job is no code; one of the user's own is sent.
        (("model/manifest.json", "model/config.toml", "model/mlruns/0/meta.yaml"), ["model"]),
        (("config.toml", "runs/config.toml"), []),
        # Training that has not ended has no manifest yet.
        (("m/checkpoints/a/step-1/w.safetensors", "m/tensorboard/events.out.tfevents.1"), ["m"]),
        (("build/out/slices/manifest.json",), ["build"]),
        # Beside code, only what holds none of it.
        (("work/run.py", "work/slices/manifest.json", "work/slices/a.csv"), ["work/slices"]),
        (("services/data/weights.pt",), ["services/data"]),
        (("ema.pt", "curves.png"), ["curves.png", "ema.pt"]),
        (("lidc.zip",), ["lidc.zip"]),
        (("a b [1]/x.dcm", "#x/y.mhd", "!z/a.raw", "st*r/a.raw"), ["!z", "#x", "a b [1]", "st*r"]),
        # Code with images and weights of its own, and folders of neither, go along.
        (("plugin/__init__.py", "plugin/logo.png", "plugin/net.pt", "configs/a.json"), []),
        # So do the datasets that come with LungForge.
        (("lungforge/pretrained/a/manifest.json", "lungforge/pretrained/a/files-1/model.safetensors"), []),
    ],
)
def test_code_is_sent_and_data_is_not(tmp_path: Path, names: tuple[str, ...], excluded: list[str]) -> None:
    _fill(tmp_path, *CODE, *names)
    package = package_of(tmp_path)
    assert [path.as_posix() for path in package.excluded] == excluded
    sent: list[str] = []
    _dir_travel(
        tmp_path,
        [_get_excludes(tmp_path, package.excludes)],
        lambda path: sent.append(path.relative_to(tmp_path).as_posix()) if path.is_file() else None,
        include_gitignore=True,
    )
    assert set(CODE) <= set(sent)
    kept = {name for name in names if not name.startswith(tuple(f"{path}/" for path in excluded))}
    assert set(sent) - set(CODE) == kept - set(excluded)
    assert sum(package.sizes.values()) == 1000 * len(sent)
    assert all(f" {path}" in package.describe() for path in excluded)


def test_dicom_is_known_by_its_content(tmp_path: Path) -> None:
    _fill(tmp_path, *CODE)
    (tmp_path / "scans" / "SE1").mkdir(parents=True)
    for name in ("IM0001", "1.2.840.5"):
        (tmp_path / "scans" / "SE1" / name).write_bytes(bytes(128) + b"DICM" + bytes(9))
    assert [path.as_posix() for path in package_of(tmp_path).excluded] == ["scans"]


def test_what_is_ignored_is_not_looked_at(tmp_path: Path) -> None:
    _fill(tmp_path, *CODE, "old/a.mhd", ".venv/lib/a.npy")
    (tmp_path / ".gitignore").write_text("/old/\n", encoding="utf-8")
    package = package_of(tmp_path)
    assert package.excluded == ()
    assert set(package.sizes) == {"services", "lungforge", "pyproject.toml", ".gitignore"}


def test_what_is_sent_is_named_by_size(tmp_path: Path) -> None:
    _fill(tmp_path, "a/x.py", "slices/manifest.json")
    (tmp_path / "notes").write_bytes(bytes(2_500_000))
    assert package_of(tmp_path).describe() == (
        "sends 2.5 MB (notes 2.5 MB, a 0.0 MB); not the data in slices"
    )
