"""The page in a browser: what a stream is told is shown, and what goes wrong is said.

Screenshots go to the folder named by COADTR_ARTIFACTS, or to the test's own.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coadtr.serving import Limits, StreamClient, running
from tests.serving.seeing import ColourEyes, encode
from tests.serving.showing import (
    COLOURED,
    DARK,
    GREEN,
    RED,
    Visit,
    artefacts,
    chosen,
    detector,
    feed,
    frame,
    listed,
    program,
    shows,
    until,
)

SECRET = "s3cret"  # noqa: S105 - of a test
NASTY = ("<img src=x onerror=alert(1)>", "place_the_cucumber_into_the_very_large_salad_bowl", "<b>turn</b>")


def test_what_a_stream_is_told_is_shown(visit: Visit) -> None:
    with running(detector(), chosen()) as url:
        page = visit(f"{url}/?stream=door")
        shows(page, "waiting")
        assert page.inner_text("#state") == "Waiting for the first answer"
        with StreamClient(url, "door") as client:
            answers = feed(client, [DARK, DARK, RED, RED, RED, DARK, GREEN, GREEN])
        shows(page, "live")
        until(page, "document.getElementById('clock').textContent === '0:01.4'")
        assert page.inner_text("#action") == "turn"
        assert page.inner_text("#score") == f"{100 * answers[-1].scores[2]:.0f} %"
        assert listed(page) == [["turn", "since 0:01.2", "now"], ["lift", "0:00.4 \u2013 0:01.0", "0.6 s"]]
        assert page.locator("#legend .name").all_inner_texts() == ["lift", "turn", "no action"]
        until(page, f"({COLOURED})(1) > 100 && ({COLOURED})(2) > 100")
        assert page.evaluate(COLOURED, 7) == 0
        assert page.title() == "door · coadtr"


def test_who_comes_later_sees_what_was_kept_and_how_it_ends(visit: Visit) -> None:
    with running(detector(), chosen()) as url:
        with StreamClient(url, "door") as client:
            client.push_many(np.stack([frame(colour) for colour in [DARK] * 4 + [RED] * 4]))
        page = visit(url)
        page.click("#streams a")
        until(page, "document.getElementById('clock').textContent === '0:01.4'")
        assert page.inner_text("#state") == "Waiting for the next answer"
        assert page.inner_text("#action") == "lift"
        assert page.url == f"{url}/?stream=door"
        with StreamClient(url, "door") as client:
            client.end()
        shows(page, "ended")
        assert page.inner_text("#state") == "Ended after 8 answers"
        assert listed(page) == [["lift", "0:00.8 \u2013 0:01.4", "0.6 s"]]
        page.go_back()
        page.wait_for_selector("#no-streams:not([hidden])")


def test_streams_of_the_program_have_pictures_and_a_lag(visit: Visit) -> None:
    with program() as (url, service):
        page = visit(f"{url}/?stream=camera", color_scheme="dark")
        shows(page, "waiting")
        for number in range(8):
            time.sleep(0.15)
            service.board.answer(
                "camera", f'{{"frame":{number},"time":{number / 5},"scores":[0.2,0.7,0.1],"events":[]}}'
            )
            service.board.live(
                "camera", {"source": "hall.mp4", "lag": 0.125, "feature_ms": 30.0, "step_ms": 2.0, "dropped": 3}
            )
        assert page.evaluate("document.getElementById('stage').classList.contains('blind')")
        service.board.picture("camera", 1.4, encode(np.broadcast_to(np.array(RED, np.uint8), (60, 80, 3)).copy()))
        page.wait_for_selector("#picture:not([hidden])")
        shown = page.evaluate(
            "[...document.getElementById('picture').getContext('2d').getImageData(40, 30, 1, 1).data]"
        )
        np.testing.assert_allclose(shown[:3], RED, atol=12)
        assert page.inner_text("#origin") == "hall.mp4"
        page.wait_for_selector("[data-figure=rate]")
        figures = page.evaluate(
            "Object.fromEntries([...document.querySelectorAll('#figures div')]"
            ".map((row) => [row.dataset.figure, row.lastChild.textContent]))"
        )
        assert float(figures.pop("rate")) > 0
        assert figures == {
            "median": "125 ms",
            "p95": "125 ms",
            "lag": "125 ms",
            "features": "30 ms",
            "step": "2.0 ms",
            "dropped": "3",
        }


def test_server_without_eyes_says_how_to_start_one_with_them(visit: Visit) -> None:
    with running(detector(), chosen()) as url:
        page = visit(url)
        page.wait_for_selector("#no-eyes:not([hidden])")
        assert "coadtr serve checkpoint=... pictures=true" in page.inner_text("#no-eyes")
        assert page.is_disabled("#webcam")
        assert page.is_disabled("#file")
        page.fill("#name", "later")
        page.keyboard.press("Enter")
        shows(page, "waiting")
        assert page.inner_text("#title") == "later"


def test_a_token_is_asked_for_and_leaves_the_address(visit: Visit) -> None:
    with running(detector(), chosen(token=SECRET)) as url:
        page = visit(f"{url}/?stream=door&token=wrong", faults_of=["401 (Unauthorized)"])
        page.wait_for_selector("#token-form:not([hidden])")
        assert page.inner_text("#token-words") == "The server does not take that token."
        assert page.url == f"{url}/?stream=door"
        page.keyboard.type(SECRET)
        page.keyboard.press("Enter")
        shows(page, "waiting")
        with StreamClient(url, "door", token=SECRET) as client:
            feed(client, [RED, RED])
        shows(page, "live")
        page.click("#leave")
        page.wait_for_selector("#streams a[data-stream=door]")  # asked for with the token that the tab keeps
        other = visit(url)
        other.wait_for_selector("#token-form:not([hidden])")
        assert other.inner_text("#token-words") == "This server asks for a token."


def test_what_cannot_be_watched_is_said(visit: Visit) -> None:
    with running(detector(), chosen(limits=Limits(watchers=0))) as url:
        page = visit(f"{url}/?stream=..%2Fetc")
        page.wait_for_selector("#notice:not([hidden])")
        assert page.inner_text("#notice") == "../etc cannot name a stream: use 1 to 64 letters, digits, _ . -"
        page.goto(f"{url}/?stream=door")
        shows(page, "error")
        reason = "The server closed the connection: 0 connections watch, the limit; try again later."
        assert page.inner_text("#notice-words") == reason
        page.click("#again")
        shows(page, "error")


def percents(answer: Any) -> list[str]:
    """Write the scores of "lift" and "rest", as the legend does."""
    return [f"{100 * answer.scores[place]:.0f} %" for place in (1, 0)]


def test_timeline_is_read_by_keys_and_pointer(visit: Visit) -> None:
    with running(detector(), chosen()) as url:
        with StreamClient(url, "door") as client:
            answers = client.push_many(np.stack([frame(colour) for colour in [RED] * 10 + [DARK] * 10]))
        page = visit(f"{url}/?stream=door", reduced_motion="reduce")  # else it rolls on while it is read
        until(page, "document.getElementById('clock').textContent === '0:03.8'")
        assert page.locator("#legend output").all_inner_texts() == percents(answers[-1])
        page.focus("#timeline")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        assert page.inner_text("#reading") == "at 0:00.8"
        lift, rest = percents(answers[4])
        assert page.locator("#legend output").all_inner_texts() == [lift, rest]
        assert page.evaluate("document.getElementById('told').textContent") == f"0:00.8: lift {lift}"
        page.keyboard.press("Escape")
        assert page.inner_text("#reading") == ""
        page.hover("#timeline", position={"x": 700, "y": 40})
        assert page.inner_text("#reading").startswith("at 0:0")


@pytest.mark.parametrize("width", [1280, pytest.param(360, id="phone")])
def test_page_fits_the_screen_and_names_stay_text(visit: Visit, width: int, tmp_path: Path) -> None:
    with running(detector(NASTY), chosen(), ColourEyes()) as url:
        page = visit(url, width=width, color_scheme="dark")
        page.wait_for_selector("#webcam:enabled")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.goto(f"{url}/?stream=door")
        shows(page, "waiting")
        with StreamClient(url, "door") as client:
            feed(client, [RED, RED, GREEN, GREEN])
        until(page, "document.getElementById('clock').textContent === '0:00.6'")
        assert page.inner_text("#action") == NASTY[2]
        assert [name for name, *_ in listed(page)] == [NASTY[2], NASTY[1]]
        assert page.locator("main img").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.screenshot(path=artefacts(tmp_path) / f"live-{width}.png", full_page=True)
        page.click("#theme")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
