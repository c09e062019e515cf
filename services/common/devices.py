"""The device that a worker computes on."""

import platform

import torch

from lungforge.errors import InputError


def worker_device(gpus: float) -> torch.device:
    """The GPU of this worker, or the CPU where it has none.

    Args:
        gpus: GPUs of the worker, or a share of one.

    Raises:
        InputError: PyTorch cannot use the GPU that was asked for, or that Ray counts.
    """
    if not gpus:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError(
            f"a worker on {platform.node()} is to use a GPU, and PyTorch {torch.__version__} finds none; "
            "check its driver there (nvidia-smi) and that PyTorch is built for CUDA, or run without GPUs"
        )
    return torch.device("cuda")
