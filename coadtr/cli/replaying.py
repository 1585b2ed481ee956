"""The work behind ``coadtr replay``: answer a split, in as many processes as there are, and score the answers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

import coadtr
from coadtr.checkpoint import Checkpoint
from coadtr.cli.settings import command_line
from coadtr.data import FeatureStore, ScoreJournal, VideoScores
from coadtr.errors import ConfigError
from coadtr.evaluation import (
    CausalSmoothing,
    DetailSettings,
    Ranks,
    ReplayVideo,
    audit_causality,
    build_origin,
    build_report,
    evaluate_details,
    evaluate_scores,
    group_videos,
    measure_cost,
    published_macs,
    replay,
    score_answers,
    scored_frames,
    share_groups,
)
from coadtr.layers import Backend, Precision, StepRunner, in_precision
from coadtr.types import Detector

__all__ = ["Mode", "ReplayTask", "Wanted"]

Mode: TypeAlias = Literal["auto", "step", "chunk"]

CHUNK = 256  # frames at a time: enough for products of good size, few enough to bound the memory


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to replay and how, each value checked before hours are spent on a replay.

    Attributes:
        split: Split of the store; None for all videos.
        protocol: Name of the scoring protocol.
        mode: Frame by frame, in chunks, or as the rest suggests.
        batch_size: Videos side by side.
        precision: Precision of weights, activations and state; None as the checkpoint has them.
        backend: How the step runs, see `coadtr.layers.StepRunner`.
        smoothing: What is done to the scores of each video; None for nothing.
        anticipation: Whether to score what the model expects in the frames to come.
        audit: Whether to audit the detector for causality first.
        details: How the further figures are made.
        timed: Whether latency is measured; if not, the report holds nothing that differs from run to run.
        warmup: Steps before the clock runs.
        steps: Steps that are timed.
        streams: Numbers of streams whose throughput is measured.
    """

    split: str | None = "test"
    protocol: str = "all"
    mode: Mode = "auto"
    batch_size: int = 16
    precision: Precision | None = None
    backend: Backend = "eager"
    smoothing: CausalSmoothing | None = None
    anticipation: bool = False
    audit: bool = False
    details: DetailSettings = field(default_factory=DetailSettings)
    timed: bool = True
    warmup: int = 200
    steps: int = 1000
    streams: tuple[int, ...] = ()

    @property
    def chunk(self) -> int:
        """Frames at a time: chunks where no latency is asked for, and nothing else asks for single steps."""
        if self.mode == "auto":
            return CHUNK if not (self.timed or self.anticipation or self.backend != "eager") else 1
        if self.mode == "chunk" and self.backend != "eager":
            raise ConfigError(f"mode=chunk cannot run with backend={self.backend}: use backend=eager or mode=step")
        return CHUNK if self.mode == "chunk" else 1


