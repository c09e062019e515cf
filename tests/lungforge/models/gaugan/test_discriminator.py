import dataclasses

import pytest
import torch

from lungforge.models.gaugan.discriminator import Discriminator
from lungforge.models.gaugan.spec import SPEC


def test_shapes_at_the_published_size():
    with torch.device("meta"):
        discriminator = Discriminator(SPEC.preset_config("luna256"))
        judgements = discriminator(torch.empty(2, 6, 256, 256), torch.empty(2, 1, 256, 256))
    original = "parametrizations.weight.original"
    for scale in (0, 1):
        shapes = {key: tuple(value.shape) for key, value in discriminator.scales[scale].named_parameters()}
        # The first and the last layer have no spectral normalisation.
        assert shapes["layers.0.0.weight"] == (64, 7, 4, 4)
        assert shapes[f"layers.1.0.{original}"] == (128, 64, 4, 4)
        assert shapes[f"layers.2.0.{original}"] == (256, 128, 4, 4)
        assert shapes[f"layers.3.0.{original}"] == (512, 256, 4, 4)
        assert shapes["score.weight"] == (1, 512, 4, 4)
        assert [feature.shape[1] for feature in judgements[scale].features] == [64, 128, 256, 512]
    # Three layers of stride 2 and two of stride 1: a score for every 8 pixels of each scale.
    assert [tuple(judgement.scores.shape) for judgement in judgements] == [(2, 1, 35, 35), (2, 1, 19, 19)]


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_small_images_keep_patches(size, channels):
    discriminator = Discriminator(
        dataclasses.replace(SPEC.preset_config("tiny", image_channels=channels), image_size=size)
    )
    judgements = discriminator(torch.zeros(1, 6, size, size), torch.randn(1, channels, size, size))
    assert all(min(judgement.scores.shape) > 0 for judgement in judgements)


def test_the_second_scale_sees_the_mean_of_the_neighbours_inside_the_picture():
    discriminator = Discriminator(SPEC.preset_config("tiny"))
    seen = []
    discriminator.scales[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.arange(32.0 * 32).reshape(1, 1, 32, 32)
    discriminator(torch.ones(1, 6, 32, 32), image)
    assert seen[0].shape == (1, 7, 16, 16)
    assert torch.equal(seen[0][:, :6], torch.ones(1, 6, 16, 16))  # zeros around the picture do not count
    assert seen[0][0, 6, 0, 0] == image[0, 0, :2, :2].mean()
    assert seen[0][0, 6, 1, 1] == image[0, 0, 1:4, 1:4].mean()


def test_scores_depend_on_the_map_and_not_on_the_batch():
    torch.manual_seed(0)
    discriminator = Discriminator(SPEC.preset_config("tiny")).eval()
    maps, images = torch.zeros(3, 6, 32, 32), torch.randn(3, 1, 32, 32)
    maps[0, 0], maps[1, 1, :16], maps[2, 2, :, :16] = 1, 1, 1
    together = discriminator(maps, images)
    alone = discriminator(maps[1:2], images[1:2])
    other = discriminator(maps[2:], images[1:2])
    for scale in (0, 1):
        torch.testing.assert_close(together[scale].scores[1:2], alone[scale].scores, atol=1e-5, rtol=0)
        assert (other[scale].scores - alone[scale].scores).abs().max() > 1e-3
