from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coadtr.errors import ConfigError
from coadtr.evaluation import (
    PROTOCOLS,
    FrameCounts,
    VideoAnswers,
    count_frames,
    evaluate_answers,
    scored_frames,
)

if TYPE_CHECKING:
    from collections.abc import Callable
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
        # The frames of `all`: no test video is shorter than the published working memory.
        ("lstr", AMBIGUOUS, FrameCounts(total=225_222, scored=221_588, ignored=3_634, outside=0)),
        ("lstr", None, FrameCounts(total=225_222, scored=225_222, ignored=0, outside=0)),
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


@pytest.mark.parametrize(
    ("protocol", "frames"),
    [
        ("oadtr", 206_375),
        pytest.param("all", 221_588, marks=pytest.mark.slow),
        pytest.param("lstr", 221_588, marks=pytest.mark.slow),
    ],
)
def test_chance_and_oracle_on_thumos14(thumos: dict[str, NDArray[np.int64]], protocol: str, frames: int) -> None:
    random = np.random.default_rng(0)

    def result(predictor: str) -> dict[str, Any]:
        make: Callable[[NDArray[np.int64]], NDArray[Any]] = {
            "constant": lambda labels: np.zeros((labels.size, 22)),
            "random": lambda labels: random.random((labels.size, 22)),
            "oracle": lambda labels: np.eye(22)[labels],
        }[predictor]
        videos = (VideoAnswers(name, make(labels).astype(np.float32), labels) for name, labels in thumos.items())
        return evaluate_answers(
            videos,
            class_names=[str(index) for index in range(22)],
            background=0,
            ignored=AMBIGUOUS,
            protocol=protocol,
            window=WINDOW,
        )

    results = {predictor: result(predictor) for predictor in ("constant", "random", "oracle")}
    assert all(found["frames_scored"] == frames and found["classes_absent"] == [] for found in results.values())
    kept = np.concatenate(
        [part[scored_frames(protocol, part, window=WINDOW, ignored=AMBIGUOUS)] for part in thumos.values()]
    )
    shown = np.bincount(kept, minlength=22)[1:AMBIGUOUS]
    prevalence = shown / kept.size

    # One threshold: precision is the share of the class, exactly; calibrated it is one half.
    assert results["constant"]["mAP"] == float(np.mean(prevalence))
    assert results["constant"]["mcAP"] == pytest.approx(0.5, abs=1e-12)
    assert results["oracle"]["mAP"] == results["oracle"]["mcAP"] == 1.0

    # In random order a positive frame of rank r has the precision (1 + (r - 1) (P - 1) / (T - 1)) / r in the mean, and
    # that gives the mean of AP exactly. Over the ranks this precision deviates by some 1 / sqrt(P) of itself, or a
    # quarter of that where it is calibrated, at 1/2. Allowed are six such deviations of the mean over the classes,
    # doubled for the first ranks, where it is not normal.
    others = (shown - 1) / (kept.size - 1)
    expected = others + (1 - others) * np.sum(1 / np.arange(1, kept.size + 1)) / kept.size
    deviation = np.sqrt(np.sum(prevalence**2 / shown)) / shown.size
    assert abs(results["random"]["mAP"] - expected.mean()) < 12 * deviation < 0.1 * expected.mean()
    deviation = np.sqrt(np.sum(1 / shown)) / 4 / shown.size
    assert abs(results["random"]["mcAP"] - 0.5) < 12 * deviation < 0.02


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


@given(st.integers(1, 80), st.integers(1, 80), st.sampled_from([None, 2]))
@settings(deadline=None, max_examples=60)
def test_lstr_scores_the_frames_of_all_in_videos_that_fill_its_memory(
    frames: int, window: int, ignored: int | None
) -> None:
    labels = np.random.default_rng(frames).integers(3, size=frames)
    kept = scored_frames("lstr", labels, window=window, ignored=ignored)
    expected = scored_frames("all", labels, window=window, ignored=ignored) & (frames >= 32)
    assert kept.tolist() == expected.tolist()
    counts = count_frames("lstr", labels, window=window, ignored=ignored)
    assert counts.total == counts.scored + counts.ignored + counts.outside == frames
    assert counts.ignored == (0 if ignored is None else int((labels == 2).sum()))


def test_lstr_scores_what_the_published_loop_over_windows_fills() -> None:
    memory = PROTOCOLS["lstr"].shortest
    for frames in (1, memory - 1, memory, memory + 1, 3 * memory + 5):
        filled = np.zeros(frames, dtype=bool)
        for start in range(frames - memory + 1):
            # The first window answers all of its frames, each later one its newest.
            filled[start if start == 0 else start + memory - 1 : start + memory] = True
        assert scored_frames("lstr", np.zeros(frames, dtype=int), window=64).tolist() == filled.tolist()


def test_multi_hot_frames_are_ignored_by_their_ignored_column() -> None:
    labels = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0]])
    assert scored_frames("all", labels, window=5, ignored=2).tolist() == [True, False, True]


def test_unknown_protocol_and_bad_window_are_named() -> None:
    with pytest.raises(ConfigError, match=r"'lstm'.*all, oadtr, lstr"):
        scored_frames("lstm", np.zeros(3), window=4)
    with pytest.raises(ConfigError, match="window is 0"):
        scored_frames("oadtr", np.zeros(3), window=0)


def test_protocols_are_versioned_under_their_names() -> None:
    assert {name: protocol.version for name, protocol in PROTOCOLS.items()} == {"all": 1, "oadtr": 1, "lstr": 1}
    assert all(protocol.name == name for name, protocol in PROTOCOLS.items())
    assert len({protocol.description for protocol in PROTOCOLS.values()}) == len(PROTOCOLS)
