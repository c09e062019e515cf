import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lungforge.errors import InputError
from lungforge.models.gaugan.encoder import Encoder, Encoding, kl_divergence, reparameterise
from lungforge.models.gaugan.spec import SPEC


@given(mean=st.floats(-3, 3), log_variance=st.floats(-4, 2))
def test_kl_divergence_is_that_of_two_gaussians(mean, log_variance):
    divergence = kl_divergence(Encoding(torch.tensor([[mean]]), torch.tensor([[log_variance]])))
    posterior = torch.distributions.Normal(mean, math.exp(log_variance / 2))
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(divergence, expected[None], atol=1e-4, rtol=1e-4)


def test_kl_divergence_is_a_sum_over_components_for_each_image():
    encoding = Encoding(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.zeros(2, 2))
    assert kl_divergence(encoding).tolist() == [2.5, 0.0]


def test_reparameterised_samples_have_the_mean_and_variance():
    mean, log_variance = torch.tensor([[0.5, -2.0]]), torch.tensor([[0.0, math.log(9.0)]])
    assert reparameterise(Encoding(mean, log_variance), torch.tensor([[2.0, -1.0]])).tolist() == [
        pytest.approx([2.5, -5.0])
    ]


def test_shapes_at_the_published_size():
    with torch.device("meta"):
        encoder = Encoder(SPEC.preset_config("luna256"))
        encoding = encoder(torch.empty(2, 1, 256, 256))
    assert encoder.mean.weight.shape == (256, 512 * 4 * 4)
    assert encoding.mean.shape == encoding.log_variance.shape == (2, 256)


@pytest.mark.parametrize(
    ("size", "features"), [(32, 4 * 8 * 4 * 4), (64, 8 * 8 * 4 * 4), (48, 4 * 8 * 6 * 6)]
)
def test_small_images_take_fewer_layers(size, features):
    encoder = Encoder(dataclasses.replace(SPEC.preset_config("tiny"), image_size=size))
    assert encoder.mean.in_features == features
    assert encoder(torch.zeros(1, 1, size, size)).mean.shape == (1, 16)


def test_an_encoding_does_not_depend_on_its_batch():
    torch.manual_seed(0)
    encoder = Encoder(SPEC.preset_config("tiny", image_channels=3)).eval()
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(encoder(images).mean[1:2], encoder(images[1:2]).mean, atol=1e-5, rtol=0)


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="encoder off"):
        Encoder(dataclasses.replace(SPEC.preset_config("tiny"), encoder=False))
    with pytest.raises(InputError, match=r"images are \(3, 32, 32\).*expected \(1, 32, 32\)"):
        Encoder(SPEC.preset_config("tiny"))(torch.zeros(1, 3, 32, 32))
