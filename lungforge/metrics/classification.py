"""How well scores tell nodules from other places, for many weightings of the examples at a time.

A bootstrap weights each example by how often its scan was drawn; so every measure here takes weights
``[B, N]``, one row a draw, and gives a value for each row.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: An example with this score or more is called a nodule.
THRESHOLD = 0.5


@dataclass(frozen=True)
class Classification:
    """Measures of a classifier, each ``[B]``; NaN where the weights leave no example of a class.

    Attributes:
        accuracy: Share of the examples that are called what they are.
        balanced_accuracy: Mean of sensitivity and specificity.
        sensitivity: Share of the nodules that are called so.
        specificity: Share of the others that are called so.
        auroc: Area under the receiver operating characteristic: how often a nodule scores above another.
    """

    accuracy: NDArray[np.float64]
    balanced_accuracy: NDArray[np.float64]
    sensitivity: NDArray[np.float64]
    specificity: NDArray[np.float64]
    auroc: NDArray[np.float64]


def classification(
    positive: NDArray[np.bool_], scores: NDArray[np.floating], weights: NDArray[np.float64]
) -> Classification:
    """Measure a classifier.

    Args:
        positive: bool ``[N]``, whether the example is a nodule.
        scores: ``[N]``, the probability given to that.
        weights: ``[B, N]``, how often each example counts.
    """
    positive = np.asarray(positive, dtype=bool)
    called = np.asarray(scores) >= THRESHOLD
    nodules, others = weights[:, positive].sum(axis=1), weights[:, ~positive].sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity = weights[:, positive & called].sum(axis=1) / nodules
        specificity = weights[:, ~positive & ~called].sum(axis=1) / others
        accuracy = weights[:, positive == called].sum(axis=1) / (nodules + others)
    return Classification(
        accuracy=accuracy,
        balanced_accuracy=(sensitivity + specificity) / 2,
        sensitivity=sensitivity,
        specificity=specificity,
        auroc=_auroc(positive, np.asarray(scores), weights),
    )


def balanced_log_loss(positive: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """The mean over both classes of the mean of -log(probability given to what an example is).

    Unlike the share of examples that are called right it tells networks apart on few examples, and as a
    proper scoring rule it is least for the true probabilities (Gneiting and Raftery, "Strictly proper scoring
    rules", 2007).

    Args:
        positive: bool ``[N]``, whether the example is a nodule.
        scores: ``[N]``, the probability given to that.
    """
    given = np.where(positive, scores, 1.0 - np.asarray(scores, dtype=np.float64))
    losses = -np.log(np.maximum(given, 1e-7))
    return float(np.mean([losses[of_class].mean() for of_class in (positive, ~positive) if of_class.any()]))


def roc_curve(
    positive: NDArray[np.bool_], scores: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False and true positive rates, each ``[K]`` from 0 to 1, at every threshold from the highest down."""
    positive = np.asarray(positive, dtype=bool)
    order = np.argsort(-np.asarray(scores), kind="stable")
    last = _last_of_ties(np.asarray(scores)[order])
    true = np.concatenate([[0.0], np.cumsum(positive[order])[last]])
    false = np.concatenate([[0.0], np.cumsum(~positive[order])[last]])
    return false / max(1, (~positive).sum()), true / max(1, positive.sum())


def _auroc(
    positive: NDArray[np.bool_], scores: NDArray[np.floating], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The Mann-Whitney statistic; a tie counts a half."""
    order = np.argsort(scores, kind="stable")
    ends = _last_of_ties(scores[order])
    ordered, kinds = weights[:, order], positive[order]

    starts = np.concatenate([[0], ends[:-1] + 1])
    nodules = np.add.reduceat(ordered * kinds, starts, axis=1)
    others = np.add.reduceat(ordered * ~kinds, starts, axis=1)
    below = np.cumsum(others, axis=1) - others
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs = nodules.sum(axis=1) * others.sum(axis=1)
        return (nodules * (below + others / 2)).sum(axis=1) / pairs


def _last_of_ties(ordered: NDArray[np.floating]) -> NDArray[np.int64]:
    """Places of the last of each run of equal scores."""
    return np.flatnonzero(np.append(np.diff(ordered) != 0, True))
