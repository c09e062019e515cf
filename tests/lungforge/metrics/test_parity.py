"""The FID of the program pytorch-fid, from the same file of weights and the same PNG files."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from benchmarks.fid import random_weights
from lungforge.metrics.features import INCEPTION_FILE, load_extractor
from lungforge.metrics.frechet import frechet_distance_of_features

SIDE = 64


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A cache of torch in which pytorch-fid finds the weights that it would download."""
    folder = tmp_path_factory.mktemp("torch") / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / INCEPTION_FILE).write_bytes(random_weights())
    return folder.parents[1]


@pytest.fixture(scope="module")
def extractor(hub):
    weights = (hub / "hub" / "checkpoints" / INCEPTION_FILE).read_bytes()
    return load_extractor("inception-v3", weights=weights, weights_sha256=hashlib.sha256(weights).hexdigest())


def blobs(seed, count, channels, sigma):
    """Smooth pictures, uint8: the coarser, the larger sigma."""
    shape = (count, SIDE, SIDE) + ((channels,) if channels > 1 else ())
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, [0, sigma, sigma] + [0] * (channels > 1))
    return np.clip(128 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def by_pytorch_fid(first, second, hub, folder):
    """What ``python -m pytorch_fid`` prints for two folders of PNG files."""
    for name, pictures in (("first", first), ("second", second)):
        (folder / name).mkdir()
        for number, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / name / f"{number:03}.png")
    command = [sys.executable, "-m", "pytorch_fid", folder / "first", folder / "second"]
    done = subprocess.run(
        [*command, "--device", "cpu", "--num-workers", "0", "--batch-size", "12"],
        env={**os.environ, "TORCH_HOME": str(hub)},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return float(done.stdout.rsplit("FID:", 1)[1])


@pytest.mark.parametrize(
    ("counts", "channels"),
    [((24, 24), 1), pytest.param((30, 25), 3, marks=pytest.mark.slow)],
    ids=["grey, equal n", "colour, unequal n"],
)
def test_fid_is_that_of_the_pytorch_fid_program(counts, channels, hub, extractor, tmp_path):
    first, second = (
        blobs(seed, count, channels, sigma) for seed, count, sigma in zip((1, 2), counts, (2, 3), strict=True)
    )
    expected = by_pytorch_fid(first, second, hub, tmp_path)
    distance = frechet_distance_of_features(extractor.embed_pictures(first), extractor.embed_pictures(second))
    assert distance == pytest.approx(expected, rel=1e-3)
    assert distance > 1
