"""``coadtr replay``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from coadtr.checkpoint import Checkpoint, load
from coadtr.cli.settings import a_path, command_line, group, of_kind, one_of, plain, require, text, whole
from coadtr.data import FeatureStore, write_scores
from coadtr.errors import ConfigError
from coadtr.evaluation import (
    ReplayVideo,
    VideoScores,
    build_origin,
    build_report,
    evaluate_scores,
    find_protocol,
    measure_cost,
    published_macs,
    render_report,
    replay,
    scored_frames,
    write_report,
)
from coadtr.layers import Backend, Precision, StepRunner, in_precision
from coadtr.models import OnlineModel
from coadtr.types import Detector

__all__ = ["Wanted", "main", "replay_store"]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to replay and how, each value checked before hours are spent on a replay.

    Attributes:
        split: Split of the store; None for all videos.
        protocol: Name of the scoring protocol.
        batch_size: Videos side by side.
        precision: Precision of weights, activations and state; None as the checkpoint has them.
        backend: How the step runs, see `coadtr.layers.StepRunner`.
        warmup: Steps before the clock runs.
        steps: Steps that are timed.
    """

    split: str | None = "test"
    protocol: str = "all"
    batch_size: int = 16
    precision: Precision | None = None
    backend: Backend = "eager"
    warmup: int = 200
    steps: int = 1000

    @classmethod
    def read(cls, settings: dict[str, Any]) -> Wanted:
        """Read the settings.

        Raises:
            ConfigError: If one cannot be used.
        """
        latency = group(settings, "latency")
        return cls(
            split=text(settings, "split"),
            protocol=find_protocol(of_kind(str, settings["protocol"], "protocol")).name,
            batch_size=whole(settings, "batch_size", least=1),
            precision=one_of((None, *get_args(Precision)), settings["precision"], "precision"),
            backend=one_of(get_args(Backend), settings["backend"], "backend"),
            warmup=whole(latency, "warmup", least=0),
            steps=whole(latency, "steps", least=1),
        )


def main(cfg: DictConfig) -> None:
    """Replay, write the report and the scores, print the table."""
    require(cfg, "checkpoint", "data")
    settings = plain(cfg)
    wanted = Wanted.read(settings)
    device = text(settings, "device")
    if settings["threads"] is not None:
        torch.set_num_threads(whole(settings, "threads", least=1))
    source = a_path(settings, "checkpoint")
    checkpoint = load(source, device)
    out = source.resolve().parent / "replay" if settings["out"] is None else a_path(settings, "out")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file: name a folder for the report and the scores")
    with FeatureStore.open(a_path(settings, "data")) as store:
        report, videos = replay_store(checkpoint, store, wanted)
        _write_scores(out / "scores.h5", checkpoint, store, wanted, videos)
    write_report(report, out / "report.json")
    console = Console()
    console.print(render_report(report))
    console.print(f"written to {out / 'report.json'} and {out / 'scores.h5'}", soft_wrap=True, highlight=False)


def replay_store(
    checkpoint: Checkpoint, store: FeatureStore, wanted: Wanted
) -> tuple[dict[str, Any], list[VideoScores]]:
    """Replay a split of a store through a checkpoint, score it, and measure the step on the same model."""
    spec, model = checkpoint.spec, checkpoint.model
    # A store may hold more streams than the model takes: the model's are read, in the model's order.
    streams = {name: store.streams[name] for name in spec.streams if name in store.streams}
    checkpoint.check_features(
        streams or store.streams,
        store.rate_hz(wanted.split),
        store.class_names,
        special_classes=(store.background, store.ignored),
        extractors=store.extractors,
    )
    running = _running(model, wanted)
    scores = _stream(checkpoint, running, store, wanted)
    accuracy = evaluate_scores(
        scores,
        class_names=spec.class_names,
        background=spec.background,
        ignored=spec.ignored,
        protocol=wanted.protocol,
        window=model.window,
        head=spec.head,
    )
    try:
        published: int | None = published_macs(spec.model)
    except ConfigError:
        published = None
    training = checkpoint.origin.get("training")
    how = {"backend": getattr(running, "backend", "eager")}
    if wanted.precision is not None:
        how["precision"] = wanted.precision
    report = build_report(
        accuracy,
        cost=measure_cost(running, counted=model, warmup=wanted.warmup, steps=wanted.steps),
        step=how,
        macs_per_frame_published=published,
        origin=build_origin(
            checkpoint=str(checkpoint.path),
            data=str(store.path),
            fingerprint=store.fingerprint(),
            described={
                name: str(store.attributes[name]) for name in ("origin", "label_rule") if name in store.attributes
            },
            split=wanted.split,
            seed=training.get("seed") if isinstance(training, dict) else None,
            command=shlex.split(command_line()),
        ),
    )
    return report, scores


def _running(model: OnlineModel, wanted: Wanted) -> Detector[Any]:
    """Return what steps: the model, or its form in the precision and by the backend that are wanted."""
    if wanted.precision is None and wanted.backend == "eager":
        return model
    lowered = model if wanted.precision is None else in_precision(model, wanted.precision)
    return cast("Detector[Any]", StepRunner(lowered, backend=wanted.backend))


def _stream(checkpoint: Checkpoint, model: Detector[Any], store: FeatureStore, wanted: Wanted) -> list[VideoScores]:
    """Answer all frames of a split, with a progress bar on standard error if a person watches."""
    records = store.videos(wanted.split)

    def videos() -> Iterator[ReplayVideo]:
        for record in records:
            features = store.features(record.name, streams=tuple(checkpoint.spec.streams))
            yield ReplayVideo(record.name, features, store.labels(record.name))

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task(f"replaying {len(records)} videos", total=sum(record.frames for record in records))
        return list(
            replay(
                model,
                videos(),
                batch_size=wanted.batch_size,
                progress=lambda frames: progress.advance(bar, frames),
            )
        )


def _write_scores(
    path: Path, checkpoint: Checkpoint, store: FeatureStore, wanted: Wanted, videos: list[VideoScores]
) -> None:
    spec, window = checkpoint.spec, checkpoint.model.window
    write_scores(
        path,
        class_names=spec.class_names,
        attributes={
            "checkpoint": str(checkpoint.path),
            "data": store.fingerprint(),
            "split": wanted.split,
            "protocol": wanted.protocol,
        },
        videos=(
            (
                video.name,
                video.probabilities(spec.ignored, head=spec.head),
                video.labels,
                scored_frames(wanted.protocol, video.labels, window=window, ignored=spec.ignored),
            )
            for video in videos
        ),
    )
