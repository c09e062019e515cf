"""The speed of the semantic diffusion model against its plain form: ``python -m benchmarks.sdm [--json]``.

A guided denoising step and a training step at 64 px, batch 8, float32, each alternating with
``benchmarks.plain_sdm`` in one run, on maps of phantoms, or of real scans with ``--source``. Both
give the same results, which is checked. The machine's own matrix-product rate is measured in the same run.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.plain_sdm import plain_guided, plain_unet
from lungforge.ct.io.luna16 import list_series
from lungforge.ct.io.volume import read_volume
from lungforge.ct.nodules import nodules_in_slice, read_annotations, sphere_nodules
from lungforge.ct.phantoms.generate import generate_phantom
from lungforge.ct.resize import PixelMap, resize_slice
from lungforge.ct.segmentation.anatomy import anatomy_from_luna
from lungforge.errors import InputError
from lungforge.models.sdm.config import UNetConfig
from lungforge.models.sdm.diffusion import NoiseSchedule
from lungforge.models.sdm.guidance import guided_network, null_map
from lungforge.models.sdm.objectives.eps import training_loss
from lungforge.models.sdm.spec import SPEC
from lungforge.models.sdm.unet import SemanticUNet
from lungforge.models.spade import one_hot

BATCH = 8
GUIDANCE = 1.5
#: Largest absolute difference to the plain form that is accepted.
LIMIT = 1e-4


def phantom_maps(size: int) -> np.ndarray:
    """Maps of phantoms, through the nodules where there are any: uint8 [BATCH, size, size]."""
    maps = []
    for index in range(BATCH):
        phantom = generate_phantom(0, index, slices=20)
        nodules, _ = sphere_nodules(phantom.nodules, phantom.volume.geometry)
        middle = min(nodules[0].masks) if nodules else len(phantom.volume.hu) // 2
        maps.append(_map(phantom.volume, phantom.anatomy[middle], nodules, middle, size))
    return np.stack(maps)


def real_maps(source: str, size: int) -> np.ndarray:
    """Maps of the first scans of a data set in LUNA16 layout: uint8 [BATCH, size, size]."""
    found = list_series(source)
    entries = [entry for entry in found.entries if entry.lung_mask_uri][:BATCH]
    if len(entries) < BATCH or found.annotations_uri is None:
        raise InputError(
            f"{source} has {len(entries)} scans with a lung mask; give a LUNA16 layout with {BATCH}"
        )
    annotations = read_annotations(found.annotations_uri)
    maps = []
    for entry in entries:
        volume, masks = read_volume(entry.uri), read_volume(str(entry.lung_mask_uri))
        middle = len(volume.hu) // 2
        nodules, _ = sphere_nodules(annotations.get(entry.series_uid, []), volume.geometry)
        maps.append(
            _map(volume, anatomy_from_luna(masks.hu[middle], volume.hu[middle]), nodules, middle, size)
        )
    return np.stack(maps)


def _map(volume: Any, anatomy: np.ndarray, nodules: Any, index: int, size: int) -> np.ndarray:
    hu, geometry = volume.hu[index], volume.geometry
    found = nodules_in_slice(nodules, index, hu, geometry)
    pixel_map = PixelMap.fit(hu.shape, (geometry.spacing_mm[1], geometry.spacing_mm[0]), size=size)
    return resize_slice(hu, anatomy, found, pixel_map)[1]


def randomised(config: UNetConfig) -> SemanticUNet:
    """A network in which the layers that start at zero do not hide the others."""
    torch.manual_seed(0)
    model = SemanticUNet(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    return model


def alternate(plain: Callable[[], object], fast: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Shortest seconds of each, after a warm-up, taking turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats + 1):
        for function, taken in zip((plain, fast), times, strict=True):
            start = time.perf_counter()
            function()
            if turn:
                taken.append(time.perf_counter() - start)
    return min(times[0]), min(times[1])


def matmul_gflops(size: int = 2048, repeats: int = 8) -> float:
    """Rate of this machine's float32 matrix product, in GFLOP/s: the best of some."""
    a = torch.randn(size, size)
    best = math.inf
    for _ in range(repeats):
        start = time.perf_counter()
        torch.mm(a, a)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


