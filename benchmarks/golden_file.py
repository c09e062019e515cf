"""Reading a file of golden numbers of the original program, and saying what is wrong with one.

An ``.npz`` of plain arrays: ``config`` (JSON, in the original program's names), ``sd/<key>`` the weights,
``in/<name>`` what was given, ``out/<name>`` what came out.
"""

import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lungforge.errors import InputError
from lungforge.models.sdm.config import GROUPS, UNetConfig
from lungforge.models.spade import HIDDEN

#: What the original can be configured to do, and this project always does.
ALWAYS = {
    "resblock_updown": True,
    "use_scale_shift_norm": True,
    "num_groups": GROUPS,
    "spade_hidden": HIDDEN,
    "noise_schedule": "linear",
}
#: What the configuration must say, and as what.
_FIELDS: dict[str, tuple[type, ...]] = {
    "image_size": (int,),
    "in_channels": (int,),
    "model_channels": (int,),
    "channel_mult": (list,),
    "num_res_blocks": (int,),
    "attention_downsample_factors": (list,),
    "num_head_channels": (int,),
    "num_classes": (int,),
    "diffusion_steps": (int,),
    "guidance_scale": (int, float),
}
#: Steps of the loops whose noise a file gives.
LOOP_STEPS = 25


@dataclass(frozen=True)
class GoldenFile:
    """What a file holds.

    Attributes:
        network: Shape of the network.
        diffusion_steps: Steps of the full process.
        guidance: Guidance scale of the loops.
        weights: The state dict under its released names.
        given: x0 and noise [N, C, H, W], t [N], labels [N, H, W]; and, if there is an ancestral loop,
            ancestral_noise [25, N, C, H, W].
        outputs: What the original program computed, by name.
    """

    network: UNetConfig
    diffusion_steps: int
    guidance: float
    weights: dict[str, Tensor]
    given: dict[str, Tensor]
    outputs: dict[str, Tensor]


def read_golden(path: Path) -> GoldenFile:
    """Read a file; nothing in it is unpickled.

    Raises:
        InputError: It is no such file, or lacks something, or is of a kind of network that is not supported.
    """
    arrays = _read_arrays(path)
    if "config" not in arrays:
        raise InputError(f"{path} has no config; give a file of golden numbers, as its README describes it")
    try:
        document = json.loads(str(arrays["config"]))
    except json.JSONDecodeError as error:
        raise InputError(f"the config of {path} is not JSON ({error})") from error
    network = network_config(document)
    weights = {name[3:]: _number(arrays, name) for name in arrays if name.startswith("sd/")}
    outputs = {name[4:]: _number(arrays, name) for name in arrays if name.startswith("out/")}
    if not weights or not outputs:
        raise InputError(
            f"{path} holds {len(weights)} weights (sd/) and {len(outputs)} outputs (out/); "
            "give a file that has both"
        )
    given = _inputs(arrays, network, loop="ancestral25_loop" in outputs)
    steps = document["diffusion_steps"]
    if not bool(((given["t"] >= 0) & (given["t"] < steps)).all()):
        raise InputError(f"in/t is {given['t'].tolist()}; the steps are 0 to {steps - 1}")
    return GoldenFile(network, steps, float(document["guidance_scale"]), weights, given, outputs)


def network_config(document: Any) -> UNetConfig:
    """The network of a golden file, from the original program's names.

    Raises:
        InputError: A field is missing or of the wrong type, or it is a kind of network that is not supported.
    """
    if not isinstance(document, dict):
        raise InputError(f"the config is {document!r}; it must be a JSON object")
    for name, value in ALWAYS.items():
        if document.get(name, value) != value:
            raise InputError(f"{name} is {document[name]!r}; only {value!r} is supported")
    for name, types in _FIELDS.items():
        value = document.get(name)
        if not isinstance(value, types) or isinstance(value, bool):
            wanted = " or ".join(kind.__name__ for kind in types)
            raise InputError(f"the config has {name} {value!r}; it must be of type {wanted}")
    size, channels = document["image_size"], document["in_channels"]
    if document.get("out_channels", 2 * channels) != 2 * channels:
        raise InputError(
            f"out_channels is {document['out_channels']}; only {2 * channels}, twice in_channels, is possible"
        )
    # A factor that no level has means no attention, as in the original program.
    factors = [2**level for level in range(len(document["channel_mult"]))]
    return UNetConfig(
        image_size=size,
        image_channels=channels,
        classes=document["num_classes"],
        base_channels=document["model_channels"],
        channel_multipliers=tuple(document["channel_mult"]),
        residual_blocks=document["num_res_blocks"],
        attention_sizes=tuple(
            size // factor for factor in factors if factor in document["attention_downsample_factors"]
        ),
        head_channels=document["num_head_channels"],
    )


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise InputError(f"there is no file {path}; give the path of an .npz file")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is not an .npz file; make it with numpy.savez, or fetch it again")
    arrays = {}
    name = ""
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                arrays[name] = archive[name]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if "pickle" in str(error):
            raise InputError(
                f"{name} in {path} is a pickled object, which is never loaded; store arrays of numbers"
            ) from error
        raise InputError(f"{path} is damaged at {name!r} ({error}); make or fetch it again") from error
    return arrays


def _inputs(arrays: dict[str, np.ndarray], network: UNetConfig, *, loop: bool) -> dict[str, Tensor]:
    names = ["x0", "noise", "t", "labels"] + (["ancestral_noise"] if loop else [])
    lacking = [f"in/{name}" for name in names if f"in/{name}" not in arrays]
    if lacking:
        raise InputError(
            f"the file lacks {', '.join(lacking)}; give one that holds everything that was given"
        )
    given = {name: _number(arrays, f"in/{name}") for name in names}
    count, side = max(1, given["t"].numel()), network.image_size
    images = (count, network.image_channels, side, side)
    shapes = {
        "x0": images,
        "noise": images,
        "t": (count,),
        "labels": (count, side, side),
        "ancestral_noise": (LOOP_STEPS, *images),
    }
    for name, values in given.items():
        if tuple(values.shape) != shapes[name]:
            raise InputError(
                f"in/{name} is {tuple(values.shape)}; with its config and in/t it must be {shapes[name]}"
            )
        given[name] = values.long() if name in ("t", "labels") else values.float()
    return given


def _number(arrays: dict[str, np.ndarray], name: str) -> Tensor:
    if arrays[name].dtype.kind not in "fiu":
        raise InputError(f"{name} holds {arrays[name].dtype}; it must hold numbers")
    return torch.from_numpy(arrays[name].astype(arrays[name].dtype.newbyteorder("=")))
