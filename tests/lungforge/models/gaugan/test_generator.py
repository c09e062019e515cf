import dataclasses

import pytest
import torch
from torch import nn

from lungforge.errors import InputError
from lungforge.models.gaugan.config import BATCH, GauGANConfig
from lungforge.models.gaugan.generator import Generator, SpadeResidualBlock, fold, generate
from lungforge.models.gaugan.spec import SPEC
from lungforge.models.gaugan.spectral_norm import folded_state
from lungforge.models.spade import SemanticMap, one_hot


def disc_maps(count: int, size: int = 32, classes: int = 6) -> torch.Tensor:
    """One-hot maps of discs that differ from map to map."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    labels = torch.zeros(count, size, size, dtype=torch.int64)
    for index in range(count):
        for label in range(1, classes):
            centre = (7 * label + 5 * index) % size
            inside = (rows - centre) ** 2 + (columns - size // 2 - index) ** 2 < (size // (label + 2)) ** 2
            labels[index][inside] = label
    return one_hot(labels, classes)


def noise(count: int, config: GauGANConfig, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, config.latent_channels, generator=torch.Generator().manual_seed(seed))


def generator_of(config: GauGANConfig, seed: int = 0) -> Generator:
    torch.manual_seed(seed)
    return Generator(config)


def test_the_parameter_count_is_that_of_the_layers():
    """Counted from the layers' description: widths 16, 16, 16, 8, 4, 2, 1 times 64, hidden width 128."""

    def convolution(inputs: int, outputs: int, side: int = 3) -> int:
        return inputs * outputs * side**2 + outputs

    def modulation(width: int) -> int:
        return convolution(6, 128) + 2 * convolution(128, width)

    expected = 256 * 1024 * 4 * 4 + 1024 * 4 * 4 + convolution(64, 1)
    expected += 3 * (2 * modulation(1024) + 2 * convolution(1024, 1024))
    for width, half in ((1024, 512), (512, 256), (256, 128), (128, 64)):
        expected += 2 * modulation(width) + modulation(half)
        expected += convolution(width, half) + convolution(half, half) + width * half
    with torch.device("meta"):
        generator = Generator(SPEC.preset_config("luna256"), spectral=False)
    assert sum(value.numel() for value in generator.parameters()) == expected == 96_302_657


def test_shapes_at_the_published_size():
    with torch.device("meta"):
        generator = Generator(SPEC.preset_config("luna256"))
    shapes = {key: tuple(value.shape) for key, value in generator.named_parameters()}
    original = "parametrizations.weight.original"
    assert shapes["start.weight"] == (16 * 1024, 256)
    assert shapes[f"blocks.0.conv_0.{original}"] == (1024, 1024, 3, 3)
    assert "blocks.2.conv_shortcut.bias" not in shapes
    assert f"blocks.2.conv_shortcut.{original}" not in shapes
    # The block that narrows does so in its first convolution, and modulates its shortcut at the wide end.
    assert shapes[f"blocks.3.conv_0.{original}"] == (512, 1024, 3, 3)
    assert shapes[f"blocks.3.conv_1.{original}"] == (512, 512, 3, 3)
    assert shapes[f"blocks.3.conv_shortcut.{original}"] == (512, 1024, 1, 1)
    assert "blocks.3.conv_shortcut.bias" not in shapes
    assert shapes[f"blocks.3.modulation_shortcut.mlp_gamma.{original}"] == (1024, 128, 3, 3)
    assert shapes[f"blocks.3.modulation_1.mlp_shared.0.{original}"] == (128, 6, 3, 3)
    assert shapes[f"to_image.{original}"] == (1, 64, 3, 3)
    convolutions = [module for module in generator.modules() if isinstance(module, nn.Conv2d)]
    assert all(hasattr(module, "parametrizations") for module in convolutions)


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_have_the_channels_and_size_and_lie_in_the_range(size, channels):
    config = dataclasses.replace(
        SPEC.preset_config("tiny", image_channels=channels), image_size=size, base_channels=4
    )
    images = generate(fold(generator_of(config)), disc_maps(2, size), 50 * noise(2, config))
    assert images.shape == (2, channels, size, size)
    assert images.dtype == torch.float32
    assert -1 <= images.min() < images.max() <= 1


