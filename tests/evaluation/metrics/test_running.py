from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor

from coadtr.errors import CoadtrError, ConfigError, DataError, ShapeError
from coadtr.evaluation import accuracy, mean_average_precision, per_frame_average_precision
from coadtr.evaluation.metrics.calibration import calibration_error
from coadtr.evaluation.metrics.portions import portion_average_precision
from coadtr.evaluation.metrics.running import (
    RunningAccuracy,
    RunningAveragePrecision,
    RunningCalibration,
    RunningPortions,
    RunningSegmental,
)
from coadtr.evaluation.metrics.segmental import segmental_scores
from coadtr.scoring import probabilities
from tests.forking import side_by_side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coadtr.evaluation.metrics.gathering import RunningMetric

NAMES = ["none", "run", "jump", "unclear", "fly"]
SETTINGS: dict[str, Any] = {"class_names": NAMES, "background": 0, "ignored": 3}
PROCESSES = 2
# Which process gives which videos, in this order. Each share holds all six.
SHARES: dict[str, tuple[list[int], ...]] = {
    "uneven": ([0, 3, 5, 4], [1, 2]),
    "turned": ([4, 2], [5, 3, 1, 0]),
    "second has none": ([0, 1, 2, 3, 4, 5], []),
    "first has none": ([], [5, 1, 4, 2, 3, 0]),
}


