"""The numbers behind the charts, against scikit-learn, slow loops, and examples by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, precision_recall_curve

from coadtr.data import ScoreFile, VideoScores
from coadtr.reporting import Run, curves, find_runs

MakeRun = Callable[..., Path]


def small_run(
    *videos: tuple[Any, Any, Any], ignored: str | None = None, background: str | None = "a", **report: Any
) -> Run:
    """Make a run of three classes a, b and c; a video is scores, labels, and which frames are scored."""
    held = tuple(
        VideoScores(f"v{index}", np.asarray(scores, dtype=float), np.asarray(labels), np.asarray(scored, dtype=bool))
        for index, (scores, labels, scored) in enumerate(videos)
    )
    parts = dict.fromkeys(("warmup", "portions", "starts", "anticipation", "calibration"))
    return Run(
        name="run",
        folder=Path(),
        report={"background": background, "ignored": ignored, **parts, **report},
        scores=ScoreFile(("a", "b", "c"), {}, held),
        curves=None,
    )


def joined(run: Run) -> tuple[Any, Any]:
    labels = np.concatenate([video.labels[video.scored] for video in run.scores.videos])
    return labels, np.concatenate([video.scores[video.scored] for video in run.scores.videos])


@pytest.mark.parametrize("options", [{}, {"multi_hot": True}, {"protocol": "oadtr"}, {"ignored": 3}])
def test_precision_and_recall_are_those_of_scikit_learn(options: dict[str, Any], make_run: MakeRun) -> None:
    (run,) = find_runs([make_run("run", **options)])
    labels, scores = joined(run)
    found = curves.precision_recall(run, most=10**6)
    for index, name in enumerate(run.scores.class_names):
        rows = found[found["class"] == name]
        if name in {run.report["background"], run.report["ignored"]}:
            assert rows.empty
            continue
        positives = labels[:, index] if labels.ndim == 2 else labels == index
        precision, recall, threshold = precision_recall_curve(positives, scores[:, index], drop_intermediate=False)
        # From the lowest threshold up, and with the point (0, 1) at the end.
        np.testing.assert_allclose(rows["precision"], precision[-2::-1], rtol=1e-12)
        np.testing.assert_allclose(rows["recall"], recall[-2::-1], rtol=1e-12)
        np.testing.assert_array_equal(rows["threshold"], threshold[::-1])


def test_the_area_under_the_whole_curve_is_the_ap_of_the_report(make_run: MakeRun) -> None:
    (run,) = find_runs([make_run("run")])
    found = curves.precision_recall(run, most=10**6)
    for name, rows in found.groupby("class"):
        area = float((np.diff(rows["recall"], prepend=0) * rows["precision"]).sum())
        assert area == pytest.approx(run.report["per_class_AP"][name], abs=1e-12)


def test_a_long_curve_keeps_its_corners(make_run: MakeRun) -> None:
    (run,) = find_runs([make_run("run", frames=2000)])
    whole, thin = curves.precision_recall(run, most=10**6), curves.precision_recall(run)
    assert thin.index.equals(pd.RangeIndex(len(thin)))
    assert list(thin["class"].unique()) == list(run.scores.class_names[1:])
    for name, rows in whole.groupby("class"):
        kept = thin[thin["class"] == name]
        assert len(rows) > 1000
        assert len(kept) <= 200
        assert set(map(tuple, kept.to_numpy())) <= set(map(tuple, rows.to_numpy()))
        for end in (0, -1):
            assert kept.iloc[end].equals(rows.iloc[end])
        ranges = [part["precision"].groupby((part["recall"] * 99).astype(int).clip(upper=98)) for part in (rows, kept)]
        for extreme in ("min", "max"):
            assert ranges[0].agg(extreme).equals(ranges[1].agg(extreme))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(4, 20))
def test_thinning_is_within_its_limit_and_keeps_the_extremes(steps: list[int], most: int) -> None:
    recall = np.cumsum(steps) / max(1, sum(steps))
    precision = (np.arange(recall.size) * 7 % 11) / 11
    kept = curves.thinned(recall, precision, most=most)
    assert kept.size <= most
    assert np.all(np.diff(kept) > 0)
    assert {0, recall.size - 1} <= set(kept.tolist())
    assert precision[kept].max() == precision.max()
    assert precision[kept].min() == precision.min()


def test_a_class_that_does_not_occur_has_no_curve() -> None:
    run = small_run(([[0.1, 0.9, 0.0], [0.8, 0.1, 0.1]], [1, 0], [True, True]))
    assert curves.precision_recall(run)["class"].tolist() == ["b", "b"]
    nothing = small_run(([[0.1, 0.9, 0.0]], [1], [False]))
    assert list(curves.precision_recall(nothing)) == ["class", "recall", "precision", "threshold"]
    assert curves.precision_recall(nothing).empty


@pytest.mark.parametrize("options", [{}, {"protocol": "oadtr"}])
def test_confusion_is_that_of_scikit_learn(options: dict[str, Any], make_run: MakeRun) -> None:
    (run,) = find_runs([make_run("run", **options)])
    labels, scores = joined(run)
    found = curves.confusion(run)
    table = found.pivot_table(index="true", columns="answered", values="frames")
    np.testing.assert_array_equal(table.to_numpy(), confusion_matrix(labels, scores.argmax(axis=1)))
    assert found.groupby("true")["share"].sum().tolist() == pytest.approx([1.0] * 5)
    right = found[found["true"] == found["answered"]]["frames"].sum()
    assert right / found["frames"].sum() == run.report["accuracy"]


def test_confusion_by_hand() -> None:
    scores = [[0.5, 0.5, 0.0], [0.1, 0.2, 0.7], [0.1, 0.2, 0.7], [0.9, 0.1, 0.0]]
    # Equal scores: the lowest class. The last frame is not scored.
    run = small_run((scores, [0, 2, 1, 1], [True, True, True, False]))
    frames = curves.confusion(run).pivot_table(index="true", columns="answered", values="frames")
    assert frames.to_numpy().tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    # The ignored class is no answer, and frames that show it do not count, even if they are marked as scored.
    run = small_run((scores, [0, 2, 1, 1], [True, True, True, True]), ignored="c")
    frames = curves.confusion(run).pivot_table(index="true", columns="answered", values="frames")
    assert frames.to_dict() == {"a": {"a": 1, "b": 1}, "b": {"a": 0, "b": 1}}


def test_confusion_of_multi_hot_frames_by_hand() -> None:
    scores = [[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.1, 0.5, 0.9], [0.1, 0.5, 0.9]]
    labels = [[1, 1, 0], [0, 1, 1], [0, 0, 0], [0, 0, 1]]
    # Shows a and b, answered a: right, once. Shows b and c, answered a: wrong for both. Shows nothing: left out.
    run = small_run((scores, labels, [True] * 4))
    found = curves.confusion(run)
    frames = found[found["frames"] > 0][["true", "answered", "frames"]].to_numpy().tolist()
    assert frames == [["a", "a", 1], ["b", "a", 1], ["c", "a", 1], ["c", "c", 1]]
    assert curves.confusion(small_run((scores[:1], labels[:1], [False]))).empty


def test_videos_come_worst_first_and_undefined_last(make_run: MakeRun) -> None:
    good = ([[0.1, 0.9, 0.0], [0.8, 0.1, 0.1]], [1, 0], [True, True])
    bad = ([[0.9, 0.1, 0.0], [0.8, 0.2, 0.1]], [1, 0], [True, True])
    only_background = ([[0.9, 0.1, 0.0]], [0], [True])
    not_scored = ([[0.9, 0.1, 0.0]], [1], [False])
    table = curves.video_table(small_run(good, not_scored, only_background, bad))
    assert table["video"].tolist() == ["v3", "v0", "v2", "v1"]
    assert table["frames"].tolist() == [2, 2, 1, 1]
    assert table["scored"].tolist() == [2, 2, 1, 0]
    assert table["accuracy"].tolist()[:3] == [0.5, 1.0, 1.0]
    assert table["mAP"].tolist()[:2] == [0.5, 1.0]
    assert table["mAP"].isna().tolist() == [False, False, True, True]
    (run,) = find_runs([make_run("run", videos=6)])
    videos = curves.video_table(run)
    assert videos["accuracy"].mean() == pytest.approx(run.report["mean_per_video_accuracy"])
    assert videos["video"].iloc[-1] == "video_000"  # the first has the least noise
    assert videos["frames"].sum() == run.report["frames_total"]


def test_parts_of_the_report_become_tables() -> None:
    bins: list[dict[str, Any]] = [
        {"low": 0.0, "high": 0.5, "confidence": None, "accuracy": None, "frames": 0},
        {"low": 0.5, "high": 1.0, "confidence": 0.75, "accuracy": 0.5, "frames": 4},
    ]
    run = small_run(
        warmup={"edges": [0, 8, 16], "mAP": [0.5, None], "frames": [8, 0]},
        portions={"mAP": [0.1, 0.2], "mcAP": [None, 0.4]},
        starts={"offsets_s": [1, 2], "mAP": [0.25, None]},
        anticipation={"horizons_s": [0.5], "mAP": [0.25], "mcAP": [0.75]},
        calibration={"ece": 0.1, "bins": bins},
    )
    nothing = float("nan")
    for found, expected in (
        (curves.warmup(run), {"frames_since_start": [0.0, 8.0], "mAP": [0.5, nothing], "frames": [8.0, 0.0]}),
        (curves.portions(run), {"portion": [0.5, 1.0], "mAP": [0.1, 0.2], "mcAP": [nothing, 0.4]}),
        (curves.starts(run), {"offset_s": [1.0, 2.0], "mAP": [0.25, nothing]}),
        (curves.anticipation(run), {"horizon_s": [0.5], "mAP": [0.25], "mcAP": [0.75]}),
        (curves.calibration(run), {name: [bins[0][name], bins[1][name]] for name in bins[0]}),
    ):
        pd.testing.assert_frame_equal(found, pd.DataFrame(expected, dtype="float64"))


@pytest.mark.parametrize("part", ["warmup", "portions", "starts", "anticipation", "calibration", "training"])
def test_a_part_that_is_missing_is_an_empty_table(part: str) -> None:
    found = getattr(curves, part)(small_run())
    assert found.empty
    assert len(found.columns) > 1


def test_training_curves_come_in_long_form(make_run: MakeRun) -> None:
    (run,) = find_runs([make_run("run")])
    found = curves.training(run)
    assert list(found) == ["epoch", "measure", "value"]
    assert sorted(found["measure"].unique()) == ["learning_rate", "train_loss", "val_loss", "val_mAP"]
    assert len(found) == 20
    assert not found["value"].isna().any()
