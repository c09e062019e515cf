"""Average precision against COCO's evaluation (pycocotools), on random scenes."""

import contextlib
import io
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from lungforge.metrics import detection

Scene = tuple[list[tuple[np.ndarray, np.ndarray]], list[np.ndarray]]


@st.composite
def _scenes(draw: st.DrawFn) -> Scene:
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    detections, truths = [], []
    for _ in range(draw(st.integers(1, 8))):
        truth = np.concatenate([generator.uniform(0, 50, (3, 2)), generator.uniform(4, 20, (3, 2))], axis=1)
        truth = truth[: generator.integers(0, 4)]
        near = truth + generator.normal(0, 1.5, truth.shape)
        far = np.concatenate([generator.uniform(0, 50, (4, 2)), generator.uniform(4, 20, (4, 2))], axis=1)
        boxes = np.concatenate([near, near[:1] + 0.5, far[: generator.integers(0, 5)]])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], 1.0)
        truths.append(truth)
        boxes = boxes if len(boxes) else far[:1]  # pycocotools wants one box or more
        detections.append((boxes, generator.random(len(boxes))))
    if not any(len(truth) for truth in truths):
        truths[0] = np.array([[10.0, 10.0, 8.0, 8.0]])
    return detections, truths


def _coco(scene: Scene, areas: Sequence[float] = (0.0, 1e5)) -> COCOeval:
    """COCO's evaluation of a scene, over the true boxes whose area is in a range."""
    detections, truths = scene
    annotations = [
        {
            "image_id": image,
            "category_id": 1,
            "bbox": box.tolist(),
            "area": float(box[2] * box[3]),
            "iscrowd": 0,
        }
        for image, boxes in enumerate(truths)
        for box in boxes
    ]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    results = [
        {"image_id": image, "category_id": 1, "bbox": box.tolist(), "score": float(score)}
        for image, (boxes, scores) in enumerate(detections)
        for box, score in zip(boxes, scores, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": image} for image in range(len(truths))],
            "annotations": annotations,
            "categories": [{"id": 1, "name": "nodule"}],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [list(areas)], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


@settings(max_examples=60, deadline=None)
@given(_scenes())
def test_average_precision_and_recall_are_cocos(scene: Scene) -> None:
    precision = _coco(scene).eval["precision"][:, :, 0, 0, -1].mean(axis=1)
    recall = _coco(scene).eval["recall"][:, 0, 0, -1]
    weights = np.ones((1, len(scene[1])))
    for number, threshold in enumerate(detection.THRESHOLDS):
        matches = detection.match(*scene, threshold)
        assert detection.average_precision(matches, weights)[0] == pytest.approx(precision[number], abs=1e-9)
        assert detection.average_recall(matches, weights)[0] == pytest.approx(recall[number], abs=1e-9)


def _area(boxes: np.ndarray) -> np.ndarray:
    return boxes[:, 2] * boxes[:, 3]


@settings(max_examples=40, deadline=None)
@given(_scenes())
def test_bands_of_sizes_are_cocos(scene: Scene) -> None:
    detections, truths = scene
    for low, high in ((0.0, 60.0), (60.0, 150.0), (150.0, 1e5)):
        counting = [(_area(truth) >= low) & (_area(truth) <= high) for truth in truths]
        if not any(counts.any() for counts in counting):
            continue
        precision = _coco(scene, (low, high)).eval["precision"][:, :, 0, 0, -1].mean(axis=1)
        missing = [(_area(boxes) >= low) & (_area(boxes) <= high) for boxes, _ in detections]
        for number in (0, 5):
            matches = detection.match(detections, truths, detection.THRESHOLDS[number], counting, missing)
            assert detection.average_precision(matches, np.ones((1, len(truths))))[0] == pytest.approx(
                precision[number], abs=1e-9
            )


def test_many_random_boxes_score_in_every_band_as_in_coco() -> None:
    generator = np.random.default_rng(13)
    truths = [
        np.concatenate([generator.uniform(0, 50, (4, 2)), generator.uniform(4, 20, (4, 2))], axis=1)
        for _ in range(60)
    ]
    detections = []
    for truth in truths:
        # All true boxes but one, somewhat displaced, among as many random boxes of all sizes.
        random = np.concatenate([generator.uniform(0, 50, (4, 2)), generator.uniform(4, 20, (4, 2))], axis=1)
        boxes = np.concatenate([truth[:3] + generator.normal(0, 1.2, (3, 4)), random])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], 1.0)
        detections.append((boxes, generator.random(7) + np.repeat([0.3, 0.0], [3, 4])))
    whole, once = np.ones((1, 60)), []
    for low, high in ((0.0, 1e5), (0.0, 80.0), (80.0, 160.0), (160.0, 1e5)):
        counting = [(_area(truth) >= low) & (_area(truth) <= high) for truth in truths]
        missing = [(_area(boxes) >= low) & (_area(boxes) <= high) for boxes, _ in detections]
        precision = _coco((detections, truths), (low, high)).eval["precision"][:, :, 0, 0, -1]
        ladder = [
            detection.average_precision(
                detection.match(detections, truths, threshold, counting, missing), whole
            )[0]
            for threshold in detection.THRESHOLDS
        ]
        assert ladder == pytest.approx(precision.mean(axis=1), abs=1e-9)
        # Boxes outside the band that match nothing would cost precision in each of them.
        once.append(
            detection.average_precision(detection.match(detections, truths, 0.5, counting), whole)[0]
            - ladder[0]
        )
    assert once[0] == 0
    assert max(once[1:]) < -0.02