class ReplayTask:
    """One checkpoint on one split of a store.

    Args:
        checkpoint: The checkpoint.
        store: The store, open.
        wanted: How.

    Raises:
        CheckpointError: The store does not hold what the model was trained on.
        ConfigError: What is wanted cannot be had of this model.
    """

    def __init__(self, checkpoint: Checkpoint, store: FeatureStore, wanted: Wanted) -> None:
        self.checkpoint, self.store, self.wanted = checkpoint, store, wanted
        spec = checkpoint.spec
        # A store may hold more streams than the model takes: the model's are read, in the model's order.
        streams = {name: store.streams[name] for name in spec.streams if name in store.streams}
        checkpoint.check_features(
            streams or store.streams,
            store.rate_hz(wanted.split),
            store.class_names,
            special_classes=(store.background, store.ignored),
            extractors=store.extractors,
        )
        if wanted.anticipation and not getattr(checkpoint.model, "frames_ahead", 0):
            raise ConfigError(f"{spec.model.kind} does not predict ahead: replay with anticipation=false")
        if wanted.anticipation and wanted.chunk > 1:
            raise ConfigError("what is ahead is answered step by step: use mode=step with anticipation=true")
        self.records = store.videos(wanted.split)
        self.running = self._running()

    def _running(self) -> Detector[Any]:
        """Return what steps: the model, or its form in the precision and by the backend that are wanted."""
        model, wanted = self.checkpoint.model, self.wanted
        if wanted.precision is None and wanted.backend == "eager":
            return model
        lowered = model if wanted.precision is None else in_precision(model, wanted.precision)
        if wanted.chunk > 1:
            return cast("Detector[Any]", lowered)
        return cast("Detector[Any]", StepRunner(lowered, backend=wanted.backend))

    def videos(self, indices: Sequence[int] | None = None) -> Iterator[ReplayVideo]:
        """Yield the videos, each read when its turn comes."""
        for index in range(len(self.records)) if indices is None else indices:
            record = self.records[index]
            features = partial(self.store.features, record.name, streams=tuple(self.checkpoint.spec.streams))
            yield ReplayVideo(record.name, features, self.store.labels(record.name), record.rate_hz)

    def identity(self) -> str:
        """Return a text that is the same if, and only if, the same answers would be made."""
        wanted, source = self.wanted, Path(self.store.path).stat()
        told = {
            "checkpoint": _digest(self.checkpoint.path),
            "data": [self.store.fingerprint(), source.st_size, source.st_mtime_ns, wanted.split],
            "how": [wanted.chunk, wanted.batch_size, wanted.precision, wanted.backend, wanted.anticipation],
            "where": [str(next(self.checkpoint.model.parameters()).device), torch.get_num_threads()],
            "versions": [coadtr.__version__, torch.__version__],
        }
        return json.dumps(told)

    def answer(self, journal: ScoreJournal, ranks: Ranks) -> None:
        """Answer this process's share of the videos that the journal does not hold yet."""
        frames = [record.frames for record in self.records]
        groups = group_videos(frames, self.wanted.batch_size)
        mine = [groups[index] for index in share_groups(groups, frames, ranks.size)[ranks.rank]]
        left = [group for group in mine if not all(self.records[index].name in journal for index in group)]
        total, skipped = sum(len(group) for group in mine), sum(len(group) for group in mine if group not in left)
        watched = ranks.lead and sys.stderr.isatty()
        if skipped and ranks.lead:
            print(f"going on: {skipped} of {total} videos were answered before", file=sys.stderr)
        with Progress(console=Console(stderr=True), transient=True, disable=not watched) as progress:
            bar = progress.add_task(
                f"replaying {total - skipped} videos", total=sum(frames[index] for group in left for index in group)
            )
            for group in left:
                answers = replay(
                    self.running,
                    self.videos(group),
                    batch_size=len(group),
                    chunk=self.wanted.chunk,
                    ahead=self.wanted.anticipation,
                    progress=lambda done: progress.advance(bar, done),
                )
                for video in score_answers(answers, **self._scoring()):
                    journal.add(video)

    def _scoring(self) -> dict[str, Any]:
        spec = self.checkpoint.spec
        window = self.checkpoint.model.window
        return {"ignored": spec.ignored, "protocol": self.wanted.protocol, "window": window, "head": spec.head}

    def finish(self, video: VideoScores) -> VideoScores:
        """Do to the scores of a video what is wanted, and mark the frames that the protocol scores."""
        scoring = self._scoring()
        smoothing = self.wanted.smoothing
        return dataclasses.replace(
            video,
            scores=video.scores if smoothing is None else smoothing.apply(video.scores),
            scored=scored_frames(
                scoring["protocol"], video.labels, window=scoring["window"], ignored=scoring["ignored"]
            ),
        )

    def audit(self) -> dict[str, Any]:
        """Prove on sampled frames that no score depends on what comes after it.

        Raises:
            CausalityError: One does.
        """

        def scores(features: Any, chunk: int) -> Any:
            video = ReplayVideo("audited", features, np.zeros(len(features), dtype=np.int64))
            (found,) = score_answers(replay(self.running, [video], chunk=chunk), **self._scoring())
            return self.finish(found).scores

        chunk = self.wanted.chunk
        return audit_causality(
            lambda features: scores(features, chunk),
            list(self.videos()),
            stepped=None if chunk == 1 else lambda features: scores(features, 1),
        ).to_dict()

    def report(self, videos: Sequence[VideoScores], *, audit: dict[str, Any] | None = None) -> dict[str, Any]:
        """Score the answers, measure the step on the same model, and say where all that came from."""
        spec, model, wanted = self.checkpoint.spec, self.checkpoint.model, self.wanted
        classes: dict[str, Any] = {
            "class_names": spec.class_names,
            "background": spec.background,
            "ignored": spec.ignored,
        }
        try:
            published: int | None = published_macs(spec.model)
        except ConfigError:
            published = None
        how = {"backend": getattr(self.running, "backend", "eager")}
        if wanted.precision is not None:
            how["precision"] = wanted.precision
        return build_report(
            {
                **evaluate_scores(videos, **classes, protocol=wanted.protocol, window=model.window),
                **evaluate_details(videos, **classes, settings=wanted.details),
                "smoothing": None if wanted.smoothing is None else wanted.smoothing.to_dict(),
                "mode": "step" if wanted.chunk == 1 else "chunk",
                "audit": audit,
            },
            cost=measure_cost(
                self.running,
                counted=model,
                warmup=wanted.warmup,
                steps=wanted.steps if wanted.timed else 0,
                streams=wanted.streams,
            ),
            step=how,
            macs_per_frame_published=published,
            origin=self._origin(),
        )

    def _origin(self) -> dict[str, Any]:
        training = self.checkpoint.origin.get("training")
        attributes = self.store.attributes
        return build_origin(
            checkpoint=str(self.checkpoint.path),
            data=str(self.store.path),
            fingerprint=self.store.fingerprint(),
            described={name: str(attributes[name]) for name in ("origin", "label_rule") if name in attributes},
            split=self.wanted.split,
            seed=training.get("seed") if isinstance(training, dict) else None,
            command=shlex.split(command_line()),
        )


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.is_file():
            digest.update(file.name.encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()
