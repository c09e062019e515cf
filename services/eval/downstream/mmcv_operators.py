"""The compiled operators that mmdet needs of mmcv, by torchvision's.

mmdet imports ``mmcv._ext``, a C++ module that each pair of mmcv and PyTorch has to compile anew; mmcv-lite
comes without it. Its non-maximum suppression and region alignment are torchvision's, so those stand in for
it. Every other operator is there by name, and says so when it is called.
"""

import importlib
import importlib.machinery
import pickle
import sys
import time
import types
from collections.abc import Callable
from typing import Any, Final

import torch
import torchvision

_NAME: Final = "mmcv._ext"
#: The code by which mmcv asks for averages; 0 is the maximum, which torchvision has not.
_AVERAGE: Final = 1


class _Operators(types.ModuleType):
    """A module with every operator: those below, and for the rest one that raises."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        # mmcv asks for the operators by their names; what Python itself asks for is not there.
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: Any, **__: Any) -> Any:
            raise NotImplementedError(
                f"mmcv's operator {name} is not there: this installation has mmcv-lite, with nms and "
                "roi_align only; install the full mmcv to use it"
            )

        return missing


def provide() -> None:
    """Let ``import mmdet`` find the operators; where a compiled ``mmcv._ext`` is installed, that is used.

    Call it before mmdet is imported; again, it does nothing.
    """
    import_yapf()
    if _NAME in sys.modules or importlib.machinery.PathFinder.find_spec(_NAME, _mmcv_path()) is not None:
        return
    module = _Operators(_NAME, __doc__)
    module.__spec__ = importlib.machinery.ModuleSpec(_NAME, loader=None)
    for operator in (nms, roi_align_forward, roi_align_backward):
        setattr(module, operator.__name__, operator)
    sys.modules[_NAME] = module


def import_yapf() -> None:
    """Import what mmengine imports, which pickles its grammar into the user's cache the first time.

    It takes no lock, so of processes that start together on a new machine one may read half a file.
    """
    for pause_s in (0.1, 0.5, 2.0):
        try:
            importlib.import_module("yapf")
        except (EOFError, pickle.UnpicklingError):
            time.sleep(pause_s)
        else:
            return


def _mmcv_path() -> list[str]:
    import mmcv

    return list(mmcv.__path__)


def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float, offset: int) -> torch.Tensor:
    """Non-maximum suppression.

    Args:
        boxes: ``[N, 4]``: left, top, right, bottom.
        scores: ``[N]``.
        iou_threshold: Boxes that overlap a better one by more are left out.
        offset: 0, or 1 where the right and lower edges belong to the box.

    Returns:
        The indices of the boxes that stay, the best first.
    """
    if offset:
        boxes = boxes + boxes.new_tensor([0.0, 0.0, 1.0, 1.0])
    return torchvision.ops.nms(boxes, scores, iou_threshold)


def roi_align_forward(
    input: torch.Tensor,
    rois: torch.Tensor,
    output: torch.Tensor,
    argmax_y: torch.Tensor,
    argmax_x: torch.Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Average features over the cells of boxes, by bilinear interpolation; fills ``output``.

    He, Gkioxari, Dollár and Girshick, "Mask R-CNN", 2017.

    Args:
        input: Features ``[B, C, H, W]``.
        rois: ``[N, 5]``: index of the image, left, top, right, bottom in pixels of the image.
        output: ``[N, C, aligned_height, aligned_width]``.
        argmax_y: Of no use to averages.
        argmax_x: Of no use to averages.
        aligned_height: Cells down.
        aligned_width: Cells across.
        spatial_scale: Pixels of the features over pixels of the image.
        sampling_ratio: Points across a cell; 0 for as many as the cell has pixels.
        pool_mode: 1, averages.
        aligned: Whether the centre of the first pixel is at 0.5 rather than 0.
    """
    _require_average(pool_mode)
    size = (aligned_height, aligned_width)
    output.copy_(torchvision.ops.roi_align(input, rois, size, spatial_scale, sampling_ratio, aligned))


def roi_align_backward(
    grad_output: torch.Tensor,
    rois: torch.Tensor,
    argmax_y: torch.Tensor,
    argmax_x: torch.Tensor,
    grad_input: torch.Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """The gradient of :func:`roi_align_forward` by its input; fills ``grad_input``."""
    _require_average(pool_mode)
    gradient = torch.ops.torchvision._roi_align_backward(
        grad_output,
        rois,
        spatial_scale,
        aligned_height,
        aligned_width,
        *grad_input.shape,
        sampling_ratio,
        aligned,
    )
    grad_input.copy_(gradient)


def _require_average(pool_mode: int) -> None:
    if pool_mode != _AVERAGE:
        raise NotImplementedError("region alignment by the maximum is not there; torchvision averages")
