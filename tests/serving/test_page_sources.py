"""The page in a browser: videos and webcams of its own, played, seen by the server and answered."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from coadtr.serving import StreamClient, running
from tests.serving.seeing import ColourEyes
from tests.serving.showing import (
    COLOURED,
    GREEN,
    RED,
    Page,
    SlowEyes,
    Visit,
    artefacts,
    chosen,
    detector,
    feed,
    frame,
    listed,
    shows,
    until,
)
from tests.serving.talking import eventually


def play(page: Page, video: Path) -> None:
    """Choose a file."""
    page.wait_for_selector("#file:enabled")
    page.set_input_files("#file", video)


@pytest.mark.slow
def test_a_video_file_is_played_seen_and_answered(visit: Visit, video: Path, tmp_path: Path) -> None:
    with running(detector(), chosen(), ColourEyes()) as url:
        page = visit(url)
        play(page, video)
        shows(page, "live")
        watcher = visit(f"{url}{page.get_attribute('#shared', 'href')}", width=400, color_scheme="dark")
        until(page, "document.getElementById('action').textContent === 'lift'")
        assert page.evaluate("document.getElementById('video').videoWidth") == 160
        watcher.wait_for_selector("#picture:not([hidden])")
        until(page, "document.getElementById('action').textContent === 'turn'")
        until(page, f"({COLOURED})(1) > 100 && ({COLOURED})(2) > 100")
        page.screenshot(path=artefacts(tmp_path) / "live-file.png")
        for seen in (page, watcher):
            shows(seen, "ended")
            names = [name for name, *_ in listed(seen)]
            assert names == ["turn", "lift"]
        (_, second, _), (_, first, length) = listed(page)
        begin, end = (float(part.split(":")[1]) for part in first.split(" \u2013 "))
        assert begin == pytest.approx(1.0, abs=0.5)
        assert end == pytest.approx(3.0, abs=0.5)
        assert float(length.split()[0]) == pytest.approx(end - begin, abs=0.11)  # all three are rounded
        assert second.startswith(("0:03.", "0:04."))
        assert int(page.inner_text("#state").split()[2]) > 10
        for name in ("median", "p95", "features", "dropped"):
            assert page.inner_text(f"[data-figure={name}] dd")
        assert page.inner_text("#play") == "Play again"
        page.click("#play")
        shows(page, "live")
        assert page.inner_text("#play") == "Pause"


@pytest.mark.slow
def test_a_file_stops_and_goes_elsewhere(visit: Visit, video: Path) -> None:
    with running(detector(), chosen(), ColourEyes()) as url:
        page = visit(url)
        play(page, video)
        shows(page, "live")
        page.click("#play")
        shows(page, "paused")
        assert page.inner_text("#state") == "Paused"
        stopped = page.evaluate("document.getElementById('video').currentTime")
        page.focus("#seek")
        page.keyboard.press("End")  # and what was shown of the old place is gone
        shows(page, "ended")
        assert page.evaluate("document.getElementById('video').currentTime") > stopped
        page.evaluate(
            "const seek = document.getElementById('seek'); seek.value = 4.5; seek.dispatchEvent(new Event('change'))"
        )
        until(page, "document.getElementById('action').textContent === 'turn'")
        assert page.inner_text("#play") == "Pause"
        shows(page, "ended")
        assert [name for name, *_ in listed(page)] == ["turn"]


@pytest.mark.slow
def test_a_webcam_is_seen_and_let_go(visit: Visit) -> None:
    with running(detector(), chosen(), ColourEyes()) as url:
        page = visit(url)
        page.wait_for_selector("#webcam:enabled")
        page.click("#webcam")
        shows(page, "live")
        until(page, "document.getElementById('action').textContent === 'turn'")  # its pattern is green
        until(page, f"({COLOURED})(2) > 100")
        page.wait_for_selector("#events li")
        page.evaluate("globalThis.track = document.getElementById('video').srcObject.getTracks()[0]")
        page.click("#leave")
        page.wait_for_selector("#no-streams:not([hidden])")  # nothing is left of it on the server
        assert page.evaluate("globalThis.track.readyState") == "ended"


@pytest.mark.slow
def test_pictures_that_the_server_has_no_time_for_are_dropped(visit: Visit, video: Path) -> None:
    with running(detector(), chosen(), SlowEyes()) as url:
        page = visit(url)
        play(page, video)
        shows(page, "ended")
        assert int(page.inner_text("[data-figure=dropped] dd")) > 20
        assert listed(page)


def test_pictures_that_the_browser_cannot_make_are_dropped(visit: Visit) -> None:
    failing = (
        "const toBlob = HTMLCanvasElement.prototype.toBlob; let calls = 0;"
        "HTMLCanvasElement.prototype.toBlob = function (done, ...how) {"
        "  calls += 1; if (calls % 3) toBlob.call(this, done, ...how); else done(null); };"
    )
    with running(detector(), chosen(), ColourEyes()) as url:
        page = visit(url, before=failing)
        page.wait_for_selector("#webcam:enabled")
        page.click("#webcam")
        until(page, "document.getElementById('action').textContent === 'turn'")
        until(page, "document.querySelector('[data-figure=dropped] dd')?.textContent >= 5")
        before = page.inner_text("#clock")
        until(page, f"document.getElementById('clock').textContent !== '{before}'")


@pytest.mark.slow
def test_a_lost_server_is_waited_for(visit: Visit, video: Path) -> None:
    made = chosen()
    with running(detector(), made, ColourEyes()) as url:
        port = int(url.rsplit(":", 1)[1])
        watcher = visit(f"{url}/?stream=door")
        page = visit(url)
        chooser = visit(url)
        with StreamClient(url, "door") as client:
            feed(client, [RED, RED, RED])
            shows(watcher, "live")
        play(page, video)
        shows(page, "live")
    for lost in (watcher, page):
        shows(lost, "lost")
        assert lost.inner_text("#state") == "Connection lost, trying again"
    assert page.evaluate("document.getElementById('video').paused")
    chooser.wait_for_selector("#unreachable:not([hidden])")
    with running(detector(), dataclasses.replace(made, port=port), ColourEyes()) as url:
        with StreamClient(url, "door") as client:
            assert eventually(lambda: client.push(frame(GREEN)) is not None and watcher.inner_text("#state") == "Live")
        assert watcher.inner_text("#action") == "turn"
        chooser.wait_for_selector("#unreachable", state="hidden")
        shows(page, "ended")
        assert "turn" in [name for name, *_ in listed(page)]


def test_what_the_browser_refuses_is_said_with_a_remedy(visit: Visit, tmp_path: Path) -> None:
    denied = "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('no', 'NotAllowedError'); };"
    broken = tmp_path / "notes.mp4"
    broken.write_text("no video")
    with running(detector(), chosen(), ColourEyes()) as url:
        page = visit(url, before=denied)
        page.wait_for_selector("#webcam:enabled")
        page.click("#webcam")
        page.wait_for_selector("#notice:not([hidden])")
        assert "allow it beside the address of the page" in page.inner_text("#notice")
        page.set_input_files("#file", broken)
        until(page, "document.getElementById('notice').textContent.includes('notes.mp4')")
        assert "convert it to MP4 (H.264) or WebM, or run coadtr live source=notes.mp4" in page.inner_text("#notice")
        assert page.is_visible("#sources")
