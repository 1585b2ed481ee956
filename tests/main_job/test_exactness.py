"""On real recordings, what a replay answers is what the model's definition says, frame by frame for whole videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import coadtr
from coadtr.data import FeatureStore, read_scores
from coadtr.evaluation import ReplayVideo, probabilities, replay
from coadtr.models import OnlineModel, build_model, preset
from tests.main_job.conftest import Videos

TOLERANCE = 1e-5
WINDOW = 64


def make_model(depth: int, videos: Videos, *, scale: float = 1.0) -> OnlineModel:
    """Build a model whose random weights are large enough for attention to choose and answers to differ."""
    frames = np.concatenate(list(videos.values()))
    torch.manual_seed(depth)
    sizes = {"embed_dim": 32, "ff_dim": 32, "num_heads": 4, "window": WINDOW, "normalise": True}
    model = build_model(preset(f"cooadtr_b{depth}", input_dim=frames.shape[1], num_classes=18, **sizes))
    model.inputs.set_statistics(torch.from_numpy(frames.mean(0)), torch.from_numpy(frames.std(0) + 1e-3))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=scale / parameter.shape[-1] ** 0.5)
    return model.eval()


def answer_whole(model: OnlineModel, frames: NDArray[Any]) -> NDArray[Any]:
    """Answer one video by ``forward``, ``(T, C)``."""
    with torch.inference_mode():
        answers: NDArray[Any] = model(torch.from_numpy(frames)[None])[0].numpy()
    return answers


def answer_window(model: OnlineModel, frames: NDArray[np.float32], frame: int) -> NDArray[np.float32]:
    """Answer one frame from the window that ends with it, cut out by hand, ``(C,)``."""
    first = max(0, frame - WINDOW + 1)
    with torch.inference_mode():
        clip = torch.from_numpy(frames[first : frame + 1].copy())[None]
        answer: NDArray[np.float32] = model.answer_clip(clip, torch.tensor([first]))[0].numpy()
    return answer


def replay_videos(model: OnlineModel, videos: Videos, batch_size: int) -> Videos:
    given = [ReplayVideo(name, frames, np.zeros(len(frames), np.int64)) for name, frames in videos.items()]
    return {scores.name: scores.logits for scores in replay(model, given, batch_size=batch_size)}


def sample_positions(frames: int) -> list[int]:
    """Choose frames of the warm-up, around one, two and many windows and cycles of positions, and the last."""
    around = [k * WINDOW + d for k in (1, 2, 3, 8) for d in (-2, -1, 0, 1)]
    return [0, 1, 30, *around, 127 * 3, 127 * 4 + 1, *range(600, frames - 1, 97), frames - 1]


@pytest.mark.parametrize("depth", [1, 2])
def test_replayed_videos_are_answered_as_by_the_model(depth: int, salads: Videos) -> None:
    model = make_model(depth, salads)
    first = next(iter(salads))
    replayed = replay_videos(model, salads, 4)
    alone = replay_videos(model, {first: salads[first]}, 1)[first]
    np.testing.assert_allclose(alone, answer_whole(model, salads[first]), rtol=0, atol=TOLERANCE)
    for name, frames in salads.items():
        wanted = answer_whole(model, frames)
        assert wanted.shape == (len(frames), 18)
        assert len(frames) > 10 * WINDOW
        assert wanted.std(axis=0).min() > 0.1, "answers that do not differ would show nothing"
        np.testing.assert_allclose(replayed[name], wanted, rtol=0, atol=TOLERANCE, err_msg=name)
        for frame in sample_positions(len(frames)):
            by_hand = answer_window(model, frames, frame)
            np.testing.assert_allclose(replayed[name][frame], by_hand, rtol=0, atol=TOLERANCE, err_msg=str(frame))


@pytest.mark.parametrize("depth", [1, 2])
def test_large_weights_are_answered_exactly_in_double_precision(depth: int, salads: Videos) -> None:
    model = make_model(depth, salads, scale=3.0).double()
    name, frames = next(iter(salads.items()))
    (answers,) = replay_videos(model, {name: frames}, 1).values()
    np.testing.assert_allclose(answers, answer_whole(model, frames.astype(np.float64)), rtol=0, atol=1e-11)


@pytest.mark.parametrize("depth", [1, 2])
def test_replayed_exercises_are_answered_as_by_the_model(depth: int, exercises: Path) -> None:
    with FeatureStore.open(exercises / "data/exercises.h5") as store:
        name = store.videos("validation")[0].name
        videos = {name: store.features(name)}
    model = make_model(depth, videos)
    answers = replay_videos(model, videos, 1)[name]
    np.testing.assert_allclose(answers, answer_whole(model, videos[name]), rtol=0, atol=TOLERANCE)
    for frame in sample_positions(len(answers))[::4]:
        by_hand = answer_window(model, videos[name], frame)
        np.testing.assert_allclose(answers[frame], by_hand, rtol=0, atol=TOLERANCE, err_msg=str(frame))


def test_what_the_command_line_stored_is_what_the_trained_model_answers(finished: Path) -> None:
    checkpoint = coadtr.load(finished / "run/checkpoint")
    stored = read_scores(finished / "run/replay/scores.h5")
    with FeatureStore.open(finished / "data/exercises.h5") as store:
        assert [video.name for video in stored.videos] == [record.name for record in store.videos("test")]
        for video in stored.videos:
            frames = store.features(video.name)
            wanted = probabilities(answer_whole(checkpoint.model, frames))
            np.testing.assert_allclose(video.scores, wanted, rtol=0, atol=TOLERANCE, err_msg=video.name)
            np.testing.assert_array_equal(video.labels, store.labels(video.name))


def test_the_detector_that_a_user_holds_gives_the_stored_scores(finished: Path) -> None:
    detector = coadtr.OnlineDetector.load(finished / "run/checkpoint")
    video = read_scores(finished / "run/replay/scores.h5").videos[1]
    with FeatureStore.open(finished / "data/exercises.h5") as store:
        frames = store.features(video.name, 0, 300)
    pushed = np.stack([detector.push(frame) for frame in frames])
    np.testing.assert_allclose(pushed, video.scores[:300], rtol=0, atol=TOLERANCE)
