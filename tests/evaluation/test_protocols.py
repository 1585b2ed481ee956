from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coadtr.errors import ConfigError
from coadtr.evaluation import (
    PROTOCOLS,
    FrameCounts,
    VideoScores,
    count_frames,
    evaluate_scores,
    scored_frames,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

AMBIGUOUS, WINDOW = 21, 64


@pytest.fixture(scope="module")
def thumos(shared_data: Path) -> dict[str, NDArray[np.int64]]:
    """Labels of the 213 test videos of THUMOS14."""
    with np.load(shared_data / "thumos14_annotations" / "test_perframe.npz") as stored:
        parts = np.split(stored["labels"].astype(np.int64), stored["offsets"][1:-1])
        return dict(zip(stored["names"].tolist(), parts, strict=True))


@pytest.mark.parametrize(
    ("protocol", "ignored", "expected"),
    [
        ("all", AMBIGUOUS, FrameCounts(total=225_222, scored=221_588, ignored=3_634, outside=0)),
        ("all", None, FrameCounts(total=225_222, scored=225_222, ignored=0, outside=0)),
        # What the published evaluators score: warm-up, tail and ambiguous frames are left out.
        ("oadtr", AMBIGUOUS, FrameCounts(total=225_222, scored=206_375, ignored=3_634, outside=15_213)),
        ("oadtr", None, FrameCounts(total=225_222, scored=209_886, ignored=0, outside=15_336)),
    ],
)
def test_counts_on_thumos14(
    thumos: dict[str, NDArray[np.int64]], protocol: str, ignored: int | None, expected: FrameCounts
) -> None:
    counts = sum(
        (count_frames(protocol, labels, window=WINDOW, ignored=ignored) for labels in thumos.values()),
        FrameCounts(),
    )
    assert counts == expected


def test_chance_and_oracle_on_thumos14(thumos: dict[str, NDArray[np.int64]]) -> None:
    random = np.random.default_rng(0)
    names = [str(index) for index in range(22)]

    def videos(predictor: str) -> Iterator[VideoScores]:
        for name, labels in thumos.items():
            logits = {
                "constant": np.zeros((labels.size, 22), dtype=np.float32),
                "random": random.random((labels.size, 22), dtype=np.float32),
                "oracle": np.eye(22, dtype=np.float32)[labels],
            }[predictor]
            yield VideoScores(name, logits, labels)

    kept = np.concatenate(
        [part[scored_frames("oadtr", part, window=WINDOW, ignored=AMBIGUOUS)] for part in thumos.values()]
    )
    chance = float(np.bincount(kept, minlength=22)[1:21].mean() / kept.size)
    for predictor, plain, calibrated in (
        ("constant", chance, 0.5),
        ("random", chance, 0.5),
        ("oracle", 1.0, 1.0),
    ):
        result = evaluate_scores(
            videos(predictor),
            class_names=names,
            background=0,
            ignored=AMBIGUOUS,
            protocol="oadtr",
            window=WINDOW,
        )
        exact = predictor != "random"
        assert result["frames_scored"] == 206_375
        assert result["mAP"] == pytest.approx(plain, abs=1e-9 if exact else 2e-3)
        assert result["mcAP"] == pytest.approx(calibrated, abs=1e-9 if exact else 2e-2)
        assert result["classes_absent"] == []


@given(st.integers(1, 200), st.integers(1, 80), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=60)
def test_oadtr_leaves_out_warm_up_and_tail(frames: int, window: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(3, size=frames)
    kept = scored_frames("oadtr", labels, window=window, ignored=2)
    expected = [window - 1 <= t < frames - 9 and labels[t] != 2 for t in range(frames)]
    assert kept.tolist() == expected
    counts = count_frames("oadtr", labels, window=window, ignored=2)
    assert counts.total == counts.scored + counts.ignored + counts.outside == frames
    assert counts.scored == sum(expected)


def test_multi_hot_frames_are_ignored_by_their_ignored_column() -> None:
    labels = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0]])
    assert scored_frames("all", labels, window=5, ignored=2).tolist() == [True, False, True]


def test_unknown_protocol_and_bad_window_are_named() -> None:
    with pytest.raises(ConfigError, match=r"'lstm'.*all, oadtr"):
        scored_frames("lstm", np.zeros(3), window=4)
    with pytest.raises(ConfigError, match="window is 0"):
        scored_frames("oadtr", np.zeros(3), window=0)


def test_protocols_are_versioned_under_their_names() -> None:
    assert {name: protocol.version for name, protocol in PROTOCOLS.items()} == {"all": 1, "oadtr": 1}
    assert all(protocol.name == name for name, protocol in PROTOCOLS.items())
