"""The page in a browser: it opens from a file, every control works, and nothing is asked of the network.

Screenshots go to the folder named by COADTR_ARTIFACTS, or to the test's own.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from coadtr.reporting.page import render_page
from coadtr.reporting.runs import find_runs
from tests.reporting.conftest import NASTY, write_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip
READY = "html[data-ready=yes]"
SKILLS = (("cooadtr_b1", 2.0), ("cooadtr_b2", 2.6))
LONG_NAMES = ("salads-cooadtr_b1", "salads-cooadtr_b2", "salads-oadtr_b1")
# Resolves when what was asked for has been painted.
PAINTED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
Page = Any


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


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the page of two runs with 12 videos."""
    folder = tmp_path_factory.mktemp("two")
    options: dict[str, Any] = {"videos": 12, "frames": 1500, "classes": 10}
    runs = [write_run(folder / name, seed=seed, skill=skill, **options) for seed, (name, skill) in enumerate(SKILLS)]
    path = folder / "page.html"
    path.write_text(render_page(find_runs(runs), title="Synthetic runs"), encoding="utf-8")
    return path


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Page]]:
    """Return a function that opens a page; at the end no error was logged and nothing but the page was asked for."""
    faults: list[str] = []
    asked: list[str] = []
    opened = []

    def open_page(path: Path, *, width: int = 1280, height: int = 900, scheme: str = "light") -> Page:
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.on(
            "console", lambda message: faults.append(message.text) if message.type in {"error", "warning"} else None
        )
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.on("dialog", lambda dialog: faults.append(f"dialog {dialog.message}"))
        page.goto(path.as_uri())
        page.wait_for_selector(READY, timeout=60_000)
        opened.append((page, path.as_uri()))
        return page

    yield open_page
    for page, _ in opened:
        page.close()
    assert faults == []
    assert set(asked) == {address for _, address in opened}


def _artefacts(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("COADTR_ARTIFACTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _span(page: Page) -> tuple[float, float]:
    """Return the visible frames, when they have been drawn."""
    page.evaluate(PAINTED)
    stage = page.locator("#stage")
    return float(stage.get_attribute("data-low")), float(stage.get_attribute("data-high"))


def _scroll_through(page: Page) -> None:
    painted = f"({PAINTED})()"
    page.evaluate(
        f"""async () => {{
          for (const chart of document.querySelectorAll(".chart")) {{
            chart.scrollIntoView({{ behavior: "instant" }});
            await {painted};
          }}
        }}"""
    )
    page.wait_for_function("[...document.querySelectorAll('.chart')].every((chart) => chart.querySelector('svg'))")


def test_worst_video_is_open_and_any_other_can_be_picked(visit: Callable[..., Page], two_runs: Path) -> None:
    page = visit(two_runs)
    accuracies = page.evaluate("JSON.parse(document.getElementById('index').textContent).videos.map((v) => v.accuracy)")
    names = page.evaluate("JSON.parse(document.getElementById('index').textContent).videos.map((v) => v.name)")
    assert accuracies == sorted(accuracies)
    assert page.locator("#stage").get_attribute("data-video") == names[0]
    groups = page.locator("#video optgroup").evaluate_all("groups => groups.map((group) => group.label)")
    assert groups == ["Worst first", "Best"]
    page.select_option("#video", str(len(names) - 1))
    page.wait_for_selector(f"#stage[data-video='{names[-1]}']")
    page.wait_for_function("(name) => document.getElementById('status').textContent.startsWith(name)", arg=names[-1])
    page.click("#previous")
    page.wait_for_selector(f"#stage:not([data-video='{names[-1]}'])")


@pytest.mark.slow
def test_timeline_zooms_and_moves_by_key_button_wheel_and_drag(visit: Callable[..., Page], two_runs: Path) -> None:
    page = visit(two_runs)
    _, frames = _span(page)
    page.focus("#stage")
    page.keyboard.press("+")
    low, high = _span(page)
    assert high - low == frames / 2
    page.click("#zoom-in")
    page.click("#right")
    moved = _span(page)
    assert moved[1] - moved[0] == frames / 4
    page.focus("#stage")
    page.keyboard.press("ArrowLeft")
    assert _span(page)[0] < moved[0]
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 150)
    before = _span(page)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 - 200, box["y"] + 150, steps=4)
    page.mouse.up()
    assert _span(page)[0] > before[0]
    page.mouse.wheel(0, -200)
    wheeled = _span(page)
    assert wheeled[1] - wheeled[0] < frames / 4
    page.keyboard.press("0")
    assert _span(page) == (0, frames)


@pytest.mark.slow
def test_zoomed_in_every_frame_is_drawn_and_zoomed_out_the_extremes(visit: Callable[..., Page], two_runs: Path) -> None:
    page = visit(two_runs)
    page.click("[data-none=legend]")
    page.locator("#legend input").first.check()
    _, frames = _span(page)
    points = int(page.locator("#stage").get_attribute("data-points"))
    assert points <= frames
    for _ in range(4):
        page.click("#zoom-in")
    low, high = _span(page)
    points = int(page.locator("#stage").get_attribute("data-points"))
    assert high - low <= points <= high - low + 4
    page.wait_for_function("document.getElementById('status').textContent.includes('every frame drawn')")


