"""From rows to the tensors of a step. What is random about a sample depends on its global index only."""

from collections.abc import Sequence

import numpy as np
import torch

from lungforge.ct import classes
from lungforge.ct.label_map import flip_label
from lungforge.ct.window import hu_to_unit
from lungforge.datasets.patches import patch_at, patch_corner
from lungforge.datasets.slices import SliceRow
from lungforge.models.learner import Batch, SampleNeeds
from lungforge.models.place import place_of
from lungforge.models.spade import HIDDEN_ID, require_classes
from lungforge.randomness import numpy_generator, torch_generator
from services.train.config import TrainConfig


def make_batch(
    rows: Sequence[SliceRow], samples: Sequence[int], config: TrainConfig, needs: SampleNeeds
) -> Batch:
    """Build the tensors of a step.

    Args:
        rows: The slices.
        samples: The global index of each: it decides patch, flip, what is hidden, time and noise.
        config: Of the run.
        needs: Of the learner.

    Raises:
        InputError: A map holds an unknown class.
    """
    images, labels, hidden, times, noise, places = [], [], [], [], [], []
    for row, sample in zip(rows, samples, strict=True):
        slice_px, corner = row.label.shape, (0, 0)
        if config.patch is not None:
            corner = patch_corner(row, config.patch, numpy_generator(config.seed, "patch", sample))
            row = patch_at(row, config.patch, corner)
        generator = torch_generator(config.seed, "sample", sample)
        for_flip, for_dropout = torch.rand(2, generator=generator).tolist()
        flip = for_flip < config.flip
        images.append(hu_to_unit(row.image[:, ::-1] if flip else row.image))
        labels.append(flip_label(row.label) if flip else row.label)
        hidden.append(for_dropout < needs.condition_dropout)
        times.append(needs.draw_time(generator))
        noise.append(torch.randn(needs.noise_shape, generator=generator))
        place = place_of(row.spacing_mm, slice_px, row.label.shape, corner, mirrored=flip)
        known = numpy_generator(config.seed, "place", sample).random() >= needs.condition_dropout
        places.append(place if known else np.zeros_like(place))
    maps = np.stack(labels)
    require_classes(int(maps.min()), int(maps.max()), classes.COUNT)
    maps[hidden] = HIDDEN_ID
    return Batch(
        images=torch.from_numpy(np.stack(images))[:, None],
        labels=torch.from_numpy(maps),
        times=torch.tensor(times),
        noise=torch.stack(noise),
        places=torch.from_numpy(np.stack(places)),
    )
