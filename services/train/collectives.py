"""What the workers of a run tell one another beside gradients."""

from typing import NamedTuple

import torch
import torch.distributed


class Told(NamedTuple):
    """What some worker had to say: a fault, or that it is time to stop."""

    fault: str | None
    stop: bool


def exchange(fault: str | None, *, stop: bool) -> Told:
    """Tell every worker, and hear from every worker. The text is exchanged only if there is any.

    This runs every step.
    """
    if not _distributed():
        return Told(fault, stop)
    flags = torch.tensor([float(fault is not None), float(stop)], device=_collective_device())
    torch.distributed.all_reduce(flags)
    faulty, stopped = flags.bool().tolist()
    if not faulty:
        return Told(None, stopped)
    told: list[str | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(told, fault)
    return Told(next(text for text in told if text is not None), stopped)


def from_first_worker(value: int | None) -> int | None:
    """The value that the first worker has, on every worker."""
    if not _distributed():
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box)
    return box[0]


def _collective_device() -> torch.device:
    nccl = torch.distributed.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")


def _distributed() -> bool:
    return torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1
