import dataclasses
import functools
import hashlib

import pytest
import torch

from benchmarks.plain_sdm import plain_guided, plain_unet
from benchmarks.sdm import phantom_maps, randomised
from lungforge.errors import InputError
from lungforge.models.sdm.diffusion import NoiseSchedule
from lungforge.models.sdm.guidance import guided_network, null_map
from lungforge.models.sdm.objectives.eps import training_loss
from lungforge.models.sdm.spec import SPEC
from lungforge.models.sdm.unet import SemanticUNet, UNetConfig
from lungforge.models.spade import one_hot


@functools.cache
def chest_maps(size: int) -> torch.Tensor:
    return torch.from_numpy(phantom_maps(size))


def make(config: UNetConfig | None = None, count: int = 2):
    """A network, its inputs, and its weights in plain memory."""
    config = config or SPEC.preset_config("tiny")
    model = randomised(config).eval()
    generator = torch.Generator().manual_seed(1)
    shape = (count, config.image_channels, config.image_size, config.image_size)
    x = torch.randn(shape, generator=generator)
    steps = torch.randint(0, 1000, (count,), generator=generator)
    maps = one_hot(chest_maps(config.image_size)[:count], config.classes)
    weights = {
        key: value.clone(memory_format=torch.contiguous_format) for key, value in model.state_dict().items()
    }
    return model, x, steps, maps, weights


def test_the_published_network_has_the_released_keys_shapes_and_parameters():
    with torch.device("meta"):
        model = SemanticUNet(SPEC.preset_config("luna256", image_channels=3, classes=7))
    listing = "\n".join(f"{key}\t{tuple(value.shape)}" for key, value in model.state_dict().items())
    assert len(model.state_dict()) == 766
    assert sum(parameter.numel() for parameter in model.parameters()) == 652_314_118
    # Of the list of keys and shapes, in order, of the released 256 px network with 7 label channels.
    assert (
        hashlib.sha256(listing.encode()).hexdigest()
        == "e23e1f1a0e95dca39ca591e83528a192346bbe8d436229de9ec0ec61728fb98d"
    )


@pytest.mark.parametrize(
    "config",
    [
        SPEC.preset_config("tiny"),
        SPEC.preset_config("tiny", image_channels=3, classes=9),
        UNetConfig(
            image_size=16,
            base_channels=64,
            channel_multipliers=(0.5, 1, 1.5),
            attention_sizes=(8,),
            head_channels=32,
            residual_blocks=2,
        ),
    ],
    ids=["one channel", "three channels", "fractional widths"],
)
def test_the_network_equals_its_plain_form_in_value_and_gradient(config):
    model, x, steps, maps, weights = make(config)
    weights = {key: value.requires_grad_() for key, value in weights.items()}
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    expected = training_loss(
        lambda x_t, t: plain_unet(weights, config.head_channels, x_t, t, maps),
        NoiseSchedule.linear(),
        x,
        steps,
        noise,
    )
    actual = training_loss(lambda x_t, t: model(x_t, t, maps), NoiseSchedule.linear(), x, steps, noise)
    torch.testing.assert_close(actual.total, expected.total, rtol=1e-5, atol=1e-5)
    expected.total.mean().backward()
    actual.total.mean().backward()
    for key, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, weights[key].grad, rtol=1e-3, atol=2e-5, msg=key)


@pytest.mark.parametrize("keep_bytes", [0, 2_000_000, None])
@torch.no_grad()
def test_the_memory_budget_changes_no_result(keep_bytes):
    model, x, steps, maps, weights = make()
    conditioning = model.condition(maps, keep_bytes=keep_bytes)
    if keep_bytes is not None:
        assert conditioning.nbytes <= keep_bytes
    expected = plain_unet(weights, model.config.head_channels, x, steps, maps)
    output = model(x, steps, conditioning)
    torch.testing.assert_close(output, expected, rtol=0, atol=2e-5)
    assert torch.equal(output, model(x, steps, model.condition(maps)))


