from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from coadtr.errors import CoadtrError, ConfigError, DataError, ShapeError
from coadtr.evaluation import ReplayVideo, evaluate_answers, replay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

    from coadtr.types import Detector

    MakeVideos = Callable[..., list[ReplayVideo]]

LENGTHS = (30, 1, 300, 7, 7, 2, 513, 1, 64, 40)


def plain_loop(model: Any, video: ReplayVideo) -> NDArray[np.float32]:
    assert isinstance(video.features, np.ndarray)
    answers = []
    model.eval()
    with torch.no_grad():
        state = model.init_state(1)
        for frame in torch.from_numpy(video.features):
            logits, state = model.step(frame[None], state)
            answers.append(logits[0].clone())
    model.train()
    result: NDArray[np.float32] = torch.stack(answers).numpy()
    return result


@pytest.mark.parametrize("batch_size", [1, 2, 4, len(LENGTHS), 16])
def test_equals_the_plain_loop_and_forward_in_the_order_given(
    detector: Detector[Any], make_videos: MakeVideos, batch_size: int
) -> None:
    videos = make_videos(*LENGTHS)
    results = list(replay(detector, iter(videos), batch_size=batch_size))
    assert [result.name for result in results] == [video.name for video in videos]
    for video, result in zip(videos, results, strict=True):
        assert result.logits.dtype == np.float32
        assert result.labels is video.labels
        np.testing.assert_allclose(result.logits, plain_loop(detector, video), atol=1e-6)
        with torch.no_grad():
            whole = detector.forward(torch.as_tensor(video.features)[None])[0].numpy()
        np.testing.assert_allclose(result.logits, whole, atol=1e-5)


def test_side_by_side_equals_one_at_a_time(detector: Detector[Any], make_videos: MakeVideos) -> None:
    videos = make_videos(*LENGTHS)
    alone, beside = (list(replay(detector, videos, batch_size=size)) for size in (1, 4))
    for one, other in zip(alone, beside, strict=True):
        np.testing.assert_allclose(other.logits, one.logits, atol=1e-6, rtol=0)


def test_real_recordings_give_the_same_report_in_any_batch(
    shared_data: Path, make_recurrent: Callable[..., nn.Module]
) -> None:
    with np.load(shared_data / "50salads_mid" / "Split_1.npz") as stored:
        features, labels = stored["features"], stored["labels"].astype(np.int64)
        offsets, names, classes = stored["offsets"], stored["names"], stored["class_names"].tolist()
        chosen = np.flatnonzero(stored["is_test"])[:4]
    videos = [
        ReplayVideo(str(names[i]), features[offsets[i] : offsets[i + 1]], labels[offsets[i] : offsets[i + 1]])
        for i in chosen
    ]
    model: Any = make_recurrent(dim=128, classes=18)
    alone, beside = (
        evaluate_answers(replay(model, videos, batch_size=size), class_names=classes, background=0, window=model.window)
        for size in (1, 4)
    )
    frames = sum(video.labels.size for video in videos)
    assert alone["frames_total"] == alone["frames_scored"] == frames
    assert frames > 3000
    assert alone["mAP"] == pytest.approx(beside["mAP"], abs=1e-5)
    assert alone["mean_per_video_accuracy"] == pytest.approx(beside["mean_per_video_accuracy"], abs=1e-3)
    assert 0 < alone["mAP"] < 0.5  # random weights


def test_reads_videos_late_and_lets_them_go(make_recurrent: Callable[..., Any], make_videos: MakeVideos) -> None:
    alive: list[weakref.ref[NDArray[Any]]] = []
    most = 0

    def reader(video: ReplayVideo) -> Callable[[], NDArray[Any]]:
        def read() -> NDArray[Any]:
            nonlocal most
            most = max(most, sum(ref() is not None for ref in alive))
            features: NDArray[Any] = np.array(video.features)
            alive.append(weakref.ref(features))
            return features

        return read

    stored = make_videos(*LENGTHS)
    late = [ReplayVideo(video.name, reader(video), video.labels) for video in stored]
    results = list(replay(make_recurrent(), late, batch_size=3))
    assert len(results) == len(LENGTHS)
    assert most == 2  # when a video is read, only the two other rows hold one
    assert results[6].logits.shape == (513, 5)


