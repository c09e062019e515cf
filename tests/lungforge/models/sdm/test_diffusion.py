import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lungforge.errors import InputError
from lungforge.models.sdm.diffusion import NoiseSchedule, predict_noise, q_posterior, q_sample
from lungforge.models.sdm.objectives.eps import (
    discretised_log_likelihood,
    p_mean_variance,
    predict_x_0,
    read_output,
    training_loss,
)

LINEAR = NoiseSchedule.linear()
at_steps = st.integers(1, 999)


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1)


def test_the_linear_schedule_is_that_of_the_paper():
    assert LINEAR.betas[0] == pytest.approx(1e-4)
    assert LINEAR.betas[-1] == pytest.approx(0.02)
    # The value that DDPM's schedule ends with.
    assert float(LINEAR.alphas_cumprod[-1]) == pytest.approx(4.0358e-5, rel=1e-4)


@pytest.mark.parametrize("step", [0, 10, 500, 999])
def test_q_sample_has_the_moments_of_the_forward_process_run_step_by_step(step):
    generator = torch.Generator().manual_seed(step)
    x_0 = torch.full((200_000, 1, 1, 1), 0.7)
    x = q_sample(LINEAR, x_0, torch.full((len(x_0),), step), torch.randn(x_0.shape, generator=generator))
    mean, variance = 0.7, 0.0
    for beta in LINEAR.betas[: step + 1].tolist():
        mean, variance = mean * math.sqrt(1 - beta), variance * (1 - beta) + beta
    assert float(x.mean()) == pytest.approx(mean, abs=5 * math.sqrt(variance / len(x_0)))
    assert float(x.var()) == pytest.approx(variance, rel=0.02)


@given(step=at_steps, x_0=st.floats(-1, 1), x_t=st.floats(-3, 3))
@settings(deadline=None)
def test_the_posterior_is_bayes_rule(step, x_0, x_t):
    beta, before = float(LINEAR.betas[step]), float(LINEAR.alphas_cumprod[step - 1])
    # x_{t-1} ~ N(sqrt(before) x_0, 1 - before), then x_t ~ N(sqrt(1 - beta) x_{t-1}, beta).
    precision = 1 / (1 - before) + (1 - beta) / beta
    mean = (math.sqrt(before) * x_0 / (1 - before) + math.sqrt(1 - beta) * x_t / beta) / precision
    posterior_mean, log_variance = q_posterior(LINEAR, column(x_0), column(x_t), torch.tensor([step]))
    assert float(posterior_mean) == pytest.approx(mean, abs=1e-5)
    assert float(log_variance) == pytest.approx(-math.log(precision), abs=1e-4)


@pytest.mark.parametrize("schedule", [LINEAR, LINEAR.respace("25")], ids=["all steps", "25 steps"])
def test_before_the_first_step_is_the_image_itself(schedule):
    mean, log_variance = q_posterior(schedule, column(0.3), column(2.0), torch.tensor([0]))
    assert float(mean) == pytest.approx(0.3, abs=1e-6)
    # The true variance is 0: in its place stands that of the second step.
    assert float(log_variance.exp()) == pytest.approx(float(schedule.posterior_variance[1]), rel=1e-5)


@given(step=st.integers(1, 24), x_0=st.floats(-1, 1), x_t=st.floats(-3, 3))
@settings(deadline=None)
def test_the_posterior_of_a_respaced_step_is_that_of_all_the_steps_it_spans(step, x_0, x_t):
    respaced = LINEAR.respace("25")
    now, earlier = (int(respaced.timesteps[index]) for index in (step, step - 1))
    # x_earlier given x_0, and x_now given x_earlier, from the steps between them one by one.
    kept = float((1 - LINEAR.betas[earlier + 1 : now + 1]).prod())
    before = float(LINEAR.alphas_cumprod[earlier])
    precision = 1 / (1 - before) + kept / (1 - kept)
    mean = (math.sqrt(before) * x_0 / (1 - before) + math.sqrt(kept) * x_t / (1 - kept)) / precision
    posterior_mean, log_variance = q_posterior(respaced, column(x_0), column(x_t), torch.tensor([step]))
    assert float(posterior_mean) == pytest.approx(mean, abs=1e-5)
    assert float(log_variance) == pytest.approx(-math.log(precision), abs=1e-4)


@given(step=st.integers(0, 999), x_0=st.floats(-1, 1), noise=st.floats(-3, 3))
@settings(deadline=None)
def test_image_and_noise_predict_one_another(step, x_0, noise):
    steps = torch.tensor([step])
    x_t = q_sample(LINEAR, column(x_0), steps, column(noise))
    assert float(predict_noise(LINEAR, x_t, steps, column(x_0))) == pytest.approx(noise, abs=2e-4)
    assert float(predict_x_0(LINEAR, x_t, steps, column(noise))) == pytest.approx(x_0, abs=2e-4)


