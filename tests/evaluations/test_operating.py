"""Youden's point against scikit-learn's ROC curve and by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_curve

from harness.data.cache import Prepared
from harness.data.index import Index
from harness.device import resolve
from harness.evaluations.operating import points, youden
from harness.evaluations.subject import Subject
from harness.tasks import MultiLabel


@pytest.mark.parametrize("seed", range(20))
def test_no_other_point_has_a_larger_j(seed):
    rng = np.random.default_rng(seed)
    positive = rng.random(80) < 0.4
    score = np.round(rng.normal(positive.astype(float)), 1)  # with ties
    point = youden(score, positive)
    false, true, _ = roc_curve(positive, score, drop_intermediate=False)
    mine = (score > point)[positive].mean() - (score > point)[~positive].mean()
    assert mine == pytest.approx((true - false).max(), abs=1e-12)
    assert point not in score


def test_half_way_between_two_scores_and_the_highest_of_equals():
    positive = np.array([False] * 10 + [True] * 10)
    assert youden(np.r_[np.zeros(10), np.ones(10)], positive) == 0.5
    score = np.r_[np.zeros(10), np.repeat([1.0, 3.0], 5)]
    score[0], score[1] = 2.0, 2.5  # deciding at 0.5 and at 2.75 cost the same: 0.2 specificity or 0.5 sensitivity
    assert youden(score, positive) == 0.5
    even = np.r_[np.repeat([0.0, 2.0], 5), np.repeat([1.0, 3.0], 5)]
    assert youden(even, positive) == 2.5


def test_too_few_or_not_a_number_is_no_point():
    positive = np.arange(30) < 9
    assert np.isnan(youden(np.arange(30.0), positive))
    assert np.isnan(youden(np.arange(30.0), ~positive))
    assert np.isnan(youden(np.r_[np.nan, np.arange(29.0)], np.arange(30) < 15))
    assert np.isnan(youden(np.zeros(30), np.arange(30) < 15))


def test_without_validation_images_there_is_no_point():
    samples = pd.DataFrame({"id": ["a", "b"], "patient": ["a", "b"], "split": "test"})
    index = Index(samples, np.eye(2, dtype=np.uint8), ("one", "two"))
    images = np.zeros((2, 1, 4, 4), np.uint8)
    subject = Subject((None,), MultiLabel(), Prepared(Path(), index, images, "f"), resolve("cpu"))  # pyright: ignore
    assert np.isnan(points(subject, np.array([0, 1]), 64)).all()
