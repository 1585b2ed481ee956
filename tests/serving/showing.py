"""A detector of colours, whose answers can be foreseen, and what the page shows of them."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coadtr.runtime import EventSettings, OnlineDetector
from coadtr.serving import ServerSettings, Service, StreamClient, bind, open_service, served
from tests.serving.leaky import LeakyStepper
from tests.serving.seeing import ColourEyes
from tests.serving.talking import eventually, settings

Page = Any
Visit = Callable[..., Page]
DARK, RED, GREEN = (8, 8, 8), (230, 20, 20), (20, 230, 20)
# Pixels of the timeline that have the colour of a class.
COLOURED = """
(place) => {
    const probe = document.body.appendChild(document.createElement("i"));
    probe.style.color = `var(--hue-${place})`;
    const [red, green, blue] = getComputedStyle(probe).color.match(/\\d+/g).map(Number);
    probe.remove();
    const canvas = document.getElementById("timeline");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let found = 0;
    for (let at = 0; at < data.length; at += 4)
        found += data[at] === red && data[at + 1] === green && data[at + 2] === blue && data[at + 3] === 255;
    return found;
}
"""


class ColourStepper(LeakyStepper):
    """Take red for "lift" and green for "turn", and remember nothing."""

    def __init__(self, names: Sequence[str] | None = None) -> None:
        super().__init__()
        if names is not None:
            self.description = dataclasses.replace(LeakyStepper.description, class_names=tuple(names))

    def step(
        self, frames: NDArray[np.float32], state: Sequence[NDArray[Any]]
    ) -> tuple[NDArray[np.float32], list[NDArray[Any]]]:
        """Take the next frame of each stream."""
        logits = np.zeros((len(frames), 3), np.float32)
        logits[:, 1:] = 10 * (frames[:, :2] - 0.5)
        return logits, list(state)


class SlowEyes(ColourEyes):
    """Want more pictures than they can look at."""

    pictures_per_second = 30.0

    def stream(self) -> Any:
        """Begin with a video."""
        stream = super().stream()
        quick = stream.push

        def push(picture: Any) -> Any:
            time.sleep(0.25)
            return quick(picture)

        stream.push = push  # type: ignore[method-assign]
        return stream


def frame(colour: tuple[int, int, int]) -> NDArray[np.float32]:
    """Make a frame as the eyes do of pictures of one colour."""
    red, green, blue = np.array(colour, np.float32) / 255
    return np.array([red, green, blue, red, green], np.float32)


def detector(names: Sequence[str] | None = None) -> OnlineDetector:
    """Make a detector of colours."""
    return OnlineDetector(ColourStepper(names))


def chosen(**changes: Any) -> ServerSettings:
    """Make the settings of a server."""
    return settings(events=EventSettings(start=0.6, end=0.4), **changes)


@contextmanager
def program(**changes: Any) -> Iterator[tuple[str, Service]]:
    """Run a server in a program that shows streams of its own."""
    made = chosen(**changes)
    service = open_service(detector(), made)
    with served(service, bind(made)) as url:
        yield url, service


def feed(client: StreamClient, colours: Sequence[tuple[int, int, int]]) -> list[Any]:
    """Push frames at a pace that is no backlog's."""
    answers = []
    for colour in colours:
        time.sleep(0.12)
        answers.append(client.push(frame(colour)))
    return answers


def shows(page: Page, state: str) -> None:
    """Wait for a state."""
    page.wait_for_selector(f"#state[data-state={state}]")


def until(page: Page, condition: str) -> None:
    """Wait for a condition in JavaScript. Playwright's own wait would be `eval`, which the page's policy forbids."""
    assert eventually(lambda: bool(page.evaluate(condition))), condition


def listed(page: Page) -> list[list[str]]:
    """Read the actions: name, times, and how long."""
    rows: list[list[str]] = page.evaluate(
        "[...document.querySelectorAll('#events li')].map((item) => [...item.children].map((part) => part.textContent))"
    )
    return rows


def artefacts(tmp_path: Path) -> Path:
    """Return the folder for screenshots."""
    folder = Path(os.environ.get("COADTR_ARTIFACTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