def test_input_is_read_one_video_at_a_time(make_recurrent: Callable[..., Any], make_videos: MakeVideos) -> None:
    taken = []

    def source() -> Iterator[ReplayVideo]:
        for video in make_videos(5, 5, 5):
            taken.append(video.name)
            yield video

    answers = replay(make_recurrent(), source())
    assert taken == []
    next(answers)
    assert taken == ["video_0"]


def test_leaves_no_trace_in_caller_and_model(window_mean: nn.Module, make_videos: MakeVideos) -> None:
    model: Any = window_mean
    model.dropout.eval()
    model.train()
    model.head.eval()
    for _ in replay(model, make_videos(3, 4)):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        assert (model.training, model.head.training, model.dropout.training) == (True, False, True)


def test_features_and_labels_are_not_changed(detector: Detector[Any], make_videos: MakeVideos) -> None:
    video = make_videos(20)[0]
    assert isinstance(video.features, np.ndarray)
    video.features.setflags(write=False)
    before = video.features.copy(), video.labels.copy()
    list(replay(detector, [video]))
    np.testing.assert_array_equal(video.features, before[0])
    np.testing.assert_array_equal(video.labels, before[1])


@pytest.mark.parametrize(
    ("dtype", "answer", "tolerance"),
    [(torch.float64, np.float64, 1e-6), (torch.bfloat16, np.float32, 0.1)],
)
def test_frames_take_the_dtype_of_the_model(
    window_mean: nn.Module, make_videos: MakeVideos, dtype: torch.dtype, answer: type, tolerance: float
) -> None:
    model: Any = window_mean
    videos = make_videos(20, 3)
    expected = [result.logits for result in replay(model, videos)]
    results = list(replay(model.to(dtype), videos, batch_size=2))
    for result, wanted in zip(results, expected, strict=True):
        assert result.logits.dtype == answer
        np.testing.assert_allclose(result.logits, wanted, atol=tolerance)


def test_progress_adds_up_to_all_frames(detector: Detector[Any], make_videos: MakeVideos) -> None:
    done: list[int] = []
    list(replay(detector, make_videos(*LENGTHS), batch_size=3, progress=done.append))
    assert sum(done) == sum(LENGTHS)
    assert len(done) > 5


def test_no_videos_give_no_scores(detector: Detector[Any]) -> None:
    assert list(replay(detector, [], batch_size=3)) == []


def _spoilt(frame: int, value: float) -> NDArray[np.float32]:
    features = np.zeros((300, 6), dtype=np.float32)
    features[frame, 2] = value
    return features


@pytest.mark.parametrize(
    ("features", "error", "words"),
    [
        (np.zeros((300, 7)), ShapeError, "'bad': got 7 feature channels, the model expects 6"),
        (np.zeros(300), ShapeError, r"'bad': features have shape \(300,\)"),
        (_spoilt(290, np.nan), DataError, "'bad': frame 290 .* nan"),
        (_spoilt(0, -np.inf), DataError, "'bad': frame 0 .* infinite"),
        (np.zeros((0, 6)), DataError, "'bad' has no frames"),
        (np.zeros((299, 6)), DataError, r"'bad': 299 frames .* \(300,\)"),
        (np.zeros((300, 6), dtype="U1"), DataError, "'bad': features have dtype <U1"),
    ],
)
def test_bad_features_are_named(
    make_recurrent: Callable[..., Any],
    make_videos: MakeVideos,
    features: NDArray[Any],
    error: type[CoadtrError],
    words: str,
) -> None:
    bad = ReplayVideo("bad", lambda: features, np.zeros(300, dtype=int))
    answers = replay(make_recurrent(), [*make_videos(5), bad])
    assert next(answers).name == "video_0"
    with pytest.raises(error, match=words):
        next(answers)


def test_bad_answers_are_named(make_recurrent: Callable[..., Any], make_videos: MakeVideos) -> None:
    model = make_recurrent()
    model.num_classes = 4
    with pytest.raises(ShapeError, match=r"answers \(1, 5\); expected .* \(1, 4\)"):
        list(replay(model, make_videos(3)))
    model = make_recurrent()
    with torch.no_grad():
        model.head.bias.fill_(torch.nan)
    with pytest.raises(DataError, match="'video_0': the answer to frame 0 is not finite"):
        list(replay(model, make_videos(3)))


def test_bad_batch_size_is_refused_at_the_call(detector: Detector[Any]) -> None:
    with pytest.raises(ConfigError, match="batch_size is 0"):
        replay(detector, [], batch_size=0)