def test_a_block_is_the_formula_of_the_paper():
    torch.manual_seed(0)
    block, maps, x = SpadeResidualBlock(6, 4, 6, "instance"), disc_maps(1), torch.randn(1, 6, 32, 32)

    def modulated(features, spade):
        hidden = spade.mlp_shared(maps)
        return nn.functional.instance_norm(features) * (1 + spade.mlp_gamma(hidden)) + spade.mlp_beta(hidden)

    def leaky(features):
        return torch.where(features > 0, features, 0.2 * features)

    h = block.conv_0(leaky(modulated(x, block.modulation_0)))
    h = block.conv_1(leaky(modulated(h, block.modulation_1)))
    # The shortcut is not activated.
    expected = h + block.conv_shortcut(modulated(x, block.modulation_shortcut))
    torch.testing.assert_close(block(x, SemanticMap(maps)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", ["instance", BATCH])
def test_an_image_does_not_depend_on_its_batch(norm):
    config = dataclasses.replace(SPEC.preset_config("tiny"), norm=norm)
    generator = generator_of(config)
    maps, z = disc_maps(5), noise(5, config)
    generator(maps, z)  # updates the statistics of batch normalisation
    folded = fold(generator)
    together = generate(folded, maps, z)
    alone = torch.cat([generate(folded, maps[index : index + 1], z[index : index + 1]) for index in range(5)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert (together[0] - together[1]).abs().max() > 1e-2


def test_z_and_map_both_change_the_image():
    config = SPEC.preset_config("tiny")
    folded = fold(generator_of(config))
    maps = disc_maps(2)
    first = generate(folded, maps[:1], noise(1, config, seed=1))
    assert (first - generate(folded, maps[:1], noise(1, config, seed=2))).abs().mean() > 1e-2
    assert (first - generate(folded, maps[1:], noise(1, config, seed=1))).abs().mean() > 1e-2
    assert torch.equal(first, generate(folded, maps[:1], noise(1, config, seed=1)))


def test_without_z_the_map_alone_decides():
    config = dataclasses.replace(SPEC.preset_config("tiny"), latent_channels=0, encoder=False)
    folded = fold(generator_of(config))
    images = generate(folded, disc_maps(2), None)
    assert (images[0] - images[1]).abs().mean() > 1e-2
    with pytest.raises(InputError, match="takes no noise z"):
        generate(folded, disc_maps(2), torch.zeros(2, 16))


def test_maps_and_noise_of_another_shape_are_refused():
    config = SPEC.preset_config("tiny")
    generator = generator_of(config)
    with pytest.raises(InputError, match=r"maps are \(7, 32, 32\).*expected \(6, 32, 32\)"):
        generator(disc_maps(1, classes=7), noise(1, config))
    with pytest.raises(InputError, match=r"maps are \(6, 64, 64\)"):
        generator(disc_maps(1, size=64), noise(1, config))
    with pytest.raises(InputError, match="needs noise z of 16 values"):
        generator(disc_maps(1), None)
    with pytest.raises(InputError, match=r"z has the shape \(1, 16\); these maps need \(2, 16\)"):
        generator(disc_maps(2), noise(1, config))


def test_spectral_normalisation_finds_the_largest_singular_value():
    generator = generator_of(SPEC.preset_config("tiny"))
    for _ in range(30):  # steps of power iteration, which training mode takes
        generator(disc_maps(1), noise(1, SPEC.preset_config("tiny")))
    state = folded_state(generator)
    for key in ("blocks.1.conv_0.weight", "blocks.1.modulation_1.mlp_gamma.weight", "to_image.weight"):
        assert torch.linalg.matrix_norm(state[key].flatten(1), 2).item() == pytest.approx(1, abs=2e-2)


def test_folding_changes_neither_the_images_nor_the_generator():
    config = dataclasses.replace(SPEC.preset_config("tiny"), norm=BATCH)
    generator = generator_of(config)
    maps, z = disc_maps(2), noise(2, config)
    generator(maps, z)
    before = {key: value.clone() for key, value in generator.state_dict().items()}
    folded = fold(generator)
    assert generator.training
    assert all(module.training for module in generator.modules())
    assert all(torch.equal(value, before[key]) for key, value in generator.state_dict().items())
    assert set(folded.state_dict()) == set(Generator(config, spectral=False).state_dict())
    generator.eval()
    torch.testing.assert_close(generate(folded, maps, z), generate(generator, maps, z), atol=1e-6, rtol=0)
    # Evaluation mode takes no step of power iteration.
    assert all(torch.equal(value, before[key]) for key, value in generator.state_dict().items())


def test_a_folded_generator_shares_no_memory_with_its_source():
    generator = generator_of(SPEC.preset_config("tiny"))
    folded = fold(generator)
    before = {key: value.clone() for key, value in folded.state_dict().items()}
    with torch.no_grad():
        for value in generator.parameters():
            value.zero_()
    assert all(torch.equal(value, before[key]) for key, value in folded.state_dict().items())


def test_training_resumes_bit_for_bit_from_a_state_dict():
    config = SPEC.preset_config("tiny")
    maps, z = disc_maps(2), noise(2, config)
    generator = generator_of(config)
    generator(maps, z)
    other = generator_of(config, seed=1)
    other.load_state_dict(generator.state_dict())
    for _ in range(2):
        assert torch.equal(generator(maps, z), other(maps, z))


def test_synchronised_batch_normalisation_folds_to_the_same_names():
    config = dataclasses.replace(SPEC.preset_config("tiny"), norm=BATCH)
    generator = generator_of(config)
    names = set(generator.state_dict())
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(generator)
    assert any(isinstance(module, nn.SyncBatchNorm) for module in synchronised.modules())
    assert set(synchronised.state_dict()) == names
    assert set(fold(synchronised).state_dict()) == set(Generator(config, spectral=False).state_dict())


def test_reduced_precision_gives_nearly_the_same_image_and_keeps_the_state():
    config = SPEC.preset_config("tiny")
    maps, z = disc_maps(2), noise(2, config)
    exact, reduced = generator_of(config), generator_of(config)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = reduced(maps, z)
    assert {value.dtype for value in reduced.state_dict().values()} == {torch.float32}
    assert (images.float() - exact(maps, z)).abs().mean() < 0.03
