"""What is measured of each slice of a part: computed batch after batch, or from the cache of features."""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Final

import numpy as np
import scipy
from numpy.typing import NDArray

from lungforge.config import digest
from lungforge.datasets import Part
from lungforge.datasets.patches import Cut
from lungforge.metrics.map_agreement import STRUCTURES, segment_and_compare
from lungforge.metrics.radiomics import FEATURES, FORMULAS, radiomic_features
from services.eval.feature_cache import keep_array, kept_array

_COLUMNS: Final = len(FEATURES) + len(STRUCTURES)


@dataclasses.dataclass
class PartMeasures:
    """Radiomic features of the slices of a part, and their agreement with the map, as its batches are read.

    Attributes:
        cache: URI of the cache; None for no cache.
        name: Of the part's file in the cache: a digest of all that decides the measures.
        segmented: Whether slices are segmented, so that their agreement is measured.
        kept: The measures ``[N, F + S]``, where the cache has them.
        computed: Those of the batches so far.
    """

    cache: str | None
    name: str
    segmented: bool
    kept: NDArray[np.float32] | None
    computed: list[NDArray[np.float32]]

    @classmethod
    def of(
        cls,
        cache: str | None,
        part: Part,
        cut: Cut | None,
        compared: Sequence[int] | None,
        *,
        segmented: bool,
    ) -> "PartMeasures":
        """Of a part, before its first batch.

        Args:
            cache: URI of the cache; None for no cache.
            part: The part, of which every row is then read: so its sha256 is that of the bytes they are from.
            cut: How patches are cut from its slices; None for whole slices.
            compared: The subsets whose slices are measured; None for all.
            segmented: Whether to segment these slices.

        Raises:
            AccessError: The cache may not be read.
        """
        name = digest(
            {
                "part": part.sha256,
                "cut": None if cut is None else dataclasses.asdict(cut),
                "compared": None if compared is None else sorted(compared),
                "features": [dataclasses.asdict(feature) for feature in FEATURES],
                "formulas": FORMULAS,
                "segmentation": _segmentation_code() if segmented else None,
                "numpy": np.__version__,
                "scipy": scipy.__version__,
            }
        )
        kept = None if cache is None else kept_array(cache, name, (part.rows, _COLUMNS), missing=True)
        return cls(cache, name, segmented, kept, [])

    def add(
        self,
        hu: NDArray[np.int16],
        labels: NDArray[np.uint8],
        spacings_mm: Sequence[Sequence[float]],
        wanted: NDArray[np.bool_],
    ) -> NDArray[np.float32]:
        """The next batch.

        Args:
            hu: ``[N, H, W]`` int16.
            labels: The maps, ``[N, H, W]`` uint8.
            spacings_mm: Of each slice's pixels, [row, column].
            wanted: Which of the slices are measured, bool ``[N]``.

        Returns:
            How each of its slices agrees with its map, as ``dice``.
        """
        if self.kept is None:
            values = np.full((len(hu), _COLUMNS), np.nan, dtype=np.float32)
            for row in np.flatnonzero(wanted).tolist():
                given = hu[row], labels[row], spacings_mm[row]
                values[row, : len(FEATURES)] = radiomic_features(*given)
                if self.segmented:
                    overlaps = segment_and_compare(*given).dice
                    values[row, len(FEATURES) :] = [overlaps.get(name, np.nan) for name in STRUCTURES]
        else:
            first = sum(map(len, self.computed))
            values = self.kept[first : first + len(hu)]
        self.computed.append(values)
        return values[:, len(FEATURES) :]

    def radiomics(self) -> NDArray[np.float32]:
        """The radiomic features ``[N, F]`` after the last batch, NaN for slices that are not measured.

        Raises:
            AccessError: The cache may not be written.
        """
        return self._all()[:, : len(FEATURES)]

    def dice(self) -> NDArray[np.float32]:
        """The overlap of segmentation and map after the last batch, ``[N, S]``, S as in ``STRUCTURES``.

        NaN where neither holds the structure, and for slices that are not segmented.

        Raises:
            AccessError: The cache may not be written.
        """
        return self._all()[:, len(FEATURES) :]

    def _all(self) -> NDArray[np.float32]:
        if self.kept is None:
            self.kept = np.concatenate(self.computed)
            if self.cache is not None:
                keep_array(self.cache, self.name, self.kept)
        return self.kept


@functools.cache
def _segmentation_code() -> str:
    """The digest of the code that segments: a change of it changes the agreement with the map."""
    folder = files("lungforge.ct.segmentation")
    modules = [each for each in folder.iterdir() if each.name.endswith(".py")]
    modules.append(files("lungforge.metrics") / "map_agreement.py")
    return digest({each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in modules})
