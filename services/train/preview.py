"""Pictures on the way: maps, the real slices, and what the model makes of the maps so far."""

import io

import numpy as np
from PIL import Image

from lungforge.ct.classes import COLOURS
from lungforge.ct.window import hu_to_uint8
from lungforge.patches import cut_patch
from lungforge.randomness import numpy_generator
from lungforge.rows import RowIndex
from lungforge.sdm.checkpoint import build
from lungforge.synthesis import Painter
from services.train.learner import Learner

#: Slices in the picture, spread evenly over the training set.
_SLICES = 4
_STEPS = 20
_GUIDANCE = 1.5


def preview_picture(learner: Learner, index: RowIndex) -> bytes:
    """A PNG: a column for each of some slices; map, real, and synthetic below one another.

    Args:
        learner: Its moving average is what draws.
        index: The training set.
    """
    assert learner.average is not None
    network = build(learner.network.config, learner.average.weights).to(learner.device)
    seed, patch = learner.config.seed, learner.config.patch
    rows = index.read(np.linspace(0, len(index) - 1, min(_SLICES, len(index))).astype(int))
    if patch is not None:
        rows = [
            cut_patch(row, patch, numpy_generator(seed, "preview", number)) for number, row in enumerate(rows)
        ]
    painter = Painter(network, sampler="dpmpp", steps=_STEPS, guidance=_GUIDANCE)
    drawn = painter.draw(
        np.stack([row.label for row in rows]), [(seed, "preview", number) for number in range(len(rows))]
    )
    columns = [
        np.concatenate([np.array(COLOURS, np.uint8)[row.label], _grey(row.image), _grey(image)])
        for row, image in zip(rows, drawn, strict=True)
    ]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(columns, axis=1)).save(buffer, format="PNG")
    return buffer.getvalue()


def _grey(hu: np.ndarray) -> np.ndarray:
    return np.repeat(hu_to_uint8(hu)[..., None], 3, axis=2)
