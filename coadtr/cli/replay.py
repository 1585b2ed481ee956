"""``coadtr replay``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from coadtr.checkpoint import Checkpoint, load
from coadtr.cli.settings import command_line, plain, require
from coadtr.data import FeatureStore, write_scores
from coadtr.errors import ConfigError
from coadtr.evaluation import (
    ReplayVideo,
    VideoScores,
    build_origin,
    build_report,
    evaluate_scores,
    measure_cost,
    published_macs,
    render_report,
    replay,
    scored_frames,
    write_report,
)

__all__ = ["main", "replay_store"]


def main(cfg: DictConfig) -> None:
    """Replay, write the report and the scores, print the table."""
    require(cfg, "checkpoint", "data")
    settings = plain(cfg)
    if settings["threads"]:
        torch.set_num_threads(settings["threads"])
    checkpoint = load(settings["checkpoint"])
    out = Path(settings["out"] or Path(settings["checkpoint"]).resolve().parent / "replay")
    with FeatureStore.open(settings["data"]) as store:
        report, videos = replay_store(checkpoint, store, settings)
        spec = checkpoint.spec
        out.mkdir(parents=True, exist_ok=True)
        write_scores(
            out / "scores.h5",
            class_names=spec.class_names,
            attributes={"checkpoint": settings["checkpoint"], "data": store.fingerprint(), "split": settings["split"]},
            videos=(
                (
                    video.name,
                    video.probabilities(spec.ignored, head=spec.head),
                    video.labels,
                    scored_frames(
                        settings["protocol"], video.labels, window=checkpoint.model.window, ignored=spec.ignored
                    ),
                )
                for video in videos
            ),
        )
    write_report(report, out / "report.json")
    console = Console()
    console.print(render_report(report))
    console.print(f"written to {out / 'report.json'} and {out / 'scores.h5'}", soft_wrap=True, highlight=False)


def replay_store(
    checkpoint: Checkpoint, store: FeatureStore, settings: dict[str, Any]
) -> tuple[dict[str, Any], list[VideoScores]]:
    """Replay a split of a store through a checkpoint, score it, and measure the step on the same model."""
    spec, model = checkpoint.spec, checkpoint.model
    checkpoint.check_features(store.streams, None, store.class_names)
    records = store.videos(settings["split"])
    total = sum(record.frames for record in records)

    def videos() -> Iterator[ReplayVideo]:
        for record in records:
            features = store.features(record.name, streams=tuple(spec.streams))
            yield ReplayVideo(record.name, features, store.labels(record.name))

    with Progress(transient=True) as progress:
        bar = progress.add_task(f"replaying {len(records)} videos", total=total)
        scores = list(
            replay(
                model,
                videos(),
                batch_size=min(settings["batch_size"], len(records)),
                device=settings["device"],
                progress=lambda frames: progress.advance(bar, frames),
            )
        )
    accuracy = evaluate_scores(
        scores,
        class_names=spec.class_names,
        background=spec.background,
        ignored=spec.ignored,
        protocol=settings["protocol"],
        window=model.window,
        head=spec.head,
    )
    try:
        published: int | None = published_macs(spec.model)
    except ConfigError:
        published = None
    training = checkpoint.origin.get("training")
    report = build_report(
        accuracy,
        cost=measure_cost(model, warmup=settings["latency"]["warmup"], steps=settings["latency"]["steps"]),
        macs_per_frame_published=published,
        origin=build_origin(
            checkpoint=settings["checkpoint"],
            data=str(store.path),
            fingerprint=store.fingerprint(),
            split=settings["split"],
            seed=training.get("seed") if isinstance(training, dict) else None,
            command=command_line().split(),
        ),
    )
    return report, scores
