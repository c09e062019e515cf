"""Which images are drawn, and how the work is cut: a pure function of the arguments and the source.

Images are numbered in the order of the source's rows, the replicates of a row one after another. A unit of
work is a stretch of these numbers, and becomes one part of the output. A unit is named by its number, and
what it holds is computed from it, so a plan of any length takes a few bytes a row and none a unit.
"""

from dataclasses import dataclass

import numpy as np

from lungforge.ct.edits import edits_for
from lungforge.datasets.slices import RowIndex
from lungforge.errors import InputError
from lungforge.randomness import numpy_generator
from services.sample.config import SampleConfig


@dataclass(frozen=True)
class Unit:
    """The images of one part.

    Attributes:
        name: Of the part.
        rows: The source row of each image, int64 [N].
        replicates: Which of the row's images each is, int64 [N].
    """

    name: str
    rows: np.ndarray
    replicates: np.ndarray


@dataclass(frozen=True)
class Plan:
    """All images of a run.

    Attributes:
        ends: For each source row, how many images there are up to and with its own, int64 [rows].
        part_images: Images in a unit; the last may have fewer.
    """

    ends: np.ndarray
    part_images: int

    @property
    def images(self) -> int:
        """Images in all."""
        return int(self.ends[-1])

    @property
    def maps(self) -> int:
        """Maps that images are drawn from."""
        return int(np.count_nonzero(np.diff(self.ends, prepend=0)))

    def __len__(self) -> int:
        """Units of work."""
        return -(-self.images // self.part_images)

    def name(self, number: int) -> str:
        """The name of a unit's part."""
        return f"{number:06d}"

    def unit(self, number: int) -> Unit:
        """One unit of work, by its number from 0."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        images = np.arange(number * self.part_images, min((number + 1) * self.part_images, self.images))
        rows = np.searchsorted(self.ends, images, side="right")
        starts = np.where(rows > 0, self.ends[rows - 1], 0)
        return Unit(name=self.name(number), rows=rows, replicates=images - starts)


def make_plan(config: SampleConfig, index: RowIndex) -> Plan:
    """Spread the images over the maps.

    Args:
        config: Its ``per_map`` or ``count`` say how many.
        index: The maps to draw from.

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
        # Which maps get one more is drawn, so that a few images of many maps are of all kinds of patients.
        replicates[numpy_generator(config.seed, "count").permutation(maps)[:more]] += 1
    plan = Plan(ends=np.cumsum(replicates), part_images=config.part_images)
    if len(plan) > 1_000_000:
        raise InputError(
            f"{plan.images} images are {len(plan)} parts; raise --part-images above {config.part_images}"
        )
    return plan
