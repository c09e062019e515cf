"""A forward pass as a GPU would run it, operation by operation, on tensors that are only described.

Fake CUDA tensors take the code's way for GPUs, PyTorch's own rules of bfloat16 autocast included, and need
neither a GPU nor memory. What is counted is what PyTorch would start: kernels of their own, not compiled.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks.simulated_device import WithoutMemory
from lungforge.models.cost import Gpu
from lungforge.models.sdm import blocks
from lungforge.models.sdm.config import UNetConfig
from lungforge.models.sdm.guidance import guided_network, null_map
from lungforge.models.sdm.learner import DiffusionLoss
from lungforge.models.sdm.objectives import objective_of
from lungforge.models.sdm.unet import SemanticUNet

DEVICE: Final = "cuda"
#: Shares of a datasheet's arithmetic and memory rate that a good kernel reaches.
ARITHMETIC_REACHED, MEMORY_REACHED = 0.6, 0.8
_EVERYTHING: Final = 2**62


@dataclass(frozen=True)
class Operation:
    """One kernel: its arithmetic, whether that is bfloat16's, and the bytes that it reads and writes."""

    flops: float
    half: bool
    bytes: float

    def seconds(self, gpu: Gpu) -> float:
        """By the roofline: the longer of its arithmetic and its memory traffic."""
        rate = gpu.bfloat16_flops if self.half else gpu.float32_flops
        return max(
            self.flops / (ARITHMETIC_REACHED * rate), self.bytes / (MEMORY_REACHED * gpu.bytes_per_second)
        )


@dataclass
class Profile:
    """What a forward pass does.

    Attributes:
        operations: Its kernels; a fused norm is one.
        unfused_bytes: Bytes that fused norms move beyond those of one kernel, where they are not compiled.
        layout_flips: Kernels that turn channels-last features into another memory layout.
        kept: Bytes of the activations that the gradient needs, by type.
    """

    operations: list[Operation] = field(default_factory=list)
    unfused_bytes: float = 0.0
    layout_flips: Counter[str] = field(default_factory=Counter)
    kept: dict[str, int] = field(default_factory=dict)

    @property
    def flops(self) -> float:
        """Of all operations."""
        return sum(each.flops for each in self.operations)

    @property
    def bytes(self) -> float:
        """Of all operations, compiled."""
        return sum(each.bytes for each in self.operations)

    @property
    def float32_share(self) -> float:
        """Of the bytes that are kept."""
        return self.kept.get("float32", 0) / max(sum(self.kept.values()), 1)

    def seconds(self, gpu: Gpu) -> float:
        """By the roofline, compiled."""
        return sum(each.seconds(gpu) for each in self.operations)


class _Recorder(TorchDispatchMode):
    def __init__(self, profile: Profile) -> None:
        super().__init__()
        self.profile, self.inside = profile, False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.is_view or func.namespace == "prim":
            return result
        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        if func is torch.ops.aten.convolution.default and any(map(_is_turned, given)):
            # As cuDNN does, of which a PyTorch for CPUs knows nothing.
            result = result.contiguous(memory_format=torch.channels_last)
        made = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
        moved = float(sum(value.nbytes for value in (*given, *made)))
        if any(map(_is_turned, given)) and any(map(_is_plain, made)):
            self.profile.layout_flips[func.overloadpacket.__name__] += 1
        if self.inside:
            self.profile.unfused_bytes += moved
            return result
        packet = func.overloadpacket
        flops = (
            flop_registry[packet](*args, **(kwargs or {}), out_val=result) if packet in flop_registry else 0
        )
        half = bool(given) and given[0].dtype == torch.bfloat16
        self.profile.operations.append(Operation(flops, half, moved))
        return result

    def fused_norm(self, *args: Any, **options: Any) -> Tensor:
        """The fused norm as one operation."""
        self.inside = True
        try:
            result = _fused_norm(*args, **options)
        finally:
            self.inside = False
        given = [value for value in tree_leaves(args) if isinstance(value, Tensor)]
        moved = float(sum(value.nbytes for value in (*given, result)))
        self.profile.operations.append(Operation(0, True, moved))
        self.profile.unfused_bytes -= moved
        return result


