"""Average precision of predicted boxes, as COCO defines it, for many weightings of the pictures at a time.

Lin et al., "Microsoft COCO: Common Objects in Context", 2014, and its evaluation: predictions match true
boxes greedily, the best first; precision is read at 101 recalls. Which box matches which depends on one
picture only, so it is decided once, and a bootstrap over scans only changes the weights of the pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: The overlaps (intersection over union) over which COCO averages.
THRESHOLDS: Final = tuple(np.linspace(0.5, 0.95, 10).round(2).tolist())
_RECALLS: Final = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class Matches:
    """Which predicted boxes of a set of pictures are right, the best first.

    Attributes:
        picture: Which picture each is in, ``[K]``.
        score: ``[K]``, not rising.
        hit: bool ``[K]``: it matches a true box that counts.
        miss: bool ``[K]``: it matches none, and counts. What matches a true box that does not count is
            neither a hit nor a miss.
        truths: How many true boxes count in each picture, ``[N]``.
    """

    picture: NDArray[np.int64]
    score: NDArray[np.float64]
    hit: NDArray[np.bool_]
    miss: NDArray[np.bool_]
    truths: NDArray[np.int64]


def overlaps(predicted: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union ``[K, T]`` of boxes ``[K, 4]`` and ``[T, 4]``: left, top, width, height."""
    corner = np.maximum(predicted[:, None, :2], truth[None, :, :2])
    end = np.minimum(predicted[:, None, :2] + predicted[:, None, 2:], truth[None, :, :2] + truth[None, :, 2:])
    common = np.clip(end - corner, 0.0, None).prod(axis=2)
    areas = predicted[:, 2:].prod(axis=1)[:, None] + truth[:, 2:].prod(axis=1)[None]
    return common / np.maximum(areas - common, 1e-12)


def match(
    predictions: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
    truths: Sequence[NDArray[np.float64]],
    threshold: float,
    counting: Sequence[NDArray[np.bool_]] | None = None,
    missing: Sequence[NDArray[np.bool_]] | None = None,
) -> Matches:
    """Match predicted boxes with true ones.

    A measure of a band of sizes, as COCO's of small, medium and large objects, ignores on both sides what is
    outside the band: true boxes by ``counting``, predicted ones by ``missing``.

    Args:
        predictions: For each picture boxes ``[K, 4]`` and scores ``[K]``.
        truths: For each picture the true boxes ``[T, 4]``.
        threshold: Overlap from which boxes match.
        counting: For each picture bool ``[T]``: the true boxes that count; all when None. As in COCO, a
            box goes to one of the others only when none that counts is left.
        missing: For each picture bool ``[K]``: the predicted boxes that are wrong when they match no true
            box; the others are then ignored. All when None.
    """
    pictures, scores, hits, misses = [], [], [], []
    for index, ((boxes, given), truth) in enumerate(zip(predictions, truths, strict=True)):
        counts = np.ones(len(truth), dtype=bool) if counting is None else counting[index]
        matters = np.ones(len(boxes), dtype=bool) if missing is None else missing[index]
        order = np.argsort(-given, kind="stable")
        shared = overlaps(boxes[order].reshape(-1, 4), truth.reshape(-1, 4))
        taken = np.zeros(len(truth), dtype=bool)
        for place in range(len(order)):
            best = -1
            for wanted in (counts, ~counts):
                free = np.flatnonzero(wanted & ~taken & (shared[place] >= threshold))
                if len(free):
                    # Of equal overlaps the last, as in COCO.
                    best = int(free[::-1][np.argmax(shared[place, free[::-1]])])
                    break
            if best >= 0:
                taken[best] = True
            hits.append(best >= 0 and bool(counts[best]))
            misses.append(best < 0 and bool(matters[order[place]]))
        pictures += [index] * len(order)
        scores += given[order].tolist()
    ranks = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    return Matches(
        picture=np.asarray(pictures, dtype=np.int64)[ranks],
        score=np.asarray(scores, dtype=np.float64)[ranks],
        hit=np.asarray(hits, dtype=bool)[ranks],
        miss=np.asarray(misses, dtype=bool)[ranks],
        truths=np.asarray(
            [
                len(truth) if counting is None else int(counting[index].sum())
                for index, truth in enumerate(truths)
            ],
            dtype=np.int64,
        ),
    )


def average_precision(matches: Matches, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average precision at 101 recalls for each row of ``weights [B, N]``; NaN where no true box counts."""
    precision, recall, total = _curves(matches, weights)
    # Precision at a recall is the best that is reached at that recall or beyond.
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    values = np.zeros(len(weights))
    for row in range(len(weights)):
        places = np.searchsorted(recall[row], _RECALLS, side="left")
        reached = places < recall.shape[1]
        values[row] = best[row, places[reached]].sum() / len(_RECALLS)
    return np.where(total > 0, values, np.nan)


def average_recall(matches: Matches, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the true boxes that are matched, for each row of ``weights [B, N]``."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return (weights[:, matches.picture] * matches.hit).sum(axis=1) / (weights @ matches.truths)


def precision_recall_curve(matches: Matches) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recall and precision ``[K]`` after each predicted box, the best first."""
    precision, recall, _ = _curves(matches, np.ones((1, len(matches.truths))))
    return recall[0], precision[0]


def _curves(
    matches: Matches, weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    each = weights[:, matches.picture]
    hits = np.cumsum(each * matches.hit, axis=1)
    misses = np.cumsum(each * matches.miss, axis=1)
    total = weights @ matches.truths.astype(np.float64)
    precision = hits / np.maximum(hits + misses, 1e-12)
    return precision, hits / np.maximum(total, 1e-12)[:, None], total
