import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lungforge.errors import InputError
from lungforge.models.sdm.diffusion import Denoiser, Estimate, Network, NoiseSchedule
from lungforge.models.sdm.inpainting import Move, resampling_walk, sample_inpainted
from lungforge.models.sdm.objectives.eps import NoisePrediction
from lungforge.models.sdm.samplers import sample_ancestral
from lungforge.randomness import torch_generator

#: Two pixels of mean 0 that follow one another; the spread hardly reaches the clipping. Given the first,
#: the second has the mean CORRELATION * first and the variance SPREAD**2 * (1 - CORRELATION**2).
SPREAD, CORRELATION, FIRST = 0.2, 0.9, 0.4
TWO_PIXELS = SPREAD**2 * torch.tensor([[1, CORRELATION], [CORRELATION, 1]], dtype=torch.float64)


def posterior(covariance: Tensor, left: float) -> tuple[Tensor, Tensor]:
    """Of x_0 given x_t, for images from the Gaussian: the matrix of its mean, and the pixels' variances."""
    noisy = left * covariance + (1 - left) * torch.eye(len(covariance), dtype=torch.float64)
    gain = math.sqrt(left) * torch.linalg.solve(noisy, covariance)
    return gain, (covariance - math.sqrt(left) * gain @ covariance).diagonal()


def step_variances(schedule: NoiseSchedule, index: int, of_x_0: Tensor) -> Tensor:
    return schedule.posterior_variance[index] + schedule.posterior_x_0[index] ** 2 * of_x_0


def known_network(schedule: NoiseSchedule, covariance: Tensor) -> Network:
    """The best possible network for images [N, 1, 1, pixels] from the Gaussian."""
    index_of = {int(timestep): index for index, timestep in enumerate(schedule.timesteps)}

    def denoise(x: Tensor, timesteps: Tensor) -> Tensor:
        index = index_of[int(timesteps[0])]
        left = float(schedule.alphas_cumprod[index])
        gain, of_x_0 = posterior(covariance, left)
        noise = (x - math.sqrt(left) * x @ gain.to(x.dtype)) / math.sqrt(1 - left)
        variances = step_variances(schedule, index, of_x_0)
        smallest, largest = schedule.posterior_log_variance[index], schedule.betas[index].log()
        v = 2 * (variances.log() - smallest) / (largest - smallest) - 1 if index else of_x_0
        return torch.cat([noise, v.to(x.dtype).expand_as(x)], dim=1)

    return denoise


def exact_draw(
    covariance: Tensor, inside: Tensor, schedule: NoiseSchedule, walk: list[Move]
) -> tuple[Tensor, Tensor]:
    """What inpainting samples of a Gaussian, without clipping: all is linear, so it is known exactly.

    Returns:
        The matrix that makes the mean of the pixels inside from those outside, and their covariance.
    """
    pixels, outside = len(covariance), ~inside
    identity = torch.eye(pixels, dtype=torch.float64)
    left = [1.0, *schedule.alphas_cumprod.tolist()]
    means, spread = torch.zeros_like(identity)[:, outside], identity
    for level, target in walk:
        if target > level:
            kept = left[target] / left[level]
            means, spread = math.sqrt(kept) * means, kept * spread + (1 - kept) * identity
            continue
        gain, of_x_0 = posterior(covariance, left[level])
        matrix = schedule.posterior_x_0[target] * gain + schedule.posterior_x_t[target] * identity
        variances = step_variances(schedule, target, of_x_0) if target else torch.zeros_like(of_x_0)
        means, spread = matrix @ means, matrix @ spread @ matrix.T + variances.diag()
        means[outside] = math.sqrt(left[target]) * identity[outside][:, outside]
        spread = torch.where(inside[:, None] & inside, spread, (1 - left[target]) * identity)
    return means[inside], spread[inside][:, inside]


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch_generator(seed))


def fresh(*shape: int, seed: int) -> Callable[[int], Tensor]:
    generator = torch_generator(seed, "steps")
    return lambda step: torch.randn(shape, generator=generator)


def denoiser_of(network: Network, schedule: NoiseSchedule) -> Denoiser:
    return lambda x, index: NoisePrediction().estimate(network, schedule, x, index)


def flat_network(x: Tensor, timesteps: Tensor) -> Tensor:
    """A network that looks at each pixel alone."""
    return torch.cat([0.9 * x, torch.tanh(x)], dim=1)