@settings(max_examples=60, deadline=None)
@given(_scenes(), st.integers(0, 2**32 - 1))
def test_a_weight_is_that_many_copies_of_a_picture(scene: Scene, seed: int) -> None:
    detections, truths = scene
    times = np.random.default_rng(seed).integers(0, 4, len(truths))
    times[np.argmax([len(truth) for truth in truths])] += 1
    copies = np.repeat(np.arange(len(truths)), times).tolist()
    copied = detection.match(
        [detections[number] for number in copies], [truths[number] for number in copies], 0.5
    )
    weighted = detection.match(detections, truths, 0.5)
    one = np.ones((1, len(copies)))
    draw = times[None].astype(float)
    assert detection.average_recall(weighted, draw)[0] == pytest.approx(
        detection.average_recall(copied, one)[0]
    )
    assert detection.average_precision(weighted, draw)[0] == pytest.approx(
        detection.average_precision(copied, one)[0]
    )


def test_a_second_box_on_a_nodule_is_a_false_one() -> None:
    truth = [np.array([[0.0, 0.0, 10.0, 10.0]])]
    boxes = np.array([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0]])
    matches = detection.match([(boxes, np.array([0.5, 0.9]))], truth, 0.5)
    assert (matches.score.tolist(), matches.hit.tolist(), matches.miss.tolist()) == (
        [0.9, 0.5],
        [True, False],
        [False, True],
    )
    assert detection.average_precision(matches, np.ones((1, 1)))[0] == 1.0


def test_a_nodule_of_another_size_is_neither_a_miss_nor_a_false_positive() -> None:
    truth = [np.array([[0.0, 0.0, 4.0, 4.0], [20.0, 20.0, 10.0, 10.0]])]
    detections = [(truth[0][::-1].copy(), np.array([0.9, 0.8]))]
    counting = [np.array([True, False])]
    matches = detection.match(detections, truth, 0.5, counting)
    # The larger nodule has the higher score; without the rule that would halve the precision of the smaller.
    assert (matches.hit.tolist(), matches.miss.tolist()) == ([False, True], [False, False])
    assert detection.average_precision(matches, np.ones((1, 1)))[0] == pytest.approx(1.0)
    assert np.isnan(detection.average_precision(matches, np.zeros((1, 1)))[0])


def test_a_box_outside_the_band_that_matches_nothing_is_ignored() -> None:
    truth = [np.array([[0.0, 0.0, 10.0, 10.0]])]
    boxes = np.array([[0.0, 0.0, 10.0, 10.0], [30.0, 0.0, 20.0, 20.0], [30.0, 30.0, 9.0, 9.0]])
    scores = np.array([0.5, 0.9, 0.8])
    matches = detection.match([(boxes, scores)], truth, 0.5, None, [np.array([True, False, True])])
    assert matches.miss.tolist() == [False, True, False]
    assert detection.average_precision(matches, np.ones((1, 1)))[0] == pytest.approx(0.5)


def test_pictures_without_nodules_cost_precision_only() -> None:
    truths = [np.array([[0.0, 0.0, 8.0, 8.0]]), np.zeros((0, 4))]
    detections = [(truths[0], np.array([0.6])), (np.array([[3.0, 3.0, 8.0, 8.0]]), np.array([0.9]))]
    matches = detection.match(detections, truths, 0.5)
    both, first = np.ones((1, 2)), np.array([[1.0, 0.0]])
    assert detection.average_precision(matches, first)[0] == pytest.approx(1.0)
    assert detection.average_precision(matches, both)[0] == pytest.approx(0.5)
    assert detection.average_recall(matches, both)[0] == 1.0
