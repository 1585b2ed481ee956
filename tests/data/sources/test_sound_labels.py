"""Labels of sound by the time that a feature stands for, as a loop over features and segments has them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from coadtr.audio import log_mel_preset
from coadtr.data.sources.label_rules import Segment
from coadtr.data.sources.sound_labels import FRAME_TIMES, frame_offset, sound_labels
from coadtr.errors import ConfigError

PATCHES = {"patch_frames": 96, "patch_hop": 48}


@pytest.mark.parametrize("changes", [{}, PATCHES, {"hop_s": 0.04}], ids=["frames", "patches", "hop beyond the window"])
@pytest.mark.parametrize("frame_time", FRAME_TIMES)
def test_a_feature_has_the_classes_of_the_middle_of_its_time(frame_time: str, changes: dict[str, float]) -> None:
    front_end = log_mel_preset("vggish", **changes)
    rng = np.random.default_rng(0)
    starts = rng.uniform(0, 28, 20)
    segments = [
        Segment(float(start), float(start + length), int(label))
        for start, length, label in zip(starts, rng.uniform(0.3, 3, 20), rng.integers(1, 4, 20), strict=True)
    ]
    frames = front_end.count(30 * front_end.rate_hz)
    labels = sound_labels(segments, frames=frames, front_end=front_end, frame_time=frame_time, classes=4, background=0)
    period = 1 / front_end.feature_rate_hz
    assert labels.shape == (frames, 4)
    for frame in range(frames):
        known = front_end.complete_s(frame)
        at = known - period / 2 if frame_time == "complete" else known - front_end.feature_s / 2
        if min(abs(at - edge) for segment in segments for edge in segment[:2]) > 1e-6:
            expected = {label for start, end, label in segments if start <= at < end} or {0}
            assert set(np.flatnonzero(labels[frame])) == expected


def test_a_feature_that_is_complete_before_an_event_begins_has_no_label_of_it() -> None:
    front_end = log_mel_preset("vggish", **PATCHES)
    labels = sound_labels(
        [Segment(2.0, 3.0, 1)], frames=10, front_end=front_end, frame_time="complete", classes=2, background=0
    )
    first = math.ceil((2.0 - front_end.feature_s) * front_end.feature_rate_hz)
    assert not labels[:first, 1].any()


def test_an_unknown_time_is_refused() -> None:
    with pytest.raises(ConfigError, match="frame_time='start': use one of 'complete', 'centre'"):
        frame_offset(log_mel_preset("vggish"), "start")
