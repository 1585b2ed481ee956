"""The work on one video: the rate of its features, and faults that stay its own."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from coadtr.errors import ConfigError, DataError
from coadtr.video import Extraction, Sampling, Source, VideoFeatures, VideoReader, extract_video, pool, workers
from coadtr.video.pool import extract_all
from coadtr.video.workers import Networks
from tests.video.writing import join

Write = Callable[..., Path]

FAST: dict[str, Any] = {"backbone": "mobilenet_v3_small", "weights": "random", "dtype": "float32"}
OADTR = Sampling(preset="oadtr")


@pytest.fixture(scope="module")
def networks() -> Networks:
    return Extraction(**FAST).load()


def source(path: Path) -> Source:
    return Source(path.stem, str(path))


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_oadtr_refuses_videos_whose_rate_changes(
    tmp_path: Path, write_video: Write, networks: Networks, name: str
) -> None:
    stamps = [*(round(index * 1000 / 30) for index in range(120)), *range(4000, 8000, 100)]
    path = write_video(tmp_path / name, 160, stamps_ms=stamps)
    made = extract_video(source(path), Extraction(**FAST, sampling=OADTR), networks=networks)
    assert made.features == {}
    assert made.problem is not None
    assert (
        "its frames are uneven in time: chunk 20 starts at 4.00 s, and would at 5.96 s by 20.127 frames" in made.problem
    )
    assert made.problem.endswith("use sampling=lstr")
    assert len(extract_video(source(path), Extraction(**FAST), networks=networks).features["rgb"]) == 32


def test_oadtr_refuses_pictures_that_begin_after_the_sound(
    tmp_path: Path, write_video: Write, networks: Networks
) -> None:
    path = write_video(tmp_path / "a.mp4", 60, stamps_ms=[2000 + 40 * index for index in range(60)], audio=True)
    made = extract_video(source(path), Extraction(**FAST, sampling=OADTR), networks=networks)
    assert "chunk 0 starts at 2.0" in (made.problem or "")
    made = extract_video(source(path), Extraction(**FAST), networks=networks)
    assert (made.problem, len(made.features["rgb"])) == (None, 17)
    np.testing.assert_array_equal(made.features["rgb"][0], made.features["rgb"][7])


def test_oadtr_counts_the_rate_of_a_video_that_declares_another(
    tmp_path: Path, write_video: Write, networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(VideoReader):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.rate_hz = 60.0

    monkeypatch.setattr(workers, "VideoReader", Wrong)
    path = write_video(tmp_path / "a.mp4", 60)
    made = extract_video(source(path), Extraction(**FAST, sampling=OADTR), networks=networks)
    assert made.rate_hz == pytest.approx(5.0)
    assert made.warnings == ("declares 60 frames a second but shows 30, which is used: see sampling=lstr",)


def test_a_video_whose_pictures_change_their_size_is_a_problem_of_its_own(tmp_path: Path, write_video: Write) -> None:
    first = write_video(tmp_path / "1.ts", 27, size=(64, 96))
    second = write_video(tmp_path / "2.ts", 27, size=(80, 128), stamps_ms=[900 + 33 * index for index in range(27)])
    path = join(tmp_path / "a.ts", first, second)
    flow: dict[str, Any] = {"backbone": None, "flow": "raft_small", "flow_weights": "random", "flow_backbone": None}
    made = extract_video(source(path), Extraction(**flow, batch_size=8))
    assert made.problem == "the picture changes its size (128x80, 96x64): cut the video there"


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (RuntimeError("size mismatch\n  at line 3"), "size mismatch at line 3"),
        (torch.OutOfMemoryError("CUDA out of memory"), "CUDA out of memory"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_a_network_that_fails_on_a_video_stops_no_other(
    clips: Path, networks: Networks, monkeypatch: pytest.MonkeyPatch, fault: Exception, cause: str
) -> None:
    whole = networks["rgb"].compute
    calls: list[int] = []

    def fail_once(_: Any, inputs: torch.Tensor) -> torch.Tensor:
        calls.append(len(inputs))
        if len(calls) == 1:
            raise fault
        return whole(inputs)

    monkeypatch.setattr(type(networks["rgb"]), "compute", fail_once)
    sources = [source(clips / "a.mp4"), source(clips / "b.mp4")]
    first, second = extract_all(sources, Extraction(**FAST), networks=networks)
    assert first.problem == f"the networks fail on it ({cause}): look at the video, or use a smaller batch_size"
    assert (second.problem, len(second.features["rgb"])) == (None, 8)


def test_a_device_that_fails_ends_the_run(clips: Path, networks: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any, inputs: torch.Tensor) -> torch.Tensor:
        raise RuntimeError(f"CUDA error: device-side assert triggered\nby {len(inputs)}")

    monkeypatch.setattr(type(networks["rgb"]), "compute", fail)
    with pytest.raises(DataError, match=r"device cpu failed \(CUDA error: .* by 5\): run the same command again"):
        extract_video(source(clips / "a.mp4"), Extraction(**FAST), networks=networks)


def test_an_endless_address_is_refused_before_any_video_is_read(clips: Path) -> None:
    sources = [source(clips / "a.mp4"), Source("one", "rtsp://me:secret@camera/1"), Source("two", "udp://group:1")]
    message = r"rtsp://\*\*\*@camera/1, udp://group:1: may never end: give max_seconds"
    with pytest.raises(ConfigError, match=message):
        extract_all(sources, Extraction(**FAST), networks={})
    with pytest.raises(ConfigError, match=message):
        extract_all(sources, Extraction(**FAST), networks={}, workers=2)


class AtOnce:
    """Stands for the processes: every video is done when it is handed in."""

    handed_in: ClassVar[list[weakref.ref[VideoFeatures]]] = []

    def __init__(self, *arguments: Any, **options: Any) -> None:
        AtOnce.handed_in.clear()

    def submit(self, _: Callable[..., Any], video: Source, *arguments: Any) -> Future[VideoFeatures]:
        future: Future[VideoFeatures] = Future()
        made = VideoFeatures(name=video.name, frames=3)
        AtOnce.handed_in.append(weakref.ref(made))
        future.set_result(made)
        return future

    def shutdown(self, **options: Any) -> None:
        pass


def test_finished_features_do_not_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "ProcessPoolExecutor", AtOnce)
    names = [f"v{index}" for index in range(40)]
    taken: list[str] = []
    frames: list[int] = []

    for done in extract_all(
        [Source(name, name) for name in names], Extraction(**FAST), networks={}, workers=2, tell=frames.append
    ):
        taken.append(done.name)
        assert sum(made() is not None for made in AtOnce.handed_in) <= 5  # two for each process, and this one
    assert sorted(taken) == sorted(names)
    assert sum(frames) == 120
