"""What a GPU does: ``python -m benchmarks.gpu --minutes 10`` prints one JSON object.

Correctness first: losses, gradients, images and resuming of a small network on the GPU, beside the CPU's, in
float32 and bfloat16; the exit code is 1 where a bound is missed. Then training steps and images a second at
64, 128 and 256 px, beside the plain oracle and the roofline of ``benchmarks.gpu_readiness``; memory; and how
much of the time the GPU is at work.

It needs the repository and what a CUDA image of PyTorch has: PyTorch, NumPy, SciPy, pyarrow, safetensors and
fsspec. No Ray, no data. With ``--device cpu`` it runs in seconds, on tiny networks, to try the script.
"""

import argparse
import contextlib
import dataclasses
import json
import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.gpu_readiness import sampling_report, smallest, training_report
from benchmarks.gpu_steps import StepSettings, batch_of, chest_labels, learner_of, network_of, sampler_of
from benchmarks.plain_sdm import plain_guided, plain_unet
from lungforge.models.base import Preset, SamplingOptions
from lungforge.models.cost import GPUS
from lungforge.models.device_choices import Precision, autocast, sampling_precision
from lungforge.models.learner import Batch
from lungforge.models.sdm.config import PRESETS
from lungforge.models.sdm.diffusion import NoiseSchedule
from lungforge.models.sdm.guidance import guided_network, null_map
from lungforge.models.sdm.objectives.eps import training_loss
from lungforge.models.sdm.unet import SemanticUNet
from lungforge.models.spade import one_hot_or_hidden

GUIDANCE: Final = 1.5


@dataclass(frozen=True)
class Case:
    """A network that is timed: preset, side of its images, and images of a training and a sampling step."""

    preset: str
    size: int
    training_images: int
    sampling_images: int


CASES: Final = (Case("cpu", 64, 64, 64), Case("luna256-edm", 128, 16, 16), Case("luna256", 256, 4, 8))
#: For ``--device cpu``.
SMOKE_CASES: Final = (Case("tiny", 16, 2, 2),)


@dataclass(frozen=True)
class Check:
    """A number that must not be above its bound."""

    value: float
    bound: float

    @property
    def holds(self) -> bool:
        """Whether it is not; NaN does not hold."""
        return self.value <= self.bound


@dataclass(frozen=True)
class Rate:
    """How fast something is.

    Attributes:
        steps_per_second: Of training, or evaluations of the network with guidance.
        images_per_second: In training; in sampling, evaluations of one image.
        compiled_steps_per_second: Of training with ``--learner.compile``; None in sampling, and on a CPU.
        plain_steps_per_second: Of the plain oracle in the same precision; None where it did not fit.
        predicted_steps_per_second: By the roofline; None for a GPU whose datasheet is not known here.
        memory_gib: The most that PyTorch held.
        busy_share: Of the time, how much the GPU was at work; None where that cannot be told.
    """

    steps_per_second: float
    images_per_second: float
    compiled_steps_per_second: float | None
    plain_steps_per_second: float | None
    predicted_steps_per_second: float | None
    memory_gib: float | None
    busy_share: float | None


@dataclass(frozen=True)
class GpuReport:
    """All of it."""

    machine: str
    torch: str
    checks: Mapping[str, Check]
    training: Mapping[str, Rate]
    sampling: Mapping[str, Rate]


def _on(device: torch.device) -> Callable[[nn.Module], nn.Module]:
    return lambda module: module.to(device)


def _measured(
    preset: Preset, size: int, device: torch.device, precision: Precision, steps: int = 2
) -> Tensor:
    learner = learner_of(preset, network_of(preset, size=size), StepSettings(4, precision), _on(device))
    rows = [learner.step([batch_of(learner, 4, size, step)], step) for step in range(steps)]
    return torch.stack(rows).double().cpu()


def _relative(found: Any, expected: Any) -> float:
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    return float(np.linalg.norm(found - expected)) / max(float(np.linalg.norm(expected)), 1e-12)