@given(count=st.integers(1, 1000), kind=st.sampled_from(["", "snr"]))
@settings(deadline=None)
def test_a_respaced_schedule_has_the_same_noise_at_the_steps_that_it_keeps(count, kind):
    respaced = LINEAR.respace(f"{kind}{count}")
    assert len(respaced) == count
    assert int(respaced.timesteps[0]) == 0
    assert count == 1 or int(respaced.timesteps[-1]) == 999
    assert bool((respaced.timesteps.diff() > 0).all())
    torch.testing.assert_close(
        respaced.alphas_cumprod, LINEAR.alphas_cumprod[respaced.timesteps], rtol=1e-10, atol=0
    )


@given(stride=st.integers(1, 500))
@settings(deadline=None)
def test_a_strided_schedule_takes_every_step_of_its_stride_with_the_same_noise(stride):
    count = len(range(0, 1000, stride))
    respaced = LINEAR.respace(f"ddim{count}")
    strides = set(respaced.timesteps.diff().tolist())
    assert len(strides) <= 1
    assert len(respaced) == count
    torch.testing.assert_close(
        respaced.alphas_cumprod, LINEAR.alphas_cumprod[respaced.timesteps], rtol=1e-10, atol=0
    )


def test_snr_spacing_is_even_in_the_log_signal_to_noise_ratio():
    left = LINEAR.respace("snr25").alphas_cumprod
    strides = (left / (1 - left)).log().diff()
    assert float(strides.max() / strides.min()) == pytest.approx(1, abs=0.45)
    even_in_time = LINEAR.respace("25").alphas_cumprod
    strides = (even_in_time / (1 - even_in_time)).log().diff()
    assert float(strides.min() / strides.max()) > 10


def test_respacing_twice_still_names_the_steps_of_the_full_process():
    twice = LINEAR.respace("ddim100").respace("ddim10")
    assert twice.timesteps.tolist() == list(range(0, 1000, 100))


def test_all_steps_is_the_same_schedule():
    torch.testing.assert_close(LINEAR.respace("1000").betas, LINEAR.betas, rtol=1e-9, atol=0)


@pytest.mark.parametrize("spacing", ["0", "1001", "-5", "ddim", "ddim997", "10,10", "", "²5", "snr", "snr0"])
def test_a_spacing_that_cannot_be_is_refused(spacing):
    with pytest.raises(InputError, match="spacing is"):
        LINEAR.respace(spacing)


@pytest.mark.parametrize(("v", "bound"), [(-1.0, "posterior"), (1.0, "beta")])
def test_the_learned_variance_reaches_its_two_bounds(v, bound):
    step = p_mean_variance(LINEAR, torch.tensor([[[[0.0]], [[v]]]]), column(0.3), torch.tensor([400]))
    expected = LINEAR.posterior_variance[400] if bound == "posterior" else LINEAR.betas[400]
    assert float(step.log_variance.exp()) == pytest.approx(float(expected), rel=1e-5)


def test_the_predicted_image_is_clipped():
    estimate = read_output(LINEAR, torch.zeros(1, 2, 1, 1), column(0.5), torch.tensor([999]))
    assert float(estimate.x_0) == 1.0


def test_the_variational_term_is_zero_for_the_true_posterior_and_teaches_only_the_variance():
    x_0, noise, steps = torch.rand(3, 1, 4, 4) - 0.5, torch.randn(3, 1, 4, 4), torch.tensor([1, 300, 999])
    output = torch.cat([noise, -torch.ones_like(noise)], dim=1).requires_grad_()
    loss = training_loss(lambda x, t: output, LINEAR, x_0, steps, noise)
    assert float(loss.mse.detach().max()) == 0
    assert float(loss.vb.detach().abs().max()) < 1e-4
    off = (output + 0.1).detach().requires_grad_()
    training_loss(lambda x, t: off, LINEAR, x_0, steps, noise).vb.sum().backward()
    assert not off.grad[:, :1].any()
    assert off.grad[:, 1:].all()


def test_the_likelihoods_of_all_grey_values_sum_to_one():
    values = torch.linspace(-1, 1, 256).view(1, 1, 16, 16)
    likelihood = discretised_log_likelihood(
        values, torch.full_like(values, 0.2), torch.tensor(math.log(0.05))
    )
    assert float(likelihood.exp().sum()) == pytest.approx(1, abs=1e-3)
    inside = likelihood.flatten()[153]
    z = (values.flatten()[153] - 0.2) / 0.05
    density = math.exp(-0.5 * float(z) ** 2) / (0.05 * math.sqrt(2 * math.pi)) * 2 / 255
    assert float(inside.exp()) == pytest.approx(density, rel=1e-2)


def test_the_network_gets_the_steps_of_the_full_process():
    seen = []
    respaced = LINEAR.respace("ddim10")
    x = torch.zeros(2, 1, 1, 1)
    training_loss(
        lambda x_t, t: seen.append(t.tolist()) or torch.zeros(2, 2, 1, 1),
        respaced,
        x,
        torch.tensor([1, 9]),
        x,
    )
    assert seen == [[100, 900]]
