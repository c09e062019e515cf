"""The device that a worker computes on."""

import platform

import torch

from lungforge.errors import InputError


def worker_device(gpus: float) -> torch.device:
    """The GPU that Ray gave this worker, or the CPU where it has none.

    Args:
        gpus: GPUs of the worker, or a share of one.

    Raises:
        InputError: Ray counts a GPU here that PyTorch cannot use.
    """
    if not gpus:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError(
            f"Ray counts a GPU on {platform.node()} that PyTorch {torch.__version__} cannot use; "
            "check its driver there (nvidia-smi) and that PyTorch is built for CUDA, or run without GPUs"
        )
    return torch.device("cuda")