def test_the_walk_goes_each_stretch_down_and_back_and_what_is_left_over_once():
    assert resampling_walk(5, 2, 2, 4) == [
        *[(5, 4), (4, 3), (3, 2), (2, 4), (4, 3), (3, 2)],
        *[(2, 1), (1, 0), (0, 2), (2, 1), (1, 0)],
    ]
    assert resampling_walk(3, 1, 3, 1) == [(3, 2), (2, 1), (1, 0), (0, 1), (1, 0), (0, 1), (1, 0)]
    assert resampling_walk(3, 1, 1, 3) == [(3, 2), (2, 1), (1, 0)]


def test_the_walk_of_the_published_setting():
    walk = resampling_walk(250, jump_length=10, resamplings=10, resampled=250)
    assert sum(target < level for level, target in walk) == 2500
    assert [move for move in walk if move[1] > move[0]][:10] == [*[(240, 250)] * 9, (230, 240)]


@given(st.data())
def test_the_walk_is_connected_and_takes_every_step_as_often_as_it_says(data):
    steps = data.draw(st.integers(1, 60))
    resampled = data.draw(st.integers(1, steps))
    jump_length = data.draw(st.integers(1, resampled))
    resamplings = data.draw(st.integers(1, 6))
    walk = resampling_walk(steps, jump_length, resamplings, resampled)
    assert walk[0][0] == steps
    assert walk[-1][1] == 0
    assert all(before[1] == after[0] for before, after in itertools.pairwise(walk))
    assert {target - level for level, target in walk} <= {-1, jump_length}
    stretched = resampled // jump_length * jump_length
    for level in range(steps):
        times = resamplings if level < stretched else 1
        assert walk.count((level + 1, level)) == times
    evaluations = sum(target < level for level, target in walk)
    assert evaluations == steps + (resamplings - 1) * jump_length * (resampled // jump_length)


@pytest.mark.parametrize(("jump_length", "resamplings"), [(0, 2), (28, 2), (1, 0)])
def test_an_invalid_schedule_is_refused_even_where_nothing_is_to_be_inpainted(jump_length, resamplings):
    schedule, x_T = NoiseSchedule.linear().respace("50"), normal(1, 1, 2, 2, seed=0)
    nothing = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    with pytest.raises(
        InputError, match=r"jump_length is \d+; give 1 to 27|resamplings is 0; give at least 1"
    ):
        sample_inpainted(
            denoiser_of(flat_network, schedule),
            *(x_T, schedule, fresh(1, 1, 2, 2, seed=0), x_T.clamp(-1, 1), nothing),
            jump_length=jump_length,
            resamplings=resamplings,
        )


def test_noise_is_asked_for_once_a_move_and_the_network_once_a_step():
    schedule, asked, times = NoiseSchedule.linear().respace("5"), [], []
    source = fresh(2, 1, 1, 1, seed=0)

    def network(x: Tensor, timesteps: Tensor) -> Tensor:
        times.append(int(timesteps[0]))
        return flat_network(x, timesteps)

    arguments = normal(2, 1, 1, 1, seed=0), schedule, lambda step: asked.append(step) or source(step)
    known, mask = torch.zeros(2, 1, 1, 1), torch.ones(2, 1, 1, 1, dtype=torch.bool)
    sample_inpainted(denoiser_of(network, schedule), *arguments, known, mask, jump_length=2, resamplings=2)
    # Timesteps 0, 250, 500 hold more than 0.05 of the image: one stretch of two levels, and one to spare.
    assert times == [999, 749, 500, 250, 0, 250, 0]
    assert asked == [4, 3, 2, 1, 1, 1]


def test_the_defaults_cost_three_times_the_evaluations_of_50_steps():
    evaluated = []
    sample_inpainted(
        lambda x, index: evaluated.append(1) or Estimate(0.9 * x),
        normal(1, 1, 1, 1, seed=0),
        NoiseSchedule.linear().respace("50"),
        fresh(1, 1, 1, 1, seed=0),
        torch.zeros(1, 1, 1, 1),
        torch.ones(1, 1, 1, 1, dtype=torch.bool),
    )
    assert len(evaluated) == 158


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_outside_the_mask_the_images_are_the_known_ones_to_the_last_bit(dtype):
    shape, schedule = (3, 2, 6, 5), NoiseSchedule.linear().respace("10")
    known = normal(*shape, seed=1).clamp(-1, 1)
    mask = normal(3, 1, 6, 5, seed=2) > 0.5
    mask[1] = False
    source = fresh(*shape, seed=0)
    images = sample_inpainted(
        denoiser_of(flat_network, schedule),
        *(normal(*shape, seed=0).to(dtype), schedule, lambda step: source(step).to(dtype), known, mask),
    )
    assert images.dtype == torch.float32
    everywhere = mask.expand(shape)
    assert torch.equal(images[~everywhere], known[~everywhere])
    assert (images[everywhere] != known[everywhere]).all()


def test_without_anything_to_inpaint_the_network_is_not_called():
    known = normal(2, 1, 3, 3, seed=0).clamp(-1, 1)

    def never(*arguments: object) -> Tensor:
        raise AssertionError("asked")

    nothing = torch.zeros(2, 1, 3, 3, dtype=torch.bool)
    images = sample_inpainted(never, known, NoiseSchedule.linear().respace("5"), never, known, nothing)
    assert torch.equal(images, known)
    assert images is not known


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_mask_of_everything_walked_once_is_ancestral_sampling(dtype):
    shape, schedule = (2, 1, 4, 4), NoiseSchedule.linear().respace("20")
    x_T, known = normal(*shape, seed=0).to(dtype), normal(*shape, seed=1).clamp(-1, 1)
    mask = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    denoise = denoiser_of(flat_network, schedule)
    images = sample_inpainted(denoise, x_T, schedule, fresh(*shape, seed=0), known, mask, resamplings=1)
    assert torch.equal(images, sample_ancestral(denoise, x_T, schedule, fresh(*shape, seed=0)))


def test_an_image_does_not_depend_on_the_others_of_its_batch():
    size, schedule = (1, 4, 4), NoiseSchedule.linear().respace("10")
    x_T, known = normal(3, *size, seed=0), normal(3, *size, seed=1).clamp(-1, 1)
    mask = torch.stack([torch.ones(size), torch.zeros(size), normal(*size, seed=2)]) > 0.5

    def inpaint(chosen: list[int]) -> Tensor:
        generators = [torch_generator("image", image) for image in chosen]
        return sample_inpainted(
            denoiser_of(flat_network, schedule),
            *(x_T[chosen], schedule),
            lambda step: torch.stack([torch.randn(size, generator=generator) for generator in generators]),
            *(known[chosen], mask[chosen]),
        )

    together = inpaint([0, 1, 2])
    for image in range(3):
        torch.testing.assert_close(inpaint([image])[0], together[image])


@pytest.mark.parametrize(("jump_length", "resamplings"), [(1, 1), (1, 3), (4, 2)])
def test_the_network_sees_the_known_pixels_with_the_noise_of_its_timestep(jump_length, resamplings):
    schedule, count, value, seen = NoiseSchedule.linear().respace("20"), 20_000, 0.7, []

    def network(x: Tensor, timesteps: Tensor) -> Tensor:
        seen.append((int(timesteps[0]), float(x[..., 0].mean()), float(x[..., 0].var())))
        return flat_network(x, timesteps)

    shape = (count, 1, 1, 2)
    mask = torch.tensor([False, True]).expand(shape)
    arguments = normal(*shape, seed=0), schedule, fresh(*shape, seed=0), torch.full(shape, value), mask
    denoise = denoiser_of(network, schedule)
    sample_inpainted(denoise, *arguments, jump_length=jump_length, resamplings=resamplings)
    full = NoiseSchedule.linear()
    for timestep, mean, variance in seen:
        left = float(full.alphas_cumprod[timestep])
        # x_T itself is pure noise, in which the full process leaves 0.6 % of the image.
        start = 0.0 if timestep == 999 else math.sqrt(left) * value
        assert mean == pytest.approx(start, abs=5 * math.sqrt((1 - left) / count))
        assert variance == pytest.approx(1 - left, rel=5 * math.sqrt(2 / count))


def sample_second_pixel(spacing: str, jump_length: int, resamplings: int, count: int) -> Tensor:
    schedule, shape = NoiseSchedule.linear().respace(spacing), (count, 1, 1, 2)
    known = torch.tensor([FIRST, -0.9]).expand(shape)
    mask = torch.tensor([False, True]).expand(shape)
    return sample_inpainted(
        denoiser_of(known_network(schedule, TWO_PIXELS), schedule),
        *(normal(*shape, seed=0), schedule, fresh(*shape, seed=0), known, mask),
        jump_length=jump_length,
        resamplings=resamplings,
    )[..., 1]


# Mean as a share of the conditional mean, variance as a multiple of the conditional variance: of the exact
# sampler that these steps stand for, computed by carrying mean and covariance through the walk.
@pytest.mark.parametrize(
    ("spacing", "jump_length", "resamplings", "share_of_mean", "multiple_of_variance"),
    [
        ("50", 1, 1, 0.582, 2.28),
        ("250", 1, 1, 0.675, 1.73),  # finer steps alone do not mend it
        ("50", 1, 5, 0.845, 1.55),
        ("50", 4, 5, 0.720, 2.12),
        ("snr50", 1, 5, 0.940, 1.06),
        ("snr50", 1, 10, 0.973, 0.94),
    ],
)
def test_masking_alone_is_pulled_to_the_prior_and_resampling_leads_to_the_conditional(
    spacing, jump_length, resamplings, share_of_mean, multiple_of_variance
):
    schedule = NoiseSchedule.linear().respace(spacing)
    resampled = int((schedule.alphas_cumprod > 0.05).sum())
    walk = resampling_walk(len(schedule), jump_length, resamplings, resampled)
    means, spread = exact_draw(TWO_PIXELS, torch.tensor([False, True]), schedule, walk)
    variance = SPREAD**2 * (1 - CORRELATION**2)
    assert float(means) / CORRELATION == pytest.approx(share_of_mean, abs=0.001)
    assert float(spread) / variance == pytest.approx(multiple_of_variance, abs=0.01)

    count = 10_000
    sampled = sample_second_pixel(spacing, jump_length, resamplings, count)
    assert float(sampled.mean()) == pytest.approx(
        float(means) * FIRST, abs=5 * math.sqrt(float(spread) / count)
    )
    assert float(sampled.var()) == pytest.approx(float(spread), rel=5 * math.sqrt(2 / count))


def field(side: int, radius: float) -> tuple[Tensor, Tensor]:
    """Covariance of a field whose pixels correlate as those of real slices of 128 px, and a disc in it."""
    places = torch.cartesian_prod(*[torch.arange(side, dtype=torch.float64) - (side - 1) / 2] * 2)
    return 0.6**2 * torch.exp(-torch.cdist(places, places) / 12), places.norm(dim=1) <= radius


@pytest.mark.parametrize(
    ("jump_length", "resamplings", "resampled", "evaluations", "bias", "multiple_of_variance"),
    [
        (1, 1, 27, 50, 0.284, 1.54),
        (1, 5, 27, 158, 0.130, 1.08),  # the defaults
        (1, 5, 50, 250, 0.130, 1.08),  # resampling the noisier steps too changes nothing
        (2, 5, 27, 154, 0.132, 1.09),  # the published jump, as a share of all steps
        (10, 5, 27, 130, 0.160, 1.20),
        (1, 10, 27, 293, 0.096, 1.01),
    ],
)
def test_the_reasons_for_the_defaults(
    jump_length, resamplings, resampled, evaluations, bias, multiple_of_variance
):
    schedule = NoiseSchedule.linear().respace("50")
    covariance, inside = field(12, 4)
    walk = resampling_walk(50, jump_length, resamplings, resampled)
    assert sum(target < level for level, target in walk) == evaluations
    means, spread = exact_draw(covariance, inside, schedule, walk)
    real = covariance[~inside][:, ~inside]
    conditional = torch.linalg.solve(real, covariance[~inside][:, inside]).T
    variances = covariance[inside][:, inside] - conditional @ covariance[~inside][:, inside]

    def size(matrix: Tensor) -> float:
        """Root mean square of a mean's pixels, over all that may lie outside."""
        return math.sqrt(float((matrix @ real @ matrix.T).trace()) / int(inside.sum()))

    assert size(means - conditional) / size(conditional) == pytest.approx(bias, abs=0.001)
    assert float(spread.trace() / variances.trace()) == pytest.approx(multiple_of_variance, abs=0.01)
