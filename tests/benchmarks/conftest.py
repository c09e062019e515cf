"""Files of golden values for networks of other shapes, made without the network that is being tested."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.golden_file import network_config
from benchmarks.plain_sdm import plain_guided, plain_unet
from lungforge.models.sdm.unet import SemanticUNet
from lungforge.models.spade import one_hot

DOCUMENT = {
    "image_size": 16,
    "in_channels": 1,
    "out_channels": 2,
    "model_channels": 32,
    "channel_mult": [1, 2],
    "num_res_blocks": 1,
    "attention_downsample_factors": [2],
    "num_head_channels": 16,
    "num_classes": 4,
    "resblock_updown": True,
    "use_scale_shift_norm": True,
    "num_groups": 32,
    "spade_hidden": 128,
    "diffusion_steps": 1000,
    "noise_schedule": "linear",
    "guidance_scale": 1.5,
}


def random_weights(document: dict[str, Any], generator: np.random.Generator) -> dict[str, Tensor]:
    """Weights that let every layer show, rounded to float16."""
    with torch.device("meta"):
        shapes = {
            key: value.shape for key, value in SemanticUNet(network_config(document)).state_dict().items()
        }
    weights = {}
    for key, shape in shapes.items():
        values = generator.normal(size=shape)
        if len(shape) > 1:
            values /= math.sqrt(math.prod(shape[1:]))
        else:
            values = 0.1 * values + key.endswith("weight")
        weights[key] = torch.from_numpy(values.astype(np.float16))
    return weights


def step_of(output: Tensor, x_t: Tensor, t: Tensor) -> dict[str, Tensor]:
    """A reverse step from the network's output: DDPM's formulas, with the variance that is learned."""
    betas = np.linspace(1e-4, 0.02, 1000)
    left = np.cumprod(1 - betas)
    before = np.append(1.0, left[:-1])
    posterior = betas * (1 - before) / (1 - left)

    def at(table: np.ndarray) -> Tensor:
        return torch.from_numpy(table)[t].float()[:, None, None, None]

    noise, v = output.chunk(2, dim=1)
    x_0 = (at(np.sqrt(1 / left)) * x_t - at(np.sqrt(1 / left - 1)) * noise).clamp(-1, 1)
    mean = at(betas * np.sqrt(before) / (1 - left)) * x_0
    mean = mean + at((1 - before) * np.sqrt(1 - betas) / (1 - left)) * x_t
    smallest = at(np.log(np.append(posterior[1], posterior[1:])))
    log_variance = (v + 1) / 2 * at(np.log(betas)) + (1 - (v + 1) / 2) * smallest
    return {"mean": mean, "variance": log_variance.exp(), "log_variance": log_variance, "pred_xstart": x_0}


@pytest.fixture
def write_golden(tmp_path: Path) -> Callable[..., Path]:
    """``write(changes_of_the_configuration, seed=..., t=..., guidance=...)`` gives the path of a new file."""

    @torch.no_grad()
    def write(
        changes: dict[str, Any] | None = None,
        *,
        seed: int = 0,
        t: tuple[int, int] = (0, 999),
        guidance: float = 1.5,
    ) -> Path:
        document = {**DOCUMENT, **(changes or {})}
        document["out_channels"] = 2 * document["in_channels"]
        generator = np.random.default_rng(seed)
        stored = random_weights(document, generator)
        weights = {key: value.float() for key, value in stored.items()}
        side, heads = document["image_size"], document["num_head_channels"]
        x_0, noise = (
            torch.from_numpy(values.astype(np.float32))
            for values in (
                generator.uniform(-1, 1, (2, document["in_channels"], side, side)),
                generator.normal(size=(2, document["in_channels"], side, side)),
            )
        )
        labels = np.zeros((2, side, side), np.uint8)
        for label in range(1, document["num_classes"]):
            row, column = generator.integers(0, side - 2, 2)
            labels[:, row : row + side // 3, column : column + side // 3] = label
        steps, maps = torch.tensor(t), one_hot(torch.from_numpy(labels), document["num_classes"])
        left = torch.from_numpy(np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)))[steps][:, None, None, None]
        x_t = left.sqrt().float() * x_0 + (1 - left).sqrt().float() * noise
        outputs = {
            "unet_out": plain_unet(weights, heads, x_0, steps, maps),
            "unet_out_null": plain_unet(weights, heads, x_0, steps, torch.zeros_like(maps)),
            "q_sample": x_t,
        }
        for prefix, scale in (("p", 1.0), ("p_s15", guidance)):
            output = plain_guided(weights, heads, x_t, steps, maps, scale)
            for name, value in step_of(output, x_t, steps).items():
                outputs[f"{prefix}_{name}"] = value
        path = tmp_path / f"golden-{len(list(tmp_path.iterdir()))}.npz"
        arrays = {f"sd/{key}": value.numpy() for key, value in stored.items()}
        arrays |= {
            "in/x0": x_0.numpy(),
            "in/noise": noise.numpy(),
            "in/t": steps.numpy(),
            "in/labels": labels,
        }
        arrays |= {f"out/{name}": value.numpy() for name, value in outputs.items()}
        np.savez(path, config=json.dumps(document), **arrays)
        return path

    return write
