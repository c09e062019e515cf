"""Which objective a network has, and where its constants come from."""

import dataclasses
import json

import numpy as np
import pytest

from lungforge.errors import InputError
from lungforge.models.base import DataShape
from lungforge.models.document import from_document, to_document
from lungforge.models.sdm.config import DiffusionOptions, UNetOptions
from lungforge.models.sdm.objectives import objective_of
from lungforge.models.sdm.objectives.edm import EDM
from lungforge.models.sdm.objectives.eps import NoisePrediction
from lungforge.models.sdm.spec import SPEC

NETWORK = UNetOptions(32, (1, 2), 1, (16,), 32)


def test_the_objective_of_training_is_kept_in_the_network_with_the_pixels_of_its_images():
    config = SPEC.config(NETWORK, DataShape(32), DiffusionOptions(objective="edm"))
    images = np.array([[[-1.0, 0.0], [0.5, 0.5]]], dtype=np.float32)
    measured = SPEC.with_statistics(config, lambda: images)
    assert (measured.pixel_mean, measured.pixel_spread) == (0.0, round(np.sqrt(0.375), 4))
    assert objective_of(measured) == EDM(32, 0.0, 0.6124)
    _, again = from_document(json.loads(json.dumps(to_document(SPEC, measured))))
    assert again == measured


def test_noise_prediction_takes_nothing_from_the_images():
    def never() -> np.ndarray:
        raise AssertionError("read")

    config = SPEC.config(NETWORK, DataShape(32), DiffusionOptions(objective="eps"))
    assert SPEC.with_statistics(config, never) is config
    assert isinstance(objective_of(config), NoisePrediction)


def test_images_of_one_value_are_refused():
    config = SPEC.config(NETWORK, DataShape(32), DiffusionOptions(objective="edm"))
    with pytest.raises(InputError, match="all pixels of the training images are equal"):
        SPEC.with_statistics(config, lambda: np.full((2, 4, 4), -1, np.float32))


def test_a_network_that_was_written_before_there_were_objectives_predicts_the_noise():
    written = dataclasses.replace(SPEC.preset_config("tiny"), objective="eps", dropout=0.1)
    document = to_document(SPEC, written)
    for name in ("objective", "pixel_mean", "pixel_spread"):
        del document["network"][name]
    _, config = from_document(document)
    assert config == written
