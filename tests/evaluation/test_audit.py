"""The audit passes what is causal, and finds each way of looking ahead that has been published or could be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from coadtr.errors import CausalityError, ConfigError, DataError
from coadtr.evaluation import ReplayVideo, audit_causality, probabilities, replay
from coadtr.models import PRESETS, build_model
from tests.models.sizes import small

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from coadtr.types import Detector

    Answer = Callable[[Sequence[NDArray[Any]]], Sequence[NDArray[Any]]]


def _video(name: str = "v", frames: int = 60, dim: int = 6) -> ReplayVideo:
    features = np.random.default_rng(len(name)).normal(size=(frames, dim)).astype(np.float32)
    return ReplayVideo(name, features, np.zeros(frames, dtype=np.int64))


def _answer(model: Detector[Any], chunk: int = 1, rows: int = 8) -> Answer:
    def answer(features: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        videos = [ReplayVideo(str(index), one, np.zeros(len(one), np.int64)) for index, one in enumerate(features)]
        return [probabilities(found.logits) for found in replay(model, videos, chunk=chunk, batch_size=rows)]

    return answer


def _each(one: Callable[[NDArray[Any]], NDArray[Any]]) -> Answer:
    """Answer videos one by one."""
    return lambda features: [one(found) for found in features]


@pytest.mark.parametrize("chunk", [1, 7, 64])
@pytest.mark.parametrize("name", PRESETS)
def test_every_model_passes_in_steps_and_in_chunks(name: str, chunk: int) -> None:
    torch.manual_seed(0)
    model = build_model(small(name, num_classes=5, embed_dim=16, ff_dim=16, window=8))
    stepped = None if chunk == 1 else _answer(model)
    audit = audit_causality(
        _answer(model, chunk), [_video("a", 40), _video("bb", 23)], every_cut_of=12, stepped=stepped
    )
    assert (audit.videos, audit.cuts, audit.largest_change) == (2, 2 * (11 + 4), 0.0)
    assert (audit.largest_difference_from_steps is None) is (chunk == 1)
    assert set(audit.to_dict()) >= {"videos", "cuts", "perturbations", "largest_change", "tolerance"}


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
    "once, by one frame": lambda features: np.concatenate([features[:9], features[10:11], features[10:]]),
    "very little": lambda features: np.cumsum(features, axis=0) + 1e-9 * features[-1],
}


@pytest.mark.parametrize("how", LOOKING_AHEAD)
def test_looking_ahead_is_found(how: str) -> None:
    with pytest.raises(CausalityError, match=r"video 'v': the score of frame \d+ changed by .* looks ahead"):
        audit_causality(_each(LOOKING_AHEAD[how]), [_video()])


def test_knowing_the_length_is_found() -> None:
    def by_length(features: NDArray[Any]) -> NDArray[Any]:
        return np.cumsum(features, axis=0) + len(features)

    with pytest.raises(CausalityError, match="when the video ends after frame 0: the detector knows how long it is"):
        audit_causality(_each(by_length), [_video()])


def test_one_way_of_perturbing_is_not_enough() -> None:
    """Look ahead where the future is plausible, or where it is not: each perturbation finds what the other misses."""

    def where(*, plausible: bool) -> Callable[[NDArray[Any]], NDArray[Any]]:
        def answer(features: NDArray[Any]) -> NDArray[Any]:
            loud = np.abs(features[1:]).max() > 8
            return np.cumsum(features, axis=0) + (features[-1] if loud is not plausible else 0)

        return answer

    quiet = ReplayVideo("v", np.random.default_rng(0).uniform(-1, 1, (60, 6)), np.zeros(60, np.int64))
    for plausible in (True, False):
        with pytest.raises(CausalityError, match="looks ahead"):
            audit_causality(_each(where(plausible=plausible)), [quiet])


@pytest.mark.parametrize("column", [0, 3, 5])
def test_every_class_is_looked_at(column: int) -> None:
    def answer(features: NDArray[Any]) -> NDArray[Any]:
        found = np.cumsum(features, axis=0)
        found[:, column] += features[-1, column]
        return found

    with pytest.raises(CausalityError, match="looks ahead"):
        audit_causality(_each(answer), [_video()])


def test_rows_that_leak_into_each_other_are_found() -> None:
    def answer(features: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        found = [np.cumsum(one, axis=0) for one in features]
        mixed = np.mean([one[-1] for one in features], axis=0)
        return [one + mixed * (len(found) > 1) for one in found]

    with pytest.raises(CausalityError, match="looks ahead"):
        audit_causality(answer, [_video()])


def test_chunks_that_are_not_the_stream_are_found() -> None:
    def stepped(features: NDArray[Any]) -> NDArray[Any]:
        return np.cumsum(features, axis=0) + 0.01

    with pytest.raises(CausalityError, match=r"from what single steps answer: .* mode=step"):
        audit_causality(_each(lambda one: np.cumsum(one, axis=0)), [_video()], stepped=_each(stepped))


def test_small_scores_are_held_to_their_size() -> None:
    random = np.random.default_rng(0)
    one, other = (random.uniform(0, 1e-4, (60, 6)) for _ in range(2))
    with pytest.raises(CausalityError, match="from what single steps answer"):
        audit_causality(
            _each(lambda features: one[: len(features)]),
            [_video()],
            stepped=_each(lambda features: other[: len(features)]),
        )


def test_the_cuts_are_seeded_and_hold_both_ends() -> None:
    seen: list[list[int]] = []
    for seed in (0, 0, 1):
        ends: list[int] = []

        def answer(features: Sequence[NDArray[Any]], ends: list[int] = ends) -> list[NDArray[Any]]:
            if len(features) == 1:
                ends.append(len(features[0]) - 1)
            return [np.cumsum(one, axis=0) for one in features]

        audit_causality(answer, [_video(frames=500)], further_cuts=8, seed=seed)
        seen.append(sorted(ends[1:]))  # the first is the whole video
    assert seen[0] == seen[1] != seen[2]
    assert all(cuts[0] == 0 and cuts[-1] == 498 and len(cuts) == 8 for cuts in seen)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16])
def test_features_of_every_kind(dtype: type) -> None:
    features: NDArray[Any] = (np.random.default_rng(0).normal(size=(30, 4)) * 1000).astype(dtype)
    video = ReplayVideo("v", lambda: features, np.zeros(30, dtype=np.int64))
    found = audit_causality(_each(lambda one: np.cumsum(one.astype(np.float64), axis=0)), [video])
    assert found.largest_change == 0.0


def test_impossible_audits_are_refused() -> None:
    whole = _each(lambda features: features)
    with pytest.raises(ConfigError, match="every_cut_of=1"):
        audit_causality(whole, [_video()], every_cut_of=1)
    with pytest.raises(ConfigError, match="most_videos=0"):
        audit_causality(whole, [_video()], most_videos=0)
    with pytest.raises(DataError, match="no video has two frames"):
        audit_causality(whole, [_video(frames=1)])
    with pytest.raises(DataError, match="video 'v': features have dtype bool"):
        audit_causality(whole, [ReplayVideo("v", np.ones((9, 2), dtype=bool), np.zeros(9, np.int64))])
