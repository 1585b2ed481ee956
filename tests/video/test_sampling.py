"""Sampling: which frames make a feature, for every kind of video."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coadtr.errors import ConfigError
from coadtr.video import Sampling, chunks, resample
from coadtr.video.sampling import TOLERANCE_S


@dataclass(frozen=True)
class Shown:
    """A frame that is nothing but its time."""

    time: float


def even(rate: float, frames: int) -> list[Shown]:
    return [Shown(index / rate) for index in range(frames)]


def slow_resample(times: list[float], rate: float, offset: float, end: float) -> list[float]:
    """Look at all frames anew for each time: the plain reading of the rule."""
    sampled: list[float] = []
    for index in itertools.count():
        now = offset + index / rate
        if now + TOLERANCE_S >= end:
            return sampled
        sampled.append(max(time for time in times if time <= now + TOLERANCE_S))
    raise AssertionError


@given(
    gaps=st.lists(st.integers(0, 40), max_size=40),
    rate=st.sampled_from([1.0, 4.0, 24.0, 30.0]),
    offset=st.sampled_from([0.0, 0.0125]),
)
def test_resampling_shows_the_latest_frame(gaps: list[int], rate: float, offset: float) -> None:
    times = [0.0, *(np.cumsum(gaps) / 64).tolist()]
    answer = [frame.time for frame in resample([Shown(t) for t in times], rate_hz=rate, offset=offset, hold=0.25)]
    assert answer == slow_resample(times, rate, offset, times[-1] + 0.25)


@pytest.mark.parametrize("video_rate", [12.5, 23.976, 24.0, 25.0, 29.97, 30.0, 50.0, 60.0])
def test_lstr_is_24_frames_in_chunks_of_6(video_rate: float) -> None:
    video = even(video_rate, round(10 * video_rate))
    found = list(chunks(video, Sampling(), hold=1 / video_rate))
    assert len(found) == 40 - (len(video) / video_rate < 10 - TOLERANCE_S)
    for index, chunk in enumerate(found):
        picked = chunk[Sampling().pick].time
        now = (6 * index + 3) / 24
        assert now - 1 / video_rate - 1e-9 < picked <= now + TOLERANCE_S


def test_times_rounded_to_milliseconds_lose_no_frame() -> None:
    rounded = [Shown(round(1000 * index / 24) / 1000) for index in range(240)]
    assert [frame for chunk in chunks(rounded, Sampling(), hold=1 / 24) for frame in chunk] == rounded


def test_oadtr_takes_every_frame_and_drops_the_rest() -> None:
    video = even(29.97, 100)
    found = list(chunks(video, Sampling(preset="oadtr")))
    assert [frame for chunk in found for frame in chunk] == video[:96]
    assert Sampling(preset="oadtr").feature_rate_hz(29.97) == pytest.approx(4.995)
    assert Sampling(preset="oadtr").pick == 3


def test_rate_takes_the_middle() -> None:
    video = even(100, 300)
    one = list(chunks(video, Sampling(preset="rate", rate_hz=2.0)))
    np.testing.assert_allclose([chunk[0].time for chunk in one], [0.25, 0.75, 1.25, 1.75, 2.25, 2.75])
    four = list(chunks(video, Sampling(preset="rate", rate_hz=1.0, chunk=4)))
    np.testing.assert_allclose([frame.time for frame in four[0]], [0.12, 0.37, 0.62, 0.87])
    assert len(four) == 3
    assert Sampling(preset="rate", rate_hz=1.0, chunk=4).feature_rate_hz(30) == 1.0


def test_context_comes_before_the_chunk() -> None:
    video = even(24.0, 24)
    found = list(chunks(video, Sampling(), context=10))
    assert [round(frame.time * 24) for frame in found[0]] == [0, 0, 0, 0, 0, 1, 2, 3, 4, 5]
    assert [round(frame.time * 24) for frame in found[1]] == list(range(2, 12))


def test_endless_streams_are_read_as_far_as_asked() -> None:
    camera = (Shown(index / 30) for index in itertools.count())
    assert len(list(itertools.islice(chunks(camera, Sampling()), 100))) == 100
    assert next(camera).time < 26


def test_no_frame_and_one_frame() -> None:
    assert list(chunks([], Sampling())) == []
    assert list(chunks([Shown(0.0)], Sampling())) == []
    assert len(list(chunks([Shown(0.0)], Sampling(), hold=0.3))) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"preset": "lstm"}, "sampling 'lstm': use one of 'lstr', 'oadtr', 'rate'"),
        ({"rate_hz": 4.0}, "rate_hz=4.0 goes with sampling=rate, not lstr"),
        ({"chunk": 5}, "chunk=5: sampling lstr has chunks of 6"),
        ({"preset": "rate"}, "rate_hz=None: sampling=rate needs"),
        ({"preset": "rate", "rate_hz": float("nan")}, "rate_hz=nan"),
        ({"preset": "rate", "rate_hz": -1}, "rate_hz=-1"),
        ({"preset": "rate", "rate_hz": 1.0, "chunk": 0}, "chunk=0"),
    ],
)
def test_bad_samplings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Sampling(**values)


def test_each_sampling_has_its_own_text() -> None:
    texts = {
        Sampling().describe(),
        Sampling(preset="oadtr").describe(),
        *(Sampling(preset="rate", rate_hz=rate, chunk=chunk).describe() for rate in (2, 4) for chunk in (1, 2)),
    }
    assert len(texts) == 6
