"""Maps to sample from, and a model of random weights that is small and still heeds its map."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lungforge.datasets import Dataset, DatasetWriter, Kind, rows_from_table, table_from_rows
from lungforge.datasets.slices import index_rows
from lungforge.metrics.hu_gate import HuRanges
from lungforge.models.gaugan.config import GauGANConfig
from lungforge.models.gaugan.generator import Generator
from lungforge.models.gaugan.spec import SPEC as GAUGAN
from lungforge.models.gaugan.spectral_norm import folded_state
from lungforge.models.model_dataset import ModelDataset, ModelDetails, write_model
from lungforge.models.sdm.config import UNetConfig
from lungforge.models.sdm.spec import SPEC as SDM
from lungforge.models.sdm.unet import SemanticUNet
from services.sample.config import SampleConfig
from services.sample.plan import make_plan
from services.sample.worker import SamplingRun, UnitSampler, check_model
from tests.factories import nodule_at, slice_row

SIDE = 16


def _row(scan: int, index: int, image: np.ndarray, label: np.ndarray, nodules: list[dict]) -> dict[str, Any]:
    return slice_row(
        series_uid=f"scan-{scan}",
        subset=scan,
        slice_index=index,
        spacing_mm=[0.8, 0.7],
        image=image,
        label=label,
        nodules=nodules,
    )


def write_slices(uri: str, *, rows_of_parts: tuple[int, ...] = (5, 3, 4), side: int = SIDE) -> str:
    """A slices dataset: one part per scan, and a nodule in each slice, in a different place in each."""
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
            image = np.full((side, side), -500, np.int16)
            rows.append(_row(scan, 10 + index, image, label, [nodule_at(x + 0.5, y + 0.5, 2.0, 1.5)]))
        parts.append(writer.write_part(f"{scan}", table_from_rows(Kind.SLICES, rows)))
    writer.commit(parts)
    return uri


def make_model(
    uri: str,
    *,
    classes: int = 6,
    patch: int | None = None,
    seed: int = 0,
    hu_ranges: list[list[float] | None] | None = None,
) -> str:
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
    # The same weights each time.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = SemanticUNet(shape)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    config = {"seed": seed, "classes": classes, "patch": patch}
    writer = DatasetWriter(uri=uri, kind=Kind.MODEL, config=config)
    write_model(writer, SDM, shape, network.state_dict(), ModelDetails(patch=patch, hu_ranges=hu_ranges))
    return uri


@pytest.fixture(scope="session")
def slices(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve maps of three scans."""
    return write_slices(str(tmp_path_factory.mktemp("sample") / "slices"))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of the size of the slices."""
    return make_model(str(tmp_path_factory.mktemp("sample") / "model"))


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
    return make_model(str(tmp_path / "five"), classes=5)


@pytest.fixture
def patch_model(tmp_path: Path) -> str:
    """A model that was trained on patches."""
    return make_model(str(tmp_path / "patches"), patch=SIDE)


@pytest.fixture
def make_gated_model(tmp_path: Path) -> Callable[[HuRanges], str]:
    """``make_gated_model(ranges)``: the model with the ranges of its training images."""
    return lambda ranges: make_model(str(tmp_path / "with-ranges"), hu_ranges=ranges.to_json())


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
                nodules = [nodule_at(6.5, 7.5, 2.0, 1.5)]
            grey = np.array([-1024, 1200, -850, -830, -1000, 30])[label]
            image = (grey + generator.normal(0, 30, label.shape)).astype(np.int16)
            rows.append(_row(scan, index, image, label, nodules))
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
    uri = str(tmp_path_factory.mktemp("sample") / "gaugan")
    writer = DatasetWriter(uri=uri, kind=Kind.MODEL, config={"model": "gaugan"})
    write_model(writer, GAUGAN, shape, weights, ModelDetails())
    return uri


@pytest.fixture
def make_run() -> Callable[..., SamplingRun]:
    """``make_run(model, slices, out, **changes)``: a run of three steps, ready to be sampled."""

    def make(model: str, slices: str, out: Path, **changes: Any) -> SamplingRun:
        config = SampleConfig(
            model=model, data=slices, out=str(out), **{"steps": 3, "part_images": 8, **changes}
        )
        data, opened = Dataset.open(slices), ModelDataset.open(model)
        writer = DatasetWriter(
            uri=str(out),
            kind=Kind.SAMPLES,
            config={},
            seed=0,
            parents=(opened.dataset.parent(), data.parent()),
        )
        index = index_rows(data, config.subsets)
        patch = check_model(opened, index, inpaint=config.inpaint)
        return SamplingRun(config, opened.dataset.parent(), patch, index, writer)

    return make


@pytest.fixture
def sample() -> Callable[[SamplingRun], list[dict[str, Any]]]:
    """``sample(run)``: all rows that a run gives, read back from its dataset."""

    def sample(run: SamplingRun) -> list[dict[str, Any]]:
        plan = make_plan(run.config, run.index)
        sampler = UnitSampler(run, torch.device("cpu"))
        run.writer.commit([sampler.sample(plan.unit(index)) for index in range(len(plan))])
        dataset = Dataset.open(run.writer.uri)
        return [row for part in dataset.manifest.parts for row in rows_from_table(dataset.read_part(part))]

    return sample
