"""Recompute a file of golden numbers of the original program: ``python -m benchmarks.parity FILE.npz``.

Prints one JSON object, name to maximum absolute error, and exits 1 if one is over 1e-4. At the last timestep
a predicted image is 157 times as sensitive as the network's output, and the golden numbers were themselves
rounded to float32 at every operation, which no other order of operations repeats. So the network runs in
float32 and in float64, and each number is held against the nearer result.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lungforge.errors import InputError
from lungforge.sdm.checkpoint import build
from lungforge.sdm.config import UNetConfig
from lungforge.sdm.denoiser import guided_denoiser, null_map
from lungforge.sdm.diffusion import Denoiser, Schedule, p_mean_variance, q_sample, training_loss
from lungforge.sdm.samplers import ddim_step, sample_ancestral, sample_ddim
from lungforge.sdm.unet import SemanticUNet
from lungforge.spade import one_hot

#: Largest absolute error that is accepted.
LIMIT = 1e-4
#: What the original can be configured to do and this network always does.
ALWAYS = {"resblock_updown": True, "use_scale_shift_norm": True, "num_groups": 32, "spade_hidden": 128}


def network_config(document: dict[str, Any]) -> UNetConfig:
    """The network of a golden file, from the original program's names.

    Raises:
        InputError: It is a kind of network that is not supported.
    """
    for name, value in {**ALWAYS, "noise_schedule": "linear"}.items():
        if document.get(name, value) != value:
            raise InputError(f"{name} is {document[name]!r}; only {value!r} is supported")
    return UNetConfig(
        image_size=document["image_size"],
        image_channels=document["in_channels"],
        classes=document["num_classes"],
        base_channels=document["model_channels"],
        channel_multipliers=tuple(document["channel_mult"]),
        residual_blocks=document["num_res_blocks"],
        attention_sizes=tuple(
            document["image_size"] // factor for factor in document["attention_downsample_factors"]
        ),
        head_channels=document["num_head_channels"],
    )


@torch.no_grad()
def compare(path: Path) -> dict[str, float]:
    """Maximum absolute error of every output in a golden file."""
    with np.load(path) as archive:
        golden = {name: archive[name] for name in archive.files}
    document = json.loads(str(golden["config"]))
    weights = {name[3:]: torch.from_numpy(golden[name]) for name in golden if name.startswith("sd/")}
    given = {name[3:]: torch.from_numpy(golden[name]) for name in golden if name.startswith("in/")}
    model = build(network_config(document), weights)
    results = [recompute(model.to(dtype), document, given) for dtype in (torch.float32, torch.float64)]
    errors = {}
    for name in sorted(golden):
        kind, _, output = name.partition("/")
        if kind == "out":
            if output not in results[0]:
                raise InputError(f"{path} holds {name}, which nothing here computes")
            errors[output] = _error([result[output] for result in results], golden[name])
    return errors


def recompute(model: SemanticUNet, document: dict[str, Any], given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Everything that a golden file may hold, with the network in the precision that it has.

    Args:
        model: The network with the file's weights.
        document: The file's configuration.
        given: The file's inputs.
    """
    precision = next(model.parameters()).dtype
    schedule = Schedule.linear(document["diffusion_steps"])
    x_0, noise, steps = given["x0"], given["noise"], given["t"].long()
    conditioning = model.condition(one_hot(given["labels"], model.config.classes))
    null = model.condition(null_map(model))

    def denoiser(scale: float) -> Denoiser:
        inner = guided_denoiser(model, conditioning, null, scale)
        return lambda x, timesteps: inner(x.to(precision), timesteps).float()

    conditional, guided = denoiser(1.0), denoiser(document["guidance_scale"])
    x_t = q_sample(schedule, x_0, steps, noise)
    loss = training_loss(conditional, schedule, x_0, steps, noise)
    later = steps.clamp(min=1)
    sparse, strided = schedule.respace("25"), schedule.respace("ddim25")
    results = {
        "unet_out": conditional(x_0, steps),
        "unet_out_null": model(x_0.to(precision), steps, null),
        "q_sample": x_t,
        "loss_mse": loss.mse,
        "loss_vb": loss.vb,
        "loss_loss": loss.total,
        "ddim_step_eta0": ddim_step(schedule, conditional(x_t, later), x_t, later, None),
        "timesteps_25": sparse.timesteps,
        "betas_25": sparse.betas,
        "timesteps_ddim25": strided.timesteps,
        "betas_ddim25": strided.betas,
        "ddim25_loop": sample_ddim(guided, noise, strided),
        "ancestral25_loop": sample_ancestral(
            guided, noise, sparse, lambda index: given["ancestral_noise"][index]
        ),
    }
    for prefix, scale in (("p", 1.0), ("p_s15", 1.5)):
        step = p_mean_variance(schedule, denoiser(scale)(x_t, steps), x_t, steps)
        results[f"{prefix}_mean"] = step.mean
        results[f"{prefix}_variance"] = step.log_variance.exp()
        results[f"{prefix}_log_variance"] = step.log_variance
        results[f"{prefix}_pred_xstart"] = step.x_0
    return results


def _error(results: list[Tensor], expected: np.ndarray) -> float:
    if any(tuple(result.shape) != expected.shape for result in results):
        return float("inf")
    distances = [(result.double() - torch.from_numpy(expected).double()).abs() for result in results]
    return float(torch.stack(distances).amin(0).max())


def main() -> int:
    """Compare the file that the command line names."""
    if len(sys.argv) != 2:
        print("usage: python -m benchmarks.parity FILE.npz", file=sys.stderr)
        return 2
    try:
        errors = compare(Path(sys.argv[1]))
    except (InputError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(errors, indent=1))
    return 0 if all(error <= LIMIT for error in errors.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
