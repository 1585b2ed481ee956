"""Extraction: features equal those made by hand, and neither interruption nor workers change a byte."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as pictures

from coadtr.data import FeatureStore
from coadtr.errors import ConfigError, DataError
from coadtr.video import Extraction, Sampling, Source, VideoFeatures, extract, extract_video, find_videos
from coadtr.video.efficientnet_lite import load_efficientnet_lite0
from coadtr.video.pool import extract_all
from tests.video.writing import cut, turn

Write = Callable[..., Path]

# Decides in milliseconds, so that these tests take seconds.
FAST: dict[str, Any] = {"backbone": "mobilenet_v3_small", "weights": "random", "dtype": "float32"}


def frames_by_hand(path: Path) -> tuple[list[float], list[np.ndarray[Any, Any]]]:
    """Decode with PyAV alone; AVI has no presentation times, its frames are even."""
    times, images = [], []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for index, frame in enumerate(container.decode(stream)):
            times.append(index / float(stream.average_rate or 0) if path.suffix == ".avi" else frame.time)
            images.append(frame.to_ndarray(format="rgb24"))
    return [time - times[0] for time in times], images


def features_by_hand(path: Path, preset: str) -> np.ndarray[Any, Any]:
    """Pick, crop, resize and compute one frame at a time."""
    times, images = frames_by_hand(path)
    step = (times[-1] - times[0]) / (len(times) - 1)
    if preset == "oadtr":
        picked = [6 * chunk + 3 for chunk in range(len(times) // 6)]
    else:
        sampled = math.ceil((times[-1] + step - 1e-3) * 24)
        now = [(6 * chunk + 3) / 24 + 1e-3 for chunk in range(sampled // 6)]
        picked = [max(index for index, time in enumerate(times) if time <= moment) for moment in now]
    network = load_efficientnet_lite0()
    network.set_submodule("_fc", torch.nn.Identity())
    rows = []
    for index in picked:
        image = torch.from_numpy(images[index]).permute(2, 0, 1)
        side = round(min(image.shape[1:]) * 224 / 256)
        square = pictures.resize(
            pictures.center_crop(image, [side, side]), [224, 224], pictures.InterpolationMode.BICUBIC, antialias=True
        )
        with torch.inference_mode():
            rows.append(network((square[None].float() - 127) / 128)[0].numpy())
    return np.stack(rows)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("clip", "preset", "rate"),
    [
        ("carphone_pristine.mp4", "lstr", 4.0),
        ("mmaction_test.avi", "oadtr", 25 / 6),
        pytest.param("demo_arm_wrestling.mp4", "lstr", 4.0, marks=SLOW),
        pytest.param("flipping_a_pancake.mkv", "lstr", 4.0, marks=SLOW),
        pytest.param("mmaction_test.avi", "lstr", 4.0, marks=SLOW),
        pytest.param("carphone_pristine.mp4", "oadtr", 29.97 / 6, marks=SLOW),
        pytest.param("demo_arm_wrestling.mp4", "oadtr", 28 / 6, marks=SLOW),
        pytest.param("flipping_a_pancake.mkv", "oadtr", 5.0, marks=SLOW),
    ],
)
def test_features_of_real_clips_equal_those_by_hand(shared_data: Path, clip: str, preset: str, rate: float) -> None:
    path = shared_data / "clips" / clip
    (source,) = find_videos(path)
    made = extract_video(source, Extraction(sampling=Sampling(preset=preset), dtype="float32"))
    assert (made.problem, made.warnings, made.name) == (None, (), path.stem)
    assert made.rate_hz == pytest.approx(rate, rel=1e-4)
    np.testing.assert_allclose(made.features["rgb"], features_by_hand(path, preset), rtol=1e-3, atol=1e-4)


def test_a_store_says_what_made_it(clips: Path, tmp_path: Path) -> None:
    report = extract(find_videos(clips), tmp_path / "out.h5", Extraction(**{**FAST, "dtype": "float16"}))
    assert (report.skipped, report.kept, report.frames, report.labelled) == ({}, 0, 186, False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "out.h5"]
    with FeatureStore(tmp_path / "out.h5") as store:
        assert store.check() == sum(math.floor(frames / 30 * 4) for frames in (40, 61, 35, 50))
        assert [(video.name, video.split, video.rate_hz) for video in store.videos()] == [
            (name, "test", 4.0) for name in "abcd"
        ]
        assert (store.class_names, store.background, store.ignored) == (("background", "unlabelled"), 0, 1)
        assert set(store.labels("a").tolist()) == {1}
        made = store.extractors["rgb"]
        assert made["backbone"] == "mobilenet_v3_small"
        assert made["weights"].startswith("random (sha256 ")
        assert made["sampling"] == Sampling().describe() == store.attributes["sampling"]
        assert store.stored_features("a", "rgb").dtype == np.float16
        assert str(tmp_path) not in str(store.attributes)


def test_two_streams(clips: Path, tmp_path: Path) -> None:
    extraction = Extraction(
        **FAST,
        flow="raft_small",
        flow_weights="random",
        flow_backbone=None,
        sampling=Sampling(preset="rate", rate_hz=4.0),
        max_seconds=0.5,
        batch_size=2,
    )
    extract(find_videos(clips / "a.mp4"), tmp_path / "out.h5", extraction)
    with FeatureStore(tmp_path / "out.h5") as store:
        assert store.streams == {"rgb": 1024, "flow": 48}
        assert store.extractors["flow"]["backbone"] == "raft_small"
        assert store.videos()[0].frames == 2


def test_batches_end_with_the_video(clips: Path, tmp_path: Path) -> None:
    sources = find_videos(clips)
    together = extract(sources, tmp_path / "all.h5", Extraction(**FAST, batch_size=3))
    alone = extract(sources[1:2], tmp_path / "one.h5", Extraction(**FAST, batch_size=3))
    with FeatureStore(together.path) as every, FeatureStore(alone.path) as one:
        np.testing.assert_array_equal(every.features("b"), one.features("b"))
        other = extract_video(sources[1], Extraction(**FAST, batch_size=32))
        scale = np.abs(other.features["rgb"]).max()
        np.testing.assert_allclose(other.features["rgb"], one.features("b"), rtol=0, atol=1e-4 * scale)


def test_an_interrupted_run_goes_on_with_the_same_bytes(clips: Path, tmp_path: Path) -> None:
    sources, extraction = find_videos(clips), Extraction(**FAST)
    extract(sources, tmp_path / "whole.h5", extraction)
    seen: list[str] = []

    def interrupted(todo: Any, *arguments: Any, **options: Any) -> Iterator[VideoFeatures]:
        for index, done in enumerate(extract_all(todo, *arguments, **options)):
            if index == 2:
                raise KeyboardInterrupt
            yield done

    def counted(todo: list[Source], *arguments: Any, **options: Any) -> Iterator[VideoFeatures]:
        seen.extend(source.name for source in todo)
        return extract_all(todo, *arguments, **options)

    with pytest.raises(KeyboardInterrupt):
        extract(sources, tmp_path / "out.h5", extraction, work=interrupted)
    assert not (tmp_path / "out.h5").exists()
    report = extract(sources, tmp_path / "out.h5", extraction, work=counted)
    assert (report.kept, seen) == (2, ["c", "d"])
    with FeatureStore(tmp_path / "out.h5") as store:
        assert all(np.abs(store.features(video.name)).max() > 0 for video in store.videos())
    assert (tmp_path / "out.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "out.h5", "whole.h5"]


def test_other_settings_or_files_begin_anew(clips: Path, tmp_path: Path, write_video: Write) -> None:
    def stopped(todo: Any, *arguments: Any, **options: Any) -> Iterator[VideoFeatures]:
        yield next(extract_all(todo, *arguments, **options))
        raise KeyboardInterrupt

    for change in ({"batch_size": 7}, {"sampling": Sampling(preset="oadtr")}, None):
        with pytest.raises(KeyboardInterrupt):
            extract(find_videos(clips), tmp_path / "out.h5", Extraction(**FAST), work=stopped)
        if change is None:
            write_video(clips / "a.mp4", 30, size=(96, 128))
        report = extract(find_videos(clips), tmp_path / "out.h5", Extraction(**FAST, **(change or {})))
        assert report.kept == 0


def test_broken_videos_are_skipped_and_told(clips: Path, tmp_path: Path, write_video: Write) -> None:
    cut(write_video(clips / "cut.mkv", 120), 0.5)
    (clips / "text.mp4").write_text("no video")
    write_video(clips / "short.mp4", 3)
    turn(write_video(clips / "turned.mp4", 40))
    extraction = Extraction(**FAST)
    report = extract(find_videos(clips), tmp_path / "out.h5", extraction)
    assert sorted(report.skipped) == ["cut", "short", "text"]
    assert "is cut short: it declares 4.00 s" in report.skipped["cut"]
    assert report.skipped["short"] == "has 3 frames, less than one chunk of 6: leave it out"
    assert "cannot be opened" in report.skipped["text"]
    with FeatureStore(tmp_path / "out.h5") as store:
        assert [video.name for video in store.videos()] == ["a", "b", "c", "d", "turned"]
        assert store.attributes["skipped"] == {"videos": 3, "first": report.skipped}
    with pytest.raises(DataError, match=r"none of 1 videos can be used: video 'text': cannot be opened"):
        extract(find_videos(clips / "text.mp4"), tmp_path / "none.h5", extraction)
    assert not list(tmp_path.glob("*none*"))


def test_segments_label_the_frames(clips: Path, tmp_path: Path) -> None:
    table = tmp_path / "segments.csv"
    table.write_text(
        "video,start,end,label,split\na,0.25,0.75,lift,train\nb,0,1,turn,train\nc,0.5,1,lift,validation\nd,1,9,lift,test\n"
    )
    sources, extraction = find_videos(clips), Extraction(**FAST)
    calls: list[int] = []

    def counted(todo: Any, *arguments: Any, **options: Any) -> Iterator[VideoFeatures]:
        calls.append(len(todo))
        return extract_all(todo, *arguments, **options)

    with pytest.raises(DataError, match=r"video 'd'.*past the end of the video.*the features are kept"):
        extract(sources, tmp_path / "out.h5", extraction, segments=table, work=counted)
    assert not (tmp_path / "out.h5").exists()
    table.write_text(table.read_text().replace("d,1,9", "d,1,1.5"))
    report = extract(sources, tmp_path / "out.h5", extraction, segments=table, work=counted)
    assert (calls, report.kept, report.labelled) == ([4], 4, True)
    with FeatureStore(tmp_path / "out.h5") as store:
        assert store.class_names == ("background", "lift", "turn")
        assert {video.name: video.split for video in store.videos()} == {
            "a": "train",
            "b": "train",
            "c": "validation",
            "d": "test",
        }
        assert store.labels("a").tolist() == [0, 1, 1, 0, 0]
        assert store.attributes["label_rule"] == "centre"
        assert store.extractors["rgb"]["backbone"] == "mobilenet_v3_small"
        np.testing.assert_array_equal(
            store.features("b"), extract_video(sources[1], extraction).features["rgb"].astype(np.float32)
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "out.h5", "segments.csv"]


def test_a_table_that_names_other_videos_is_refused_before_any_work(clips: Path, tmp_path: Path) -> None:
    table = tmp_path / "segments.csv"
    table.write_text("video,start,end,label\na,0,1,lift\nkitchen,0,x,turn\nkitchen,0,1,turn\n")
    with pytest.raises(DataError, match=r"'x' is not a number.*video 'kitchen' is not among the videos"):
        extract(find_videos(clips), tmp_path / "out.h5", Extraction(**FAST), segments=table)
    with pytest.raises(ConfigError, match=r"labels\.colour is not an option"):
        extract(find_videos(clips), tmp_path / "out.h5", Extraction(**FAST), segments=table, labels={"colour": 1})


def test_bad_settings_are_refused(clips: Path, tmp_path: Path) -> None:
    for values, message in (
        ({"backbone": None}, "neither backbone nor flow is given"),
        ({"dtype": "float64"}, "dtype='float64': use one of"),
        ({"batch_size": 0}, "batch_size=0: give 1 or more"),
        ({"max_seconds": -1.0}, r"max_seconds=-1\.0: give a positive number"),
    ):
        with pytest.raises(ConfigError, match=message):
            Extraction(**values)
    with pytest.raises(ConfigError, match="workers=0"):
        extract(find_videos(clips), tmp_path / "out.h5", Extraction(**FAST), workers=0)
    with pytest.raises(ConfigError, match="rtsp://camera/1: may never end: give max_seconds"):
        extract_video(Source("camera", "rtsp://camera/1"), Extraction(**FAST))


def test_features_that_float16_does_not_hold_are_told(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extraction = Extraction(**{**FAST, "dtype": "float16"})
    networks = extraction.load()
    monkeypatch.setattr(type(networks["rgb"]), "compute", lambda _, inputs: torch.full((len(inputs), 4), 1e6))
    made = extract_video(Source("a", str(clips / "a.mp4")), extraction, networks=networks)
    assert made.problem == "the features reach 1e+06, which float16 does not hold: say dtype=float32"


def test_videos_are_found(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.MKV", "notes.txt", ".hidden.mp4", "deep/c.avi", ".cache/d.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [source.name for source in find_videos(tmp_path)] == ["a", "b", "c"]
    assert [source.name for source in find_videos(str(tmp_path / "*.mp4"))] == ["a"]
    assert [source.name for source in find_videos(tmp_path / "notes.txt")] == ["notes"]
    assert [source.name for source in find_videos([tmp_path / "a.mp4", tmp_path])] == ["a", "b", "c"]
    assert find_videos("http://host/x/film.mp4?key=1")[0].name == "film"
    (tmp_path / "deep" / "a.avi").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.mp4 and .*deep/a\.avi would both be video 'a': rename one of them"):
        find_videos(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"nowhere: no such file.*empty: holds no video"):
        find_videos([tmp_path / "nowhere", tmp_path / "empty"])


@pytest.mark.slow
def test_workers_change_no_byte(clips: Path, tmp_path: Path, write_video: Write) -> None:
    cut(write_video(clips / "broken.mkv", 120), 0.5)
    sources, extraction = find_videos(clips), Extraction(dtype="float16", batch_size=4)
    one = extract(sources, tmp_path / "one.h5", extraction)
    two = extract(sources, tmp_path / "two.h5", extraction, workers=2)
    assert one.skipped == two.skipped
    assert (one.path.read_bytes(), one.frames) == (two.path.read_bytes(), two.frames)