def _case(
    plain: Callable[[], object], fast: Callable[[], object], repeats: int, difference: float
) -> dict[str, float]:
    with FlopCounterMode(display=False) as counter:
        fast()
    plain_s, fast_s = alternate(plain, fast, repeats)
    gflop = counter.get_total_flops() / 1e9
    return {
        "plain_s": plain_s,
        "fast_s": fast_s,
        "ratio": plain_s / fast_s,
        "max_difference": difference,
        "fast_gflop": gflop,
        "fast_gflops": gflop / fast_s,
    }


def guided_step(
    model: SemanticUNet, maps: Tensor, x: Tensor, steps: Tensor, repeats: int
) -> dict[str, float]:
    """A step of guided sampling: conditioning is kept from step to step."""
    weights = {
        key: value.clone(memory_format=torch.contiguous_format) for key, value in model.state_dict().items()
    }
    head_channels = model.config.head_channels
    with torch.no_grad():
        start = time.perf_counter()
        conditioning, null = model.condition(maps), model.condition(null_map(model))
        condition_s = time.perf_counter() - start
        denoise = guided_network(model, conditioning, null, GUIDANCE)

        def plain() -> Tensor:
            return plain_guided(weights, head_channels, x, steps, maps, GUIDANCE)

        difference = float((plain() - denoise(x, steps)).abs().max())
        result = _case(plain, lambda: denoise(x, steps), repeats, difference)
    return {**result, "condition_s": condition_s}


def train_step(model: SemanticUNet, maps: Tensor, x: Tensor, steps: Tensor, repeats: int) -> dict[str, float]:
    """Loss and gradients of a batch, with new maps every time."""
    schedule, noise = NoiseSchedule.linear(), torch.randn_like(x)
    weights = {
        key: value.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
        for key, value in model.named_parameters()
    }

    def plain() -> None:
        for weight in weights.values():
            weight.grad = None
        head_channels = model.config.head_channels
        loss = training_loss(
            lambda x_t, t: plain_unet(weights, head_channels, x_t, t, maps), schedule, x, steps, noise
        )
        loss.total.mean().backward()

    def fast() -> None:
        model.zero_grad(set_to_none=True)
        loss = training_loss(lambda x_t, t: model(x_t, t, maps), schedule, x, steps, noise)
        loss.total.mean().backward()

    plain()
    fast()
    difference = 0.0
    for key, value in model.named_parameters():
        expected = weights[key].grad
        assert value.grad is not None
        assert expected is not None
        difference = max(difference, float((value.grad - expected).abs().max()))
    return _case(plain, fast, repeats, difference)


def main() -> int:
    """Measure, print, and say whether the results agree."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sdm", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--source", help="a LUNA16 data set to take the maps from (default: phantoms)")
    parser.add_argument(
        "--repeats", type=int, default=5, help="turns of each; the shortest counts (default: 5)"
    )
    arguments = parser.parse_args()
    config = SPEC.preset_config("cpu")
    try:
        size = config.image_size
        labels = real_maps(arguments.source, size) if arguments.source else phantom_maps(size)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    model = randomised(config)
    maps = one_hot(torch.from_numpy(labels), config.classes)
    x = torch.randn(BATCH, config.image_channels, config.image_size, config.image_size)
    steps = torch.randint(0, 1000, (BATCH,))
    rates = [matmul_gflops()]
    result: dict[str, Any] = {"guided_step": guided_step(model.eval(), maps, x, steps, arguments.repeats)}
    rates.append(matmul_gflops())
    result["train_step"] = train_step(model.train(), maps, x.clamp(-1, 1), steps, arguments.repeats)
    rates.append(matmul_gflops())
    rate = result["matmul_gflops"] = max(rates)
    for name in ("guided_step", "train_step"):
        result[name]["share_of_matmul"] = result[name]["fast_gflops"] / rate
    if arguments.json:
        print(json.dumps(result))
    else:
        for name in ("guided_step", "train_step"):
            case = result[name]
            print(
                f"{name}: plain {case['plain_s']:.3f} s, fast {case['fast_s']:.3f} s: "
                f"{case['ratio']:.2f} times as fast; {case['fast_gflops']:.0f} GFLOP/s, "
                f"{case['share_of_matmul']:.0%} of the matrix product's; "
                f"largest difference {case['max_difference']:.1e}"
            )
        print(f"conditioning, once an image batch: {result['guided_step']['condition_s']:.3f} s")
        print(f"matrix product: {rate:.0f} GFLOP/s")
    return 0 if all(result[name]["max_difference"] <= LIMIT for name in ("guided_step", "train_step")) else 1


if __name__ == "__main__":
    sys.exit(main())
