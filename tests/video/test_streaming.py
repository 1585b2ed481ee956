"""Features of a video that is going on are those that extraction makes of it whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from coadtr.errors import ConfigError, DataError, ShapeError
from coadtr.video import Extraction, Eyes, Feature, Picture, Sampling, Source, VideoReader, extract_video
from coadtr.video.record import check_rebuilt, recorded_extraction, recorded_sampling


def seen(path: Path, eyes: Eyes) -> list[Feature]:
    """Look at a file as at a video that is going on."""
    stream = eyes.stream()
    with VideoReader(path) as reader:
        found = [feature for frame in reader for feature in stream.push(frame)]
    return found + stream.finish()


SAMPLINGS = [
    Sampling(),
    Sampling(preset="oadtr"),
    Sampling(preset="rate", rate_hz=3.0),
    Sampling(preset="rate", rate_hz=2.5, chunk=8),
]


def described(extraction: Extraction) -> Any:
    """Describe an extraction as a checkpoint does."""
    networks = extraction.load()
    return SimpleNamespace(
        extractors={name: network.describe(extraction.sampling) for name, network in networks.items()},
        streams={name: network.dim for name, network in networks.items()},
    )


class Patches:
    """A network whose features are the means of the quarters of its frames: as quick as it is plain."""

    dim = 8
    context = 2

    def prepare(self, frames: Any, sampling: Sampling) -> Tensor:
        return torch.stack([frames[-2], frames[sampling.pick - sampling.size]])

    def compute(self, inputs: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(inputs.float().mean(dim=2), 2).flatten(1)


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=lambda sampling: sampling.describe())
def test_a_stream_has_the_features_of_the_whole(
    sampling: Sampling, write_video: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_video(tmp_path / "film.mp4", frames=75)
    networks: Any = {"rgb": Patches()}
    extraction = Extraction(sampling=sampling, dtype="float32")
    whole = extract_video(Source("film", str(path)), extraction, networks=networks).features["rgb"]
    found = seen(path, Eyes(networks, sampling))
    assert len(found) == len(whole) > 3
    np.testing.assert_array_equal([feature.values for feature in found], whole)
    rate = sampling.feature_rate_hz(30.0)
    np.testing.assert_allclose([feature.time for feature in found], np.arange(len(whole)) / rate, atol=1e-6)


def test_networks_on_the_record_make_the_same_features(write_video: Callable[..., Path], tmp_path: Path) -> None:
    path = write_video(tmp_path / "film.mp4", frames=40)
    extraction = Extraction(dtype="float32")
    whole = extract_video(Source("film", str(path)), extraction).features["rgb"]
    found = seen(path, Eyes.of(described(extraction)))
    # A batch of several chunks is summed in another order than one of one.
    np.testing.assert_allclose([feature.values for feature in found], whole, rtol=1e-4, atol=1e-4)


def test_nothing_waits_for_later_frames() -> None:
    eyes = Eyes({}, Sampling())
    stream, come = eyes.stream(), list[tuple[float, float]]()
    for index in range(30):
        come += [
            (chunk.time, index / 30) for chunk in stream.chunks(Picture(index / 30, np.zeros((4, 4, 3), np.uint8)))
        ]
    # The last sampling time of chunk k is k / 4 + 5 / 24; the frame after it completes the chunk.
    assert [time for time, _ in come] == [0.0, 0.25, 0.5, 0.75]
    assert all(time + 5 / 24 < seen <= time + 5 / 24 + 1 / 30 + 2e-3 for time, seen in come)


def test_a_picture_that_stands_is_looked_at_once() -> None:
    looks = []

    class Counting(Eyes):
        def look(self, frames: Any) -> Any:
            looks.append(frames)
            return np.full(1, len(looks), np.float32)

    stream = Counting({}, Sampling()).stream()
    still = np.zeros((4, 4, 3), np.uint8)
    found = [one for moment in (0.0, 0.1, 0.2, 5.0, 5.5) for one in stream.push(Picture(moment, still))]
    assert len(found) == 22
    np.testing.assert_array_equal([one.time for one in found], np.arange(22) / 4)
    # The first chunk, those of the picture of 0.2 s, those of the picture of 5 s.
    assert len(looks) == 3


@pytest.mark.slow
def test_clips_and_flow_are_rebuilt_and_joined_in_the_order_of_the_model(
    write_video: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_video(tmp_path / "film.mp4", frames=45, size=(128, 160))
    extraction = Extraction(
        backbone="r2plus1d_18",
        weights="random",
        clip=8,
        flow="raft_small",
        flow_weights="random",
        flow_backbone=None,
        sampling=Sampling(preset="rate", rate_hz=2.0, chunk=4),
        dtype="float32",
    )
    told = described(extraction)
    assert recorded_extraction(told.extractors, told.streams).clip == 8
    told.streams = {name: told.streams[name] for name in ("flow", "rgb")}
    whole = extract_video(Source("film", str(path)), extraction).features
    found = [feature.values for feature in seen(path, Eyes.of(told))]
    np.testing.assert_allclose(found, np.hstack([whole["flow"], whole["rgb"]]), rtol=1e-3, atol=1e-4)


def test_how_many_pictures_are_enough() -> None:
    told = described(Extraction(backbone="resnet18", weights="random"))
    eyes = Eyes.of(told)
    assert eyes.pictures_per_second == 8.0
    assert eyes.dim == 512
    assert Eyes({}, Sampling(preset="oadtr")).pictures_per_second is None


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=lambda sampling: sampling.describe())
def test_samplings_are_read_back(sampling: Sampling) -> None:
    again = recorded_sampling(sampling.describe())
    assert (again.preset, again.rate_hz, again.size) == (sampling.preset, sampling.rate_hz, sampling.size)


@pytest.mark.parametrize(
    ("extractors", "streams", "told"),
    [
        ({}, {"rgb": 4}, "the checkpoint does not say what made its features 'rgb' of pictures; train on features of"),
        ({"imu": {"backbone": "x"}}, {"imu": 4}, "does not say what made its features 'imu'"),
        (
            {"rgb": {"backbone": "resnet18", "sampling": "x"}},
            {"rgb": 4},
            "the record of the features 'rgb' has no weights",
        ),
        (
            {"rgb": {"backbone": "resnet18", "weights": "random (sha256 0123456789ab)", "sampling": "every third"}},
            {"rgb": 4},
            "the sampling 'every third' is not known here; extract the features anew",
        ),
        (
            {"rgb": {"backbone": "resnet18", "weights": "mine", "sampling": Sampling().describe()}},
            {"rgb": 512},
            "the weights 'mine' of resnet18 are not known here; extract the features anew",
        ),
        (
            {
                "rgb": {"backbone": "resnet18", "weights": "w", "sampling": "a"},
                "flow": {"backbone": "raft_small", "weights": "w", "sampling": "b"},
            },
            {"rgb": 4, "flow": 4},
            "the features were sampled in several ways (a; b); train on features of",
        ),
    ],
)
def test_what_cannot_be_rebuilt_is_told(extractors: Any, streams: dict[str, int], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recorded_extraction(extractors, streams)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("clip", "x frames, the last ones of each chunk"),
        ("sampling", "rate: abc features a second, each of the frame at the middle of its interval"),
        ("sampling", "rate: 1.2.3 features a second, each of the frame at the middle of its interval"),
        ("sampling", "rate: 1e+09 features a second, chunks of 1000000000, frame 500000001 for one image"),
        ("sampling", "rate: 99999999 features a second, each of the frame at the middle of its interval"),
        ("sampling", "rate: 4 features a second, chunks of 0, frame 1 for one image"),
    ],
)
def test_records_that_nobody_wrote_are_told(key: str, text: str) -> None:
    made = {"backbone": "resnet18", "weights": "random (sha256 0123456789ab)", "sampling": Sampling().describe()}
    with pytest.raises(ConfigError, match="is not known here; extract the features anew by `coadtr extract`"):
        recorded_extraction({"rgb": {**made, key: text}}, {"rgb": 512})


def test_other_weights_are_refused() -> None:
    told = described(Extraction(backbone="resnet18", weights="random"))
    told.extractors["rgb"]["weights"] = "random (sha256 0123456789ab)"
    with pytest.raises(ConfigError, match=r"trained on features 'rgb' whose weights is 'random \(sha256 0123456789ab"):
        Eyes.of(told)
    networks = Extraction(backbone="resnet18", weights="random").load()
    good = {"rgb": networks["rgb"].describe(Sampling())}
    check_rebuilt(networks, Sampling(), good)
    with pytest.raises(ConfigError, match="whose sampling is 'lstr"):
        check_rebuilt(networks, Sampling(preset="oadtr"), good)


def test_channels_have_to_agree() -> None:
    told = described(Extraction(backbone="resnet18", weights="random"))
    told.streams = {"rgb": 100}
    with pytest.raises(ConfigError, match="takes 100 channels of 'rgb', and the backbone on its record makes 512"):
        Eyes.of(told)


def test_bad_pictures_are_refused() -> None:
    stream = Eyes({}, Sampling()).stream()
    stream.push(Picture(1.0, np.zeros((4, 4, 3), np.uint8)))
    with pytest.raises(DataError, match=r"time went back from 1\.0 s to 0\.5 s; give pictures in order"):
        stream.push(Picture(0.5, np.zeros((4, 4, 3), np.uint8)))
    with pytest.raises(DataError, match=r"time went back from 1\.0 s to nan s"):
        stream.push(Picture(float("nan"), np.zeros((4, 4, 3), np.uint8)))
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ShapeError, match=r"give \(H, W, 3\) uint8"):
            stream.push(Picture(2.0, wrong))  # type: ignore[arg-type]
