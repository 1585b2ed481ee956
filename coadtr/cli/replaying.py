"""The work behind ``coadtr replay``: answer a split, in as many processes as there are, and score the answers."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

import coadtr
from coadtr.checkpoint import Checkpoint
from coadtr.cli.replay_settings import ReplaySettings
from coadtr.cli.settings import command_line
from coadtr.data import FeatureStore, ScoreJournal, VideoScores, check_recordings
from coadtr.errors import ConfigError, DataError
from coadtr.evaluation import (
    ClipSettings,
    Ranks,
    ReplayVideo,
    Tolerance,
    VideoAnswers,
    audit_causality,
    build_origin,
    build_report,
    evaluate_clips,
    evaluate_details,
    evaluate_scores,
    feature_seconds,
    group_videos,
    measure_cost,
    published_macs,
    replay,
    score_answers,
    scored_frames,
    share_groups,
)
from coadtr.layers import StepRunner, in_precision
from coadtr.types import Detector

__all__ = ["ReplayTask"]


_SILENCE = 60.0  # seconds between two lines of progress in a log, where nobody watches a bar


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

    def __init__(self, checkpoint: Checkpoint, store: FeatureStore, wanted: ReplaySettings) -> None:
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
        if spec.task == "audio":
            check_recordings(store, wanted.split)
        elif wanted.clips != ClipSettings():
            raise ConfigError(
                f"clips.answer={wanted.clips.answer} is of whole recordings, and the checkpoint of task={spec.task}: "
                f"replay with clips.answer={ClipSettings().answer}"
            )
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

    def check_report(self, path: Path) -> None:
        """Refuse to replace a report of other frames or other scores.

        Raises:
            ConfigError: There is one.
        """
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
            found = (there["protocol"]["name"], there["origin"]["split"], there["origin"]["data"]["fingerprint"])
            smoothed = there.get("smoothing")
        except (OSError, ValueError, KeyError, TypeError):
            return  # none, or nothing that anybody could read
        smoothing = None if self.wanted.smoothing is None else self.wanted.smoothing.to_dict()
        if (*found, smoothed) != (self.wanted.protocol, self.wanted.split, self.store.fingerprint(), smoothing):
            told = f"protocol {found[0]}, split {found[1]}, data {found[2]}, smoothing {smoothed}"
            raise ConfigError(
                f"{path} is the report of {told}: choose another out, or say overwrite=true to replace it"
            )

    def check_protocol(self) -> None:
        """Refuse a protocol that scores no frame of the split, before hours are spent.

        Raises:
            DataError: It scores none.
        """
        if not any(self._scored(self.store.labels(record.name)).any() for record in self.records):
            frames = sum(record.frames for record in self.records)
            raise DataError(
                f"protocol {self.wanted.protocol!r} scores none of {frames} frames in {len(self.records)} videos; "
                "check the split, or use protocol 'all'"
            )

    def identity(self) -> str:
        """Return a text that differs if other answers might be made."""
        wanted, source = self.wanted, Path(self.store.path).stat()
        told = {
            "checkpoint": _digest(self.checkpoint.path),
            "data": [self.store.fingerprint(), source.st_size, source.st_mtime_ns, wanted.split],
            "how": [wanted.chunk, wanted.rows, wanted.precision, wanted.backend, wanted.anticipation],
            "where": [str(next(self.checkpoint.model.parameters()).device), torch.get_num_threads()],
            "versions": [coadtr.__version__, torch.__version__],
        }
        return json.dumps(told)

    def answer(self, journal: ScoreJournal, ranks: Ranks) -> None:
        """Answer this process's share of the videos that the journal does not hold yet."""
        frames = [record.frames for record in self.records]
        groups = group_videos(frames, self.wanted.rows)
        mine = [groups[index] for index in share_groups(groups, frames, ranks.size)[ranks.rank]]
        left = [group for group in mine if not all(self.records[index].name in journal for index in group)]
        total, skipped = sum(len(group) for group in mine), sum(len(group) for group in mine if group not in left)
        watched = ranks.lead and sys.stderr.isatty()
        done, told = skipped, time.monotonic()
        if skipped and ranks.lead:
            print(f"going on: {skipped} of {total} videos were answered before", file=sys.stderr)
        if ranks.lead and len(groups) < ranks.size:
            idle = f"{ranks.size - len(groups)} of {ranks.size} processes have nothing to do"
            print(f"{idle}: use a batch_size below {self.wanted.rows}", file=sys.stderr)
        with Progress(console=Console(stderr=True), transient=True, disable=not watched) as progress:
            bar = progress.add_task(
                f"replaying {total - skipped} videos", total=sum(frames[index] for group in left for index in group)
            )
            for group in left:
                if journal.failed:  # another process says what is wrong
                    return
                answers = replay(
                    self.running,
                    self.videos(group),
                    batch_size=len(group),
                    chunk=self.wanted.chunk,
                    ahead=self.wanted.anticipation,
                    progress=lambda done: progress.advance(bar, done),
                )
                for video in self._score(answers):
                    journal.add(video)
                done += len(group)
                if ranks.lead and not watched and time.monotonic() - told > _SILENCE:
                    told = time.monotonic()
                    print(f"answered {done} of {total} videos", file=sys.stderr, flush=True)

    def _scored(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        window, ignored = self.checkpoint.model.window, self.checkpoint.spec.ignored
        return scored_frames(self.wanted.protocol, labels, window=window, ignored=ignored)

    def _score(self, answers: Iterable[VideoAnswers]) -> Iterator[VideoScores]:
        spec, window = self.checkpoint.spec, self.checkpoint.model.window
        return score_answers(
            answers, ignored=spec.ignored, protocol=self.wanted.protocol, window=window, head=spec.head
        )

    def finish(self, video: VideoScores) -> VideoScores:
        """Do to the scores of a video what is wanted, and mark the frames that the protocol scores."""
        smoothing = self.wanted.smoothing
        scores = video.scores if smoothing is None else smoothing.apply(video.scores)
        return dataclasses.replace(video, scores=scores, scored=self._scored(video.labels))

    def audit(self) -> dict[str, Any]:
        """Test on sampled frames that no score depends on what comes after it, on the path that is evaluated.

        Raises:
            CausalityError: One does.
        """
        wanted = self.wanted
        rounded = wanted.precision in ("bfloat16", "int8")
        return audit_causality(
            partial(self._scores_of, chunk=wanted.chunk),
            list(self.videos()),
            stepped=None if wanted.chunk == 1 else partial(self._scores_of, chunk=1),
            tolerance=Tolerance(absolute=0.02, relative=0.1) if rounded else Tolerance(),
        ).to_dict()

    def _scores_of(self, features: Sequence[NDArray[Any]], *, chunk: int) -> list[NDArray[Any]]:
        """Answer videos side by side with a detector that has seen nothing: all scores of a frame in a row."""
        running = self.running
        if self.wanted.backend == "eager":
            running = copy.deepcopy(running)  # so that nothing it may keep goes from call to call
        videos = [ReplayVideo(str(index), one, np.zeros(len(one), np.int64)) for index, one in enumerate(features)]
        answers = replay(running, videos, batch_size=self.wanted.rows, chunk=chunk, ahead=self.wanted.anticipation)
        scored = [self.finish(video) for video in self._score(answers)]
        return [
            video.scores
            if video.ahead is None
            else np.hstack([video.scores, video.ahead.reshape(len(video.ahead), -1)])
            for video in scored
        ]

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
                "clips": None if spec.task != "audio" else self._clips(videos),
                "smoothing": None if wanted.smoothing is None else wanted.smoothing.to_dict(),
                "mode": "step" if wanted.chunk == 1 else "chunk",
                "audit": audit,
            },
            cost=measure_cost(
                self.running,
                counted=model,
                warmup=wanted.warmup,
                steps=wanted.steps,
                streams=wanted.streams,
            ),
            step=how,
            macs_per_frame_published=published,
            origin=self._origin(),
        )

    def _clips(self, videos: Sequence[VideoScores]) -> dict[str, Any]:
        """Score the recordings, at the times at which their features are complete."""
        spec = self.checkpoint.spec
        known = [feature_seconds(spec.extractors.get(name, {})) for name in spec.streams]
        first = None
        if any(seconds is not None for seconds in known):
            # A frame is complete when all of its streams are; of those that say nothing, after its own time.
            first = max(1 / spec.rate_hz if seconds is None else seconds for seconds in known)
        return evaluate_clips(videos, first_s=first, clips=self.wanted.clips, settings=self.wanted.details)

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
