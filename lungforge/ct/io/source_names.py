"""What the names of a source's folders and files say: folds, masks, tables, and what is no scan."""

import re

_FOLD = re.compile(
    r"(?:luna[ _-]?16[ _-]+)?(?:subset|fold)[ _-]?0*(\d)(?:[ _.-]*(?:zip|unzipped|extracted|copy|\(\d+\)))*",
    re.IGNORECASE,
)
_LIKE_FOLD = re.compile(r"(?<![a-z])(?:subset|fold).*\d", re.IGNORECASE)
_LUNA_MASKS = re.compile(r"seg[ _-]?lungs?[ _-]?luna[ _-]?16(?:[ _.(-].*)?", re.IGNORECASE)
_MASK_WORDS = (
    r"(?:(?:lung|lobe|nodule)?[ _-]?(?:mask|seg|segmentation|label|labelmap|roi)s?|lungs?|lobes?|gt)"
)
_MASKS = re.compile(rf"(?<![a-z]){_MASK_WORDS}(?![a-z])", re.IGNORECASE)
_MASK_ENDING = re.compile(rf"[ _.-]+{_MASK_WORDS}$", re.IGNORECASE)
_MASK_BEGINNING = re.compile(rf"^{_MASK_WORDS}[ _.-]+", re.IGNORECASE)


def fold_of(name: str) -> int | None:
    """The fold of LUNA16 that a folder's name states, as ``subset3``, ``Subset_3`` and ``fold03`` do."""
    match = _FOLD.fullmatch(name)
    return int(match[1]) if match else None


def is_like_fold(name: str) -> bool:
    """Whether a folder may be meant as a fold, or as several: ``subset10``, ``subsets0-4``."""
    return fold_of(name) is None and bool(_LIKE_FOLD.search(name))


def holds_luna_masks(name: str) -> bool:
    """Whether a folder is seg-lungs-LUNA16, also if spelled or copied otherwise."""
    return bool(_LUNA_MASKS.fullmatch(name))


def holds_masks(name: str) -> bool:
    """Whether a folder's name says that it holds masks: ``lung_masks``, ``segmentations``, ``labels``."""
    return bool(_MASKS.search(name))


def scan_of_mask(stem: str) -> str:
    """The scan of which a file is a mask by its name: of ``1.2.3_lung_mask`` the scan ``1.2.3``."""
    while (shorter := _MASK_BEGINNING.sub("", _MASK_ENDING.sub("", stem))) != stem:
        stem = shorter
    return stem