def test_answers_leave_no_time_blank(visit: Callable[..., Page], tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", videos=1, frames=4000, skill=1.0)
    path = tmp_path / "page.html"
    path.write_text(render_page(find_runs([folder]), title="Flicker"), encoding="utf-8")
    page = visit(path)
    _, frames = _span(page)
    page.wait_for_selector("#bands canvas")
    page.evaluate(PAINTED)
    # A line through the row of answers, above the words; the truth stands in the row before it.
    found = page.evaluate(
        """() => {
          const canvas = document.querySelector("#bands canvas");
          const width = canvas.width - 104 - 24;
          const data = canvas.getContext("2d").getImageData(104, 6 + 28 + 5, width, 1).data;
          return { width, faintest: Math.min(...data.filter((_, place) => place % 4 === 3)) };
        }"""
    )
    assert frames >= 2 * found["width"]
    assert found["faintest"] >= 0.12 * 255


@pytest.mark.parametrize("width", [1280, 400])
def test_links_of_the_menu_land_though_charts_are_drawn_late(
    visit: Callable[..., Page], two_runs: Path, width: int
) -> None:
    page = visit(two_runs, width=width)
    page.add_style_tag(content="html { scroll-behavior: auto !important; }")
    for part in ("training", "confusion", "macs_by_block"):
        page.evaluate(f"document.querySelector('nav a[href=\\'#{part}\\']').click()")
        page.wait_for_function(f"document.querySelector('#{part} .chart svg')")
        page.evaluate(PAINTED)
        top = page.locator(f"#{part}").evaluate("part => part.getBoundingClientRect().top")
        low = page.evaluate("scrollY + innerHeight >= document.documentElement.scrollHeight - 2")
        assert 0 <= top <= 120 or low, (part, top)
    before = page.evaluate("document.documentElement.scrollHeight")
    _scroll_through(page)
    assert abs(page.evaluate("document.documentElement.scrollHeight") - before) <= 40


def test_pointing_reads_time_frame_class_and_score(visit: Callable[..., Page], two_runs: Path) -> None:
    page = visit(two_runs)
    page.locator("#stage").scroll_into_view_if_needed()
    box = page.locator("#stage").bounding_box()
    tip = page.locator("#tip")
    for move in range(100):  # the first ones may come before the page has drawn what lies there
        page.mouse.move(box["x"] + box["width"] / 2 + move % 2, box["y"] + 40)
        if tip.is_visible():
            break
        page.wait_for_timeout(100)
    tip.wait_for(state="visible")
    assert "frame" in tip.inner_text()
    assert "shows: class_" in tip.inner_text()
    assert "1: cooadtr_b1: class_" in tip.inner_text()
    page.focus("#stage")
    page.keyboard.press(".")
    page.wait_for_function("document.getElementById('status').textContent.includes('answers class_')")


def test_classes_and_runs_are_toggled(visit: Callable[..., Page], two_runs: Path) -> None:
    page = visit(two_runs)
    boxes = page.locator("#legend input")
    assert boxes.count() == 10
    drawn = page.locator("#legend input:checked").count()
    boxes.first.uncheck()
    page.wait_for_function(f"document.getElementById('status').textContent.includes('{drawn - 1} of 10 classes drawn')")
    assert page.locator("#lanes .lane").count() == 2
    page.locator("#runs-shown input").first.uncheck()
    page.wait_for_function("document.querySelectorAll('#lanes .lane canvas').length === 1")
    _scroll_through(page)
    bars = page.locator("[data-chart=per_class_ap] .mark-rect path")
    assert bars.count() == 18
    page.locator("#classes input").nth(3).uncheck()
    page.wait_for_function("document.querySelectorAll('[data-chart=per_class_ap] .mark-rect path').length === 16")


def test_names_that_are_markup_stay_text(visit: Callable[..., Page], tmp_path: Path) -> None:
    videos = ["<img src=x onerror=alert(1)>", "<script>alert(2)<!--", 'it\'s "quoted" & more']
    run = write_run(
        tmp_path / "run", classes=len(NASTY), class_names=NASTY, video_names=videos, videos=3, background=None
    )
    path = tmp_path / "page.html"
    path.write_text(render_page(find_runs([run]), title="<b>bold</b>"), encoding="utf-8")
    page = visit(path)
    assert page.inner_text("h1") == "<b>bold</b>"
    assert page.locator("img").count() == 0
    for place in range(3):
        page.select_option("#video", str(place))
        name = page.evaluate(f"JSON.parse(document.getElementById('index').textContent).videos[{place}].name")
        page.wait_for_function("(name) => document.getElementById('stage').dataset.video === name", arg=name)
    assert set(page.locator("#legend label > span").all_inner_texts()) == set(NASTY)
    _scroll_through(page)


SCREENS = {
    "desktop-light": (1280, "light"),
    "desktop-dark": (1280, "dark"),
    "projector": (1920, "dark"),
}


@pytest.mark.parametrize(
    "name", ["desktop-light", *(pytest.param(name, marks=pytest.mark.slow) for name in ("desktop-dark", "projector"))]
)
def test_page_fits_the_screen(visit: Callable[..., Page], two_runs: Path, tmp_path: Path, name: str) -> None:
    width, scheme = SCREENS[name]
    page = visit(two_runs, width=width, scheme=scheme)
    _scroll_through(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.evaluate(
        "[...document.querySelectorAll('.chart, .plot')].filter((c) => c.scrollWidth > c.clientWidth + 1).length"
    )
    assert wide == 0
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(21, 25, 30)")
    page.evaluate("window.scrollTo({top: 0, behavior: 'instant'})")
    picture = _artefacts(tmp_path) / f"{name}.png"
    page.screenshot(path=picture, full_page=True)
    assert picture.stat().st_size > 50_000
    page.click("#theme")
    after = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert after != paper
    page.wait_for_selector("#stage:not([aria-busy]) canvas")


def test_three_long_names_fit_a_phone(visit: Callable[..., Page], tmp_path: Path) -> None:
    ahead = {"horizons_s": [0.25, 0.5], "mAP": [0.4, 0.3], "mcAP": [0.5, 0.4]}
    smoothing = {"kind": "exponential", "decay": 0.8}
    options: dict[str, Any] = {"changes": {"anticipation": ahead, "smoothing": smoothing}}
    names = ["background", *(f"place_cucumber_into_bowl_{index}" for index in range(5))]
    runs = [write_run(tmp_path / name, seed=seed, class_names=names, classes=6, **options)
            for seed, name in enumerate(LONG_NAMES)]  # fmt: skip
    path = tmp_path / "page.html"
    title = f"Report: {', '.join(LONG_NAMES)}"
    notes = [f"These runs differ in data: {'x' * 40} against {'y' * 40}"]
    path.write_text(render_page(find_runs(runs), title=title, notes=notes), encoding="utf-8")
    page = visit(path, width=360)
    page.evaluate("document.querySelectorAll('details').forEach((part) => (part.open = true))")
    _scroll_through(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    cut = page.evaluate(
        """[...document.querySelectorAll(".chart")].flatMap((chart) => {
          const box = chart.getBoundingClientRect();
          const outside = (text) => {
            const found = text.getBoundingClientRect();
            return found.left < box.left - 1 || found.right > box.right + 1;
          };
          return [...chart.querySelectorAll("svg text")].filter(outside)
            .map((text) => `${chart.dataset.chart}: ${text.textContent}`);
        })"""
    )
    assert cut == []
    # A column is at least as wide as the longest part of its name, and its table scrolls inside its own box.
    assert page.evaluate(
        """[...document.querySelectorAll("th")].every((head) => head.scrollWidth <= head.clientWidth + 1)
        && [...document.querySelectorAll(".scroll")].every((box) => box.getBoundingClientRect().right <= 361)"""
    )
    page.evaluate("document.querySelectorAll('details').forEach((part) => (part.open = false))")
    page.evaluate("window.scrollTo({top: 0, behavior: 'instant'})")
    page.screenshot(path=_artefacts(tmp_path) / "phone.png", full_page=True)


def test_frames_of_two_classes_and_frames_not_scored_are_read(visit: Callable[..., Page], tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", videos=1, multi_hot=True, protocol="oadtr")
    (run,) = find_runs([folder])
    (video,) = run.scores.videos
    path = tmp_path / "page.html"
    path.write_text(render_page([run], title="Multi-hot"), encoding="utf-8")
    page = visit(path)
    page.focus("#stage")
    for _ in range(6):
        page.keyboard.press("+")
    page.keyboard.press("Home")
    page.keyboard.press(".")  # the middle of the eight frames in view
    read = {}
    for frame in (4, 3, 2, 1, 0):
        page.wait_for_function(f"document.getElementById('status').textContent.includes('frame {frame}')")
        read[frame] = page.inner_text("#status")
        page.keyboard.press(",")
    for frame, words in read.items():
        shown = [name for name, label in zip(run.scores.class_names, video.labels[frame], strict=True) if label]
        assert f": shows {', '.join(shown)}. " in words
        assert ("(not scored)" in words) == (not video.scored[frame])
    assert max(video.labels[:5].sum(axis=1)) == 2
    assert not video.scored[:5].any()


@pytest.mark.slow
def test_two_hundred_videos_open(
    visit: Callable[..., Page], tmp_path: Path, record_property: Callable[..., None]
) -> None:
    run = write_run(tmp_path / "run", videos=200, frames=360, classes=22)
    path = tmp_path / "page.html"
    path.write_text(render_page(find_runs([run]), title="200 videos"), encoding="utf-8")
    page = visit(path)
    assert page.locator("#video optgroup").first.locator("option").count() == 200
    ready = page.evaluate("performance.getEntriesByName('ready')[0].startTime")
    record_property("first_timeline_ms", ready)  # benchmarks/report_page.py times it properly
    assert ready > 0
    page.click("#next")
    page.click("#zoom-in")
    low, high = _span(page)
    assert high > low
