import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungforge.datasets import Part
from lungforge.metrics.features import load_extractor
from lungforge.storage import open_uri
from services.eval import feature_cache as features
from services.eval.feature_cache import Network, features_of

GREY = np.random.default_rng(0).integers(0, 256, size=(5, 32, 32), dtype=np.uint8)
ROWS = np.array([0, 2, 3, 4, 9])
PART = Part(path="parts/a.parquet", rows=10, bytes=1, sha256="a" * 64)


@pytest.fixture(scope="module")
def description():
    return load_extractor("efficientnet-lite0").description


@pytest.fixture
def network(description, tmp_path):
    return Network(description, cache=str(tmp_path / "cache"))


def no_network(network):
    raise AssertionError("the network is not to be loaded")


def files(network):
    return sorted(Path(network.cache).iterdir())


def test_the_cache_gives_the_same_bits_without_the_network(description, store_uri, monkeypatch):
    plain = features_of(Network(description), PART, ROWS, GREY)
    network = Network(description, cache=store_uri)
    first = features_of(network, PART, ROWS, GREY)
    monkeypatch.setattr(features, "worker_extractor", no_network)
    again = features_of(network, PART, ROWS, GREY)
    assert plain.tobytes() == first.tobytes() == again.tobytes()
    assert (again.dtype, again.shape) == (np.float32, (5, 1280))
    fs, path = open_uri(store_uri)
    assert len(fs.ls(path)) == 1


def test_whatever_changes_the_features_has_a_file_of_its_own(network, monkeypatch):
    monkeypatch.setattr(features, "worker_extractor", lambda network: Constant())
    features_of(network, PART, ROWS, GREY)
    others = [
        (network, dataclasses.replace(PART, sha256="b" * 64), ROWS),
        (network, PART, ROWS + 1),
    ]
    for name in ("name", "resize", "weights_sha256", "input"):
        changed = dataclasses.replace(network.description, **{name: "other"})
        others.append((dataclasses.replace(network, description=changed), PART, ROWS))
    for other, part, rows in others:
        features_of(other, part, rows, GREY)
    monkeypatch.setattr(features, "available_device", lambda: "another")
    features_of(network, PART, ROWS, GREY)
    assert len(files(network)) == 2 + len(others)
    # Where a part lies and where the weights lie decide nothing.
    monkeypatch.setattr(features, "available_device", lambda: "cpu")
    features_of(network, dataclasses.replace(PART, path="parts/b.parquet"), ROWS, GREY)
    features_of(dataclasses.replace(network, weights="elsewhere"), PART, ROWS, GREY)
    assert len(files(network)) == 2 + len(others)


class Constant:
    """An extractor that gives what it is asked to."""

    def __init__(self, value=1.0):
        self.value = value

    def embed_pictures(self, grey):
        return np.full((len(grey), 1280), self.value, np.float32)


def test_a_damaged_file_is_detected_and_replaced(network, monkeypatch):
    monkeypatch.setattr(features, "worker_extractor", lambda network: Constant())
    features_of(network, PART, ROWS, GREY)
    (file,) = files(network)
    sound = file.read_bytes()

    @settings(deadline=None, max_examples=60)
    @given(
        place=st.integers(0, len(sound) - 1), change=st.integers(1, 255), length=st.integers(0, len(sound))
    )
    def damage(place, change, length):
        altered = bytearray(sound)
        altered[place] ^= change
        for content in (bytes(altered), sound[:length] if length < len(sound) else sound + b"x"):
            file.write_bytes(content)
            assert (features_of(network, PART, ROWS, GREY) == 1.0).all()
            assert file.read_bytes() == sound

    damage()


def test_a_sound_file_under_the_name_of_another_is_not_taken(network, monkeypatch):
    monkeypatch.setattr(features, "worker_extractor", lambda network: Constant(1.0))
    features_of(network, PART, ROWS, GREY)
    (damaged,) = files(network)
    monkeypatch.setattr(features, "worker_extractor", lambda network: Constant(2.0))
    features_of(network, PART, ROWS + 1, GREY)
    (other,) = set(files(network)) - {damaged}
    damaged.write_bytes(other.read_bytes())
    monkeypatch.setattr(features, "worker_extractor", lambda network: Constant(1.0))
    assert (features_of(network, PART, ROWS, GREY) == 1.0).all()


def test_racing_writers_leave_one_whole_file(network, monkeypatch):
    monkeypatch.setattr(features, "worker_extractor", lambda network: Constant())
    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(lambda _: features_of(network, PART, ROWS, GREY), range(40)))
    assert all((one == 1.0).all() for one in values)
    assert len(files(network)) == 1
    monkeypatch.setattr(features, "worker_extractor", no_network)
    assert (features_of(network, PART, ROWS, GREY) == 1.0).all()


def test_a_file_is_an_array_that_numpy_opens_without_pickle(network, monkeypatch):
    monkeypatch.setattr(features, "worker_extractor", lambda network: Constant())
    values = features_of(network, PART, ROWS, GREY)
    (file,) = files(network)
    np.testing.assert_array_equal(np.load(file, allow_pickle=False), values)


def test_of_no_rows_nothing_is_loaded_or_kept(network, monkeypatch):
    monkeypatch.setattr(features, "worker_extractor", no_network)
    assert features_of(network, PART, ROWS[:0], GREY[:0]).shape == (0, 1280)
    assert not Path(network.cache).exists()


@pytest.mark.parametrize(
    "array",
    [
        np.ones((5, 3), np.float32),
        np.ones((4, 1280), np.float32),
        np.ones((5, 1280), np.float64),
        np.full((5, 1280), np.nan, np.float32),
        None,
    ],
)
def test_a_file_with_a_right_checksum_and_wrong_features_is_made_anew(network, monkeypatch, array):
    monkeypatch.setattr(features, "worker_extractor", lambda network: Constant())
    features_of(network, PART, ROWS, GREY)
    (file,) = files(network)
    name = file.name.removesuffix(".npy")
    if array is None:
        content = b"\x93NUMPY\x01\x00" + b"no header"
        file.write_bytes(content + features._checksum(content, name))
    else:
        file.write_bytes(features._encode(array, name))
    assert (features_of(network, PART, ROWS, GREY) == 1.0).all()
