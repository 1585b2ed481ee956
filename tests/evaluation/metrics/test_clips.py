"""Accuracy over recordings, against the loop that asks each recording at each time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from coadtr.errors import ConfigError, DataError, ShapeError
from coadtr.evaluation.metrics import ClipAnswer, clip_scores
from coadtr.evaluation.metrics.clips import clip_times

CLASSES = 4


def recordings(count: int = 23, *, seed: int = 0) -> tuple[list[NDArray[Any]], list[NDArray[Any]], list[float]]:
    """Make recordings of unlike length and rate, whose scores get better with time."""
    generator = np.random.default_rng(seed)
    labels, scores, rates = [], [], []
    for _ in range(count):
        frames = int(generator.integers(1, 40))
        label = int(generator.integers(CLASSES))
        noise = generator.random((frames, CLASSES))
        noise[:, label] += np.linspace(0, 0.6, frames)
        labels.append(np.full(frames, label))
        scores.append(noise)
        rates.append(float(generator.choice([10.0, 25.0, 29.97])))
    return labels, scores, rates


def asked(scores: NDArray[Any], rate: float, first: float, seconds: float, answer: str) -> int | None:
    """Return the answer at a time, frame by frame."""
    found, total = None, np.zeros(CLASSES)
    for index, frame in enumerate(scores):
        if first + index / rate <= seconds + 1e-7:
            total = total + frame
            found = int((frame if answer == "last" else total).argmax())
    return found


@pytest.mark.parametrize("answer", ["last", "mean"])
@pytest.mark.parametrize("first_s", [None, 0.0, 0.3])
def test_every_number_is_that_of_the_loop(answer: ClipAnswer, first_s: float | None) -> None:
    labels, scores, rates = recordings()
    found = clip_scores(labels, scores, rates_hz=rates, first_s=first_s, answer=answer)
    firsts = [1 / rate if first_s is None else first_s for rate in rates]
    ends = [first + (len(part) - 1) / rate for first, part, rate in zip(firsts, scores, rates, strict=True)]
    everything = list(zip(labels, scores, rates, firsts, ends, strict=True))

    def right(at: float, one: tuple[Any, ...]) -> bool:
        label, part, rate, first, end = one
        return asked(part, rate, first, min(at, end), answer) == int(label[0])

    assert found.seconds[-1] == max(ends)
    for place, at in enumerate(found.seconds):
        marks = [right(at, one) for one in everything]
        going_on = [one[4] >= at - 1e-7 for one in everything]
        assert found.going_on[place] == sum(going_on)
        assert found.accuracy_all[place] == pytest.approx(np.mean(marks))
        expected = np.mean([mark for mark, lasts in zip(marks, going_on, strict=True) if lasts])
        assert found.accuracy_going_on[place] == pytest.approx(expected)
    for share, value in zip(found.shares, found.accuracy_by_share, strict=True):
        assert value == pytest.approx(np.mean([right(share * one[4], one) for one in everything]))
    at_the_end = [asked(part, rate, first, math.inf, answer) for _, part, rate, first, _ in everything]
    assert found.accuracy == pytest.approx(
        np.mean([mark == label[0] for mark, label in zip(at_the_end, labels, strict=True)])
    )
    assert found.accuracy == found.accuracy_all[-1] == found.accuracy_by_share[-1]
    counts = np.zeros((CLASSES, CLASSES), int)
    for label, mark in zip(labels, at_the_end, strict=True):
        counts[label[0], mark] += 1
    assert np.array(found.confusion).tolist() == counts.tolist()


def test_the_interval_holds_the_share_and_narrows_with_recordings() -> None:
    few, many = (clip_scores(*pair[:2], rates_hz=pair[2]) for pair in (recordings(12), recordings(300)))
    widths = []
    for found in (few, many):
        assert found.interval is not None
        low, high = found.interval
        assert 0 <= low <= found.accuracy <= high <= 1
        widths.append(high - low)
    assert widths[1] < widths[0]
    labels, scores, rates = recordings(5)
    assert clip_scores(labels, scores, rates_hz=rates, resamples=0).interval is None
    assert clip_scores(labels[:1], scores[:1], rates_hz=rates[:1]).interval is None


def test_before_the_first_frame_is_complete_there_is_no_answer() -> None:
    sure = np.tile([1.0, 0.0], (5, 1))
    found = clip_scores([np.zeros(5, int)], [sure], rates_hz=[10.0], first_s=0.25)
    pairs = dict(zip(found.seconds, found.accuracy_all, strict=True))
    assert pairs == {0.1: 0.0, 0.2: 0.0, 0.3: 1.0, 0.4: 1.0, 0.5: 1.0, 0.6: 1.0, 0.65: 1.0}


@pytest.mark.parametrize("longest", [0.013, 0.15, 1.0, 2.3, 59.99, 3600.0])
@pytest.mark.parametrize("finest", [0.0, 0.01])
def test_times_are_few_and_round_and_reach_the_longest(longest: float, finest: float) -> None:
    times = clip_times(longest, finest=finest)
    assert times[-1] == longest
    assert len(times) <= 41
    assert list(times) == sorted(set(times))
    assert len(times) == 1 or times[0] >= finest * (1 - 1e-6)


def test_what_is_wrong_is_refused() -> None:
    labels, scores, rates = recordings(3)
    with pytest.raises(ConfigError, match="answer must be one of last, mean, got 'first'"):
        clip_scores(labels, scores, rates_hz=rates, answer="first")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="first_s is -1: give the seconds"):
        clip_scores(labels, scores, rates_hz=rates, first_s=-1)
    with pytest.raises(DataError, match="there is no recording"):
        clip_scores([], [], rates_hz=[])
    with pytest.raises(DataError, match="recording 0 must have frames, all of one of the 4 classes"):
        clip_scores([np.array([0, 1])], [np.ones((2, CLASSES))], rates_hz=[5.0])
    with pytest.raises(DataError, match="recording 0 has rate nan"):
        clip_scores([np.array([1, 1])], [np.ones((2, CLASSES))], rates_hz=[math.nan])
    with pytest.raises(ShapeError, match="2 labels, 1 scores, 1 rates"):
        clip_scores(labels[:2], scores[:1], rates_hz=rates[:1])
    with pytest.raises(ShapeError, match=r"recording 1: labels"):
        clip_scores(labels, [scores[0], scores[0][:0], scores[2]], rates_hz=rates)