def correctness(device: torch.device, size: int = 32) -> dict[str, Check]:
    """Compare a small network on the device with the CPU's float32."""
    cpu, found = torch.device("cpu"), {}
    bounds: dict[Precision, float] = {"float32": 1e-3, "bfloat16": 0.05}
    for objective in ("edm", "eps"):
        preset = smallest("sdm", objective)
        expected = _measured(preset, size, cpu, "float32")
        for precision, bound in bounds.items():
            actual = _measured(preset, size, device, precision)
            found[f"{objective}: losses and gradient norms in {precision}"] = Check(
                _relative(actual, expected), bound
            )
    preset = smallest("sdm")
    config, options = network_of(preset, size=size), SamplingOptions(sampler="dpmpp", steps=6)
    labels, identities = chest_labels(4, size), [("gpu", each) for each in range(4)]
    images = sampler_of(config, cpu, options).sample(labels, identities)
    for precision, bound in bounds.items():
        with mock.patch(
            "lungforge.models.sdm.slice_sampler.sampling_precision", lambda device, p=precision: p
        ):
            sampled = sampler_of(config, device, options).sample(labels, identities)
        found[f"samples in {precision}"] = Check(_relative(sampled, images), bound)
    found["resumed"] = Check(_resumed(preset, size, device), 1e-5)
    return found


def _resumed(preset: Preset, size: int, device: torch.device) -> float:
    """How far the third step is off where a learner took over after the second."""

    def learner() -> Any:
        return learner_of(preset, network_of(preset, size=size), StepSettings(4), _on(device))

    first, second = learner(), learner()
    for step in range(2):
        first.step([batch_of(first, 4, size, step)], step)
    state = {
        name: {key: value.cpu().clone() for key, value in group.items()}
        for name, group in first.state().items()
    }
    second.load_state(state, 2)
    rows = [each.step([batch_of(each, 4, size, 2)], 2).cpu() for each in (first, second)]
    return _relative(rows[1], rows[0])


class Clock:
    """Times a function over and over, in equal shares of a budget."""

    def __init__(self, device: torch.device, seconds: float) -> None:
        self.device, self.seconds = device, seconds

    def wait(self) -> None:
        """Until the device has done all."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def rate(self, step: Callable[[], object]) -> float:
        """Steps a second, after two that are left out."""
        for _ in range(2):
            step()
        self.wait()
        started, done = time.perf_counter(), 0
        while not done or time.perf_counter() - started < self.seconds:
            for _ in range(2):
                step()
            self.wait()
            done += 2
        return done / (time.perf_counter() - started)

    def busy_share(self, step: Callable[[], object], steps: int = 4) -> float | None:
        """The share of the time in which a kernel runs."""
        if self.device.type != "cuda":
            return None
        from torch.profiler import ProfilerActivity, profile

        self.wait()
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            started = time.perf_counter()
            for _ in range(steps):
                step()
            self.wait()
            seconds = time.perf_counter() - started
        microseconds = sum(event.self_device_time_total for event in profiler.key_averages())
        return min(1.0, microseconds / 1e6 / seconds)

    def memory_gib(self) -> float | None:
        """The most that was held since the last call."""
        if self.device.type != "cuda":
            return None
        most = torch.cuda.max_memory_allocated(self.device) / 2**30
        torch.cuda.reset_peak_memory_stats(self.device)
        return most


def _plain_weights(network: SemanticUNet) -> dict[str, Tensor]:
    return {
        key: value.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
        for key, value in network.named_parameters()
    }


def _or_none(measure: Callable[[], float]) -> float | None:
    with contextlib.suppress(torch.OutOfMemoryError):
        return measure()
    torch.cuda.empty_cache()
    return None


def _our_training(
    preset: Preset, images: int, size: int, device: torch.device, clock: Clock
) -> tuple[float, float | None, float | None, float | None, Batch]:
    """Steps a second, the same compiled, busy share and memory; and the batch. All else is given back."""
    config = network_of(preset, size=size)
    learner: Any = learner_of(preset, config, StepSettings(images, "bfloat16"), _on(device))
    batch = batch_of(learner, images, size)
    batch = batch.pinned() if device.type == "cuda" else batch

    def step() -> None:
        learner.step([batch], 0)

    rate, busy, memory = clock.rate(step), clock.busy_share(step), clock.memory_gib()
    if device.type != "cuda":
        return rate, None, busy, memory, batch
    learner.network.compile_blocks()
    return rate, clock.rate(step), busy, memory, batch


def training_rate(case: Case, device: torch.device, clock: Clock) -> Rate:
    """A training step in bfloat16, and the plain form's loss and gradients beside it."""
    preset, images, size = PRESETS[case.preset], case.training_images, case.size
    config = network_of(preset, size=size)
    rate, compiled, busy, memory, batch = _our_training(preset, images, size, device, clock)
    weights = _plain_weights(SemanticUNet(config).to(device))
    here, schedule = batch.to(device), NoiseSchedule.linear()
    maps, times = here.maps, torch.full((images,), 500, device=device)

    def plain() -> None:
        for weight in weights.values():
            weight.grad = None

        def network(x: Tensor, t: Tensor) -> Tensor:
            with autocast(device, "bfloat16"):
                return plain_unet(weights, config.head_channels, x, t, maps)

        training_loss(network, schedule, here.images, times, here.noise).total.mean().backward()

    plainly = _or_none(lambda: clock.rate(plain))
    report = training_report(preset, images) if size == preset.image_size else None
    return Rate(rate, images * rate, compiled, plainly, _predicted(report, device), memory, busy)


