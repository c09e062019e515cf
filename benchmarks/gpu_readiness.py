"""How ready the code is for GPUs, found without one: ``python -m benchmarks.gpu_readiness [--json]``.

Counts what the host would wait for in a training and in a sampling step, the share of kept activations that
is float32, changes of memory layout, and breaks and repetitions of compilation; and predicts memory, time and
images a second on known GPUs by a roofline. Exits with 1 where an aim is missed. Nothing runs on a GPU: see
docs/measurements/gpu.md for what that leaves open.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from unittest import mock

import torch

from benchmarks.gpu_profile import Profile, sampling_profile, training_profile
from benchmarks.gpu_steps import StepSettings, batch_of, chest_labels, learner_of, network_of, sampler_of
from benchmarks.simulated_device import DEVICE, SimulatedDevice, WithoutMemory, on_simulated_device
from lungforge.models import device_choices
from lungforge.models.base import Preset, SamplingOptions
from lungforge.models.cost import GPUS, OVERHEAD, STATE_BYTES, TRAINING_PASSES
from lungforge.models.gaugan.config import PRESETS as GAUGAN
from lungforge.models.sdm.blocks import Attention, ResidualBlock, SpadeBlock
from lungforge.models.sdm.config import PRESETS as SDM
from lungforge.models.sdm.unet import SemanticUNet
from lungforge.models.spade import one_hot

#: The largest share of kept bytes that may be float32.
LARGEST_FLOAT32_SHARE: Final = 0.15
#: Networks that are profiled, and images of a training step of each.
PROFILED: Final = {"luna256": 4, "luna256-edm": 8}
#: Images that are sampled at a time.
SAMPLED: Final = 8
_SIZE: Final = 16


@dataclass(frozen=True)
class Waits:
    """What the host waits for in a step.

    Attributes:
        readings: Operations whose result the host reads, and copies that it waits for, by line of the code.
        copies: Copies between host and device of either kind.
    """

    readings: Mapping[str, int]
    copies: int


@dataclass(frozen=True)
class Compilation:
    """What compiling the blocks of a network gave.

    Attributes:
        blocks: How many there are.
        graphs: What was compiled in the first training step: one a block.
        graph_breaks: Places where compiled code goes back to Python.
        recompiled: What was compiled in the second step.
    """

    blocks: int
    graphs: int
    graph_breaks: int
    recompiled: int


@dataclass(frozen=True)
class Prediction:
    """What a GPU would do, by the roofline; a quantity of memory is None where the GPU has less.

    Attributes:
        fits: Whether the step fits into its memory.
        seconds: Of a step.
        images_per_second: In training; in sampling, those of ``steps`` evaluations each.
    """

    fits: bool
    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class StepReport:
    """A step of one network.

    Attributes:
        images: At a time.
        parameters: Of the network.
        tflop: Floating-point operations of the step, in 10^12.
        gbytes: What its kernels read and write, the norms compiled, in 10^9 bytes.
        unfused_gbytes: What they would in addition, the norms not compiled.
        memory_gib: Predicted, at its peak.
        kept_gib: Activations kept in training; modulations kept in sampling.
        float32_share: Of what is kept.
        layout_flips: In a forward pass, by operation.
        predictions: By GPU.
    """

    images: int
    parameters: int
    tflop: float
    gbytes: float
    unfused_gbytes: float
    memory_gib: float
    kept_gib: float
    float32_share: float
    layout_flips: Mapping[str, int]
    predictions: Mapping[str, Prediction]


@dataclass(frozen=True)
class Readiness:
    """All of it, by name of the network or the kind of step."""

    waits: Mapping[str, Waits]
    compilation: Compilation
    training: Mapping[str, StepReport]
    sampling: Mapping[str, StepReport]

    def missed(self) -> list[str]:
        """The aims that are not met."""
        found = [
            f"{name}: the host waits: {dict(each.readings)}"
            for name, each in self.waits.items()
            if each.readings
        ]
        compiled = self.compilation
        if compiled.graph_breaks or compiled.recompiled or compiled.graphs != compiled.blocks:
            found.append(f"compilation: {compiled}")
        for name, report in self.training.items():
            if report.float32_share >= LARGEST_FLOAT32_SHARE:
                found.append(f"{name}: {report.float32_share:.0%} of what is kept is float32")
        for reports in (self.training, self.sampling):
            found += [
                f"{name}: layout flips: {each.layout_flips}"
                for name, each in reports.items()
                if each.layout_flips
            ]
        return found


def smallest(model: str, objective: str = "edm") -> Preset:
    """A network with every kind of block, as small as can be: waiting does not depend on the width."""
    presets = GAUGAN if model == "gaugan" else SDM
    tiny = presets["tiny"]
    if model == "gaugan":
        network: Any = dataclasses.replace(tiny.network, channel_multipliers=(2, 1), latent_channels=4)  # type: ignore[call-arg]
        return dataclasses.replace(tiny, network=network)
    network = dataclasses.replace(tiny.network, channel_multipliers=(1, 1), attention_sizes=(_SIZE,))  # type: ignore[call-arg]
    learner: Any = dataclasses.replace(tiny.learner, objective=objective)  # type: ignore[call-arg]
    return dataclasses.replace(tiny, network=network, learner=learner)


def training_waits(model: str, objective: str = "edm") -> Waits:
    """What a training step waits for; the first one, which sends tables, is left out."""
    preset = smallest(model, objective)
    with WithoutMemory():
        learner = learner_of(
            preset, network_of(preset, model, _SIZE), StepSettings(2), on_simulated_device, model
        )
    batch = batch_of(learner, 2, _SIZE)
    for step in range(2):
        with SimulatedDevice() as device:
            learner.step([batch], step)
    return Waits(dict(device.waits), device.copies)


def sampling_waits(sampler: Any) -> Waits:
    """What sampling waits for before its images are done, over all steps."""
    options = SamplingOptions(sampler=sampler, steps=3, guidance=1.5, guidance_interval=(0.0, 1e9))
    with WithoutMemory():
        sampling = sampler_of(network_of(smallest("sdm"), size=_SIZE), DEVICE, options)
    none = mock.patch("lungforge.models.sdm.slice_sampler.to_hu")
    with none, SimulatedDevice() as device:
        sampling.sample(chest_labels(2, _SIZE), [("a", 0), ("a", 1)])
    return Waits(dict(device.waits), device.copies)


def _as_on_a_gpu(device: torch.device) -> bool:
    """In place of ``is_queue``; a function and no mock, as it is compiled with the blocks."""
    return True


def compilation(preset: Preset, size: int) -> Compilation:
    """Compile the blocks of a network as for a GPU, without making kernels, and take two training steps."""
    import torch._dynamo  # which takes seconds to import
    from torch._dynamo.testing import CompileCounterWithBackend

    network = SemanticUNet(network_of(preset, size=size))
    blocks = sum(isinstance(each, (ResidualBlock, SpadeBlock, Attention)) for each in network.modules())
    counter: Any = CompileCounterWithBackend("eager")
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    maps = one_hot(torch.from_numpy(chest_labels(2, size)), network.config.classes)
    graphs = []
    with mock.patch.object(device_choices, "is_queue", new=_as_on_a_gpu):
        network.compile_blocks(backend=counter)
        for _ in range(2):
            network(torch.zeros(2, 1, size, size), torch.zeros(2), maps).mean().backward()
            graphs.append(counter.frame_count)
    breaks = sum(torch._dynamo.utils.counters["graph_break"].values())
    torch._dynamo.reset()
    return Compilation(blocks, graphs[0], breaks, graphs[1] - graphs[0])


def training_report(preset: Preset, images: int) -> StepReport:
    """A training step of a network in bfloat16."""
    config = network_of(preset)
    profile, parameters = training_profile(config, images), _parameters(config)
    kept = sum(profile.kept.values())
    # The optimiser reads weight, gradient, moments and average, and writes all but the gradient.
    update = parameters * (2 * STATE_BYTES - 4)
    return _report(
        profile,
        images,
        parameters,
        passes=TRAINING_PASSES,
        more_bytes=update,
        memory=OVERHEAD * (STATE_BYTES * parameters + kept),
        evaluations=1,
    )


def sampling_report(preset: Preset, images: int, evaluations: int) -> StepReport:
    """A guided step of sampling in bfloat16; images a second are those of so many evaluations."""
    config = network_of(preset)
    profile, parameters = sampling_profile(config, images), _parameters(config)
    largest = max(each.bytes for each in profile.operations)
    memory = OVERHEAD * (4 * parameters + sum(profile.kept.values()) + 4 * largest)
    return _report(
        profile, images, parameters, passes=1, more_bytes=0, memory=memory, evaluations=evaluations
    )


def _report(
    profile: Profile,
    images: int,
    parameters: int,
    *,
    passes: int,
    more_bytes: float,
    memory: float,
    evaluations: int,
) -> StepReport:
    predictions = {}
    for name, gpu in GPUS.items():
        seconds = passes * profile.seconds(gpu) + more_bytes / gpu.bytes_per_second
        predictions[name] = Prediction(memory <= gpu.memory_bytes, seconds, images / seconds / evaluations)
    return StepReport(
        images,
        parameters,
        passes * profile.flops / 1e12,
        (passes * profile.bytes + more_bytes) / 1e9,
        passes * profile.unfused_bytes / 1e9,
        memory / 2**30,
        sum(profile.kept.values()) / 2**30,
        profile.float32_share,
        dict(profile.layout_flips),
        predictions,
    )


def _parameters(config: Any) -> int:
    with torch.device("meta"):
        return sum(value.numel() for value in SemanticUNet(config).parameters())


def readiness(
    profiled: Mapping[str, int] = PROFILED, sampled: int = SAMPLED, *, evaluations: int = 12
) -> Readiness:
    """Find all of it.

    Args:
        profiled: Presets, and images of a training step of each.
        sampled: Images of a sampling step.
        evaluations: Of the network along one image.
    """
    waits = {
        "training edm": training_waits("sdm", "edm"),
        "training eps": training_waits("sdm", "eps"),
        "training gaugan": training_waits("gaugan"),
        **{f"sampling {name}": sampling_waits(name) for name in ("dpmpp", "ddim", "ancestral", "heun")},
    }
    _say("waits are counted; compiling")
    compiled = compilation(smallest("sdm"), _SIZE)
    training: dict[str, StepReport] = {}
    sampling: dict[str, StepReport] = {}
    for name, images in profiled.items():
        _say(f"profiling {name}")
        training[name] = training_report(SDM[name], images)
        sampling[name] = sampling_report(SDM[name], sampled, evaluations)
    return Readiness(waits, compiled, training, sampling)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Find it, print it, and say whether the aims are met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_readiness", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--presets", nargs="+", choices=list(SDM), help="networks to profile (default: luna256 luna256-edm)"
    )
    arguments = parser.parse_args()
    chosen = {name: PROFILED.get(name, 8) for name in arguments.presets or PROFILED}
    found = readiness(chosen)
    if arguments.json:
        print(json.dumps({**dataclasses.asdict(found), "missed": found.missed()}))
    else:
        _print(found)
    return 1 if found.missed() else 0


def _print(found: Readiness) -> None:
    for name, waits in found.waits.items():
        print(f"{name}: {sum(waits.readings.values())} waits, {waits.copies} copies that nobody waits for")
    compiled = found.compilation
    print(
        f"compiled: {compiled.graphs} graphs of {compiled.blocks} blocks, {compiled.graph_breaks} breaks, "
        f"{compiled.recompiled} again in the second step"
    )
    for kind, reports in (("training", found.training), ("sampling", found.sampling)):
        for name, report in reports.items():
            print(
                f"{kind} {name}, {report.images} images: {report.parameters / 1e6:.0f} M parameters, "
                f"{report.tflop:.1f} TFLOP, {report.gbytes:.0f} GB moved (+ {report.unfused_gbytes:.0f} not "
                f"compiled), {report.memory_gib:.1f} GiB, of which {report.kept_gib:.1f} kept, "
                f"{report.float32_share:.1%} float32; {sum(report.layout_flips.values())} layout flips"
            )
            for gpu, each in report.predictions.items():
                fits = "" if each.fits else " (does not fit)"
                print(f"  {gpu}: {each.seconds:.3f} s a step, {each.images_per_second:.1f} images/s{fits}")
    for line in found.missed():
        print(f"missed: {line}")


if __name__ == "__main__":
    sys.exit(main())
