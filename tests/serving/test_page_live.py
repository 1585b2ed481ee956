"""A video file that ``coadtr live`` shows on the page: picture, timeline, events, lag."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from coadtr.live import LiveDetector, LiveSource, PageView
from coadtr.runtime import EventDecoder, EventSettings
from coadtr.video import Eyes, Sampling
from tests.serving.showing import (
    COLOURED,
    RED,
    ColourStepper,
    Visit,
    artefacts,
    detector,
    frame,
    listed,
    program,
    shows,
    until,
)

pytestmark = pytest.mark.slow


class ColourNetwork(Eyes):
    """Make the frame of a picture's mean colour."""

    def __init__(self) -> None:
        super().__init__({}, Sampling(preset="rate", rate_hz=5.0))

    def look(self, frames: Sequence[Any]) -> NDArray[np.float32]:
        red, green, blue = frames[-1].rgb.reshape(-1, 3).mean(axis=0)
        return frame((red, green, blue))


def test_a_file_is_watched_as_it_goes_on(visit: Visit, video: Path, tmp_path: Path) -> None:
    told = ColourStepper.description
    with program() as (url, service):
        page = visit(f"{url}/?stream=kitchen")
        shows(page, "waiting")
        live = LiveDetector(
            LiveSource(str(video)),
            ColourNetwork(),
            detector(),
            lambda: EventDecoder(told.class_names, told.background, told.rate_hz, EventSettings()),
        )
        view = PageView(service.board, "kitchen", "colours.webm", live.totals)
        thread = threading.Thread(target=live.run, args=([view],))
        thread.start()
        shows(page, "live")
        until(page, "document.getElementById('action').textContent === 'lift'")
        middle = "[...document.getElementById('picture').getContext('2d').getImageData(80, 60, 1, 1).data].slice(0, 3)"
        np.testing.assert_allclose(page.evaluate(middle), RED, atol=30)
        page.screenshot(path=str(artefacts(tmp_path) / "live-file.png"))
        until(page, "document.getElementById('action').textContent === 'turn'")
        thread.join()
        shows(page, "ended")
        assert [row[0] for row in listed(page)] == ["turn", "lift"]
        assert all(page.evaluate(COLOURED, place) > 100 for place in (1, 2))
        text = page.inner_text("body")
        assert "colours.webm" in text
        assert "behind the source" in text
