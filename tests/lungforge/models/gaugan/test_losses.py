import pytest
import torch
from torch import nn

from lungforge.models.gaugan.discriminator import Discriminator, Judgement
from lungforge.models.gaugan.encoder import Encoder, Encoding, reparameterise
from lungforge.models.gaugan.generator import Generator, fold, generate
from lungforge.models.gaugan.losses import (
    ADAM_BETAS,
    DISCRIMINATOR_RATE,
    GENERATOR_RATE,
    discriminator_loss,
    feature_matching,
    generator_loss,
    hinge_loss,
    perceptual_distance,
)
from lungforge.models.gaugan.spec import SPEC
from lungforge.models.spade import one_hot


class MeanScore(nn.Module):
    """A discriminator that can be worked out by hand: it scores a pixel by the pixel."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, maps, images):
        scores = self.weight * images
        return (Judgement((scores, 2 * scores), scores), Judgement((scores,), scores - 1))


def maps_of_halves(count: int) -> torch.Tensor:
    labels = torch.ones(count, 32, 32, dtype=torch.int64)
    for index in range(count):
        labels[index, :, : 8 * (index + 1)] = 2
        labels[index, 4 * index : 4 * index + 6, 10:16] = 5
    return one_hot(labels, 6)


def test_hinge_loss_by_hand():
    real = [torch.tensor([[2.0, 0.5], [-1.0, 1.0]])]  # 0, 0.5, 2, 0
    fake = [torch.tensor([[-2.0, 0.0, 1.0, -0.5]])]  # 0, 1, 2, 0.5
    loss = hinge_loss(real, fake)
    assert (loss.real.item(), loss.fake.item(), loss.total.item()) == (0.625, 0.875, 1.5)


def test_hinge_loss_is_the_mean_of_scales_of_unequal_size():
    loss = hinge_loss([torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 2, 2)], [torch.zeros(4), torch.zeros(2)])
    assert (loss.real.item(), loss.fake.item()) == (0.5, 1.0)


def test_feature_matching_sums_layers_and_averages_scales():
    fakes = [
        Judgement((torch.full((1, 2, 4, 4), 3.0), torch.full((1, 8), -1.0)), torch.zeros(1)),
        Judgement((torch.full((1, 2, 2, 2), 5.0),), torch.zeros(1)),
    ]
    reals = [
        Judgement((torch.full((1, 2, 4, 4), 1.0), torch.full((1, 8), 0.0)), torch.ones(1)),
        Judgement((torch.full((1, 2, 2, 2), 5.0),), torch.ones(1)),
    ]
    assert feature_matching(fakes, reals).item() == ((2 + 1) + 0) / 2


def test_terms_and_weights_of_the_generator_by_hand():
    real, fake = torch.full((1, 1, 2, 2), 0.5), torch.full((1, 1, 2, 2), -0.5)
    encoding = Encoding(torch.tensor([[2.0]]), torch.zeros(1, 1))
    loss = generator_loss(
        MeanScore(), torch.zeros(1, 6, 2, 2), real, fake, encoding, lambda image: [image, 3 * image]
    )
    assert loss.adversarial.item() == (0.5 + 1.5) / 2
    assert loss.feature_matching.item() == ((1 + 2) + 1) / 2
    assert loss.perceptual.item() == 4
    assert loss.kl.item() == 2
    assert loss.total.item() == pytest.approx(1 + 10 * 2 + 10 * 4 + 0.05 * 2)


def test_terms_that_are_off_are_none_and_weigh_nothing():
    loss = generator_loss(
        MeanScore(), torch.zeros(1, 6, 2, 2), torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    )
    assert loss.perceptual is None
    assert loss.kl is None
    assert loss.total.item() == loss.adversarial.item() == -0.5


def test_each_player_leaves_the_other_without_gradient():
    discriminator = MeanScore()
    maps, real = torch.zeros(1, 6, 2, 2), torch.ones(1, 1, 2, 2)
    fake = torch.zeros(1, 1, 2, 2, requires_grad=True)
    generator_loss(discriminator, maps, real, fake).total.backward()
    assert discriminator.weight.grad is None
    assert discriminator.weight.requires_grad
    assert fake.grad.abs().min() > 0
    fake.grad = None
    discriminator_loss(discriminator, maps, real, fake).total.backward()
    assert discriminator.weight.grad is not None
    assert fake.grad is None


def test_identical_images_match_exactly_while_training():
    torch.manual_seed(0)
    images = torch.randn(2, 1, 32, 32).clamp(-1, 1)
    loss = generator_loss(Discriminator(SPEC.preset_config("tiny")), maps_of_halves(2), images, images)
    assert loss.feature_matching.item() == 0


def test_the_perceptual_gradient_reaches_the_generated_image_only():
    fake, real = torch.zeros(1, 3, 4, 4, requires_grad=True), torch.ones(1, 3, 4, 4, requires_grad=True)
    perceptual_distance(lambda image: [image], fake, real).backward()
    torch.testing.assert_close(fake.grad, torch.full_like(fake, -1 / 48))
    assert real.grad is None


def test_gradient_reaches_every_parameter_of_generator_and_encoder():
    torch.manual_seed(0)
    config = SPEC.preset_config("tiny")
    generator, encoder, discriminator = Generator(config), Encoder(config), Discriminator(config)
    maps, real = maps_of_halves(2), torch.randn(2, 1, 32, 32).clamp(-1, 1)
    encoding = encoder(real)
    fake = generator(maps, reparameterise(encoding, torch.randn(2, config.latent_channels)))
    # Without the KL term, so that what reaches the encoder came through z.
    generator_loss(discriminator, maps, real, fake).total.backward()
    for name, parameter in [*generator.named_parameters(), *encoder.named_parameters()]:
        if "layers" in name and name.endswith("bias"):
            continue  # instance normalisation takes the mean away at once
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_gradients_of_halves_of_a_batch_average_to_those_of_the_whole():
    torch.manual_seed(0)
    config = SPEC.preset_config("tiny")
    generator, discriminator = Generator(config).eval(), Discriminator(config).eval()
    maps, real, z = (
        maps_of_halves(4),
        torch.randn(4, 1, 32, 32).clamp(-1, 1),
        torch.randn(4, config.latent_channels),
    )

    def gradient(chosen: slice) -> torch.Tensor:
        generator.zero_grad()
        fake = generator(maps[chosen], z[chosen])
        encoding = Encoding(z[chosen], z[chosen])
        generator_loss(discriminator, maps[chosen], real[chosen], fake, encoding).total.backward()
        return generator.start.weight.grad.clone()

    halves = (gradient(slice(0, 2)) + gradient(slice(2, 4))) / 2
    torch.testing.assert_close(halves, gradient(slice(0, 4)), atol=1e-6, rtol=1e-4)


def test_a_few_images_are_learned_by_heart():
    """Each class has its grey value; averaged weights generate it, from noise that no encoder shaped."""
    torch.manual_seed(0)
    config = SPEC.preset_config("tiny")
    generator, encoder, discriminator = Generator(config), Encoder(config), Discriminator(config)
    maps = maps_of_halves(4)
    grey = torch.tensor([-1.0, 0.1, -0.8, 0.3, 0.5, 0.6])
    real = torch.einsum("nkhw,k->nhw", maps, grey)[:, None] + 0.05 * torch.randn(4, 1, 32, 32)
    z = torch.randn(4, config.latent_channels)
    players = torch.optim.Adam(
        [*generator.parameters(), *encoder.parameters()], 10 * GENERATOR_RATE, betas=ADAM_BETAS
    )
    judge = torch.optim.Adam(discriminator.parameters(), DISCRIMINATOR_RATE, betas=ADAM_BETAS)
    folded = fold(generator)
    before = (generate(folded, maps, z) - real).abs().mean().item()
    for _ in range(30):
        encoding = encoder(real)
        fake = generator(maps, reparameterise(encoding, torch.randn_like(z)))
        players.zero_grad()
        generator_loss(discriminator, maps, real, fake, encoding).total.backward()
        players.step()
        judge.zero_grad()
        discriminator_loss(discriminator, maps, real, fake).total.backward()
        judge.step()
        average = fold(generator).state_dict()
        with torch.no_grad():
            for key, value in folded.state_dict().items():
                value.lerp_(average[key], 0.2)
    after = (generate(folded, maps, z) - real).abs().mean().item()
    # From 0.79 to 0.06 when this was written; the noise of the images is 0.04.
    assert after < 0.2 * before
    # The average of normalised weights is still normalised.
    largest = max(torch.linalg.matrix_norm(block.conv_1.weight.flatten(1), 2) for block in folded.blocks)
    assert largest < 1.05
