"""What the workers of a run tell one another beside gradients."""

import functools
from typing import Any, NamedTuple, Self

import torch
import torch.distributed
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from lungforge.errors import AccessError, AccessRefusedError, InputError
from lungforge.models.learner import State


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
    every step, between the hosts: a GPU's queue is not waited for. Faults are exchanged only if there is any.
    """
    if not _distributed():
        return WorkerStatus(fault, stop)
    group = _hosts()
    flags = torch.tensor([float(fault is not None), float(stop)])
    torch.distributed.all_reduce(flags, group=group)
    faulty, stopped = flags.bool().tolist()
    if not faulty:
        return WorkerStatus(None, stopped)
    faults: list[Fault | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(faults, fault, group=group)
    return WorkerStatus(next(each for each in faults if each is not None), stopped)


def compress_gradients(module: nn.Module) -> nn.Module:
    """Have the workers exchange the gradients of a module in bfloat16; one alone has nothing to exchange."""
    if isinstance(module, DistributedDataParallel):
        module.register_comm_hook(None, bf16_compress_hook)
    return module


def state_from_first_worker(state: State | None) -> State | None:
    """The groups of tensors that the first worker has read, on every worker; None where it has none.

    So a checkpoint is read from the store once, whatever the number of workers. The tensors travel between
    the hosts' memories.

    Args:
        state: On the first worker, named groups of named tensors of the CPU; None on the others.
    """
    if not _distributed():
        return state
    group = _hosts()
    box = [None if state is None else _layout(state)]
    torch.distributed.broadcast_object_list(box, group=group)
    layout = box[0]
    if layout is None:
        return None
    if state is None:
        state = {
            name: {key: torch.empty(shape, dtype=dtype) for key, (shape, dtype) in tensors.items()}
            for name, tensors in layout.items()
        }
    for tensors in state.values():
        for tensor in tensors.values():
            torch.distributed.broadcast(tensor, src=0, group=group)
    return state


def _layout(state: State) -> dict[str, dict[str, tuple[torch.Size, torch.dtype]]]:
    return {
        name: {key: (tensor.shape, tensor.dtype) for key, tensor in tensors.items()}
        for name, tensors in state.items()
    }


@functools.cache
def _hosts() -> Any:
    """The group of all workers through which their hosts talk; None is the default one."""
    return torch.distributed.new_group(backend="gloo") if torch.distributed.get_backend() == "nccl" else None


def _distributed() -> bool:
    return torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1
