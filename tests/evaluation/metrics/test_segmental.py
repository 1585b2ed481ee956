from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coadtr.errors import CoadtrError, ConfigError, DataError, ShapeError
from coadtr.evaluation.metrics.segmental import (
    Segments,
    edit_score,
    find_segments,
    segmental_f1,
    segmental_scores,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

NAMES = ["none", "cut", "mix", "pour"]


def frames(text: str) -> NDArray[np.int64]:
    """Read classes as digits, one per frame."""
    return np.array([int(digit) for digit in text], dtype=np.int64)


def score(labels: Sequence[str], answers: Sequence[str], **options: Any) -> dict[str | int, float | None]:
    scores = [np.eye(4)[frames(text)] for text in answers]
    found = segmental_scores([frames(text) for text in labels], scores, **{"class_names": NAMES, **options})
    return {"edit": found.edit} | dict[str | int, float | None](found.f1.items())


def test_worked_example_of_one_video() -> None:
    # Labels cut 0-4, mix 4-8, pour 8-10. Answers cut 0-3, pour 3-4, mix 4-8, cut 8-9, pour 9-10.
    labels, answers = "1111222233", "1113222213"
    found = score([labels], [answers])
    # Two segments too many: distance 2, longest 5.
    assert found["edit"] == pytest.approx(1 - 2 / 5)
    # IoU of cut 3/4, of mix 1, of pour 1/2; the pour at 3 and the cut at 8 meet no segment of theirs. TP 3, FP 2, FN 0.
    assert [found[percent] for percent in (10, 25, 50)] == pytest.approx([6 / 8] * 3)
    # Above 50 percent the pour is wrong and missing, above 75 the cut too: TP 2, FP 3, FN 1; TP 1, FP 4, FN 2.
    found = score([labels], [answers], overlaps=(51, 75, 76))
    assert [found[percent] for percent in (51, 75, 76)] == pytest.approx([4 / 8, 4 / 8, 2 / 8])


def test_worked_example_of_a_segment_that_is_answered_twice() -> None:
    # One cut of 8 frames; answers cut 0-3, mix 3-4, cut 4-8. IoU 3/8 and 4/8: the first to reach the overlap counts.
    found = score(["11111111"], ["11121111"])
    assert found[10] == found[25] == pytest.approx(2 / (1 + 3))  # TP 1, FP 2, FN 0
    assert found[50] == pytest.approx(2 / (1 + 3))  # now the second is the one
    assert found["edit"] == pytest.approx(1 - 2 / 3)


def test_an_answer_is_compared_with_the_best_segment_even_if_that_is_taken() -> None:
    labels, answers = "1" * 10 + "0" + "1" * 4 + "0" * 5, "1" * 4 + "0" + "1" * 9 + "0" * 6
    # Cut 0-10 and 11-15; answers 0-4 and 5-14. The second has 5/14 with the first segment, which is taken by then, and
    # 3/10 with the free one: TP 1, FP 1, FN 1.
    assert score([labels], [answers], background=0)[10] == pytest.approx(2 / 4)


def test_edit_score_of_thousands_of_segments() -> None:
    truth = np.tile([1, 2, 3, 2], 1000)
    fewer = np.delete(truth, np.arange(3, 4000, 40))  # a hundred times 3 2 1 becomes 3 1
    pair = find_segments(np.repeat(truth, 2)), find_segments(np.repeat(fewer, 2))
    assert edit_score(*pair) == edit_score(*pair[::-1]) == pytest.approx(1 - 100 / 4000)


def test_counts_of_f1_are_summed_over_videos_and_edit_scores_are_averaged() -> None:
    # Video 1: right (1 segment). Video 2: 3 segments, all answered wrong as one.
    found = score(["11", "123"], ["11", "000"])
    assert found["edit"] == pytest.approx((1 + 0) / 2)
    assert found[50] == pytest.approx(2 * 1 / (2 * 1 + 1 + 3))


def test_background_segments_are_left_out_of_labels_and_answers() -> None:
    # Labels cut, mix; answers cut, mix, mix, where the background between the two mixes is left out and not a join.
    found = score(["011022"], ["011202"], background=0)
    assert found["edit"] == pytest.approx(1 - 1 / 3)
    # Mix 3-4 meets mix 4-6 nowhere: TP cut and the last mix (1/2), FP 1, FN 0.
    assert found[50] == pytest.approx(4 / 5)
    # With background as a class of its own: none cut none mix, and none cut mix none mix.
    assert score(["011022"], ["011202"])["edit"] == pytest.approx(1 - 1 / 5)


def test_ignored_and_unscored_frames_are_dropped_before_segments_are_made() -> None:
    # Without the frames labelled 3, labels and answers are 1122.
    found = score(["113322"], ["112122"], ignored=3)
    assert found == {"edit": 1.0, 10: 1.0, 25: 1.0, 50: 1.0}
    mask = [np.array([True, True, False, False, True, True])]
    assert score(["110022"], ["112122"], scored=mask) == found
    # Both sides of a gap touch: one cut in labels and answers.
    assert score(["13311"], ["12311"], ignored=3)[50] == 1.0


def test_the_ignored_class_is_never_answered() -> None:
    scores = np.array([[0.0, 0.3, 0.6, 0.1], [0.0, 0.1, 0.6, 0.3]])
    found = segmental_scores([frames("13")], [scores], class_names=NAMES, ignored=2)
    assert found.edit == 1.0


def test_a_video_of_background_alone_has_no_edit_score() -> None:
    scores = [np.eye(4)[frames(text)] for text in ("00", "11", "01")]
    found = segmental_scores([frames("00"), frames("00"), frames("11")], scores, class_names=NAMES, background=0)
    assert found.per_video_edit == (None, 0.0, 1.0)
    assert found.edit == 0.5
    assert found.f1[50] == pytest.approx(2 * 1 / (1 + 2))
    nothing = segmental_scores([frames("00")], scores[:1], class_names=NAMES, background=0)
    assert nothing.to_dict() == {"edit": None, "f1": {"10": None, "25": None, "50": None}}


def test_segments_of_no_frames_and_of_one() -> None:
    assert [part.size for part in find_segments(frames(""))] == [0, 0, 0]
    assert [part.tolist() for part in find_segments(frames("2"))] == [[2], [0], [1]]
    assert edit_score(find_segments(frames("")), find_segments(frames(""))) is None
    assert edit_score(find_segments(frames("12")), find_segments(frames(""))) == 0.0


@st.composite
def two_rows(draw: st.DrawFn) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    size = draw(st.integers(1, 25))
    row = st.lists(st.integers(0, 2), min_size=size, max_size=size)
    return np.array(draw(row)), np.array(draw(row))


def slow_distance(first: Sequence[int], second: Sequence[int]) -> int:
    @cache
    def distance(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        replaced = distance(i - 1, j - 1) + (first[i - 1] != second[j - 1])
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, replaced)

    return distance(len(first), len(second))


def slow_segments(row: NDArray[np.int64], background: int | None) -> list[tuple[int, set[int]]]:
    """Return class and set of frames of each segment."""
    found: list[tuple[int, set[int]]] = []
    for frame, value in enumerate(row.tolist()):
        if frame == 0 or value != row[frame - 1]:
            found.append((value, set()))
        found[-1][1].add(frame)
    return [segment for segment in found if segment[0] != background]


def slow_f1(
    rows: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]], overlap: float, background: int | None
) -> float:
    """Match answers one after another, with sets of frames."""
    right = wrong = missed = 0
    for truth, answers in rows:
        wanted = slow_segments(truth, background)
        taken = [False] * len(wanted)
        for value, shown in slow_segments(answers, background):
            ratios = [len(a & shown) / len(a | shown) if kind == value else 0.0 for kind, a in wanted]
            best = max(range(len(wanted)), key=lambda index: ratios[index], default=None)
            if best is not None and ratios[best] >= overlap and not taken[best]:
                taken[best] = True
                right += 1
            else:
                wrong += 1
        missed += taken.count(False)
    precision, recall = right / max(right + wrong, 1), right / max(right + missed, 1)
    return 2 * precision * recall / (precision + recall) if right else 0.0


