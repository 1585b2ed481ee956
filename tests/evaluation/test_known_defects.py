"""Known defects of published evaluators, found by reading and running them, and what is done here instead."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor

from coadtr.checkpoint import load
from coadtr.data import FeatureStore, StoreWriter, VideoScores
from coadtr.errors import CausalityError
from coadtr.evaluation import (
    ReplayVideo,
    VideoAnswers,
    audit_causality,
    average_precision,
    calibrated_average_precision,
    count_frames,
    evaluate_answers,
    evaluate_scores,
    mean_average_precision,
    per_frame_average_precision,
    replay,
    score_answers,
    scored_frames,
    step_latency,
)
from coadtr.evaluation.cost import latency
from coadtr.evaluation.cost.streams import RandomStreams
from coadtr.evaluation.metrics.running import RunningAveragePrecision
from coadtr.models import PRESETS, build_model
from coadtr.training import TrainingResult, TrainingSettings, train
from tests.data.importers.tvseries_source import CLASSES as TVSERIES
from tests.models.sizes import small

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

BACKGROUND, AMBIGUOUS, WINDOW = 0, 21, 64


def test_tvseries_is_scored_on_all_of_its_thirty_actions(shared_reference: Path) -> None:
    """CoOadTR takes its mean over columns 1 to 20, a slice made for THUMOS14; here each class that occurs counts."""
    with np.load(shared_reference / "metrics_tvseries_like.npz") as stored:
        labels, scores = stored["labels"], stored["scores"].astype(np.float64)
        expected = stored["sklearn_ap"]
    video = VideoScores("video", scores, labels, np.ones(len(labels), dtype=bool))
    result = evaluate_scores([video], class_names=TVSERIES, background=BACKGROUND, window=WINDOW)
    assert list(result["per_class_AP"]) == TVSERIES[1:]
    assert len(TVSERIES[1:]) == 30
    assert result["mAP"] == pytest.approx(np.mean(expected), abs=1e-12)
    assert abs(result["mAP"] - np.mean(expected[:20])) > 1e-3


def test_the_last_ten_actions_of_tvseries_lower_its_score() -> None:
    """A detector that knows the 20 most frequent actions only would be perfect in CoOadTR's TVSeries score."""
    labels = np.arange(31).repeat(3)
    scores = np.eye(31)[labels]
    scores[labels > 20, 1:] = 0.0
    result = evaluate_scores(
        [VideoScores("video", scores, labels, np.ones(labels.size, dtype=bool))],
        class_names=TVSERIES,
        background=BACKGROUND,
        window=WINDOW,
    )
    constant = 3 / labels.size  # what is never answered gets the share of its frames
    assert result["mAP"] == pytest.approx((20 + 10 * constant) / 30)


@pytest.mark.parametrize("order", ["positives first", "positives last", "mixed"])
def test_constant_scores_give_the_prevalence_in_any_order(order: str) -> None:
    """CoOadTR ranks equal scores by their place in the array, and constant ones get up to 1; here they are one."""
    positives = np.arange(400) < 20
    if order == "positives last":
        positives = positives[::-1]
    elif order == "mixed":
        positives = np.random.default_rng(0).permutation(positives)
    scores = np.full(400, 0.3)
    assert average_precision(positives, scores) == 20 / 400
    assert calibrated_average_precision(positives, scores) == 0.5
    published = published_calibrated_precision(positives, scores)
    assert abs(published - 0.5) > 0.02
    if order == "positives first":
        assert published == pytest.approx(1.0)


def published_calibrated_precision(positives: NDArray[np.bool_], scores: NDArray[Any]) -> float:
    """Precision at each positive frame along one sorted list, ties in the order of the array."""
    ranked = positives[np.argsort(-scores, kind="stable")]
    true, false = np.cumsum(ranked), np.cumsum(~ranked)
    weight = (~positives).sum() / positives.sum()
    return float(np.mean((weight * true / (weight * true + false))[ranked]))


def make_answers() -> list[VideoAnswers]:
    random = np.random.default_rng(3)
    answers = []
    for number, frames in enumerate((120, 35, 80)):
        labels = random.integers(5, size=frames)
        logits = 2 * np.eye(5)[labels] + random.normal(size=(frames, 5)) + 3 * random.normal(size=(frames, 1))
        answers.append(VideoAnswers(f"video_{number}", logits.astype(np.float32), labels))
    return answers


