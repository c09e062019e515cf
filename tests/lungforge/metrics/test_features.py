import hashlib
import io

import numpy as np
import pytest
import torch
from pytorch_fid import inception

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


def test_inception_without_its_file_says_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(InputError, match=f"put it at {tmp_path}.*pt_inception-2015-12-05-6726825d.pth"):
        load_extractor("inception-v3")


def test_inception_refuses_another_file():
    with pytest.raises(InputError, match="not 6726825d0af5"):
        load_extractor("inception-v3", weights=b"not these")


def test_inception_gives_the_features_of_pytorch_fid(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: state)
    # Random weights: the network of pytorch-fid, drawn once and given to both.
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", lambda *_, **__: None)
    state = {}
    state = {name: value.clone() for name, value in inception.fid_inception_v3().state_dict().items()}
    monkeypatch.undo()
    buffer = io.BytesIO()
    torch.save(state, buffer)
    weights = buffer.getvalue()
    extractor = load_extractor(
        "inception-v3", weights=weights, weights_sha256=hashlib.sha256(weights).hexdigest()
    )
    assert extractor.description.distance_name == "Fréchet distance (InceptionV3, other weights)"

    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: state)
    network = inception.InceptionV3().eval()
    images = slices(2)
    grey = torch.from_numpy(features.hu_to_uint8(images)).float()[:, None].expand(-1, 3, -1, -1) / 255
    with torch.inference_mode():
        expected = network(grey)[0].flatten(1).numpy()
    np.testing.assert_allclose(extractor.embed(images), expected, rtol=1e-4, atol=1e-6)
