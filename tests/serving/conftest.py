"""A browser for the pages of a server, and what it is to show."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.serving.showing import DARK, GREEN, RED, Page, Visit

ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
    # A webcam that shows a green pattern, and that every page may use.
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
]  # fmt: skip


def _missing(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"CI tests the pages in a browser, and {what}: see .ci/run")
    pytest.skip(f"needs a browser: {what}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Return Debian's Chromium, driven by Playwright."""
    try:
        from playwright.sync_api import sync_playwright  # noqa: PLC0415  (an extra of the developers)
    except ImportError:
        _missing("playwright is not installed (pip install playwright)")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        _missing("chromium is not installed (apt-get install chromium)")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Visit]:
    """Return a function that opens a page; at the end nothing was wrong, and nothing but the server was asked."""
    faults: list[str] = []
    asked: list[str] = []
    # Servers of tests are gone before their pages are, and a canvas is read here as it never is elsewhere.
    foreseen = ["ERR_CONNECTION_REFUSED", "willReadFrequently"]
    pages: list[tuple[Page, str]] = []

    def open_page(url: str, *, faults_of: Sequence[str] = (), before: str = "", **options: Any) -> Page:
        foreseen.extend(faults_of)
        size = {"width": options.pop("width", 1280), "height": 800}
        page = browser.new_page(viewport=size, **options)
        page.on("console", lambda said: faults.append(said.text) if said.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: faults.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda socket: asked.append(socket.url))
        page.add_init_script(
            "addEventListener('securitypolicyviolation', (event) => console.error('policy', event.violatedDirective));"
        )
        if before:
            page.add_init_script(before)
        pages.append((page, urlsplit(url).netloc))
        page.goto(url)
        return page

    yield open_page
    for page, _ in pages:
        page.close()
    assert [fault for fault in faults if not any(part in fault for part in foreseen)] == []
    hosts = {urlsplit(url).netloc for url in asked if urlsplit(url).scheme not in {"blob", "data"}}
    assert hosts == {host for _, host in pages}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a video: 1 s dark, 2 s red, 1 s dark, 2 s green."""
    av = pytest.importorskip("av", reason="needs the extra `video`")
    path = tmp_path_factory.mktemp("video") / "colours.webm"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libvpx", rate=20)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.options = {"deadline": "realtime", "cpu-used": "8"}
        for colour in [DARK] * 20 + [RED] * 40 + [DARK] * 20 + [GREEN] * 40:
            picture = np.broadcast_to(np.array(colour, np.uint8), (120, 160, 3)).copy()
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    return path