def test_one_process_and_many_turn_logits_into_the_same_scores() -> None:
    """OadTR ranks raw logits when distributed and a softmax otherwise; here both pass `probabilities`, once."""
    settings: dict[str, Any] = {"class_names": ["none", "run", "jump", "fly", "unclear"], "background": 0, "ignored": 4}
    whole = evaluate_answers(make_answers(), window=1, **settings)

    scored = list(score_answers(make_answers(), ignored=4, window=1))
    ranks = [RunningAveragePrecision(**settings), RunningAveragePrecision(**settings)]
    for number, video in enumerate(scored):
        assert np.array_equal(video.scores, make_answers()[number].probabilities(4))
        ranks[number % 2].update(
            torch.from_numpy(video.scores),
            torch.from_numpy(video.labels),
            number,
            scored=torch.from_numpy(video.scored),
        )
    ranks[0].merge_state(ranks[1])  # two real processes: tests/evaluation/metrics/test_running.py
    assert ranks[0].result() == whole["per_class_AP"]
    assert ranks[0].compute().item() == whole["mAP"]

    raw = per_frame_average_precision(
        np.concatenate([video.labels for video in make_answers()]),
        np.concatenate([video.logits for video in make_answers()]),
        **settings,
    )
    assert abs(mean_average_precision(raw) - whole["mAP"]) > 0.05  # so it does matter


def test_all_scores_the_frames_that_oadtr_never_sees(shared_data: Path) -> None:
    """OadTR and CoOadTR score 91.6 % of the THUMOS14 test frames and do not say so; `all` leaves no action out."""
    with np.load(shared_data / "thumos14_annotations" / "test_perframe.npz") as stored:
        videos = np.split(stored["labels"].astype(np.int64), stored["offsets"][1:-1])
    frames = sum(labels.size for labels in videos)
    published = sum(count_frames("oadtr", labels, window=WINDOW, ignored=AMBIGUOUS).scored for labels in videos)
    assert round(100 * (1 - published / frames), 1) == 8.4

    actions, unseen = 0, 0
    for labels in videos:
        action = (labels != BACKGROUND) & (labels != AMBIGUOUS)
        actions += int(action.sum())
        unseen += int((action & ~scored_frames("oadtr", labels, window=WINDOW, ignored=AMBIGUOUS)).sum())
        assert scored_frames("all", labels, window=WINDOW, ignored=AMBIGUOUS)[action].all()
        assert scored_frames("all", labels, window=WINDOW).all()
        counts = count_frames("all", labels, window=WINDOW, ignored=AMBIGUOUS)
        assert (counts.outside, counts.scored + counts.ignored) == (0, labels.size)
    assert round(100 * unseen / actions, 1) == 4.6


class AsynchronousDevice:
    """A device whose work is queued when a step is called and done when someone waits for it, and a clock."""

    def __init__(self) -> None:
        self.now_ms = 0.0
        self.queued_ms = 0.0
        self.events: list[str] = []

    def synchronize(self, device: torch.device | None = None) -> None:
        self.now_ms += self.queued_ms
        self.queued_ms = 0.0
        self.events.append("wait")

    def perf_counter_ns(self) -> int:
        self.events.append("clock")
        return int(self.now_ms * 1e6)


class Queued:
    """A detector that queues work on that device: so many milliseconds for each step, and some for each row."""

    input_dim = num_classes = 2
    window = 3

    def __init__(self, device: AsynchronousDevice, step_ms: Sequence[float], row_ms: float = 0.0) -> None:
        self.device, self.step_ms, self.row_ms = device, step_ms, row_ms
        self.shapes: list[tuple[int, ...]] = []

    def init_state(self, batch_size: int = 1) -> Tensor:
        return torch.zeros(batch_size, 1)

    def step(self, frame: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        self.device.queued_ms += self.step_ms[len(self.shapes) % len(self.step_ms)] + self.row_ms * frame.shape[0]
        self.device.events.append("step")
        self.shapes.append(tuple(frame.shape))
        return frame, state

    def reset_rows(self, state: Tensor, rows: Tensor) -> Tensor:
        return state

    def forward(self, frames: Tensor) -> Tensor:
        return frames


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> AsynchronousDevice:
    """Let the streams that are timed believe that they lie on a GPU, which this fake stands for."""
    fake, begin = AsynchronousDevice(), RandomStreams.__init__

    def on_device(self: RandomStreams, model: Any, batch_size: int = 1) -> None:
        begin(self, model, batch_size)
        self.device = torch.device("cuda")

    monkeypatch.setattr(RandomStreams, "__init__", on_device)
    monkeypatch.setattr(torch.accelerator, "synchronize", fake.synchronize)
    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter_ns=fake.perf_counter_ns))
    return fake


def test_the_clock_waits_for_the_device_on_both_sides_of_a_step(device: AsynchronousDevice) -> None:
    """E2E-LOAD stops its clock when the step was queued, and not when it was done; here the device is waited for."""
    found = step_latency(Queued(device, [5.0]), warmup=2, steps=4)
    timed = ["wait", "clock", "step", "wait", "clock"]
    assert device.events[-4 * len(timed) :] == 4 * timed
    assert "clock" not in device.events[: -4 * len(timed)]
    # What was queued before is not in it, and its own step is.
    assert (found.p50, found.p99, found.mean) == (5.0, 5.0, 5.0)


