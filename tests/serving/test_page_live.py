"""A video file that ``coadtr live`` shows on the page: picture, timeline, events, lag."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from coadtr.audio import LogMel
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
SHOWN = "getComputedStyle(document.getElementById('blank')).display !== 'none'"


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


@pytest.mark.parametrize("sound", [True, False])
def test_sound_has_no_picture_to_wait_for(sound: bool, visit: Visit) -> None:
    with program() as (url, service):
        made = LogMel(bands=3).describe() if sound else {"backbone": "colours"}
        model = service.model() | {"streams": [{"name": "audio", "channels": 3}], "extractors": {"audio": made}}
        service.model = lambda: model  # type: ignore[method-assign]
        page = visit(f"{url}/?stream=talk")
        shows(page, "waiting")
        assert page.evaluate(SHOWN) is not sound
        for number in range(4):
            service.board.answer("talk", f'{{"frame":{number},"time":{number / 5},"scores":[0.2,0.7,0.1],"events":[]}}')
            service.board.live("talk", {"source": "talk.wav", "lag": 0.1, "step_ms": 2.0, "dropped": 0})
        until(page, "document.getElementById('action').textContent === 'lift'")
        assert page.evaluate(SHOWN) is not sound
        page.wait_for_selector("[data-figure=dropped]")
        told = page.inner_text("body")
        assert ("features left out" if sound else "pictures dropped") in told
        assert ("log-mel" if sound else "colours") in page.text_content("#facts")
        assert "object Object" not in page.text_content("#facts")
