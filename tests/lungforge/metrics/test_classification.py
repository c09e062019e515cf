"""Measures of a classifier against scikit-learn's, weights and ties included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from lungforge.metrics.classification import balanced_log_loss, classification, roc_curve


@st.composite
def _scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count = draw(st.integers(4, 40))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    positive = generator.random(count) < 0.5
    positive[:2] = True, False
    # Few levels: many ties, among them the threshold itself.
    scores = generator.integers(0, draw(st.sampled_from([2, 4, 100])) + 1, count) / 4
    weights = generator.integers(0, 4, (3, count)).astype(float)
    weights[:, :2] = 1
    return positive, scores, weights


def test_the_log_loss_is_scikit_learns_with_classes_of_equal_weight() -> None:
    generator = np.random.default_rng(0)
    positive = generator.random(50) < 0.2
    scores = generator.random(50)
    weights = np.where(positive, 0.5 / positive.mean(), 0.5 / (~positive).mean())
    assert balanced_log_loss(positive, scores) == pytest.approx(
        metrics.log_loss(positive, scores, sample_weight=weights)
    )
    # Certain and wrong is bad, not infinitely so.
    assert balanced_log_loss(np.array([True, False]), np.array([0.0, 0.0])) == pytest.approx(
        -np.log(1e-7) / 2
    )


@settings(max_examples=100, deadline=None)
@given(_scored())
def test_every_measure_is_scikit_learns(scored: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    positive, scores, weights = scored
    measures = classification(positive, scores, weights)
    called = scores >= 0.5
    for row, weight in enumerate(weights):
        options = {"sample_weight": weight}
        assert measures.accuracy[row] == pytest.approx(metrics.accuracy_score(positive, called, **options))
        assert measures.balanced_accuracy[row] == pytest.approx(
            metrics.balanced_accuracy_score(positive, called, **options)
        )
        assert measures.sensitivity[row] == pytest.approx(metrics.recall_score(positive, called, **options))
        assert measures.specificity[row] == pytest.approx(metrics.recall_score(~positive, ~called, **options))
        assert measures.auroc[row] == pytest.approx(metrics.roc_auc_score(positive, scores, **options))


def test_a_weight_is_that_many_copies() -> None:
    positive, scores = np.array([1, 0, 1, 0, 0], bool), np.array([0.9, 0.8, 0.4, 0.4, 0.1])
    times = np.array([2, 1, 3, 0, 1])
    weighted = classification(positive, scores, times[None].astype(float))
    copied = classification(np.repeat(positive, times), np.repeat(scores, times), np.ones((1, times.sum())))
    assert weighted == copied
    # 2 of 5 nodules and one of two others are right; nodule above other in 2 x 2 + 3 x 1 of 10 pairs.
    assert (weighted.sensitivity[0], weighted.specificity[0], weighted.auroc[0]) == (0.4, 0.5, 0.7)


def test_without_a_class_a_measure_is_nan() -> None:
    measures = classification(np.array([True, False]), np.array([0.9, 0.1]), np.array([[1.0, 0.0]]))
    assert (measures.accuracy[0], measures.sensitivity[0]) == (1.0, 1.0)
    assert np.isnan([measures.specificity[0], measures.balanced_accuracy[0], measures.auroc[0]]).all()


def test_the_curve_steps_over_ties_at_once() -> None:
    false, true = roc_curve(np.array([1, 0, 1, 0], bool), np.array([0.9, 0.5, 0.5, 0.1]))
    assert (false.tolist(), true.tolist()) == ([0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0])
