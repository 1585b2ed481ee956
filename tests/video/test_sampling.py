"""Sampling: which frames make a feature, for every kind of video."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coadtr.errors import ConfigError, DataError
from coadtr.video import Resampler, Sampling, chunks
from coadtr.video.sampling import TOLERANCE_S, even_rate


@dataclass(frozen=True)
class Shown:
    """A frame that is nothing but its time."""

    time: float


def even(rate: float, frames: int) -> list[Shown]:
    return [Shown(index / rate) for index in range(frames)]


def resample(frames: list[Shown], resampler: Resampler[Shown]) -> list[Shown]:
    shown = [one for frame in frames for one in resampler.push(frame)]
    return shown + resampler.finish()


def slow_resample(times: list[float], rate: float, offset: float, end: float) -> list[float]:
    """Look at all frames anew for each time: the plain reading of the rule."""
    sampled: list[float] = []
    for index in itertools.count():
        now = offset + index / rate
        if now + TOLERANCE_S >= end:
            return sampled
        sampled.append(max((time for time in times if time <= now + TOLERANCE_S), default=times[0]))
    raise AssertionError


@given(
    begin=st.sampled_from([0.0, 0.03125, 1.25]),
    gaps=st.lists(st.integers(0, 40), max_size=40),
    rate=st.sampled_from([1.0, 4.0, 24.0, 30.0]),
    offset=st.sampled_from([0.0, 0.0125]),
)
def test_resampling_shows_the_latest_frame(begin: float, gaps: list[int], rate: float, offset: float) -> None:
    times = [begin, *(begin + np.cumsum(gaps) / 64).tolist()]
    answer = [
        frame.time for frame in resample([Shown(t) for t in times], Resampler(rate_hz=rate, offset=offset, hold=0.25))
    ]
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


def test_the_first_frame_is_shown_until_its_time() -> None:
    late = [Shown(2 + index / 24) for index in range(48)]
    found = list(chunks(late, Sampling(), hold=1 / 24))
    assert [chunk[3].time for chunk in found[:8]] == [2.0] * 8
    np.testing.assert_allclose([chunk[3].time for chunk in found[8:]], 2 + (np.arange(8) + 0.5) / 4)


@pytest.mark.parametrize(
    ("declared", "counted", "warning"),
    [
        (30.0, 30.1, None),
        (30.0, None, None),
        (30.3, 30.0, "declares 30.3 frames a second but shows 30, which is used: see sampling=lstr"),  # 1 % of 20 s
        (60.0, 30.0, "declares 60 frames a second but shows 30, which is used: see sampling=lstr"),
        (None, 30.0, "declares no rate but shows 30, which is used: see sampling=lstr"),
    ],
)
def test_oadtr_takes_the_rate_that_its_chunks_have(
    declared: float | None, counted: float | None, warning: str | None
) -> None:
    starts = [index / 5 for index in range(100)]
    found = even_rate(Sampling(preset="oadtr"), starts, declared=declared, counted=counted)
    assert found == (5.0, [warning] if warning else [])
    assert even_rate(Sampling(), starts, declared=declared, counted=counted) == (4.0, [])


def test_oadtr_needs_chunks_at_even_times() -> None:
    starts = [index / 5 for index in range(100)]
    starts[20] += 0.09
    assert even_rate(Sampling(preset="oadtr"), starts, declared=30.0, counted=30.0) == (5.0, [])
    starts[20] += 0.02
    message = (
        r"uneven in time: chunk 20 starts at 4\.11 s, and would at 4\.00 s by 30 frames a second: use sampling=lstr"
    )
    with pytest.raises(DataError, match=message):
        even_rate(Sampling(preset="oadtr"), starts, declared=30.0, counted=30.0)


def test_no_frame_and_one_frame() -> None:
    assert list(chunks([], Sampling())) == []
    assert list(chunks([Shown(0.0)], Sampling())) == []
    assert len(list(chunks([Shown(0.0)], Sampling(), hold=0.3))) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"preset": "lstm"}, "sampling 'lstm': use one of 'lstr', 'oadtr', 'rate'"),
        ({"rate_hz": 4.0}, "rate_hz=4.0 is not for sampling=lstr: say sampling=rate, or drop rate_hz"),
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
