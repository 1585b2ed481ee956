"""Packing of scores: what the page unpacks is what went in, and nothing can break out of the page."""

from __future__ import annotations

import base64
import json
import re
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coadtr.errors import DataError
from coadtr.reporting.packing import LEVELS, pack_video, script_json, unpack_video


def _slowly(text: str, frames: int, classes: int) -> list[list[float]]:
    """Unpack scores one at a time, by the words of the module's description."""
    data = zlib.decompress(base64.b64decode(text))
    cells = frames * classes
    table = [[0.0] * classes for _ in range(frames)]
    for c in range(classes):
        level = 0
        for t in range(frames):
            level = (level + 256 * data[c * frames + t] + data[cells + c * frames + t]) % 65536
            table[t][c] = level / 65535
    return table


@given(st.integers(1, 40), st.integers(1, 5), st.booleans(), st.integers(0, 2**32 - 1))
def test_packed_video_comes_back(frames: int, classes: int, multi_hot: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.random((frames, classes)) ** random.integers(1, 20)
    labels = random.integers(0, 2, (frames, classes)) if multi_hot else random.integers(classes, size=frames)
    scored = random.random(frames) < 0.5
    text = pack_video(scores, labels, scored)
    found = unpack_video(text, frames=frames, classes=classes, multi_hot=multi_hot)
    assert np.abs(found[0] - scores).max() <= 0.5 / LEVELS + 1e-12
    assert found[1].tolist() == labels.tolist()
    assert found[2].tolist() == scored.tolist()
    assert _slowly(text, frames, classes) == found[0].tolist()
    assert re.fullmatch(r"[A-Za-z0-9+/=]*", text)


def test_ends_of_the_scale_are_exact() -> None:
    text = pack_video(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([1, 0]), np.array([True, False]))
    assert unpack_video(text, frames=2, classes=2, multi_hot=False)[0].tolist() == [[0.0, 1.0], [1.0, 0.0]]


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_scores_that_are_no_probabilities_are_refused(value: float) -> None:
    scores = np.array([[0.5, 0.5], [0.5, value]])
    with pytest.raises(DataError, match="frame 1 are not all from 0 to 1"):
        pack_video(scores, np.array([0, 0]), np.array([True, True]))


def test_another_size_is_refused() -> None:
    text = pack_video(np.zeros((3, 2)), np.zeros(3, dtype=int), np.ones(3, dtype=bool))
    with pytest.raises(DataError, match="are not a video of 4 frames and 2 classes"):
        unpack_video(text, frames=4, classes=2, multi_hot=False)


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_in_a_script_says_the_same_and_holds_no_markup(value: object) -> None:
    text = script_json(value)
    assert json.loads(text) == value
    assert not set("<>&") & set(text)
    assert text.isascii()


def test_json_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(DataError, match="plain finite values"):
        script_json(float("nan"))
