"""Radiomic features of a part's slices: computed batch after batch, or from the cache of features."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy
from numpy.typing import NDArray

from lungforge.config import digest
from lungforge.datasets import Part
from lungforge.datasets.patches import Cut
from lungforge.metrics.radiomics import FEATURES, FORMULAS, radiomic_features
from services.eval.feature_cache import keep_array, kept_array


@dataclasses.dataclass
class PartRadiomics:
    """Radiomic features of a part, as its batches are read.

    Attributes:
        cache: URI of the cache; None for no cache.
        name: Of the part's file in the cache: a digest of all that decides the features.
        kept: The features, where the cache has them.
        computed: Those of the batches so far, where it has not.
    """

    cache: str | None
    name: str
    kept: NDArray[np.float32] | None
    computed: list[NDArray[np.float32]]

    @classmethod
    def of(
        cls, cache: str | None, part: Part, cut: Cut | None, compared: Sequence[int] | None
    ) -> "PartRadiomics":
        """Of a part, before its first batch.

        Args:
            cache: URI of the cache; None for no cache.
            part: The part, of which every row is then read: so its sha256 is that of the bytes they are from.
            cut: How patches are cut from its slices; None for whole slices.
            compared: The subsets whose slices are measured; None for all.

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
                "numpy": np.__version__,
                "scipy": scipy.__version__,
            }
        )
        kept = None if cache is None else kept_array(cache, name, (part.rows, len(FEATURES)), missing=True)
        return cls(cache, name, kept, [])

    def add(
        self,
        hu: NDArray[np.int16],
        labels: NDArray[np.uint8],
        spacings_mm: Sequence[Sequence[float]],
        wanted: NDArray[np.bool_],
    ) -> None:
        """The next batch.

        Args:
            hu: ``[N, H, W]`` int16.
            labels: The maps, ``[N, H, W]`` uint8.
            spacings_mm: Of each slice's pixels, [row, column].
            wanted: Which of the slices are measured, bool ``[N]``.
        """
        if self.kept is not None:
            return
        features = np.full((len(hu), len(FEATURES)), np.nan, dtype=np.float32)
        for row in np.flatnonzero(wanted).tolist():
            features[row] = radiomic_features(hu[row], labels[row], spacings_mm[row])
        self.computed.append(features)

    def features(self) -> NDArray[np.float32]:
        """All features ``[N, F]`` after the last batch, NaN for slices that are not measured.

        Raises:
            AccessError: The cache may not be written.
        """
        if self.kept is None:
            self.kept = np.concatenate(self.computed)
            if self.cache is not None:
                keep_array(self.cache, self.name, self.kept)
        return self.kept