@given(st.lists(two_rows(), min_size=1, max_size=3), st.sampled_from([None, 0]))
@settings(deadline=None, max_examples=150)
def test_equals_the_slow_way(rows: list[tuple[NDArray[np.int64], NDArray[np.int64]]], background: int | None) -> None:
    pairs: list[tuple[Segments, Segments]] = []
    for truth, answers in rows:
        pair = find_segments(truth, background=background), find_segments(answers, background=background)
        words = [[value for value, _ in slow_segments(row, background)] for row in (truth, answers)]
        longest = max(len(words[0]), len(words[1]))
        if longest:
            assert edit_score(*pair) == pytest.approx(1 - slow_distance(*words) / longest)
        pairs.append(pair)
    if any(part.classes.size for pair in pairs for part in pair):
        for overlap in (0.1, 0.25, 0.5, 1.0):
            assert segmental_f1(pairs, overlap=overlap) == pytest.approx(slow_f1(rows, overlap, background))


def test_real_labels_against_the_slow_way(shared_data: Path) -> None:
    with np.load(shared_data / "gtea" / "Split_1.npz") as stored:
        labels = np.split(stored["labels"].astype(np.int64), stored["offsets"][1:-1])
        tested, names = np.flatnonzero(stored["is_test"]), [str(name) for name in stored["class_names"]]
    truth = [labels[index] for index in tested]
    oracle = [np.eye(len(names))[row] for row in truth]
    exact = segmental_scores(truth, oracle, class_names=names, background=0)
    assert exact.to_dict() == {"edit": 1.0, "f1": {"10": 1.0, "25": 1.0, "50": 1.0}}
    # Answers that come 10 frames late, with a flicker now and then.
    random = np.random.default_rng(0)
    late = [np.concatenate([np.zeros(10, np.int64), row[:-10]]) for row in truth]
    answers = [
        np.where(random.random(row.size) < 0.02, random.integers(len(names), size=row.size), row) for row in late
    ]
    found = segmental_scores(truth, [np.eye(len(names))[row] for row in answers], class_names=names, background=0)
    pairs = list(zip(truth, answers, strict=True))
    for percent, value in found.f1.items():
        assert value == pytest.approx(slow_f1(pairs, percent / 100, 0), abs=1e-12)
    words = [[[value for value, _ in slow_segments(row, 0)] for row in pair] for pair in pairs]
    edits = [1 - slow_distance(first, second) / max(len(first), len(second)) for first, second in words]
    assert found.edit == pytest.approx(np.mean(edits), abs=1e-12)


GOOD = [np.array([0, 1])], [np.eye(4)[:2]]


@pytest.mark.parametrize(
    ("labels", "scores", "options", "error", "words"),
    [
        ([np.eye(4, dtype=int)], [np.eye(4)], {}, DataError, "multi-hot.*give indices"),
        (*GOOD, {"overlaps": (0,)}, ConfigError, "overlap is 0 percent"),
        (*GOOD, {"overlaps": (0.5,)}, ConfigError, "overlap is 0.5 percent"),
        (*GOOD, {"background": 4}, ConfigError, "background class index 4"),
        (GOOD[0], [np.eye(4)], {}, ShapeError, r"video 0: scores have shape \(4, 4\); expected \(2, 4\)"),
        (GOOD[0], [np.full((2, 4), np.nan)], {}, DataError, "video 0: a score at frame 0 is nan"),
    ],
)
def test_bad_input_is_named(
    labels: list[Any], scores: list[Any], options: dict[str, Any], error: type[CoadtrError], words: str
) -> None:
    with pytest.raises(error, match=words):
        segmental_scores(labels, scores, **{"class_names": NAMES, **options})


def test_segments_of_rows_of_scores_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(4, 4\); give one class index per frame"):
        find_segments(np.eye(4))
