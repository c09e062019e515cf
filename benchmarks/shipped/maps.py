"""The slices and label maps that come with LungForge, by a rule."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from lungforge.ct.classes import LEFT_LUNG, NODULE, RIGHT_LUNG
from lungforge.ct.io.patient_table import scan_of
from lungforge.datasets import Dataset, DatasetWriter, Kind, rows_from_table, table_from_rows
from lungforge.datasets.slices import evenly
from lungforge.errors import InputError
from lungforge.storage import join_uri, write_bytes_atomic

#: Least share of the pixels that each lung covers, and least pixels of nodule.
LUNG_SHARE: Final = 0.05
NODULE_PX: Final = 2

_CARD = """\
# {name}: slices and label maps of LUNA16

{slices} slices of {scans} scans, {size} x {size} px, with their label maps and nodules: for trying LungForge
without downloading LUNA16. `lungforge sample --data lungforge://{name}` samples from the maps; the real
images are here to be compared with.

- **Choice.** {which} of the data, {subsets} of LUNA16, in which each lung covers at
  least {share:g} % of the pixels and the nodules at least {pixels} px. None was chosen by eye.
- **Models.** The models that come with LungForge are trained on subsets 0 to 2{apart}
- **Limits.** Few slices, so distances between sets of them say little; all show nodules. For trying and
  teaching, not for diagnosis, nor for claims of clinical performance.

## Licence and attribution

[CC BY 4.0](https://creativecommons.org/licenses/by/4.0/), as LUNA16. The images are from
[LUNA16](https://luna16.grand-challenge.org), made of LIDC-IDRI (CC BY 3.0): Setio et al., "Validation,
comparison, and combination of algorithms for automatic detection of pulmonary nodules in computed tomography
images", Medical Image Analysis 42 (2017), doi:10.1016/j.media.2017.06.015; Armato et al., Medical Physics 38
(2011), doi:10.1118/1.3528204.

Changed: slices were chosen as above, resized to {size} x {size} px and clipped to -1000 to 400 HU; the maps
are made of the lung masks and annotations of LUNA16.
"""

#: Where some of the scans are of subsets that the models saw.
_MIXED = """. Sample from maps of subset 2,
  and compare with slices of subset 3, which they have not seen; evaluation refuses anything else."""


def write_maps(data: Dataset, folder: str, subsets: Sequence[int], count: int | None = None) -> Dataset:
    """Write the chosen slices as a dataset of their own, and its card.

    Args:
        data: Slices as ``lungforge preprocess`` makes them.
        folder: Where they go; its last part is their name.
        subsets: Which subsets.
        count: How many of the slices that the rule takes, spread evenly; None for all.

    Raises:
        InputError: No slice fits, or another dataset is there.
    """
    rows = list(chosen(data, subsets))
    if count is not None:
        rows = [rows[index] for index in evenly(len(rows), count)]
    if not rows:
        raise InputError(f"{data.uri}: no slice of the subsets {subsets} shows both lungs and a nodule well")
    size = rows[0]["image"].shape[0]
    taken = {} if count is None else {"count": count}
    config = {"lung_share": LUNG_SHARE, "nodule_px": NODULE_PX, "subsets": list(subsets), **taken}
    made = {"size": data.manifest.config.get("size"), "slices": data.manifest.config.get("slices")}
    writer = DatasetWriter(
        uri=folder, kind=Kind.SLICES, config={**made, **config, "original_sha256": data.manifest_sha256}
    )
    scans = len({scan_of(row["series_uid"]) for row in rows})
    if writer.find_manifest() is None:
        part = writer.write_part("chosen", table_from_rows(Kind.SLICES, rows))
        values = {name: data.manifest.details.get(name) for name in ("values", "window_hu")}
        writer.commit([part], {**values, "scans": scans, "slices": len(rows)})
    card = _CARD.format(
        name=folder.rstrip("/").rsplit("/", 1)[-1],
        slices=len(rows),
        scans=scans,
        size=size,
        which="Every slice" if count is None else f"{count} slices, spread evenly over those",
        apart=_MIXED if len(subsets) > 1 else ", and have not seen these scans.",
        subsets=f"subset{'s' * (len(subsets) > 1)} {' '.join(map(str, subsets))}",
        share=100 * LUNG_SHARE,
        pixels=NODULE_PX,
    )
    write_bytes_atomic(join_uri(folder, "card.md"), card.encode())
    return Dataset.open(folder, Kind.SLICES)


def chosen(data: Dataset, subsets: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The rows that the rule takes, in the order of the dataset."""
    for part in data.parts:
        for row in rows_from_table(data.read_part(part)):
            lungs = [np.mean(row["label"] == lung) for lung in (LEFT_LUNG, RIGHT_LUNG)]
            nodule_px = np.count_nonzero(row["label"] == NODULE)
            if row["subset"] in subsets and min(lungs) >= LUNG_SHARE and nodule_px >= NODULE_PX:
                yield row
