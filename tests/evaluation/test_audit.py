"""The audit passes what is causal, and finds each way of looking ahead that has been published or could be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from coadtr.errors import CausalityError, ConfigError, DataError
from coadtr.evaluation import ReplayVideo, audit_causality, probabilities, replay
from coadtr.models import PRESETS, build_model, preset

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from coadtr.types import Detector


def _video(name: str = "v", frames: int = 60, dim: int = 6) -> ReplayVideo:
    features = np.random.default_rng(len(name)).normal(size=(frames, dim)).astype(np.float32)
    return ReplayVideo(name, features, np.zeros(frames, dtype=np.int64))


def _answer(model: Detector[Any], chunk: int = 1) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def answer(features: NDArray[Any]) -> NDArray[Any]:
        video = ReplayVideo("v", features, np.zeros(len(features), dtype=np.int64))
        (found,) = replay(model, [video], chunk=chunk)
        return probabilities(found.logits)

    return answer


@pytest.mark.parametrize("chunk", [1, 7, 64])
@pytest.mark.parametrize("name", PRESETS)
def test_every_model_passes_in_steps_and_in_chunks(name: str, chunk: int) -> None:
    torch.manual_seed(0)
    model = build_model(preset(name, input_dim=6, num_classes=5, embed_dim=16, num_heads=2, ff_dim=16, window=8))
    stepped = None if chunk == 1 else _answer(model)
    audit = audit_causality(_answer(model, chunk), [_video("a", 40), _video("bb", 23)], frames=6, stepped=stepped)
    assert (audit.videos, audit.frames, audit.largest_change) == (2, 6, 0.0)
    assert audit.answers > 0
    assert (audit.largest_difference_from_steps is None) is (chunk == 1)
    assert set(audit.to_dict()) >= {"videos", "frames", "answers", "perturbations", "largest_change", "tolerance"}


def _peeks_in_its_first_chunk(features: NDArray[Any]) -> NDArray[Any]:
    """Answer the first 32 frames from all 32 of them, and each later frame from its past (the published MAT)."""
    answers = np.cumsum(features, axis=0)
    answers[:32] = answers[:32][-1]
    return answers


LOOKING_AHEAD: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "first chunk": _peeks_in_its_first_chunk,
    "one frame": lambda features: np.concatenate([features[1:], features[-1:]]),
    "mean of the video": lambda features: features - features.mean(axis=0),
    "normalised by its largest value": lambda features: features / np.abs(features).max(),
    "smoothed to both sides": lambda features: np.apply_along_axis(np.convolve, 0, features, np.ones(3) / 3, "same"),
    "very little": lambda features: np.cumsum(features, axis=0) + 1e-9 * features[-1],
}


@pytest.mark.parametrize("how", LOOKING_AHEAD)
def test_looking_ahead_is_found(how: str) -> None:
    with pytest.raises(CausalityError, match=r"video 'v': the score of frame \d+ changed by .* looks ahead"):
        audit_causality(LOOKING_AHEAD[how], [_video()])


def test_knowing_the_length_is_found() -> None:
    def by_length(features: NDArray[Any]) -> NDArray[Any]:
        return np.cumsum(features, axis=0) + len(features)

    with pytest.raises(CausalityError, match="when the video ended there"):
        audit_causality(by_length, [_video()])


def test_chunks_that_are_not_the_stream_are_found() -> None:
    def stepped(features: NDArray[Any]) -> NDArray[Any]:
        return np.cumsum(features, axis=0) + 0.01

    with pytest.raises(CausalityError, match=r"away from what single steps answer: .* mode=step"):
        audit_causality(lambda features: np.cumsum(features, axis=0), [_video()], stepped=stepped)


def test_the_sample_is_seeded_and_holds_both_ends() -> None:
    seen: list[list[int]] = []
    for seed in (0, 0, 1):
        cuts: list[int] = []

        def answer(features: NDArray[Any], cuts: list[int] = cuts) -> NDArray[Any]:
            cuts.append(len(features) - 1)
            return np.cumsum(features, axis=0)

        audit_causality(answer, [_video(frames=500)], frames=8, seed=seed)
        seen.append(sorted({cut for cut in cuts if cut < 499}))
    assert seen[0] == seen[1] != seen[2]
    assert all(cuts[0] == 0 and cuts[-1] == 498 and len(cuts) == 8 for cuts in seen)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16])
def test_features_of_every_kind(dtype: type) -> None:
    features: NDArray[Any] = (np.random.default_rng(0).normal(size=(30, 4)) * 1000).astype(dtype)
    video = ReplayVideo("v", lambda: features, np.zeros(30, dtype=np.int64))
    assert audit_causality(lambda found: np.cumsum(found.astype(np.float64), axis=0), [video]).largest_change == 0.0


def test_impossible_audits_are_refused() -> None:
    with pytest.raises(ConfigError, match="frames=0"):
        audit_causality(lambda features: features, [_video()], frames=0)
    with pytest.raises(DataError, match="no video has two frames"):
        audit_causality(lambda features: features, [_video(frames=1)])
