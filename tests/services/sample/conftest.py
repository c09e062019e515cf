"""Maps to draw from, and a model of random weights that is small and still heeds its map."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from lungforge.gan import checkpoint as gan_checkpoint
from lungforge.gan.config import GauGANConfig
from lungforge.gan.generator import Generator
from lungforge.gan.spectral import folded_state
from lungforge.sdm.checkpoint import to_document, to_safetensors
from lungforge.sdm.config import UNetConfig
from lungforge.sdm.unet import SemanticUNet
from lungforge.store import DatasetWriter, Kind, table_from_rows

SIDE = 16


def write_slices(uri: str, *, rows_of_parts: tuple[int, ...] = (5, 3, 4), side: int = SIDE) -> str:
    """A slices dataset: a scan a part, a nodule in each slice, its place different in each."""
    writer = DatasetWriter(uri=uri, kind=Kind.SLICES, config={"rows": list(rows_of_parts), "side": side})
    parts = []
    for scan, count in enumerate(rows_of_parts):
        rows = []
        for index in range(count):
            label = np.zeros((side, side), np.uint8)
            label[2:-2, 2:-2] = 1
            label[4:-4, 4:-4] = 2 + scan % 2
            x = y = 4 + index
            label[y : y + 2, x : x + 2] = 5
            rows.append(
                {
                    "series_uid": f"scan-{scan}",
                    "subset": scan,
                    "slice_index": 10 + index,
                    "z_mm": 0.0,
                    "spacing_mm": [0.8, 0.7],
                    "image": np.full((side, side), -500, np.int16),
                    "label": label,
                    "nodules": [{"x": x + 0.5, "y": y + 0.5, "diameter_px": 2.0, "diameter_mm": 1.5}],
                }
            )
        parts.append(writer.write_part(f"{scan}", table_from_rows(Kind.SLICES, rows)))
    writer.commit(parts)
    return uri


def write_model(uri: str, *, classes: int = 6, patch: int | None = None, seed: int = 0) -> str:
    """A model dataset of random weights."""
    shape = UNetConfig(
        image_size=SIDE,
        classes=classes,
        base_channels=32,
        channel_multipliers=(1,),
        residual_blocks=1,
        attention_sizes=(),
        head_channels=32,
    )
    generator = torch.Generator().manual_seed(seed)
    network = SemanticUNet(shape)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    writer = DatasetWriter(
        uri=uri, kind=Kind.MODEL, config={"seed": seed, "classes": classes, "patch": patch}
    )
    parts = [
        writer.write_file("model.safetensors", to_safetensors(network.state_dict())),
        writer.write_file("config.json", json.dumps(to_document(shape)).encode()),
    ]
    writer.commit(parts, {"patch": patch})
    return uri


@pytest.fixture(scope="session")
def slices(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve maps of three scans."""
    return write_slices(str(tmp_path_factory.mktemp("sample") / "slices"))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of the size of the slices."""
    return write_model(str(tmp_path_factory.mktemp("sample") / "model"))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As a worker of one CPU computes; more threads wait for one another where the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def other_slices(tmp_path: Path) -> str:
    """Slices of another size than the model's."""
    return write_slices(str(tmp_path / "other"), rows_of_parts=(3,), side=24)


@pytest.fixture
def other_model(tmp_path: Path) -> str:
    """A model of five classes."""
    return write_model(str(tmp_path / "five"), classes=5)


@pytest.fixture
def patch_model(tmp_path: Path) -> str:
    """A model that was trained on patches."""
    return write_model(str(tmp_path / "patches"), patch=SIDE)


def write_mixed_slices(uri: str, *, slices: int = 4, side: int = SIDE, margin: int = 2) -> str:
    """Three scans of slices with noise in them; every second slice shows a nodule."""
    writer = DatasetWriter(uri=uri, kind=Kind.SLICES, config={"slices": slices, "margin": margin})
    generator = np.random.default_rng(0)
    parts = []
    for scan in range(3):
        rows = []
        for index in range(slices):
            label = np.zeros((side, side), np.uint8)
            label[1:-1, 1:-1] = 1
            label[margin:-margin, margin:-margin] = 2 + scan % 2
            nodules = []
            if index % 2:
                label[7:9, 6:8] = 5
                nodules = [{"x": 6.5, "y": 7.5, "diameter_px": 2.0, "diameter_mm": 1.5}]
            grey = np.array([-1024, 1200, -850, -830, -1000, 30])[label]
            rows.append(
                {
                    "series_uid": f"scan-{scan}",
                    "subset": scan,
                    "slice_index": index,
                    "z_mm": 0.0,
                    "spacing_mm": [0.8, 0.7],
                    "image": (grey + generator.normal(0, 30, label.shape)).astype(np.int16),
                    "label": label,
                    "nodules": nodules,
                }
            )
        parts.append(writer.write_part(f"{scan}", table_from_rows(Kind.SLICES, rows)))
    writer.commit(parts)
    return uri


@pytest.fixture(scope="session")
def mixed_slices(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve slices, six of them healthy, with room in their lungs."""
    return write_mixed_slices(str(tmp_path_factory.mktemp("sample") / "mixed"))


@pytest.fixture(scope="session")
def cramped_slices(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same with lungs in which nothing has room."""
    return write_mixed_slices(str(tmp_path_factory.mktemp("sample") / "cramped"), margin=6)


@pytest.fixture(scope="session")
def gaugan(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A GauGAN of the size of the slices, of random weights."""
    shape = GauGANConfig(
        image_size=SIDE, base_channels=8, channel_multipliers=(2, 1), latent_channels=4, encoder=False
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = folded_state(Generator(shape))
    writer = DatasetWriter(
        uri=str(tmp_path_factory.mktemp("sample") / "gaugan"), kind=Kind.MODEL, config={"model": "gaugan"}
    )
    parts = [
        writer.write_file("model.safetensors", gan_checkpoint.to_safetensors(weights)),
        writer.write_file("config.json", json.dumps(gan_checkpoint.to_document(shape)).encode()),
    ]
    writer.commit(parts, {"patch": None})
    return writer.uri
