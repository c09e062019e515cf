"""Which images are sampled, and in which units: a pure function of the arguments and the source.

Images are counted in the order of the source's rows, the replicates of a row one after another. A unit is a
range of them, and becomes one part of the output. It is named by its index, and what it holds is computed
from that, so a plan of any length takes a few bytes a row and none a unit.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungforge.ct.edits import edits_for
from lungforge.datasets.slices import RowIndex
from lungforge.errors import InputError
from lungforge.randomness import numpy_generator
from services.sample.config import SampleConfig


@dataclass(frozen=True)
class SampleUnit:
    """The images of one part.

    Attributes:
        name: Of the part.
        rows: The source row of each image, [N].
        replicates: Which of the row's images each is, [N].
    """

    name: str
    rows: NDArray[np.int64]
    replicates: NDArray[np.int64]


@dataclass(frozen=True)
class SamplingPlan:
    """All images of a run.

    Attributes:
        ends: For each source row, how many images there are up to and with those of it, [rows].
        part_images: Images in a unit; the last may have fewer.
    """

    ends: NDArray[np.int64]
    part_images: int

    @property
    def images(self) -> int:
        """Images in total."""
        return int(self.ends[-1])

    @property
    def maps(self) -> int:
        """Maps that images are sampled from."""
        return int(np.count_nonzero(np.diff(self.ends, prepend=0)))

    def __len__(self) -> int:
        """How many units there are."""
        return -(-self.images // self.part_images)

    def name(self, index: int) -> str:
        """The name of a unit's part."""
        return f"{index:06d}"

    def unit(self, index: int) -> SampleUnit:
        """One unit, by its index from 0."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        images = np.arange(index * self.part_images, min((index + 1) * self.part_images, self.images))
        rows = np.searchsorted(self.ends, images, side="right")
        starts = np.where(rows > 0, self.ends[rows - 1], 0)
        return SampleUnit(name=self.name(index), rows=rows, replicates=images - starts)


def make_plan(config: SampleConfig, index: RowIndex) -> SamplingPlan:
    """Spread the images over the maps.

    Args:
        config: Its ``per_map`` or ``count`` say how many.
        index: The maps to sample from.

    Raises:
        InputError: No edit applies to any map, or there are more images than parts can be named.
    """
    names = {name for name, _ in config.edits}
    possible = [not names.isdisjoint(edits_for(has_nodules)) for has_nodules in (False, True)]
    maps = np.flatnonzero(np.where(index.nodules > 0, possible[True], possible[False]))
    if not len(maps):
        raise InputError(
            f"--edits {' '.join(sorted(names))} applies to none of the {len(index)} slices; insert needs "
            "slices without nodules (`lungforge preprocess --healthy-every N`), the others slices with one"
        )
    replicates = np.zeros(len(index), dtype=np.int64)
    if config.count is None:
        replicates[maps] = config.per_map
    else:
        each, more = divmod(config.count, len(maps))
        replicates[maps] = each
        # Which maps get one more is random: a few images of many maps are of all kinds of patients.
        replicates[numpy_generator(config.seed, "count").permutation(maps)[:more]] += 1
    plan = SamplingPlan(ends=np.cumsum(replicates), part_images=config.part_images)
    if len(plan) > 1_000_000:
        raise InputError(
            f"{plan.images} images are {len(plan)} parts; raise --part-images above {config.part_images}"
        )
    return plan
