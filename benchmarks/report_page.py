"""Time how soon a report page of the size of THUMOS14's test set can be used: 213 videos, 225,222 frames, 22 classes.

The page is made of simulated answers, written to a file and opened over ``file://`` in headless Chromium, each time in
a fresh profile. Interactive means: the numbers stand, and the timeline of the first video is drawn and takes keys.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from coadtr.data import ScoreFile, VideoScores
from coadtr.reporting.page import render_page
from coadtr.reporting.runs import Run

VIDEOS, FRAMES, CLASSES, RATE_HZ = 213, 225_222, 22, 4.0


def simulate(name: str, seed: int) -> Run:
    """Make a run whose scores wander like those of a detector."""
    random = np.random.default_rng(seed)
    cuts = np.sort(random.choice(np.arange(1, FRAMES), VIDEOS - 1, replace=False))
    lengths = np.diff(cuts, prepend=0, append=FRAMES)
    names = tuple(f"class_{index:02d}" for index in range(CLASSES))
    videos = []
    for index, length in enumerate(lengths):
        labels = np.repeat(random.integers(CLASSES, size=length // 40 + 1), 40)[:length]
        noise = np.cumsum(random.normal(size=(length, CLASSES)), axis=0) * 0.1 + random.normal(size=(length, CLASSES))
        logits = 4.0 * np.eye(CLASSES)[labels] + noise
        scores = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        videos.append(VideoScores(f"video_{index:04d}", scores, labels, np.ones(length, dtype=bool), RATE_HZ))
    null = dict.fromkeys(("warmup", "portions", "starts", "anticipation", "calibration", "intervals"))
    report = {
        **null,
        "mAP": 0.5,
        "mcAP": 0.7,
        "per_class_AP": dict.fromkeys(names[1:], 0.5),
        "per_class_cAP": dict.fromkeys(names[1:], 0.7),
        "background": names[0],
        "ignored": None,
        "macs_per_frame": 1_000_000,
    }
    scores_file = ScoreFile(class_names=names, attributes={}, videos=tuple(videos))
    return Run(name=name, folder=Path(name), report=report, scores=scores_file, curves=None)


def open_once(path: Path) -> tuple[float, float]:
    """Return the milliseconds until the document is read, and until the page is interactive."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        page = chromium.new_page(viewport={"width": 1280, "height": 900})
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready=yes]", timeout=60_000)
        read = page.evaluate("performance.getEntriesByType('navigation')[0].domInteractive")
        ready = page.evaluate("performance.getEntriesByName('ready')[0].startTime")
        chromium.close()
    return float(read), float(ready)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1, help="runs on the page")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    runs = [simulate(f"run_{number}", number) for number in range(options.runs)]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        path = Path(folder) / "page.html"
        path.write_text(render_page(runs, title="213 videos"), encoding="utf-8")
        print(f"written in {time.perf_counter() - start:.1f} s, {path.stat().st_size / 2**20:.1f} MiB")
        times = [open_once(path) for _ in range(options.repeats)]
    read, ready = (statistics.median(values) for values in zip(*times, strict=True))
    spread = f"{min(value for _, value in times):.0f} to {max(value for _, value in times):.0f}"
    print(f"document read {read:.0f} ms, interactive {ready:.0f} ms ({spread}), median of {options.repeats}")
    print(f"{platform.processor() or platform.machine()}, {platform.system()}")


if __name__ == "__main__":
    main()
