"""The operators that stand in for mmcv's, against the same written out slowly."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from services.eval.downstream import mmcv_operators

mmcv_operators.provide()

from mmcv.ops import RoIAlign, RoIPool, batched_nms, nms, soft_nms  # noqa: E402


def _overlap(first: np.ndarray, second: np.ndarray) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    common = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return common / (sum(areas) - common)


def _slow_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    kept: list[int] = []
    for number in np.argsort(-scores, kind="stable"):
        if all(_overlap(boxes[number], boxes[other]) <= threshold for other in kept):
            kept.append(int(number))
    return kept


def _boxes(generator: np.random.Generator, count: int, side: float = 60.0) -> np.ndarray:
    corner = generator.uniform(0, side, (count, 2))
    return np.concatenate([corner, corner + generator.uniform(2, side / 2, (count, 2))], axis=1)


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
def test_suppression_keeps_what_the_slow_one_keeps(threshold: float) -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        boxes, scores = _boxes(generator, 60), generator.random(60)
        expected = _slow_nms(boxes, scores, threshold)
        actual, numbers = nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold)
        assert numbers.tolist() == expected
        np.testing.assert_allclose(actual.numpy()[:, 4], scores[expected])


def test_boxes_whose_edges_are_pixels_are_one_wider() -> None:
    # Two boxes of 10 x 10 px with their last pixels named, 5 apart: 50 of 150 in common, not 36 of 126.
    boxes = torch.tensor([[0.0, 0, 9, 9], [5, 0, 14, 9]])
    scores = torch.tensor([0.9, 0.8])
    assert len(nms(boxes, scores, 0.31, offset=1)[1]) == 1
    assert len(nms(boxes, scores, 0.31, offset=0)[1]) == 2


def test_classes_do_not_suppress_one_another() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 11, 11], [0, 0, 10, 10]])
    _, numbers = batched_nms(
        boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 0, 1]), {"type": "nms", "iou_threshold": 0.5}
    )
    assert numbers.tolist() == [0, 2]


def _slow_roi_align(
    features: np.ndarray, roi: np.ndarray, cells: int, scale: float, points: int
) -> np.ndarray:
    """Average of ``points`` x ``points`` bilinear samples in each cell, pixel centres at 0.5 ("aligned")."""
    left, top, right, low = roi * scale - 0.5
    output = np.zeros((len(features), cells, cells))
    for row in range(cells):
        for column in range(cells):
            for down in range(points):
                for across in range(points):
                    y = top + (low - top) / cells * (row + (down + 0.5) / points)
                    x = left + (right - left) / cells * (column + (across + 0.5) / points)
                    output[:, row, column] += _bilinear(features, y, x) / points**2
    return output


def _bilinear(features: np.ndarray, y: float, x: float) -> np.ndarray:
    _, height, width = features.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return np.zeros(len(features))
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    first_y, first_x = int(y), int(x)
    second_y, second_x = min(first_y + 1, height - 1), min(first_x + 1, width - 1)
    share_y, share_x = y - first_y, x - first_x
    above = features[:, first_y, first_x] * (1 - share_x) + features[:, first_y, second_x] * share_x
    below = features[:, second_y, first_x] * (1 - share_x) + features[:, second_y, second_x] * share_x
    return above * (1 - share_y) + below * share_y


@pytest.mark.parametrize(("scale", "points"), [(1.0, 2), (0.25, 2), (0.5, 3)])
def test_region_alignment_forward(scale: float, points: int) -> None:
    generator = np.random.default_rng(1)
    features = generator.normal(size=(2, 3, 12, 15))
    rois = np.concatenate([generator.integers(0, 2, (6, 1)), _boxes(generator, 6, 14 / scale)], axis=1)
    layer = RoIAlign(3, spatial_scale=scale, sampling_ratio=points)
    actual = layer(torch.from_numpy(features), torch.from_numpy(rois)).numpy()
    for number, roi in enumerate(rois):
        expected = _slow_roi_align(features[int(roi[0])], roi[1:], 3, scale, points)
        np.testing.assert_allclose(actual[number], expected, atol=1e-12)


def test_region_alignment_backward() -> None:
    generator = np.random.default_rng(2)
    features = generator.normal(size=(2, 2, 7, 6))
    rois = np.concatenate([[[0.0], [1.0], [1.0]], _boxes(generator, 3, 6.0)], axis=1)
    gradient = generator.normal(size=(3, 2, 2, 2))
    tensor = torch.from_numpy(features).requires_grad_()
    RoIAlign(2, spatial_scale=1.0, sampling_ratio=2)(tensor, torch.from_numpy(rois)).backward(
        torch.from_numpy(gradient)
    )
    assert tensor.grad is not None
    # The output is linear in the features, so the gradient at a feature is the output of that one alone.
    expected = np.zeros_like(features)
    for place in np.ndindex(*features.shape):
        unit = np.zeros_like(features)
        unit[place] = 1.0
        for number, roi in enumerate(rois):
            expected[place] += (
                gradient[number] * _slow_roi_align(unit[int(roi[0])], roi[1:], 2, 1.0, 2)
            ).sum()
    np.testing.assert_allclose(tensor.grad.numpy(), expected, atol=1e-12)


def test_a_missing_operator_is_named() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10]])
    with pytest.raises(NotImplementedError, match="operator softnms is not there"):
        soft_nms(boxes, torch.tensor([0.9]))
    with pytest.raises(NotImplementedError, match="operator roi_pool_forward is not there"):
        RoIPool(2)(torch.zeros(1, 1, 4, 4), torch.tensor([[0.0, 0, 0, 2, 2]]))
    with pytest.raises(NotImplementedError, match="by the maximum is not there"):
        RoIAlign(2, pool_mode="max")(torch.zeros(1, 1, 4, 4), torch.tensor([[0.0, 0, 0, 2, 2]]))


def test_mmdet_is_importable_in_a_fresh_process_and_twice_is_once() -> None:
    code = (
        "from services.eval.downstream import mmcv_operators as operators; operators.provide();"
        "import sys; first = sys.modules['mmcv._ext']; operators.provide();"
        "assert sys.modules['mmcv._ext'] is first; import mmdet.models; print(mmdet.__version__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=120, check=False
    )
    assert done.stdout.strip().endswith("3.3.0"), done.stderr


def test_a_grammar_that_another_process_is_writing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    faults: list[Exception] = [EOFError("Ran out of input"), pickle.UnpicklingError("truncated")]
    imported, pauses = [], []

    def import_module(name: str) -> None:
        if faults:
            raise faults.pop(0)
        imported.append(name)

    monkeypatch.setattr(mmcv_operators.importlib, "import_module", import_module)
    monkeypatch.setattr(mmcv_operators.time, "sleep", pauses.append)
    mmcv_operators.import_yapf()
    assert (imported, pauses) == (["yapf"], [0.1, 0.5])
