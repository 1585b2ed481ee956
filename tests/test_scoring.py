"""Scores of logits: the sigmoid here, the softmax where the evaluation uses it (tests/evaluation/test_scores.py)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from coadtr.errors import ConfigError
from coadtr.scoring import probabilities


@pytest.mark.parametrize("scale", [1, 30, 1e4])
def test_sigmoid_scores_each_class_by_itself(scale: float) -> None:
    logits = scale * np.random.default_rng(0).normal(size=(50, 4))
    expected = torch.from_numpy(logits).sigmoid().numpy()
    np.testing.assert_allclose(probabilities(logits, head="sigmoid"), expected, rtol=1e-12, atol=1e-300)


def test_sigmoid_gives_the_ignored_class_no_score() -> None:
    logits = np.random.default_rng(1).normal(size=(5, 3))
    result = probabilities(logits, ignored=1, head="sigmoid")
    assert (result[:, 1] == 0).all()
    assert (result[:, [0, 2]] == probabilities(logits[:, [0, 2]], head="sigmoid")).all()


def test_logits_are_not_changed() -> None:
    logits = np.array([[1.0, 2.0]])
    probabilities(logits, ignored=0)
    assert logits.tolist() == [[1.0, 2.0]]


def test_unknown_head_is_refused_by_name() -> None:
    head: Any = "argmax"
    with pytest.raises(ConfigError, match="softmax, sigmoid, got 'argmax'"):
        probabilities(np.zeros((1, 2)), head=head)