def test_latency_is_of_single_steps_and_not_bulk_throughput_turned_over(device: AsynchronousDevice) -> None:
    """MiniROAD's FPS is frames by the time of whole clips, in bulk; here each step at batch 1 has a time of its own."""
    steps = [*[2.0] * 9, 82.0]
    model = Queued(device, steps, row_ms=1.0)
    found = step_latency(model, warmup=7, steps=100)  # window 3 + 7: the pattern starts anew
    assert set(model.shapes) == {(1, 2)}
    assert found.steps == 100
    assert (found.p50, found.p99) == (3.0, 83.0)  # a mean over all frames would hide the slow ones
    assert found.mean == pytest.approx(11.0)


def write_store(path: Path, *, test: str) -> FeatureStore:
    """Write a store whose training and validation videos are always the same, and whose test videos are not."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(3, 4))
    with StoreWriter(
        path, class_names=["rest", "lift", "turn"], background=0, ignored=None, streams={"a": 4}
    ) as writer:
        for number, split in enumerate(["train", "train", "train", "validation", "test", "test"]):
            labels = random.integers(0, 3, size=8).repeat(8)
            frames = centres[labels] + random.normal(scale=0.7, size=(64, 4))
            if split == "test" and test == "other labels":
                labels = 2 - labels
            elif split == "test" and test == "other features":
                frames = 1e3 * random.normal(size=frames.shape)
            writer.add(
                f"video{number}", split=split, rate_hz=5.0, features={"a": frames.astype(np.float32)}, labels=labels
            )
    return FeatureStore(path)


def test_the_epoch_is_not_chosen_on_test_videos(tmp_path: Path) -> None:
    """Several publish the epoch that is best on the test videos; here other test videos lead to the same weights."""
    model = {"kind": "cooadtr", "depth": 1, "window": 8, "embed_dim": 8, "ff_dim": 8, "num_heads": 2}
    # The learning rate grows absurd: the epoch that is chosen is not the last one.
    settings = TrainingSettings(
        max_epochs=3, batch_size=2, sequence_length=32, learning_rate=3e-2, schedule="step", step_factor=30.0,
        gradient_clip=0.0, accelerator="cpu",
    )  # fmt: skip

    def run(test: str) -> TrainingResult:
        name = test.replace(" ", "_")
        store = write_store(tmp_path / f"{name}.h5", test=test)
        return train(store, model, settings, tmp_path / name, progress=False)

    results = {test: run(test) for test in ("as they are", "other labels", "other features")}
    first = results["as they are"]
    weights = load(first.checkpoint).model.state_dict()
    assert first.epoch < settings.max_epochs - 1
    for test, result in results.items():
        assert (result.epoch, result.validation_map) == (first.epoch, first.validation_map), test
        for name, tensor in load(result.checkpoint).model.state_dict().items():
            assert torch.equal(tensor, weights[name]), f"{test}: {name}"


@pytest.mark.parametrize("name", PRESETS)
def test_a_clip_is_answered_alike_after_other_batches(name: str) -> None:
    """CoOadTR's positional phase moves on with each clip batch, and its scores with it; here a clip has one answer."""
    torch.manual_seed(0)
    model = build_model(small(name)).eval()
    clip, stream, others = torch.randn(2, 4, 6), torch.randn(2, 11, 6), torch.randn(5, 4, 6)
    with torch.no_grad():
        answer, answers = model.answer_clip(clip), model(stream)
        assert torch.equal(model.answer_clip(clip), answer)
        for _ in range(3):
            model.answer_clip(others)
            model(others)
            model.step(others[:, 0], model.init_state(5))
            assert torch.equal(model.answer_clip(clip), answer)
            assert torch.equal(model(stream), answers)


def test_a_first_window_that_sees_ahead_is_found_by_the_audit() -> None:
    """MAT fills its first window with up to 31 chunks that come later. The audit fails on a frame that moves."""

    def peeking(features: NDArray[Any]) -> NDArray[Any]:
        answers = np.cumsum(features, axis=0, dtype=np.float64)
        answers[:32] = answers[min(31, len(answers) - 1)]
        return answers

    video = ReplayVideo("v", np.random.default_rng(0).normal(size=(100, 4)), np.zeros(100, dtype=np.int64))
    with pytest.raises(CausalityError, match="video 'v': the score of frame 0 changed"):
        audit_causality(lambda found: [peeking(one) for one in found], [video])


@pytest.mark.parametrize("name", PRESETS)
def test_the_stream_and_the_batch_have_the_same_scores(name: str) -> None:
    """Streaming scores of LSTR and TeSTra differ from their batch scores. Here a stream, in steps or in chunks, has the
    scores of one pass over the whole video.
    """
    torch.manual_seed(0)
    model = build_model(small(name, num_classes=5, embed_dim=16, ff_dim=16, window=8)).eval()
    features = np.random.default_rng(1).normal(size=(70, 6)).astype(np.float32)
    video = ReplayVideo("v", features, np.zeros(70, dtype=np.int64))
    with torch.inference_mode():
        batch = model(torch.from_numpy(features)[None])[0].numpy()
    for chunk in (1, 16):
        (stream,) = replay(model, [video], chunk=chunk)
        np.testing.assert_allclose(stream.logits, batch, rtol=0, atol=1e-5)
