"""Stacks of real slices: nodules of slices are the annotated ones, and boxes around them are hits."""

import os
from pathlib import Path

import numpy as np
import pytest

from lungforge.ct.io.luna16_tables import read_annotations
from lungforge.ct.io.volume import read_geometry
from lungforge.ct.nodules import nodule_boxes
from lungforge.datasets import Dataset
from lungforge.metrics.candidates import join_nodules
from services.eval.downstream.examples import read_rows
from services.eval.downstream.froc import (
    network_sensitivities,
    read_test_slices,
    require_whole_scans,
    scan_stacks,
)
from services.preprocess.config import PreprocessConfig
from tests.services.preprocessed import preprocess_here

pytestmark = [pytest.mark.slow, pytest.mark.real_data]


@pytest.fixture(scope="module")
def source() -> Path:
    folder = os.environ.get("LUNGFORGE_REAL_DATA")
    if not folder or not (Path(folder) / "luna16_stacks").is_dir():
        pytest.skip("LUNGFORGE_REAL_DATA names no folder with luna16_stacks")
    return Path(folder).resolve() / "luna16_stacks"


@pytest.fixture(scope="module")
def stacks(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Every slice, without Ray."""
    config = PreprocessConfig(str(source), str(tmp_path_factory.mktemp("stacks")), size=128, slices="all")
    return preprocess_here(config)


def test_the_nodules_are_the_annotated_ones(source: Path, stacks: Dataset) -> None:
    require_whole_scans(stacks, None, None)
    slices = read_test_slices(stacks, None)
    assert len(slices) == 16 + 12 + 11
    annotations = read_annotations(str(source / "annotations.csv"))
    no_boxes = [(np.zeros((0, 4)), np.zeros(0))] * len(slices)
    joined = {scan: join_nodules(scan, stack) for scan, stack in scan_stacks(slices, no_boxes).items()}
    assert {scan for scan, nodules in joined.items() if nodules} == annotations.keys()
    for scan, (annotation,) in annotations.items():
        (nodule,) = joined[scan]
        (header,) = source.glob(f"subset*/{scan}.mhd")
        geometry = read_geometry(str(header))
        pixel_mm = 4 * np.asarray(geometry.spacing_mm[:2])
        # The images are 4 times smaller: their first pixel covers the first 4 of the scan, centred at 1.5.
        corner = np.asarray(geometry.origin_mm[:2]) + 1.5 * pixel_mm / 4
        place = corner + np.asarray([nodule.x_mm, nodule.y_mm])
        assert place == pytest.approx([annotation.x_mm, annotation.y_mm])
        assert abs(nodule.z_mm - annotation.z_mm) <= geometry.spacing_mm[2] / 2
        assert nodule.diameter_mm == annotation.diameter_mm


def test_boxes_around_the_nodules_are_hits_and_those_elsewhere_are_not(stacks: Dataset) -> None:
    slices = read_test_slices(stacks, None)
    detections = []
    for row in read_rows(stacks, None):
        boxes = np.asarray(nodule_boxes(row.label, row.nodules), dtype=np.float64).reshape(-1, 4)
        detections.append((boxes, np.full(len(boxes), 0.9)))
    values, candidates = network_sensitivities(slices, detections, [], seed=0)
    assert (values[0].tolist(), candidates) == ([1.0] * 7, 2 / 3)
    shifted = [(boxes + np.asarray([40, 0, 0, 0]), scores) for boxes, scores in detections]
    values, _ = network_sensitivities(slices, shifted, [], seed=0)
    assert values[0].tolist() == [0.0] * 7