@torch.inference_mode()
def sampling_rate(case: Case, device: torch.device, clock: Clock) -> Rate:
    """A guided evaluation as in sampling, and the plain form's beside it."""
    preset, images, size = PRESETS[case.preset], case.sampling_images, case.size
    config, precision = network_of(preset, size=size), sampling_precision(device)
    network = sampler_of(config, device).network
    maps = one_hot_or_hidden(torch.from_numpy(chest_labels(images, size)).to(device), config.classes)
    x, times = torch.randn(images, 1, size, size, device=device), torch.full((images,), 500.0, device=device)
    with autocast(device, precision):
        conditioning, null = network.condition(maps), network.condition(null_map(network))
        guided = guided_network(network, conditioning, null, GUIDANCE)

        def step() -> None:
            guided(x, times)

        rate, busy, memory = clock.rate(step), clock.busy_share(step), clock.memory_gib()
        weights = {key: value.detach() for key, value in _plain_weights(network).items()}
        plainly = _or_none(
            lambda: clock.rate(lambda: plain_guided(weights, config.head_channels, x, times, maps, GUIDANCE))
        )
    report = sampling_report(preset, images, 1) if size == preset.image_size else None
    return Rate(rate, images * rate, None, plainly, _predicted(report, device), memory, busy)


def _predicted(report: Any, device: torch.device) -> float | None:
    if report is None or device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    known = [each for key, each in report.predictions.items() if key in name]
    return 1 / known[0].seconds if known else None


def measure(device: torch.device, minutes: float) -> GpuReport:
    """Check, then time until the minutes are over."""
    ends = time.monotonic() + 60 * minutes
    # Convolutions in float32 would be TF32's by default, of 10 bits.
    with torch.backends.cudnn.flags(allow_tf32=False):
        checks = correctness(device, 16 if device.type == "cpu" else 32)
    _say({name: (check.value, check.bound) for name, check in checks.items()})
    cases = CASES if device.type == "cuda" else SMOKE_CASES
    training: dict[str, Rate] = {}
    sampling: dict[str, Rate] = {}
    for index, case in enumerate(cases):
        # Five timings of each case that is left, and half of the time for all that is around them.
        clock = Clock(device, max(0.0, ends - time.monotonic()) / (10 * (len(cases) - index)))
        name = f"{case.preset} at {case.size} px"
        for kind, rate in (("training", training_rate), ("sampling", sampling_rate)):
            found = rate(case, device, clock)
            (training if kind == "training" else sampling)[name] = found
            _say(f"{kind} {name}: {found}")
            if device.type == "cuda":
                torch.cuda.empty_cache()
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return GpuReport(machine, torch.__version__, checks, training, sampling)


def _say(line: object) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Measure, print, and say whether the results are right."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="about how long in all (default: 10)")
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="cpu tries the script (default: cuda)"
    )
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        _say(f"PyTorch {torch.__version__} sees no GPU here; --device cpu tries the script without one")
        return 2
    report = measure(torch.device(arguments.device), arguments.minutes)
    holds = {name: check.holds for name, check in report.checks.items()}
    known = {name: dataclasses.asdict(gpu) for name, gpu in GPUS.items() if name in report.machine}
    print(json.dumps({**dataclasses.asdict(report), "holds": holds, "datasheet": known}))
    return 0 if all(holds.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
