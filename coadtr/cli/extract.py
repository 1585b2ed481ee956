"""``coadtr extract``."""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from coadtr.cli.naming import named_in_full
from coadtr.cli.options import settings_named, typed_options
from coadtr.cli.settings import a_path, group, new_store, of_kind, one_of, plain, require, text, watched, whether, whole
from coadtr.data import render
from coadtr.data.importers import planner
from coadtr.errors import ConfigError, DataError
from coadtr.video import (
    Extraction,
    ExtractionReport,
    Sampling,
    Source,
    extract,
    extract_all,
    find_videos,
    on_ray,
    probe,
)
from coadtr.video.extraction import check_task

__all__ = ["main"]


def main(cfg: DictConfig) -> None:
    """Extract, and show what was written."""
    require(cfg, "videos", "out")
    settings = plain(cfg)
    dry_run = whether(settings, "dry_run")
    out = a_path(settings, "out") if dry_run else new_store(settings)
    extraction = read_extraction(settings)
    wanted = settings["videos"] if isinstance(settings["videos"], list) else [settings["videos"]]
    sources = find_videos([str(one) for one in wanted])
    runner = one_of(("local", "ray"), settings["runner"], "runner")
    address = text(settings, "ray.address")
    workers, compression = whole(settings, "workers", least=1), text(settings, "compression")
    segments = None if settings["segments"] is None else a_path(settings, "segments")
    labels = typed_options(planner("csv"), group(settings, "labels"), "labels")
    with settings_named(planner("csv"), "labels", dry_run=dry_run):
        if dry_run:
            check_task(sources, extraction, segments=segments, labels=labels)
            _show_sources(sources, extraction)
            return
        report = extract(
            sources,
            out,
            extraction,
            workers=workers,
            segments=segments,
            labels=labels,
            compression=compression,
            watched=watched(settings, "progress"),
            work=on_ray(address) if runner == "ray" else extract_all,
        )
    _show(report)


def read_extraction(settings: dict[str, Any]) -> Extraction:
    """Read how features are to be made.

    Raises:
        ConfigError: If a setting is unknown, of another kind, or out of range.
    """
    sampling = group(settings, "sampling")
    device = of_kind(str, settings["device"], "device")
    rate, seconds = sampling["rate_hz"], settings["max_seconds"]
    with named_in_full({"sampling": sampling}):
        frames = Sampling(
            preset=of_kind(str, sampling["preset"], "sampling.preset"),
            rate_hz=None if rate is None else of_kind(float, rate, "sampling.rate_hz"),
            chunk=None if sampling["chunk"] is None else whole(settings, "sampling.chunk", least=1),
        )
    return Extraction(
        backbone=text(settings, "backbone"),
        weights=text(settings, "weights"),
        clip=None if settings["clip"] is None else whole(settings, "clip", least=1),
        flow=text(settings, "flow.network"),
        flow_weights=text(settings, "flow.weights"),
        flow_backbone=text(settings, "flow.backbone"),
        flow_backbone_weights=text(settings, "flow.backbone_weights"),
        sampling=frames,
        batch_size=whole(settings, "batch_size", least=1),
        dtype=of_kind(str, settings["dtype"], "dtype"),
        device=("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else _device(device),
        threads=whole(settings, "threads", least=1),
        max_seconds=None if seconds is None else of_kind(float, seconds, "max_seconds"),
    )


def _device(name: str) -> str:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        cause = str(error).strip().splitlines()[0]
        raise ConfigError(f"device {name!r} cannot be used here ({cause}); use cpu, or auto") from error
    return name


def _show_sources(sources: tuple[Source, ...], extraction: Extraction) -> None:
    """Print what each video is and how many features it would give; read no more than its first frame."""
    table = Table("video", "seconds", "frames/s", "size", "codec", "features")
    problems: list[str] = []
    for source in sources:
        try:
            info = probe(source.location)
        except DataError as error:
            problems.append(str(error))
            continue
        seconds, rate = info.seconds, extraction.sampling.feature_rate_hz(info.rate_hz or 25.0)
        table.add_row(
            escape(source.name),
            "?" if seconds is None else f"{seconds:.2f}",
            "?" if info.rate_hz is None else f"{info.rate_hz:.5g}",
            f"{info.width}x{info.height}",
            info.codec,
            "?" if seconds is None else f"about {int(seconds * rate):,} at {rate:.4g} Hz",
        )
    console = Console()
    console.print(table)
    _show_skipped(console, problems)
    console.print("nothing written (dry run)")


def _show(report: ExtractionReport) -> None:
    console = Console()
    console.print(render(report.summary))
    if report.kept:
        console.print(f"{report.kept} videos were kept from a run that was interrupted", highlight=False)
    for warning in report.warnings:
        console.print(f"[yellow]warning[/]: {escape(warning)}", soft_wrap=True, highlight=False)
    _show_skipped(console, [f"video {name!r}: {text}" for name, text in report.skipped.items()])
    speed = report.frames / max(1e-3, report.seconds)
    console.print(f"{report.frames:,} video frames in {report.seconds:.1f} s ({speed:.0f} frames/s)", highlight=False)
    if not report.labelled:
        labelled = report.path.with_name(f"{report.path.stem}_labelled{report.path.suffix}")
        console.print(
            "All frames are unlabelled. Label them by a table video,start,end,label (seconds):\n"
            f"  coadtr data import format=csv source=segments.csv options.features={report.path} out={labelled}",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )


def _show_skipped(console: Console, problems: list[str]) -> None:
    for problem in problems:
        console.print(f"[red]skipped[/]: {escape(problem)}", soft_wrap=True, highlight=False)