def make_videos(*, multi_label: bool) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Scores with ties, labels in segments, and frames that count, of six videos; no frame shows class 4."""
    random = np.random.default_rng(7)
    videos = []
    for length in (40, 7, 1, 64, 23, 55):
        classes = np.repeat(random.integers(4, size=length), random.integers(1, 6, size=length))[:length]
        logits = np.round(2 * np.eye(5)[classes] + random.normal(size=(length, 5)), 1)
        labels = np.eye(5, dtype=np.int64)[classes] | (random.random((length, 5)) < 0.1)
        labels[:, 4] = 0
        videos.append(
            (
                torch.from_numpy(probabilities(logits, 3, head="sigmoid" if multi_label else "softmax")),
                torch.from_numpy(labels if multi_label else classes),
                torch.from_numpy(random.random(length) < 0.8),
            )
        )
    return videos


def make_metrics(*, multi_label: bool) -> dict[str, RunningMetric]:
    settings = {**SETTINGS, "multi_label": multi_label}
    metrics: dict[str, RunningMetric] = {
        "mAP": RunningAveragePrecision(**settings),
        "mcAP": RunningAveragePrecision(calibrated=True, **settings),
        "accuracy": RunningAccuracy(**settings),
        "portions": RunningPortions(portions=4, **settings),
        "calibration": RunningCalibration(bins=5, **settings),
    }
    return metrics if multi_label else {**metrics, "segmental": RunningSegmental(**settings)}


def flat(metrics: dict[str, RunningMetric]) -> dict[str, bytes]:
    """Return the bytes of every value: equal ones are equal to the last bit, nan included."""
    values: dict[str, bytes] = {}
    for name, metric in metrics.items():
        found = metric.compute()
        for part, value in (found if isinstance(found, dict) else {"": found}).items():
            assert value.dtype == torch.float64
            assert value.ndim == 0
            values[f"{name} {part}"] = value.numpy().tobytes()
    return values


def feed(metric: RunningMetric, videos: Sequence[tuple[Tensor, Tensor, Tensor]], order: Sequence[int]) -> None:
    """Give the videos in two parts each, with parts of the others between them."""
    for half in (0, 1):
        for video in order:
            scores, labels, scored = (column.chunk(2)[half : half + 1] for column in videos[video])
            for part in zip(scores, labels, scored, strict=True):  # a video of one frame has no second part
                metric.update(part[0], part[1], video, scored=part[2])


def one_process(*, multi_label: bool) -> dict[str, bytes]:
    metrics, videos = make_metrics(multi_label=multi_label), make_videos(multi_label=multi_label)
    for metric in metrics.values():
        for video, (scores, labels, scored) in enumerate(videos):
            metric.update(scores, labels, video, scored=scored)
    return flat(metrics)


def work(folder: str) -> None:
    """Compute every share as one of several processes; runs in a process of its own."""
    warnings.simplefilter("ignore")  # torchmetrics warns where a process computes without a frame of its own
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    results: dict[Any, Any] = {}
    for multi_label in (False, True):
        videos = make_videos(multi_label=multi_label)
        for name, share in SHARES.items():
            metrics = make_metrics(multi_label=multi_label)
            for metric in metrics.values():
                feed(metric, videos, share[rank])
            results[name, multi_label] = flat(metrics)
    twice = RunningAccuracy(**SETTINGS)
    feed(twice, make_videos(multi_label=False), [rank, 2])
    try:
        twice.compute()
    except DataError as error:
        results["twice"] = str(error)
    # What a process gave is still its own afterwards: the next videos come on top.
    more = RunningAccuracy(**SETTINGS)
    for part in (SHARES["uneven"][rank][:1], SHARES["uneven"][rank][1:]):
        feed(more, make_videos(multi_label=False), part)
        results["more"] = more.compute().numpy().tobytes()
    torch.save(results, Path(folder, f"{rank}.pt"))
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, Any]]:
    """What each of two gloo processes computed."""
    folder = tmp_path_factory.mktemp("gloo")
    for ended in side_by_side(work, PROCESSES, str(folder), folder=folder):
        assert ended.code == 0, ended.err
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("share", SHARES)
def test_two_processes_agree_with_one_bit_for_bit(answers: list[dict[Any, Any]], share: str, multi_label: bool) -> None:
    expected = one_process(multi_label=multi_label)
    assert len(expected) == 3 + 4 + 2 + (0 if multi_label else 4)
    for answer in answers:
        assert answer[share, multi_label] == expected


def test_a_video_that_two_processes_give_is_refused_by_both(answers: list[dict[Any, Any]]) -> None:
    for answer in answers:
        assert answer["twice"].startswith("video 2 was given by the processes 0 and 1; give each to one")


def test_more_videos_may_come_after_a_value_was_computed(answers: list[dict[Any, Any]]) -> None:
    expected = one_process(multi_label=False)["accuracy "]
    assert [answer["more"] for answer in answers] == [expected] * PROCESSES


@pytest.mark.parametrize("multi_label", [False, True])
def test_values_are_those_of_the_pure_functions(multi_label: bool) -> None:
    videos = make_videos(multi_label=multi_label)
    scores, labels, scored = ([column.numpy() for column in columns] for columns in zip(*videos, strict=True))
    kept = np.concatenate(scored)
    joined = np.concatenate(labels)[kept], np.concatenate(scores)[kept]
    metrics = make_metrics(multi_label=multi_label)
    for metric in metrics.values():
        feed(metric, videos, [3, 1, 0, 5, 4, 2])
    for name, calibrated in (("mAP", False), ("mcAP", True)):
        expected = per_frame_average_precision(*joined, **SETTINGS, calibrated=calibrated)
        assert list(expected) == ["run", "jump"]
        assert metrics[name].result() == expected
        assert metrics[name].compute().item() == mean_average_precision(expected)
    assert metrics["accuracy"].compute().item() == accuracy(*joined, ignored=3)
    found = calibration_error(*joined, ignored=3, bins=5)
    assert metrics["calibration"].result() == found
    assert found is not None
    assert {name: value.item() for name, value in metrics["calibration"].compute().items()} == {
        "ece": found.ece,
        "brier": found.brier,
    }
    portions = portion_average_precision(labels, scores, scored=scored, portions=4, **SETTINGS)
    assert metrics["portions"].result() == portions
    assert [value.item() for value in metrics["portions"].compute().values()] == list(portions.mean)
    if not multi_label:
        segments = segmental_scores(labels, scores, scored=scored, **SETTINGS)
        assert metrics["segmental"].result() == segments
        values = {name: value.item() for name, value in metrics["segmental"].compute().items()}
        assert values == {"edit": segments.edit, **{f"f1_{least}": value for least, value in segments.f1.items()}}


def test_videos_are_told_apart_by_their_numbers() -> None:
    # In a row these are one segment, and the edit score would be another.
    metric = RunningSegmental(class_names=["none", "run", "jump"], background=0, overlaps=[50])
    scores = torch.eye(3)
    metric.update(scores[[1, 1]], torch.tensor([1, 1]), video=4)
    metric.update(scores[[1, 2]], torch.tensor([1, 1]), video=2)
    assert metric.result().per_video_edit == (0.5, 1.0)  # by number: video 2 first


def test_undefined_values_are_nan_and_no_frame_is_an_error() -> None:
    ignored = torch.full((4,), 3)
    scores = torch.from_numpy(probabilities(np.zeros((4, 5)), 3))
    for metric in make_metrics(multi_label=False).values():
        if not isinstance(metric, RunningAveragePrecision):
            metric.update(scores, ignored, video=0)
            found = metric.compute()
            assert all(value.isnan() for value in (found.values() if isinstance(found, dict) else [found]))
        metric.reset()
        with (
            pytest.warns(UserWarning, match="was called before the ``update``"),
            pytest.raises(DataError, match="was given no frame; call update before compute"),
        ):
            metric.compute()
    metric = RunningAveragePrecision(**SETTINGS)
    metric.update(scores, ignored, video=0)
    with pytest.raises(DataError, match="no class has a positive frame"):
        metric.compute()


def test_forward_gives_the_value_of_its_part_and_keeps_all() -> None:
    metric = RunningAccuracy(class_names=["none", "run"])
    assert metric(torch.tensor([[0.9, 0.1]]), torch.tensor([0]), video=0).item() == 1.0
    assert metric(torch.tensor([[0.9, 0.1]]), torch.tensor([1]), video=0).item() == 0.0
    assert metric.compute().item() == 0.5


def test_narrow_scores_are_kept_in_float64() -> None:
    metric = RunningAccuracy(class_names=["none", "run"])
    metric.update(torch.tensor([[0.9, 0.1]], dtype=torch.bfloat16), torch.tensor([1], dtype=torch.uint8), video=0)
    assert metric.gathered().scores[0].dtype == np.float64
    assert metric.gathered().labels[0].tolist() == [1]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"scores": torch.zeros(3, 4)}, ShapeError, r"video 6: scores \(3, 4\), labels \(3,\) .*give \(T, 5\), \(T,\)"),
        ({"labels": torch.zeros(3, 5, dtype=torch.int64)}, ShapeError, r"labels \(3, 5\)"),
        ({"scored": torch.ones(2, dtype=torch.bool)}, ShapeError, r"scored \(2,\)"),
        ({"labels": torch.tensor([0, 9, 1])}, DataError, "class index 9 at frame 1"),
        ({"video": -1}, DataError, "video -1: give the number of the video in the list of all"),
    ],
)
def test_bad_parts_are_refused_and_leave_the_metric_as_it_was(
    change: dict[str, Any], error: type[CoadtrError], words: str
) -> None:
    metric = RunningAccuracy(**SETTINGS)
    good: dict[str, Any] = {"scores": torch.zeros(3, 5), "labels": torch.tensor([0, 1, 2]), "video": 6}
    metric.update(**good)
    with pytest.raises(error, match=words):
        metric.update(**{**good, **change})
    assert [part.tolist() for part in metric.gathered().labels] == [[0, 1, 2]]


def test_bad_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="ignored class index 5"):
        RunningAccuracy(class_names=NAMES, ignored=5)
    with pytest.raises(ConfigError, match="'run' occurs more than once"):
        RunningAccuracy(class_names=["run", "run"])
