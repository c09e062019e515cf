"""A network of torchvision with weights from a file gives what torchvision's own forward gives."""

import hashlib

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.transforms.v2 import functional

from lungforge.errors import InputError
from lungforge.metrics.torchvision_extractor import torchvision_extractor

#: The last node of torchvision's graph before the classifier.
LAST = {
    "resnet18": "flatten",
    "resnet50": "flatten",
    "convnext_tiny": "classifier.1",
    "vit_b_16": "getitem_5",
}


def _random(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    model = getattr(models, name)(weights=None).eval()
    with torch.no_grad():
        for buffer_name, buffer in model.named_buffers():
            if buffer_name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
    return model


def _pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 64, 64)).astype(np.uint8)


def _expected(model: torch.nn.Module, name: str, pictures: np.ndarray) -> np.ndarray:
    three = torch.from_numpy(pictures)[:, None].expand(-1, 3, -1, -1).float() / 255
    resized = functional.resize(three, [224, 224], antialias=True)
    inputs = functional.normalize(resized, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.inference_mode():
        return create_feature_extractor(model, [LAST[name]])(inputs)[LAST[name]].numpy()


@pytest.mark.parametrize(
    ("name", "dimensions"),
    [
        ("resnet18", 512),
        pytest.param("resnet50", 2048, marks=pytest.mark.slow),
        pytest.param("convnext_tiny", 768, marks=pytest.mark.slow),
        pytest.param("vit_b_16", 768, marks=pytest.mark.slow),
    ],
)
def test_features_are_those_of_torchvisions_network_before_its_classifier(name, dimensions) -> None:
    model = _random(name)
    content = save(dict(model.state_dict()), metadata={"architecture": name})
    extractor = torchvision_extractor(content)
    assert (extractor.description.name, extractor.description.dimensions) == (name, dimensions)
    digest = hashlib.sha256(content).hexdigest()
    assert extractor.description.weights_sha256 == digest
    assert extractor.description.distance_name == f"Fréchet distance ({name}, weights {digest[:8]})"
    pictures = _pictures()
    features = extractor.embed_pictures(pictures)
    assert features.shape == (3, dimensions)
    np.testing.assert_allclose(features, _expected(model, name, pictures), rtol=1e-4, atol=1e-5)


def test_the_classifier_may_be_missing_or_of_other_classes() -> None:
    model = _random("resnet18")
    whole = dict(model.state_dict())
    bare = {key: value for key, value in whole.items() if not key.startswith("fc.")}
    other = bare | {"fc.weight": torch.zeros(5, 512), "fc.bias": torch.zeros(5)}
    pictures = _pictures()
    expected = torchvision_extractor(save(whole), "resnet18").embed_pictures(pictures)
    for state in (bare, other):
        actual = torchvision_extractor(save(state), "resnet18").embed_pictures(pictures)
        np.testing.assert_array_equal(actual, expected)


def test_weights_that_are_missing_too_many_or_of_another_shape_are_refused() -> None:
    state = dict(_random("resnet18").state_dict())
    missing = {key: value for key, value in state.items() if key != "conv1.weight"}
    with pytest.raises(InputError, match=r"do not fit resnet18: Missing key.*conv1\.weight"):
        torchvision_extractor(save(missing), "resnet18")
    with pytest.raises(InputError, match=r"do not fit resnet18: Unexpected key.*extra"):
        torchvision_extractor(save(state | {"extra": torch.zeros(1)}), "resnet18")
    with pytest.raises(InputError, match=r"do not fit resnet18: size mismatch for conv1"):
        torchvision_extractor(save(state | {"conv1.weight": torch.zeros(64, 1, 7, 7)}), "resnet18")
    with pytest.raises(InputError, match="not finite"):
        torchvision_extractor(
            save(state | {"conv1.weight": torch.full((64, 3, 7, 7), torch.nan)}), "resnet18"
        )


def test_what_names_no_known_network_is_refused() -> None:
    content = save({"a": torch.zeros(1)}, metadata={"architecture": "somebody's"})
    with pytest.raises(InputError, match='is "somebody\'s"; give --second-architecture resnet18, resnet50'):
        torchvision_extractor(content)
    with pytest.raises(InputError, match="is None"):
        torchvision_extractor(save({"a": torch.zeros(1)}))
    for damaged in (b"", b"no safetensors", content[:-1]):
        with pytest.raises(InputError, match="not a sound safetensors file"):
            torchvision_extractor(damaged, "resnet18")
