"""Eyes and a detector that tests can afford, and what they answer, written out slowly."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coadtr.live import Answer, LiveDetector, LiveSource, Sight
from coadtr.runtime import Event, EventDecoder, EventSettings, OnlineDetector
from coadtr.video import Eyes, Sampling, VideoReader
from tests.serving.leaky import CHANNELS, CLASSES, LeakyStepper, solo

SAMPLING = Sampling(preset="rate", rate_hz=5.0)  # the rate of the detector
EVENTS = EventSettings(start=0.5, end=0.5)


class Grey(Eyes):
    """Take what tells the frames of `write_video` apart: the mean of a corner, as five values."""

    def __init__(self, sampling: Sampling = SAMPLING, pause: float = 0.0) -> None:
        super().__init__({}, sampling)
        self.pause, self.looks = pause, 0

    def look(self, frames: Sequence[Any]) -> NDArray[np.float32]:
        time.sleep(self.pause)
        self.looks += 1
        grey = float(frames[self.sampling.pick - self.sampling.size].rgb[-8:, -8:].mean()) / 255
        return np.asarray(np.sin(np.arange(1, CHANNELS + 1) * 9 * grey), np.float32)


class Notes:
    """A view that keeps what it is shown."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.sights: list[Sight] = []
        self.order: list[tuple[str, float]] = []
        self.last: tuple[Event, ...] | None = None

    def answer(self, answer: Answer) -> None:
        self.answers.append(answer)
        self.order.append(("answer", answer.time))

    def frame(self, sight: Sight) -> None:
        self.sights.append(sight)
        self.order.append(("frame", sight.time))

    def end(self, events: tuple[Event, ...]) -> None:
        self.last = events

    def close(self) -> None:
        raise AssertionError("whoever makes a view closes it")


def decoder() -> EventDecoder:
    return EventDecoder(CLASSES, 0, 5.0, EVENTS)


def live(source: LiveSource, eyes: Eyes | None = None, **options: Any) -> LiveDetector:
    """Put a live detector together."""
    detector = options.pop("detector", None) or OnlineDetector(LeakyStepper())
    return LiveDetector(source, eyes or Grey(), detector, decoder, **options)


def expected(path: Path) -> NDArray[np.float32]:
    """Score a file as a stream of features of its own."""
    eyes = Grey()
    stream = eyes.stream()
    with VideoReader(path) as reader:
        features = [feature for frame in reader for feature in stream.push(frame)]
    return solo(np.stack([feature.values for feature in (*features, *stream.finish())]))
