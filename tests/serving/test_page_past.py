"""What the page remembers of a stream, when answers come again, begin anew or are missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from coadtr.serving import running
from tests.serving.showing import Page, chosen, detector

PAST = """
async (steps) => {
    const { Past } = await import("/past.js");
    const past = new Past(5);
    const told = ([kind, name, time]) => ({ kind, class: name, time });
    for (const [frame, time, events] of steps) past.take({ frame, time, scores: [], events: events.map(told) });
    return [
        past.answers.map(({ frame, gap }) => (gap ? -frame : frame)),
        past.actions.map(({ name, start, end, open }) => [name, start, end, open]),
    ];
}
"""


@pytest.mark.parametrize(
    ("steps", "frames", "actions"),
    [
        pytest.param(
            [[0, 0.0, [["start", "lift", 0.0]]], [1, 0.2, []], [2, 0.4, [["end", "lift", 0.4]]]],
            [0, 1, 2], [["lift", 0.0, 0.4, False]], id="in order",
        ),
        pytest.param(
            [
                [1, 0.2, []], [2, 0.4, [["start", "lift", 0.2]]], [3, 0.6, []],
                [2, 0.4, [["start", "lift", 0.2]]], [3, 0.6, []],
            ],
            [1, 2, 3], [["lift", 0.2, None, True]], id="told again",
        ),
        pytest.param(
            [[0, 0.0, [["start", "lift", 0.0]]], [1, 0.2, [["end", "lift", 0.2]]], [1, 0.2, []]],
            [0, 1], [["lift", 0.0, None, True]], id="an end that is not told again",
        ),
        pytest.param(
            [[7, 1.4, [["start", "lift", 1.4]]], [8, 1.6, []], [0, 0.0, []]], [0], [], id="begun anew",
        ),
        pytest.param(
            [[0, 0.0, [["start", "lift", 0.0]]], [9, 1.8, []], [10, 2.0, [["end", "lift", 2.0]]]],
            [0, -9, 10], [["lift", 0.0, None, False], ["lift", None, 2.0, False]], id="answers missing",
        ),
        pytest.param([[0, 0.0, []], [1, 9.0, []]], [0, -1], [], id="frames missing"),
        pytest.param([[0, 0.0, []], [1, 60.0, []], [2, 120.0, []]], [-1, -2], [], id="long ago"),
    ],
)  # fmt: skip
def test_a_past_is_what_was_told_last(
    steps: list[Any], frames: list[int], actions: list[Any], page_of_past: Page
) -> None:
    assert page_of_past.evaluate(PAST, steps) == [frames, actions]


@pytest.fixture(scope="module")
def page_of_past(browser: Any) -> Iterator[Page]:
    """Return a page whose modules can be called."""
    with running(detector(), chosen()) as url:
        page = browser.new_page()
        page.goto(url)
        yield page
        page.close()
