"""The timeline of classes: what is joined, what is drawn, and what is refused."""

from __future__ import annotations

import builtins
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from coadtr.data import FeatureStore, StoreWriter
from coadtr.data.timeline import Stretch, plot_timeline, stretches
from coadtr.errors import ConfigError, DataError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIGNATURES = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}


@pytest.fixture
def with_matplotlib() -> None:
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")


def test_neighbouring_frames_of_a_class_are_joined() -> None:
    assert stretches(np.array([2])) == [Stretch(0, 1, (2,))]
    assert stretches(np.array([0, 0, 1, 0])) == [Stretch(0, 2, (0,)), Stretch(2, 3, (1,)), Stretch(3, 4, (0,))]
    hot = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 1, 1], [0, 0, 0]], np.uint8)
    expected = [Stretch(0, 1, (0,)), Stretch(1, 2, (1,)), Stretch(2, 4, (1, 2)), Stretch(4, 5, ())]
    assert stretches(hot, background=0) == expected
    assert stretches(hot)[1] == Stretch(1, 2, (0, 1))


@pytest.mark.usefixtures("with_matplotlib")
@pytest.mark.parametrize("suffix", SIGNATURES)
@pytest.mark.parametrize("multi_hot", [False, True])
def test_plots_are_whole_and_the_same_each_time(
    tmp_path: Path, make_store: Callable[..., FeatureStore], suffix: str, *, multi_hot: bool
) -> None:
    with make_store(tmp_path / "store.h5", multi_hot=multi_hot) as store:
        first = plot_timeline(store, tmp_path / f"one{suffix}")
        second = plot_timeline(store, tmp_path / "deep" / f"two{suffix}")
    assert first.read_bytes().startswith(SIGNATURES[suffix])
    assert first.read_bytes() == second.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"store.h5", first.name, "deep"}


@pytest.mark.usefixtures("with_matplotlib")
def test_a_plot_names_videos_and_classes_as_they_are(tmp_path: Path) -> None:
    classes = ["_rest", "$x_1$", "lift & <carry>", *(f"class {index}" for index in range(25))]
    labels = [0, 0, 1, 2, 2, *range(3, 28)]
    with StoreWriter(tmp_path / "odd.h5", class_names=classes, background=0, streams={"imu": 1}) as writer:
        for name in ("v[1]", "w_$2$"):
            writer.add(name, split="test", rate_hz=2, features={"imu": np.zeros((30, 1))}, labels=labels)
    with FeatureStore(tmp_path / "odd.h5") as store:
        text = plot_timeline(store, tmp_path / "odd.svg").read_text()
    # Letters are drawn as outlines; the text stands in a comment before each.
    told = re.findall(r"<!-- (.*?) -->", text)
    for expected in (" _rest", "$x_1$", "lift &amp; &lt;carry&gt;", "class 24", "v[1] (test)", "w_$2$ (test)"):
        assert expected in told
    assert "odd.h5: 2 of 2 videos" in told


@pytest.mark.usefixtures("with_matplotlib")
def test_some_videos_are_chosen(store: FeatureStore, tmp_path: Path) -> None:
    def told(**choice: Any) -> list[str]:
        text = plot_timeline(store, tmp_path / "some.svg", **choice).read_text()
        return re.findall(r"<!-- ([a-d]) \(\w+\) -->", text)

    assert told() == ["d", "a", "c", "b"]
    assert told(most=2) == ["d", "a"]
    assert told(videos=["[ab]", "d"]) == ["d", "a", "b"]


def test_what_cannot_be_drawn(store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"plot=.*x\.jpg: kind '\.jpg' is unknown: use one of \.png, \.pdf, \.svg"):
        plot_timeline(store, tmp_path / "x.jpg")
    with pytest.raises(ConfigError, match=r"videos: 'z\*' fits no video: the videos are 'd', 'a', 'c', 'b'"):
        plot_timeline(store, tmp_path / "x.png", videos=["a", "z*"])
    with pytest.raises(ConfigError, match="most=0: give a positive number"):
        plot_timeline(store, tmp_path / "x.png", most=0)
    original = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return original(name, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", without)
        with pytest.raises(MissingExtraError, match=r'plots need matplotlib: pip install "coadtr\[plot\]"'):
            plot_timeline(store, tmp_path / "x.png")
    assert [path.name for path in tmp_path.iterdir()] == ["store.h5"]


@pytest.mark.usefixtures("with_matplotlib")
def test_a_place_that_cannot_be_written(store: FeatureStore, tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        plot_timeline(store, tmp_path / "folder.png")
    with pytest.raises(DataError, match="cannot be made"):
        plot_timeline(store, store.path / "x.png")