@torch.no_grad()
def test_random_maps_take_the_dense_path_to_the_same_result():
    model, x, steps, maps, weights = make()
    maps = one_hot(torch.randint(0, 6, (2, 32, 32), generator=torch.Generator().manual_seed(0)), 6)
    expected = plain_unet(weights, model.config.head_channels, x, steps, maps)
    for keep_bytes in (0, None):
        output = model(x, steps, model.condition(maps, keep_bytes=keep_bytes))
        torch.testing.assert_close(output, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("image_channels", [1, 3])
@torch.no_grad()
def test_guidance_equals_two_full_passes_and_runs_the_encoder_once(image_channels, monkeypatch):
    model, x, steps, maps, weights = make(SPEC.preset_config("tiny", image_channels=image_channels))
    calls = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda *inputs: calls.append(1) or encode(*inputs))
    denoise = guided_network(model, model.condition(maps), model.condition(null_map(model)), 1.5)
    expected = plain_guided(weights, model.config.head_channels, x, steps, maps, 1.5)
    torch.testing.assert_close(denoise(x, steps), expected, rtol=0, atol=5e-5)
    assert len(calls) == 1


@pytest.mark.parametrize("image_channels", [1, 3])
@torch.no_grad()
def test_guidance_of_1_is_the_conditional_model_and_of_0_the_unconditional_noise(image_channels):
    model, x, steps, maps, _ = make(SPEC.preset_config("tiny", image_channels=image_channels))
    conditioning, null = model.condition(maps), model.condition(null_map(model))
    conditional, unconditional = model(x, steps, conditioning), model(x, steps, null)
    assert torch.equal(guided_network(model, conditioning, null, 1.0)(x, steps), conditional)
    nothing = guided_network(model, conditioning, null, 0.0)(x, steps)
    assert torch.equal(nothing[:, :image_channels], unconditional[:, :image_channels])
    assert torch.equal(nothing[:, image_channels:], conditional[:, image_channels:])


@torch.no_grad()
def test_an_image_does_not_depend_on_its_batch():
    model, x, steps, maps, _ = make(count=3)
    together = model(x, steps, model.condition(maps))
    alone = model(x[1:2], steps[1:2], model.condition(maps[1:2]))
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_activation_checkpointing_changes_no_gradient(dropout):
    model, x, steps, maps, _ = make(dataclasses.replace(SPEC.preset_config("tiny"), dropout=dropout))
    model.train()
    gradients = []
    for model.checkpointing in (False, True):
        model.zero_grad()
        torch.manual_seed(3)  # the same features are dropped, the second time they are computed as well
        model(x, steps, maps).square().mean().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain, rtol=1e-6, atol=1e-8)


def test_bfloat16_autocast_stays_close_forward_and_backward():
    model, x, steps, maps, _ = make()
    expected = model(x, steps, maps)
    expected.square().mean().backward()
    gradient = model.input_blocks[0][0].weight.grad.clone()
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(x, steps, maps)
        conditioned = model(x, steps, model.condition(maps))
    output.float().square().mean().backward()
    scale = float(expected.detach().abs().max())
    assert float((output - expected).detach().abs().max()) < 0.05 * scale
    assert torch.equal(conditioned, output)
    rounded = model.input_blocks[0][0].weight.grad
    assert float((rounded - gradient).norm() / gradient.norm()) < 0.1


def test_the_loss_of_a_bfloat16_network_is_float32_and_close():
    model, x, steps, maps, _ = make(count=4)
    images = x.clamp(-1, 1)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    steps[0] = 0  # where the variational term is a likelihood

    def loss():
        return training_loss(lambda x_t, t: model(x_t, t, maps), NoiseSchedule.linear(), images, steps, noise)

    expected = loss()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = loss()
    for single, rounded in zip(expected, actual, strict=True):
        assert rounded.dtype == torch.float32
        torch.testing.assert_close(rounded, single, rtol=0.02, atol=0.02)


def test_a_wrong_image_or_map_is_refused_by_its_shape():
    model, x, steps, maps, _ = make()
    with pytest.raises(InputError, match=r"images are \(1, 16, 16\)"):
        model(x[..., :16, :16], steps, maps)
    with pytest.raises(InputError, match=r"maps are \(5, 32, 32\)"):
        model.condition(maps[:, :5])
