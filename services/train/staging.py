"""Copies of a training state, so that training continues while they are written."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from lungforge.models.checkpoint import to_safetensors


class Staging:
    """A copy of groups of tensors in the host's memory, which every checkpoint uses again.

    Memory that is new at every checkpoint would cost more than the copy: the system clears each page first.
    Tensors of a GPU are copied to page-locked memory, in the order of its work: the steps that follow change
    them only afterwards, and nobody waits for it here. Of tensors of the CPU, the copy is the wait.
    """

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, Tensor]] = {}
        self._copied: torch.Event | None = None

    def copy(self, groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Copy named groups of named tensors as they are now, over the copy before."""
        self._groups = {
            name: {key: _copied(tensor, self._groups.get(name, {}).get(key)) for key, tensor in group.items()}
            for name, group in groups.items()
        }
        on_gpu = any(tensor.is_cuda for group in groups.values() for tensor in group.values())
        self._copied = torch.cuda.current_stream().record_event() if on_gpu else None

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Each group's name and its safetensors file; in another thread than ``copy``, if need be."""
        if self._copied is not None:
            self._copied.synchronize()
        for name, group in self._groups.items():
            yield name, to_safetensors(group)


def _copied(tensor: Tensor, buffer: Tensor | None) -> Tensor:
    source = tensor.detach()
    if buffer is None or (buffer.shape, buffer.dtype) != (source.shape, source.dtype):
        # Contiguous, as files hold it, whatever the memory format of the original.
        buffer = torch.empty(source.shape, dtype=source.dtype, pin_memory=source.is_cuda)
    return buffer.copy_(source, non_blocking=True)