_fused_norm = blocks.fused_norm


def _is_features(x: Tensor) -> bool:
    return x.ndim == 4 and min(x.shape[1:]) > 1


def _is_turned(x: Tensor) -> bool:
    return _is_features(x) and x.is_contiguous(memory_format=torch.channels_last)


def _is_plain(x: Tensor) -> bool:
    return _is_features(x) and x.is_contiguous()


@contextlib.contextmanager
def _recording(profile: Profile) -> Iterator[None]:
    recorder = _Recorder(profile)
    with mock.patch.object(blocks, "fused_norm", recorder.fused_norm), recorder:
        yield


def _flash_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """What CUDA takes for attention in bfloat16, of which a PyTorch for CPUs knows nothing either."""
    result: Tensor = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)[0]
    return result


@contextlib.contextmanager
def _bfloat16() -> Iterator[None]:
    """Autocast of CUDA, which PyTorch would turn off where there is no GPU."""
    there = mock.patch("torch.cuda.amp.common.amp_definitely_not_available", return_value=False)
    attention = mock.patch.object(F, "scaled_dot_product_attention", _flash_attention)
    with there, attention, mock.patch("torch.cuda.is_bf16_supported", return_value=True):
        yield


def _network(config: UNetConfig, mode: FakeTensorMode) -> SemanticUNet:
    with WithoutMemory():
        network = SemanticUNet(config)
    with mode:
        for module in network.modules():
            for name, value in module._parameters.items():
                if value is not None:
                    layout = torch.channels_last if value.ndim == 4 else torch.contiguous_format
                    described = torch.zeros(value.shape, device=DEVICE).contiguous(memory_format=layout)
                    module._parameters[name] = nn.Parameter(described)
    return network


def training_profile(config: UNetConfig, images: int) -> Profile:
    """The forward pass of a training step in bfloat16, with its loss."""
    profile, mode, size = Profile(), FakeTensorMode(allow_non_fake_inputs=True), config.image_size
    network = _network(config, mode)
    weights = {value.untyped_storage()._cdata for value in network.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(value: Tensor) -> Tensor:
        if value.untyped_storage()._cdata not in weights:
            kept[value.untyped_storage()._cdata] = value
        return value

    loss = DiffusionLoss(network, objective_of(config), "bfloat16")
    with mode:
        image, places = (
            torch.zeros(images, 1, size, size, device=DEVICE),
            torch.zeros(images, 4, device=DEVICE),
        )
        maps = torch.zeros(images, size, size, config.classes, device=DEVICE).permute(0, 3, 1, 2)
        times = torch.zeros(images, dtype=torch.long if config.objective == "eps" else None, device=DEVICE)
        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value)
        with _bfloat16(), hooks, _recording(profile):
            loss(image, maps, times, image, places)
    for value in kept.values():
        name = str(value.dtype).removeprefix("torch.")
        profile.kept[name] = profile.kept.get(name, 0) + value.untyped_storage().nbytes()
    return profile


def sampling_profile(config: UNetConfig, images: int) -> Profile:
    """A guided evaluation of the network in bfloat16, with modulations that are kept from step to step."""
    profile, mode, size = Profile(), FakeTensorMode(allow_non_fake_inputs=True), config.image_size
    network = _network(config, mode)
    with _bfloat16(), mode, torch.no_grad(), torch.autocast(DEVICE, torch.bfloat16):
        maps = torch.zeros(images, size, size, config.classes, device=DEVICE).permute(0, 3, 1, 2)
        conditioning, null = (
            network.condition(each, keep_bytes=_EVERYTHING) for each in (maps, null_map(network))
        )
        guided = guided_network(network, conditioning, null, 1.5)
        x, times = torch.zeros(images, 1, size, size, device=DEVICE), torch.zeros(images, device=DEVICE)
        with _recording(profile):
            guided(x, times)
    # Kept for the whole of sampling: those of both passes, in one batch.
    profile.kept["bfloat16"] = 2 * conditioning.nbytes
    return profile
