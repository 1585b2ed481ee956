"""The JavaScript examples answer as the runtime does, in Node and in a browser.

Needs Node, and `npm install` in the folder of the example; the page needs playwright and Chromium too. Skipped without.
"""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.examples.conftest import DEPLOYMENT, numbers, run
from tests.runtime.conftest import FRAMES, write

FOLDER = DEPLOYMENT / "javascript"
ENGINES = {"onnxruntime-node": (), "onnxruntime-web": ("--wasm",)}
# What the page's own functions answer, beside what it shows.
ANSWERS = """
async ([model, frames]) => {
  const { open, answer } = await import("/page.js");
  const bytes = (list) => Uint8Array.from(list);
  const detector = await open(bytes(model));
  const lines = [];
  for await (const { scores } of answer(detector, new Float32Array(bytes(frames).buffer))) lines.push([...scores]);
  return lines;
}
"""


@pytest.fixture(params=ENGINES)
def detect(request: pytest.FixtureRequest) -> list[str | Path]:
    """Return the program in Node, with each of the packages."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    _require(request.param)
    return [node, FOLDER / "detect.js", *ENGINES[request.param]]


def _require(package: str) -> None:
    if not (FOLDER / "node_modules" / package).is_dir():
        pytest.skip(f"{package} is not installed: npm install in {FOLDER.relative_to(DEPLOYMENT.parents[1])}")


def test_scores_are_those_of_the_runtime(detect: list[str | Path], model: Path, expected: NDArray[Any]) -> None:
    lines = numbers(run([*detect, model, "--times"], FRAMES[:60]))
    np.testing.assert_allclose(lines[:, 1:], expected, atol=1e-5)
    assert (lines[:, 0] > 0).all()


def test_a_file_that_is_not_ours_is_refused(detect: list[str | Path], tmp_path: Path) -> None:
    done = run([*detect, write(tmp_path / "other.onnx", "")], FRAMES[:1])
    told = "detect.js: the file says nothing of itself; give a file that `coadtr export` wrote"
    assert (done.returncode, done.stdout, done.stderr.strip()) == (1, "", told)
    (tmp_path / "noise.onnx").write_bytes(b"\xff" * 100)
    assert run([*detect, tmp_path / "noise.onnx"], FRAMES[:1]).returncode == 1


def test_a_frame_without_a_finite_answer_ends_it(detect: list[str | Path], tmp_path: Path) -> None:
    frames = np.stack([FRAMES[0], np.full_like(FRAMES[0], np.nan)])
    done = run([*detect, write(tmp_path / "model.onnx")], frames)
    told = "detect.js: the answer is not finite: this frame is not taken"
    assert (done.returncode, len(done.stdout.splitlines()), done.stderr.strip()) == (1, 1, told)


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    """Open the page in a browser, from a server of this process."""
    api = pytest.importorskip("playwright.sync_api")
    _require("onnxruntime-web")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("chromium is not installed")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *told: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(FOLDER))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path)
            opened = browser.new_page()
            opened.goto(f"http://127.0.0.1:{server.server_port}/")
            yield opened
            browser.close()
        server.shutdown()


@pytest.mark.slow
def test_the_page_gives_the_scores_of_the_runtime(page: Any, model: Path, expected: NDArray[Any]) -> None:
    lines = page.evaluate(ANSWERS, [list(model.read_bytes()), list(FRAMES[:60].astype("<f4").tobytes())])
    np.testing.assert_allclose(lines, expected, atol=1e-5)


@pytest.mark.slow
def test_the_page_shows_the_last_scores(page: Any, model: Path, expected: NDArray[Any], tmp_path: Path) -> None:
    FRAMES[:60].astype("<f4").tofile(tmp_path / "frames.f32")
    page.set_input_files("#model", model)
    page.wait_for_selector("#frames:enabled")
    assert "A frame has 5 values, 5 come a second." in page.inner_text("#told")
    page.set_input_files("#frames", tmp_path / "frames.f32")
    page.wait_for_function("document.getElementById('told').textContent.startsWith('60 frames answered')")
    shown = [float(text) for text in page.locator("#classes span:nth-child(3n)").all_inner_texts()]
    np.testing.assert_allclose(shown, expected[-1], atol=6e-4)
    page.set_input_files("#model", tmp_path / "frames.f32")
    page.wait_for_function("!document.getElementById('told').textContent.includes('answered')")
    assert page.is_disabled("#frames")
