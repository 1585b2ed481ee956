"""The client for web pages, in a browser."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from coadtr.serving import ServerSettings, running
from tests.serving.leaky import CLASSES, detector, frames_of, solo

SCRIPT = """
async ([frames, options]) => {
    const { StreamClient } = await import("/client.js");
    const told = { answers: [], hellos: [], lost: 0, early: null };
    await new Promise((done) => {
        const client = new StreamClient(location.origin, "page", {
            ...options,
            onHello: (hello) => {
                told.hellos.push(hello);
                try { client.push(new Float32Array(3)); } catch (error) { told.early = error.message; }
                if (told.hellos.length > 1) return;
                frames.forEach((frame, index) => {
                    if (options.timed) client.push(Float32Array.from(frame), index / 2);
                    else client.push(Float32Array.from(frame));
                });
                client.end();
            },
            onAnswer: (answer) => told.answers.push(answer),
            onLost: () => { told.lost += 1; },
            onEnd: (end) => { told.end = end; done(); },
            onError: (error) => { told.error = error; done(); },
        });
    });
    return told;
}
"""


def run(browser: Any, url: str, frames: np.ndarray, **options: Any) -> dict[str, Any]:
    """Push frames from a page of the server."""
    page = browser.new_page()
    try:
        page.goto(url)
        found: dict[str, Any] = page.evaluate(SCRIPT, [frames.tolist(), options])
        return json.loads(json.dumps(found))  # type: ignore[no-any-return]
    finally:
        page.close()


@pytest.mark.slow
@pytest.mark.parametrize("timed", [False, True])
def test_a_page_pushes_frames_and_hears_answers(timed: bool, browser: Any) -> None:
    frames = frames_of(10)
    with running(detector(), ServerSettings(port=0)) as url:
        told = run(browser, url, frames, timed=timed)
    assert "error" not in told
    assert told["hellos"][0]["classes"] == list(CLASSES)
    assert told["early"] == "a frame has 3 values; give 5"
    assert [answer["frame"] for answer in told["answers"]] == list(range(10))
    assert [answer["time"] for answer in told["answers"]] == [index / (2 if timed else 5) for index in range(10)]
    np.testing.assert_array_equal(np.array([answer["scores"] for answer in told["answers"]], np.float32), solo(frames))
    assert told["end"]["end"] == 10


@pytest.mark.slow
def test_a_page_is_told_of_what_is_refused(browser: Any) -> None:
    frames = frames_of(4)
    frames[2, 1] = 3e38
    with running(detector(), ServerSettings(port=0, token="s3cret")) as url:  # noqa: S106
        told = run(browser, url, frames, token="s3cret")  # noqa: S106
        assert [answer["frame"] for answer in told["answers"]] == [0, 1]
        assert told["error"]["code"] == 4400
        assert "the answer to frame 2 is not finite" in told["error"]["reason"]
        refused = run(browser, url, frames, token="wrong")  # noqa: S106
        assert refused["error"] == {"code": 4401, "reason": "a token is needed: give it as ?token=..."}
