"""Runs that were never trained: replay folders of seeded labels and scores, written as `coadtr replay` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from coadtr.data import VideoScores, write_scores
from coadtr.evaluation import VideoAnswers, build_origin, build_report, evaluate_answers, scored_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from coadtr.scoring import Head

WINDOW, RATE_HZ = 8, 10.0

# Names that HTML, Markdown, LaTeX, CSV and JavaScript each have trouble with.
NASTY = ("none", "<b>&amp;</b>", 'say "hi", it\'s', "a_b|50% $x^2$ {y}", "</script>\\n~#1", "läuft 走る")


def make_labels(random: np.random.Generator, frames: int, classes: int, *, multi_hot: bool) -> NDArray[Any]:
    """Draw runs of 5 to 40 frames of a class; multi-hot labels show a second class on half of them."""
    lengths = random.integers(5, 41, size=frames // 5 + 1)
    single = np.repeat(random.integers(classes, size=lengths.size), lengths)[:frames]
    if not multi_hot:
        return single
    second = np.repeat(random.integers(classes, size=lengths.size), lengths)[:frames]
    labels = np.zeros((frames, classes), dtype=np.uint8)
    labels[np.arange(frames), single] = 1
    half = np.arange(frames) % 2 == 0
    labels[np.flatnonzero(half), second[half]] = 1
    return labels


def make_answers(
    labels: Sequence[NDArray[Any]], names: Sequence[str], *, classes: int, skill: float, seed: int
) -> list[VideoAnswers]:
    """Answer with noise plus ``skill`` for the classes shown; the noise grows from the first video to the last."""
    random = np.random.default_rng(seed)
    answers = []
    for index, (name, shown) in enumerate(zip(names, labels, strict=True)):
        hot = np.eye(classes)[shown] if shown.ndim == 1 else shown
        noise = random.normal(size=(len(shown), classes)) * (0.5 + 1.5 * index / max(1, len(names) - 1))
        answers.append(VideoAnswers(name, skill * hot + noise, shown))
    return answers


def cost_part(*, macs: int, latency: float) -> dict[str, Any]:
    """Say what a step cost, as a machine would."""
    return {
        "macs_per_frame": macs,
        "macs_per_frame_published": macs + 1024,
        "macs_by_block": {"embed": macs // 2, "encoder.0": macs - macs // 2},
        "macs_unit": "multiply-accumulates",
        "parameters": 118_162,
        "step_latency_ms": {"p50": latency, "p95": 1.5 * latency, "p99": 2 * latency, "mean": latency, "steps": 100},
        "state_bytes_per_stream": 65_544,
        "peak_memory_bytes": 412_000_000,
        "throughput": [
            {"streams": streams, "frames_per_second": {"median": 900 * streams, "low": 850, "high": 1000 * streams}}
            for streams in (1, 16)
        ],
        "machine": {"cpu": "Abacus 3", "gpu": None, "threads": 1, "device": "cpu", "dtype": "float32", "cores": 2},
    }


def later_part(accuracy: Mapping[str, Any]) -> dict[str, Any]:
    """Give plausible values to the keys of report version 2; what `evaluate_answers` returns takes their place."""
    mean, calibrated = accuracy["mAP"], accuracy["mcAP"]
    around = {name: [0.95 * accuracy[name], min(1.0, 1.05 * accuracy[name])] for name in ("mAP", "mcAP", "accuracy")}
    edges = [0, 16, 32, 64]
    return {
        "intervals": {"level": 0.95, "resamples": 1000, "seed": 0, "unit": "video", **around},
        "portions": {"mAP": [mean * (0.8 + 0.02 * i) for i in range(10)], "mcAP": [calibrated] * 10},
        "segmental": {"edit": 0.61, "f1": {"10": 0.66, "25": 0.58, "50": 0.41}},
        "starts": {"offsets_s": list(range(1, 11)), "mAP": [0.05 * i for i in range(1, 11)]},
        "delay": {
            "false_positives_per_hour": 60.0,
            "median_s": 0.8,
            "mean_s": 1.1,
            "detected": 0.9,
            "per_class": {name: {"median_s": 0.8, "detected": 0.9} for name in accuracy["per_class_AP"]},
        },
        "calibration": {
            "ece": 0.07,
            "brier": 0.3,
            "bins": [
                {"low": i / 10, "high": (i + 1) / 10, "confidence": i / 10 + 0.05, "accuracy": i / 10, "frames": 10 * i}
                for i in range(10)
            ],
        },
        "warmup": {"edges": edges, "mAP": [0.6 * mean, 0.8 * mean, None, mean], "frames": [64, 64, 0, 600]},
        "anticipation": None,
        "smoothing": None,
        "mode": "step",
        "audit": None,
    }


def training_curves(random: np.random.Generator, epochs: int = 5) -> pd.DataFrame:
    """Log two rows an epoch, one of validation and one of training, each with gaps where the other has values."""
    loss = 1.5 * 0.7 ** np.arange(epochs) + 0.01 * random.random(epochs)
    validation = pd.DataFrame(
        {
            "epoch": range(epochs),
            "step": 24 + 25 * np.arange(epochs),
            "val_loss": loss * 1.1,
            "val_mAP": 1 - loss / 2,
        }
    )
    training = pd.DataFrame(
        {
            "epoch": range(epochs),
            "step": 24 + 25 * np.arange(epochs),
            "train_loss": loss,
            "learning_rate": 1e-3,
        }
    )
    return pd.concat([validation, training]).sort_values(["epoch", "step"], kind="stable")


def write_run(
    folder: Path,
    *,
    videos: int = 4,
    frames: int = 240,
    classes: int = 5,
    class_names: Sequence[str] | None = None,
    video_names: Sequence[str] | None = None,
    background: int | None = 0,
    ignored: int | None = None,
    multi_hot: bool = False,
    protocol: str = "all",
    window: int = WINDOW,
    seed: int = 0,
    skill: float = 2.0,
    fingerprint: str = "b5ef5aa444329fff",
    split: str | None = "test",
    macs: int = 133_376,
    latency: float = 0.41,
    training: bool = True,
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """Write a run folder with ``replay/report.json``, ``replay/scores.h5`` and training curves.

    The labels depend on the number and length of the videos and on the classes alone; the answers on ``seed`` and
    ``skill`` too. So runs of several seeds answer the same test. ``changes`` are keys of the report to put in place of
    its own.
    """
    names = [f"class_{index}" for index in range(classes)] if class_names is None else list(class_names)
    recordings = [f"video_{index:03d}" for index in range(videos)] if video_names is None else list(video_names)
    fixed = np.random.default_rng(len(recordings))
    lengths = [frames + 7 * index for index in range(len(recordings))]
    labels = [make_labels(fixed, length, len(names), multi_hot=multi_hot) for length in lengths]
    answers = make_answers(labels, recordings, classes=len(names), skill=skill, seed=seed)
    head: Head = "sigmoid" if multi_hot else "softmax"
    accuracy = evaluate_answers(
        answers,
        class_names=names,
        background=background,
        ignored=ignored,
        protocol=protocol,
        window=window,
        head=head,
    )
    origin = build_origin(
        checkpoint=f"runs/{folder.name}/checkpoint",
        data="data/synthetic.h5",
        fingerprint=fingerprint,
        split=split,
        seed=seed,
        command=["coadtr", "replay"],
    )
    report = build_report(accuracy, origin=origin, machine={})
    report = {**later_part(accuracy), **{key: value for key, value in report.items() if value is not None}}
    report |= {"version": 2, **cost_part(macs=macs, latency=latency), **(changes or {})}
    replay = folder / "replay"
    replay.mkdir(parents=True)
    (replay / "report.json").write_text(json.dumps({**accuracy, **report}), encoding="utf-8")
    write_scores(
        replay / "scores.h5",
        class_names=names,
        attributes={"protocol": protocol, "split": split},
        videos=[
            VideoScores(
                video.name,
                video.probabilities(ignored, head=head),
                video.labels,
                scored_frames(protocol, video.labels, window=window, ignored=ignored),
            )
            for video in answers
        ],
    )
    if training:
        logs = folder / "logs/csv/version_0"
        logs.mkdir(parents=True)
        training_curves(np.random.default_rng(seed)).to_csv(logs / "metrics.csv", index=False)
    return folder


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a run below ``tmp_path`` and returns its folder: ``make_run("a", seed=1)``."""

    def make(name: str = "run", **options: Any) -> Path:
        return write_run(tmp_path / name, **options)

    return make
