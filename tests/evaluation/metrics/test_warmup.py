"""Precision by frames since the start, against scoring each band by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coadtr.errors import ConfigError
from coadtr.evaluation.metrics import mean_average_precision, per_frame_average_precision, warmup_precision

NAMES = ("none", "run", "jump", "unclear")


@pytest.mark.parametrize("multi_hot", [False, True])
def test_each_band_is_a_test_set_of_its_own(*, multi_hot: bool) -> None:
    random = np.random.default_rng(0)
    labels = [random.integers(4, size=frames) for frames in (40, 7, 100)]
    scores = [random.random((len(part), 4)) for part in labels]
    scored = [random.random(len(part)) < 0.8 for part in labels]
    shown: list[Any] = [np.eye(4, dtype=np.uint8)[part] for part in labels] if multi_hot else labels
    found = warmup_precision(
        shown, scores, class_names=NAMES, background=0, ignored=3, scored=scored, edges=(0, 5, 20, 5000)
    )
    assert found.edges == (0, 5, 20)  # no video has 5000 frames
    for index, band in enumerate((slice(0, 5), slice(5, 20), slice(20, None))):
        kept = [mask[band] & (part[band] != 3) for part, mask in zip(labels, scored, strict=True)]
        truth = np.concatenate([part[band][mask] for part, mask in zip(labels, kept, strict=True)])
        ranked = np.concatenate([part[band][mask] for part, mask in zip(scores, kept, strict=True)])
        per_class = per_frame_average_precision(truth, ranked, class_names=NAMES, background=0, ignored=3)
        assert found.mean_ap[index] == mean_average_precision(per_class)
        assert found.frames[index] == len(truth)


def test_a_band_without_an_action_has_no_value() -> None:
    found = warmup_precision([np.array([0, 0, 1])], [np.eye(4)[:3]], class_names=NAMES, background=0, edges=(0, 2))
    assert found.to_dict() == {"edges": [0, 2], "mAP": [None, 1.0], "frames": [2, 1], "classes": [0, 1]}


@pytest.mark.parametrize("edges", [(), (1, 2), (0, 4, 4)])
def test_edges_ascend_from_zero(edges: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="ascend from 0"):
        warmup_precision([np.array([1])], [np.ones((1, 4))], class_names=NAMES, edges=edges)
