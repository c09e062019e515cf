"""What the workers of a run tell one another beside gradients."""

from typing import NamedTuple, Self

import torch
import torch.distributed

from lungforge.errors import AccessError, AccessRefusedError, InputError


class Fault(NamedTuple):
    """Why a worker cannot train on; plain data for the other workers and the job.

    Attributes:
        message: One line.
        family: The kind of error that it is.
    """

    message: str
    family: type[InputError] | type[AccessError]

    @classmethod
    def of(cls, error: InputError | AccessError) -> Self:
        """The fault that an error is."""
        families = (AccessRefusedError, AccessError, InputError)
        return cls(str(error), next(family for family in families if isinstance(error, family)))

    def error(self) -> InputError | AccessError:
        """The error again."""
        return self.family(self.message)


class WorkerStatus(NamedTuple):
    """The state of the workers before a step: the first fault of any of them, and whether to stop."""

    fault: Fault | None
    stop: bool


def agree(fault: Fault | None, *, stop: bool) -> WorkerStatus:
    """Give this worker's status, and return that of all workers together: the same on each of them.

    Without it, workers would wait for the gradients of one that has left until a time-out. It runs before
    every step; faults are exchanged only if there is any.
    """
    if not _distributed():
        return WorkerStatus(fault, stop)
    flags = torch.tensor([float(fault is not None), float(stop)], device=_collective_device())
    torch.distributed.all_reduce(flags)
    faulty, stopped = flags.bool().tolist()
    if not faulty:
        return WorkerStatus(None, stopped)
    faults: list[Fault | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(faults, fault)
    return WorkerStatus(next(each for each in faults if each is not None), stopped)


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
