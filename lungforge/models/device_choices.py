"""What a GPU is given to do in another way than a CPU. Every such choice stands here, and nowhere else.

A CPU computes as it always has, to the last bit. Any other device is a queue: the host must run ahead of it,
so nothing may be read back or copied and waited for within a step.
"""

import contextlib
from typing import Any, Final, Literal

import torch
from torch import Tensor

#: What networks compute in; their weights are float32.
Precision = Literal["float32", "bfloat16"]

#: Steps after which the metrics of training are read back from a GPU: each reading empties its queue.
READ_EVERY: Final = 16
#: Batches that are read ahead for a GPU: as many as it takes while the windows of an epoch are filled.
BATCHES_AHEAD: Final = 32
#: Bytes of modulations that sampling keeps on a CPU.
CPU_KEEP_BYTES: Final = 4 * 2**30
#: The share of a GPU's free memory that they may take; the rest is for the activations of a step.
GPU_KEEP_SHARE: Final = 0.5


def is_queue(device: torch.device) -> bool:
    """Whether the device works through a queue that the host should not wait for."""
    return device.type != "cpu"


def finds_neighbourhoods(device: torch.device) -> bool:
    """Whether SPADE computes distinct neighbourhoods once and gathers them.

    It saves nine tenths of a CPU's work. A GPU does the dense convolutions sooner than it finds the
    neighbourhoods, which are known to the host only after several readings.
    """
    return not is_queue(device)


def fuses_norms(device: torch.device) -> bool:
    """Whether normalisation, modulation and activation are one function that keeps its input only."""
    return is_queue(device)


def guides_in_one_batch(device: torch.device) -> bool:
    """Whether both passes of guidance are one batch of twice the size."""
    return is_queue(device)


def sampling_precision(device: torch.device) -> Precision:
    """What the network computes in when sampling; its last layer is float32 in either case."""
    return "bfloat16" if device.type == "cuda" else "float32"


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[None]:
    """The context in which networks compute: bfloat16 where that is the precision, else their own type."""
    if precision == "float32" and not torch.amp.is_autocast_available(device.type):
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def steps_between_reads(device: torch.device) -> int:
    """Steps after which the metrics of training are read back."""
    return READ_EVERY if is_queue(device) else 1


def batches_ahead(device: torch.device) -> int:
    """Batches that are read ahead of a training step."""
    return BATCHES_AHEAD if is_queue(device) else 1


def units_in_flight(*, uses_gpu: bool) -> int:
    """Units of sampling that a worker has at a time.

    While one is computed by the GPU, maps of the next are read and the images of the last are written. Where
    the cores compute, they are busy anyway, and a unit in waiting would miss at the end on an idle worker.
    """
    return 2 if uses_gpu else 1


def keep_bytes(device: torch.device) -> int:
    """Bytes of modulations that sampling may keep from step to step."""
    if device.type != "cuda":
        return CPU_KEEP_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    # What PyTorch holds and does not use is free as well.
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(GPU_KEEP_SHARE * (free + unused))


def optimiser_options(device: torch.device) -> dict[str, Any]:
    """Options of Adam and AdamW: one kernel for all weights on CUDA."""
    return {"fused": True} if device.type == "cuda" else {}


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Values on a device; the host does not wait until they are there."""
    if device.type == "cuda" and values.is_cpu:
        values = values.pin_memory()
    return values.to(device, non_blocking=True)
